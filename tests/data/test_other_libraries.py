"""Files that well-kept libraries write give the same boxes, to 0.01 pixel."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rcnnkit.data.convert import convert
from rcnnkit.data.layout import find_layout
from rcnnkit.data.reading import read_layout
from rcnnkit.data.records import Dataset, Record
from rcnnkit.structures import Array

Boxes = dict[str, list[tuple[str, Array]]]  # picture → class and box of its objects


def boxes_of(splits: dict[str, Dataset]) -> Boxes:
    return {
        record.path.stem: sorted(
            (
                (data.class_names[label], box)
                for label, box in zip(record.targets.labels.tolist(), record.targets.boxes.numpy(), strict=True)
            ),
            key=lambda each: (each[0], *each[1].tolist()),
        )
        for data in splits.values()
        for record in data.records
    }


def check_same(found: Boxes, expected: Boxes) -> None:
    assert found.keys() == expected.keys()
    for name, objects in expected.items():
        assert [each[0] for each in found[name]] == [each[0] for each in objects]
        for one, two in zip(found[name], objects, strict=True):
            np.testing.assert_allclose(one[1], two[1], atol=0.01, rtol=0)


@pytest.fixture
def splits(coco256: Path) -> dict[str, Dataset]:
    """A dozen pictures of COCO, which have boxes between pixels, and the classes in them."""
    read = read_layout(find_layout(coco256))
    few: list[Record] = [record for record in read["val"].records if 1 < len(record.targets) < 9][:12]
    used = sorted({label for record in few for label in record.targets.labels.tolist()})
    names = [read["val"].class_names[label] for label in used]
    records = []
    for record in few:
        for i, label in enumerate(record.targets.labels.tolist()):
            record.targets.labels[i] = used.index(label)
        records.append(record)
    return {"train": Dataset("x/train", records[:8], names, list(range(1, len(names) + 1))),
            "val": Dataset("x/val", records[8:], names, list(range(1, len(names) + 1)))}  # fmt: skip


@pytest.mark.parametrize("format", ["cvat", "coco_instances", "voc_detection", "yolo_ultralytics", "open_images"])
def test_datumaro(splits: dict[str, Dataset], tmp_path: Path, format: str) -> None:
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    names = list(splits["train"].class_names)
    items = [
        datumaro.DatasetItem(
            record.path.stem,
            subset=split,
            media=datumaro.Image.from_file(str(record.path)),
            annotations=[
                datumaro.Bbox(*box[:2], *(box[2:] - box[:2]), label=label, id=i)
                for i, (box, label) in enumerate(
                    zip(record.targets.boxes.double().numpy(), record.targets.labels.tolist(), strict=True)
                )
            ],
        )
        for split, data in splits.items()
        for record in data.records
    ]
    datumaro.Dataset.from_iterable(items, categories=names).export(str(tmp_path / "out"), format, save_media=True)
    expected = boxes_of(splits)
    if format == "voc_detection":  # whose numbers it does not count from 1, as VOC does
        expected = {
            name: [(label, np.maximum(box - [1, 1, 0, 0], 0)) for label, box in each] for name, each in expected.items()
        }
    check_same(boxes_of(read_layout(find_layout(tmp_path / "out"))), expected)


@pytest.mark.parametrize("to", ["coco", "yolo"])  # of VOC it reads VOC's own classes alone
def test_what_we_write_datumaro_reads(splits: dict[str, Dataset], tmp_path: Path, to: str) -> None:
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    convert(splits, to, tmp_path / "out")
    read = datumaro.Dataset.import_from(str(tmp_path / "out"), "coco_instances" if to == "coco" else to)
    labels = read.categories()[datumaro.AnnotationType.label]
    found: Boxes = {}
    for item in read:
        boxes = [each for each in item.annotations if each.type == datumaro.AnnotationType.bbox]
        found[Path(item.id).name] = sorted(
            ((labels[each.label].name, np.array(each.points)) for each in boxes),
            key=lambda each: (each[0], *each[1].tolist()),
        )
    check_same(found, boxes_of(splits))


def _as_coco(data: Any, folder: Path) -> None:
    data.as_coco(str(folder / "images"), str(folder / "annotations.json"))


def _as_voc(data: Any, folder: Path) -> None:
    data.as_pascal_voc(str(folder / "images"), str(folder / "annotations"))


def _as_yolo(data: Any, folder: Path) -> None:
    data.as_yolo(str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"))
    text = (folder / "data.yaml").read_text()
    (folder / "data.yaml").write_text(f"train: images\n{text}")


@pytest.mark.parametrize("write", [_as_coco, _as_voc, _as_yolo])
def test_supervision(splits: dict[str, Dataset], tmp_path: Path, write: Callable[[Any, Path], None]) -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    given = {"train": splits["train"]}
    detections = {
        str(record.path): supervision.Detections(record.targets.boxes.numpy(), class_id=record.targets.labels.numpy())
        for record in given["train"].records
    }
    data = supervision.DetectionDataset(list(given["train"].class_names), list(detections), detections)
    write(data, tmp_path)
    found = boxes_of(read_layout(find_layout(tmp_path)))
    if write is _as_voc:  # it cuts decimals off
        for name, each in boxes_of(given).items():
            assert [label for label, _ in found[name]] == [label for label, _ in each]
            for (_, one), (_, two) in zip(found[name], each, strict=True):
                np.testing.assert_allclose(one, two, atol=1.01)
        return
    check_same(found, boxes_of(given))


def test_label_studios_own_converter(tmp_path: Path) -> None:
    """Rectangles, turned ones and polygons in its JSON, read by us, are what its own conversion to COCO says.

    The picture is square: it turns rectangles in percents, which in others are not turned as they are shown.
    """
    reason = "label-studio-sdk is not installed"
    converter = pytest.importorskip("label_studio_sdk.converter", reason=reason)
    about = {"original_width": 200, "original_height": 200, "image_rotation": 0}
    shapes = [
        {"x": 30, "y": 20, "width": 25.5, "height": 10, "rotation": 0, "rectanglelabels": ["cat"]},
        {"x": 50, "y": 40, "width": 20, "height": 15, "rotation": 30, "rectanglelabels": ["cat"]},
        {"points": [[10, 10], [30, 20], [15, 45]], "closed": True, "polygonlabels": ["dog"]},
    ]
    result = [
        {"id": f"r{i}", "type": "rectanglelabels" if "x" in shape else "polygonlabels", "to_name": "image",
         "value": shape, "from_name": "label" if "x" in shape else "outline", **about}
        for i, shape in enumerate(shapes)
    ]  # fmt: skip
    tasks = [{"id": 1, "data": {"image": "a.png"}, "annotations": [{"id": 1, "result": result}]}]
    (tmp_path / "data").mkdir()
    Image.new("RGB", (200, 200)).save(tmp_path / "data" / "a.png")
    (tmp_path / "data" / "tasks.json").write_text(json.dumps(tasks))
    labels = "<Label value='cat'/><Label value='dog'/>"
    config = (
        "<View><Image name='image' value='$image'/>"
        f"<RectangleLabels name='label' toName='image'>{labels}</RectangleLabels>"
        f"<PolygonLabels name='outline' toName='image'>{labels}</PolygonLabels></View>"
    )
    theirs = converter.Converter(config, str(tmp_path / "data"), download_resources=False)
    theirs.convert_to_coco(str(tmp_path / "data" / "tasks.json"), str(tmp_path / "coco"), is_dir=False)
    content = json.loads((tmp_path / "coco" / "result.json").read_text())
    ours = boxes_of(read_layout(find_layout(tmp_path / "data")))["a"]
    expected = sorted(
        ((content["categories"][entry["category_id"]]["name"], entry["bbox"]) for entry in content["annotations"]),
        key=lambda each: (each[0], *each[1]),
    )
    for (name, box), (label, (x, y, wide, high)) in zip(ours, expected, strict=True):
        assert name == label
        np.testing.assert_allclose(box, [x, y, x + wide, y + high], atol=0.01)
