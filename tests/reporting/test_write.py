import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from rcnnkit.evaluation.analysis import Analysis
from rcnnkit.reporting.write import write_report, write_worst
from tests.reporting.strange import FILES


def test_a_report_has_numbers_rows_and_plots_beside_the_page(
    analysis: Analysis, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    written = write_report(analysis, tmp_path / "out", "weights")
    names = {path.name for path in written}
    plots = {"precision_recall.png", "errors.png", "confusion.png", "calibration.png"}
    assert names == {"report.html", "report.json", "pictures.csv"} | plots
    assert names == {path.name for path in (tmp_path / "out").iterdir()}
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(analysis.to_json()))
    for name in plots:
        with Image.open(tmp_path / "out" / name) as picture:
            assert min(picture.size) > 200
    assert not [each for each in recwarn if "Glyph" in str(each.message)]


def test_the_worst_pictures_come_first_and_every_picture_has_a_row(analysis: Analysis, tmp_path: Path) -> None:
    write_worst(analysis, tmp_path / "worst")
    with (tmp_path / "worst" / "pictures.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"p{i}" for i in range(len(FILES))]
    for row, objects, found, missed in zip(
        rows, (4, 4, 4, 4, 4, 0), analysis.pictures.found, analysis.pictures.missed, strict=True
    ):
        assert int(row["objects"]) == objects == found + missed
        assert int(row["found"]) == found
    drawn = sorted(path for path in (tmp_path / "worst").iterdir() if path.suffix == ".jpg")
    assert len(drawn) == len(analysis.pictures.worst)
    assert drawn[0].stem == f"001-{FILES[analysis.pictures.worst[0]]}"
    with Image.open(drawn[0]) as picture:
        assert picture.size == (120 + 8 + 120, 96)
    mistakes = [int(row["missed"]) + int(row["invented"]) for row in rows]
    assert [mistakes[i] for i in analysis.pictures.worst] == sorted(filter(None, mistakes), reverse=True)
