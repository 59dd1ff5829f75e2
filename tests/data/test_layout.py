"""Data sets are recognised by what is in their folders."""

import json
import re
from pathlib import Path

import pytest

from rcnnkit.data.layout import Layout, find_layout, recognise

COCO = json.dumps({"images": [], "annotations": [], "categories": []})
VIA = json.dumps({"a.jpg9": {"filename": "a.jpg", "size": 9, "regions": [], "file_attributes": {}}})
VIA_PROJECT = json.dumps({"_via_settings": {"core": {}}, "_via_img_metadata": json.loads(VIA)})
VIA_CSV = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
LABELME = json.dumps({"version": "5.4.1", "flags": {}, "shapes": [], "imagePath": "a.jpg", "imageData": "x" * 10})
LABEL_STUDIO = json.dumps([{"id": 1, "annotations": [], "data": {"image": "/data/upload/a.jpg"}}])
CVAT = (
    '<?xml version="1.0" encoding="utf-8"?>\n<!-- <annotation> -->\n<annotations><version>1.1</version></annotations>'
)
CREATEML = json.dumps([{"image": "a.jpg", "verified": False, "annotations": []}])
REGIONS = json.dumps([{"regions": [{"region_id": 1, "phrase": "a cup", "x": 1, "y": 2}], "id": 1}])
TABLE = "image,x1,y1,x2,y2,class\n"
YOLO = "train: x\nvalid: y\ntest:\nnames: [a]\n"
TEXTS = {
    "": "{}",
    "VOC": "<annotation/>",
    "YOLO": YOLO,
    "COCO": COCO,
    "CAPTIONS": '{"images": [], "annotations": []}',
    "SENTENCES": '{"images": [], "annotations": [{"id": 1, "caption": "a cup"}]}',
    "CVAT": CVAT,
    "LABEL_STUDIO": LABEL_STUDIO,
    "VIA": VIA,
    "VIA_PROJECT": VIA_PROJECT,
    "VIA_CSV": VIA_CSV,
    "LABELME": LABELME,
    "CREATEML": CREATEML,
    "REGIONS": REGIONS,
    "TABLE": TABLE,
}


