import json
from dataclasses import replace
from pathlib import Path

import pytest

from rcnnkit.checking.mistakes import check_mistakes
from tests.checking.sets import data_set


def test_mistakes_of_these_pictures_are_findings(tmp_path: Path) -> None:
    record = replace(data_set([[((10, 10, 90, 60), 0)]]).records[0], path=tmp_path / "a.jpg")
    seen = {"file": f"{tmp_path}/./a.jpg", "class": "cat", "score": 0.9, "box": [1, 2, 30, 40.5], "cause": "class"}
    other = seen | {"file": "elsewhere.jpg"}
    file = tmp_path / "report.json"
    file.write_text(json.dumps({"mistakes": [seen | {"object": {"class": "dog", "box": [1, 2, 3, 4]}}, other]}))
    (found,) = check_mistakes(file, [record], ["val"])
    assert str(found) == f"{tmp_path}/a.jpg: cat at 1, 2, 30, 40.5 scores 0.90, where dog is annotated (class)"
    assert (found.split, found.box, found.kind.severity) == ("val", (1, 2, 30, 40.5), "note")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "lists no mistakes; name a report.json of rcnnkit evaluate --report"),
        ({"mistakes": [{"file": "a.jpg"}]}, r"mistakes\[0\] is not as rcnnkit writes it"),
        (
            {"mistakes": [{"file": "a.jpg", "class": "c", "score": 1, "box": [0, 0, 1, 1], "cause": "place"}]},
            "is of other pictures than those that are checked",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: object, said: str) -> None:
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said):
        check_mistakes(tmp_path / "r.json", [], [])
