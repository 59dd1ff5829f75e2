"""Results in each format hold what was found, as the libraries for these formats read it."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from rcnnkit import detect_files
from rcnnkit.data.reading import read_data
from rcnnkit.detecting import results
from rcnnkit.detecting.results import format_of
from tests.detecting.squares import NAMES, Squares, painted

# What is in the pictures of the fixture, and in frame 1 of the clip; compression moves its edges a little.
FOUND = [
    ("a.png", [10, 20, 22, 32], "red", 1.0),
    ("mon/a.png", [4, 5, 16, 17], "red", 1.0),
    ("mon/a.png", [40, 30, 52, 42], "green", 0.25),
]


def test_coco_as_pycocotools_reads_it(squares: Squares, pictures: Path, clip: Path, tmp_path: Path) -> None:
    detect_files(squares, [pictures, clip], results=tmp_path / "r.json", frames=2)
    entries = json.loads((tmp_path / "r.json").read_text())
    assert [each["image_id"] for each in entries] == [
        *(f"{pictures}/{name}" for name, *_ in FOUND),
        *[f"{clip}#0"] * 2,
        *[f"{clip}#1"] * 2,
    ]
    for entry, (_, (x1, y1, x2, y2), name, score) in zip(entries, FOUND, strict=False):
        assert entry["bbox"] == [x1, y1, x2 - x1, y2 - y1]
        assert entry["category_id"] == {"red": 7, "green": 4}[name]
        assert entry["score"] == score
    known = COCO()
    known.dataset = {
        "images": [{"id": name} for name in {each["image_id"] for each in entries}],
        "categories": [{"id": 7}, {"id": 4}],
    }
    known.createIndex()
    assert len(known.loadRes(entries).anns) == 7


def table(file: Path) -> pandas.DataFrame:
    return pandas.read_csv(file) if file.suffix == ".csv" else pandas.read_parquet(file)


@pytest.mark.parametrize("file", ["r.csv", "r.parquet"])
def test_tables_as_pandas_reads_them(
    squares: Squares, pictures: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.setattr(results, "ROWS", 2)  # Parquet in several parts
    detect_files(squares, [pictures, clip], results=tmp_path / file, frames=2)
    read = table(tmp_path / file)
    assert list(read.columns) == ["image", "x1", "y1", "x2", "y2", "class", "score", "frame"]
    assert list(read["image"]) == [*(f"{pictures}/{name}" for name, *_ in FOUND), *[str(clip)] * 4]
    assert list(read["frame"].isna()) == [True] * 3 + [False] * 4
    assert list(read["frame"][3:]) == [0, 0, 1, 1]
    for (_, row), (_, box, name, score) in zip(read.iterrows(), FOUND, strict=False):
        assert [row[side] for side in ("x1", "y1", "x2", "y2")] == box
        assert (row["class"], row["score"]) == (name, score)
    # and it is a data set of the pictures, whose annotations are what was found
    read[:3].to_csv(tmp_path / "pictures.csv", index=False)
    data = read_data(tmp_path / "pictures.csv", "")
    assert [record.targets.boxes.tolist() for record in data.records] == [[FOUND[0][1]], [FOUND[1][1], FOUND[2][1]]]


@pytest.mark.parametrize(("file", "content"), [("r.json", "[]"), ("r.csv", "image,x1,y1,x2,y2,class,score,frame\n")])
def test_nothing_found_is_a_result(squares: Squares, tmp_path: Path, file: str, content: str) -> None:
    detect_files(squares, painted(), results=tmp_path / file)
    assert (tmp_path / file).read_text() == content
    detect_files(squares, painted(), results=tmp_path / "r.parquet")
    assert len(table(tmp_path / "r.parquet")) == 0
    detect_files(squares, "none.png", results=tmp_path / "none.csv")  # nothing was searched
    assert not (tmp_path / "none.csv").exists()


def test_names_of_any_kind(squares: Squares, tmp_path: Path) -> None:
    names = ['a,"b".png', "caf\udce9.png", "two\nlines.png", "=1+1.png", "日本.png"]
    given = [(name, painted((0, 1, 1))) for name in names]
    readable = [name.replace("\udce9", "\\udce9") for name in names]
    for file in ("r.csv", "r.parquet"):
        detect_files(squares, given, results=tmp_path / file)
        assert list(table(tmp_path / file)["image"]) == readable
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as lines:
        assert [row["image"] for row in csv.DictReader(lines)] == readable
    detect_files(squares, given, results=tmp_path / "r.json")
    assert [each["image_id"] for each in json.loads((tmp_path / "r.json").read_text())] == names


@pytest.mark.parametrize("format", ["yolo", "voc"])
def test_data_sets_read_back(squares: Squares, pictures: Path, clip: Path, tmp_path: Path, format: str) -> None:
    given: list[Any] = [pictures, clip, ("clip-000001.png", painted((1, 8, 8)))]
    detect_files(squares, given, results=tmp_path / "labels", format=format, frames=2, min_score=0.5)
    data = read_data(tmp_path / "labels", "train")
    found = {
        record.path.name: [
            (data.class_names[label], box)
            for label, box in zip(record.targets.labels.tolist(), record.targets.boxes.tolist(), strict=True)
        ]
        for record in data.records
    }
    assert len(found) == 6  # also two pictures of one name, and one without objects
    assert found["a.png"] == [("red", [10, 20, 22, 32])]
    assert found["mon_a.png"] == [("red", [4, 5, 16, 17])]  # what scores less is left out
    assert found["none.png"] == []
    assert found["5_clip-000001.png"] == [("green", [8, 8, 20, 20])]  # a frame has that name already
    assert [len(objects) for name, objects in found.items() if name.endswith(".jpg")] == [1, 1]
    for record in data.records:
        assert Image.open(record.path).size == (64, 48)
    if format == "yolo":
        assert list(data.class_names) == list(NAMES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "labels"]  # nothing half


def test_pictures_in_archives_and_on_the_web_are_copied(squares: Squares, pictures: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(pictures / "a.png", "x/a.png")
    detect_files(squares, [tmp_path / "a.tar" / "x" / "a.png"], results=tmp_path / "yolo", format="yolo")
    (record,) = read_data(tmp_path / "yolo", "train").records
    np.testing.assert_array_equal(np.asarray(Image.open(record.path)), painted((0, 10, 20)))
    assert record.targets.boxes.tolist() == [FOUND[0][1]]


@pytest.mark.parametrize(
    ("path", "format", "answer"),
    [
        (None, None, "coco"),
        (None, "csv", "csv"),
        ("a.json", None, "coco"),
        ("a.CSV", None, "csv"),
        ("a.parquet", "parquet", "parquet"),
        ("labels", "yolo", "yolo"),
        ("v1.2", "voc", "voc"),
        ("a.txt", None, "^a.txt ends with none of .json, .csv, .parquet; or name the format of a folder, yolo or voc$"),
        ("labels", None, "^labels ends with none of "),
        ("a.json", "csv", "^a.json must end with .csv, as csv has it$"),
        ("a", "coco", "^a must end with .json, as coco has it$"),
        ("a.csv", "yolo", "^a.csv ends like a file of csv, and yolo is a folder; choose another name$"),
        ("a.xls", "xls", "^the format 'xls' is not one of coco, csv, parquet, yolo, voc$"),
    ],
)
def test_the_format_is_that_of_the_ending(path: str | None, format: str | None, answer: str) -> None:
    place = None if path is None else Path(path)
    if answer in results.SUFFIXES:
        assert format_of(place, format) == answer
    else:
        with pytest.raises(ValueError, match=answer):
            format_of(place, format)


def test_what_is_in_the_way_or_cannot_be_held_is_found_first(squares: Squares, tmp_path: Path) -> None:
    def broken() -> Any:
        raise AssertionError("something was searched")
        yield

    (tmp_path / "r.csv").write_text("mine")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("mine")
    named = Squares()
    named.class_names = ("a\x00b", "green")
    for detector, options, error, words in (
        (squares, {"results": tmp_path / "r.csv"}, FileExistsError, "r.csv is there already; choose another file"),
        (squares, {"results": tmp_path / "no" / "r.csv"}, FileNotFoundError, "no is not a folder; make it, or write r"),
        (squares, {"results": tmp_path / "labels", "format": "yolo"}, FileExistsError, "labels is not an empty folder"),
        (named, {"results": tmp_path / "new", "format": "voc"}, ValueError, "which XML does not allow; rename the cl"),
        (named, {"crops": tmp_path / "new"}, ValueError, "cannot be a folder's name: it holds control characters"),
        (squares, {"crops": tmp_path / "labels"}, FileExistsError, "labels is not an empty folder"),
        (squares, {"out": tmp_path / "r.csv"}, FileExistsError, "r.csv is a file; choose a folder"),
        (squares, {"format": "csv"}, ValueError, "the format csv is of results, and none are written; name a file"),
        (
            squares,
            {"results": tmp_path / "new", "format": "yolo", "image_ids": {}},
            ValueError,
            "yolo has no place for",
        ),
    ):
        with pytest.raises(error, match=words):
            detect_files(detector, broken(), **options)
    assert (tmp_path / "r.csv").read_text() == "mine"
    assert not (tmp_path / "new").exists()


def test_a_disk_that_is_full(squares: Squares, tmp_path: Path) -> None:
    """/dev/full stands for it: the reason is said, and nothing half remains."""
    from rcnnkit.detecting.results import results_in
    from rcnnkit.detecting.search import detect_each

    (found,) = detect_each(squares, painted((0, 1, 1)))
    for name in ("coco", "csv"):
        writer: Any = results_in(tmp_path / f"r{results.SUFFIXES[name]}", name, squares, 0.5)
        writer._begin = lambda half: open("/dev/full", "w")  # noqa: PTH123, SIM115 - as _begin does; it is closed there
        writer.add("a.png", found)
        with pytest.raises(OSError, match=r"r\.\w+ cannot be written \(No space left on device\); fix that, or choose"):
            writer.close()
    assert list(tmp_path.iterdir()) == []


def test_boxes_of_no_area_are_in_no_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squares = Squares()
    found = squares(painted((0, 1, 1), (0, 30, 30)))
    found.boxes[1, 2] = found.boxes[1, 0]
    monkeypatch.setattr(squares, "_found", lambda picture: found)
    detect_files(squares, painted(), results=tmp_path / "yolo", format="yolo", min_score=0.0)
    (record,) = read_data(tmp_path / "yolo", "train").records
    torch.testing.assert_close(record.targets.boxes, found.boxes[:1])