def make(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


CASES = [
    ("ImageSets/Main/train.txt ImageSets/Main/cat_train.txt ImageSets/Main/test.txt", "voc",
     "train -> train, test -> test"),
    ("ImageSets/Main/trainval.txt ImageSets/Main/test.txt", "voc", "train -> trainval, test -> test"),
    ("ImageSets/Main/default.txt Annotations/a.xml:VOC", "voc", "train -> default"),
    ("a.xml:VOC b.xml", "voc", "train -> train"),
    ("train/a.xml:VOC valid/b.xml:VOC", "voc", "train -> train, val -> valid"),
    ("data.yaml:YOLO", "yolo", "train -> train, val -> valid"),
    ("pets.yaml:YOLO labels/a.txt", "yolo", "train -> train, val -> valid"),
    ("annotations/instances_train2017.json:COCO annotations/instances_val2017.json:COCO"
     " annotations/captions_val2017.json:CAPTIONS", "coco",
     "train -> annotations/instances_train2017.json, val -> annotations/instances_val2017.json"),
    ("train/_annotations.coco.json:COCO valid/_annotations.coco.json:COCO", "coco",
     "train -> train/_annotations.coco.json, val -> valid/_annotations.coco.json"),
    ("annotations/instances_default.json:COCO notes.json runs.csv", "coco",
     "train -> annotations/instances_default.json"),
    ("val.json:COCO", "coco", "val -> val.json"),
    ("captions.json:CAPTIONS", "coco", "train -> captions.json"),
    ("captions_train2017.json:SENTENCES captions_val2017.json:SENTENCES", "captions",
     "train -> captions_train2017.json, val -> captions_val2017.json"),
    ("annotations.xml:CVAT images/a.jpg", "cvat", "train -> annotations.xml"),
    ("project-1.json:LABEL_STUDIO", "label_studio", "train -> project-1.json"),
    ("train/via_region_data.json:VIA val/via_region_data.json:VIA_PROJECT", "via",
     "train -> train/via_region_data.json, val -> val/via_region_data.json"),
    ("via.csv:VIA_CSV", "via", "train -> via.csv"),
    ("a.json:LABELME b.json:LABELME", "labelme", "train -> train"),
    ("train/a.json:LABELME test/b.json:LABELME", "labelme", "train -> train, test -> test"),
    ("a.json:CREATEML b.json:CREATEML", "createml", "train -> train"),
    ("train.json:CREATEML validation.json:CREATEML", "createml", "train -> train, val -> validation"),
    ("train/_annotations.createml.json:CREATEML valid/_annotations.createml.json:CREATEML", "createml",
     "train -> train, val -> valid"),
    ("region_descriptions.json:REGIONS image_data.json VG_100K/1.jpg", "visual_genome",
     "train -> region_descriptions.json"),
    ("regions_train.json:REGIONS regions_val.json:REGIONS", "visual_genome",
     "train -> regions_train.json, val -> regions_val.json"),
    ("train.csv:TABLE val.csv:TABLE class-descriptions-boxable.csv:TABLE", "table",
     "train -> train.csv, val -> val.csv"),
    ("boxes.parquet", "table", "train -> boxes.parquet"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "format", "expected"), CASES)
def test_formats(tmp_path: Path, files: str, format: str, expected: str) -> None:
    texts = {name: TEXTS[kind] for name, _, kind in (file.partition(":") for file in files.split())}
    make(tmp_path / "inside", texts)
    splits = dict(pair.split(" -> ") for pair in expected.split(", "))
    inside = tmp_path / "inside"
    assert find_layout(inside) == find_layout(inside, format) == Layout(inside, format, splits)
    around = Layout(tmp_path, format, {name: f"inside/{split}" for name, split in splits.items()})
    assert find_layout(tmp_path) == around
    make(tmp_path, {"README.md": "", "elsewhere/a.jpg": ""})
    beside = find_layout(tmp_path)
    assert beside.format == format


def test_real_data(bccd: Path, coco256: Path) -> None:
    assert find_layout(bccd) == Layout(bccd, "voc", {"train": "train", "val": "val", "test": "test"})
    annotations = {"train": "annotations/instances_train2017.json", "val": "annotations/instances_val2017.json"}
    assert find_layout(coco256) == Layout(coco256, "coco", annotations)
    sentences = {"val": "annotations/captions_val2017.json"}
    assert find_layout(coco256, "captions") == Layout(coco256, "captions", sentences)


def test_a_file(tmp_path: Path) -> None:
    make(tmp_path, {"a/b.json": COCO, "data.yaml": YOLO, "words.txt": ""})
    assert find_layout(tmp_path / "a/b.json") == Layout(tmp_path / "a", "coco", {"train": "b.json"})
    assert find_layout(tmp_path / "data.yaml").splits == {"train": "train", "val": "valid"}
    for file, format in (("words.txt", "auto"), ("a/b.json", "via")):
        with pytest.raises(FileNotFoundError, match="is not an annotation file of"):
            find_layout(tmp_path / file, format)


def test_several_formats(tmp_path: Path, digits: Path) -> None:
    make(tmp_path, {"data.yaml": YOLO, "train.json": COCO})
    with pytest.raises(ValueError, match=re.escape("COCO (a .json file")) as error:
        find_layout(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} has annotations in several formats: YOLO (a data.yaml, or label files"
        " (.txt) with a classes.txt) and COCO (a .json file with images,"
        ' annotations and categories); choose one: data.format = "yolo" in settings, --data-format yolo'
        " on the command line"
    )
    assert find_layout(tmp_path, "yolo").splits == {"train": "train", "val": "valid"}
    assert find_layout(tmp_path, "coco").splits == {"train": "train.json"}
    assert find_layout(digits, "voc").title == "Pascal VOC"


def test_several_data_sets(tmp_path: Path) -> None:
    lists = {"ImageSets/Main/train.txt": "", "JPEGImages/a.jpg": ""}
    for year in (2007, 2012):
        make(tmp_path / f"VOC{year}", lists)
    with pytest.raises(ValueError, match=r"several data sets, in VOC2007, VOC2012; name one of these folders, or give"):
        find_layout(tmp_path)


def test_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        find_layout(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} holds no annotations in a format that is known (Pascal VOC, COCO, YOLO, CVAT, Label Studio, VIA,"
        " LabelMe, Create ML, Visual Genome, COCO's captions or a table). It is empty. Give the folder that has the"
        " annotations, or convert them"
    )
    make(tmp_path, {"a.jpg": "", "b.jpg": "", "c.txt": "", "README": "", "images/d.jpg": "", "r.json": "[1]"})
    with pytest.raises(FileNotFoundError) as error:
        find_layout(tmp_path, "yolo")
    assert str(error.value) == (
        f'{tmp_path} holds no annotations of the format "yolo" (a data.yaml, or label files (.txt) with a classes.txt).'
        " It holds 2 .jpg, 1 without an ending, 1 .txt, 1 .json, images/. Give the folder that has the annotations, or"
        " leave the format out, so that it is recognised"
    )
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        find_layout(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="'pascal' is not a format; the formats are auto, voc, coco"):
        find_layout(tmp_path, "pascal")


def test_splits_that_are_not_clear(tmp_path: Path) -> None:
    make(tmp_path / "one", {"task_1.xml": CVAT, "task_2.xml": CVAT})
    with pytest.raises(ValueError, match=r"has 2 splits and none is called train: task_1.xml, task_2.xml; give what"):
        find_layout(tmp_path / "one")
    make(tmp_path / "two", {"train_a.json": COCO, "train_b.json": COCO})
    with pytest.raises(ValueError, match=r"several splits for train: train_a.json, train_b.json; give one, or a list"):
        find_layout(tmp_path / "two")


def test_a_large_file_is_recognised_by_its_beginning(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    images = [{"id": number, "file_name": f"{number}.jpg", "note": 'a "quoted" [brace] {'} for number in range(9000)]
    file.write_text(json.dumps({"info": {"images": 0}, "images": images, "annotations": [], "categories": []}))
    assert recognise(file) == "coco"
    assert find_layout(tmp_path).splits == {"train": "a.json"}


@pytest.mark.parametrize("content", ["", "[]", " {}\n"])
def test_empty_files_are_named(tmp_path: Path, content: str) -> None:
    """A file that nothing is in is not passed over where it would be a split."""
    make(tmp_path, {"annotations/train.json": COCO, "annotations/val.json": content, "notes.json": content})
    said = f"{tmp_path}/annotations/val.json is empty ({len(content)} byte"
    with pytest.raises(ValueError, match=re.escape(said) + r"s?\); export the annotations again, or delete the file$"):
        find_layout(tmp_path)
    (tmp_path / "annotations" / "val.json").unlink()
    assert find_layout(tmp_path).splits == {"train": "annotations/train.json"}
    (tmp_path / "annotations" / "train.json").write_text(content)
    with pytest.raises(FileNotFoundError, match=r"json is empty .* delete the file\. .*Nothing else in .* known$"):
        find_layout(tmp_path)
    with pytest.raises(
        ValueError, match=r"notes\.json is empty \(\d bytes?\); export the annotations again, or delete"
    ):
        find_layout(tmp_path / "notes.json")
