"""Labels and their order, in every format."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rcnnkit.data.reading import read_data
from rcnnkit.detectors.detector import Detector
from rcnnkit.labelling.choice import uncertainty
from rcnnkit.labelling.label import Labelled, label, write_labelled
from rcnnkit.labelling.pictures import read_any

LEAST = 0.3


@pytest.fixture(scope="module")
def labelled(detector: Detector, folder: Path) -> Labelled:
    return label(detector, read_any(folder), min_score=LEAST)


def test_the_labels(labelled: Labelled, detector: Detector) -> None:
    assert len(labelled.dataset) == 4
    assert labelled.objects > 4
    assert (labelled.dataset.class_names, labelled.dataset.category_ids) == (["cat", "dog"], [17, 18])
    for record, scores, unsure in zip(labelled.dataset.records, labelled.scores, labelled.uncertainties, strict=True):
        found = detector(record.path)
        assert record.targets.boxes.equal(found.above(LEAST).boxes)
        assert record.targets.labels.equal(found.above(LEAST).labels)
        assert scores.equal(found.above(LEAST).scores)
        assert unsure == uncertainty(found.scores.numpy(), LEAST)
    assert labelled.uncertainties[0] == max(labelled.uncertainties)
    assert labelled.distances[0] == float("inf")


def test_after_what_is_labelled(detector: Detector, folder: Path, labelled: Labelled) -> None:
    again = label(detector, read_any(folder), read_any(folder / "b.png"), first=2, min_score=LEAST)
    assert len(again.dataset) == 2
    assert np.isfinite(again.distances).all()
    assert "b.png" not in {record.path.name for record in again.dataset.records}


@pytest.mark.parametrize("to", ["coco", "voc", "yolo", "label_studio"])
def test_formats(labelled: Labelled, tmp_path: Path, to: str) -> None:
    out = tmp_path / "out"
    notes = write_labelled(labelled, to, out, weights="best.safetensors")
    many = labelled.objects
    said = f"the scores of {many} objects are in order.json alone"
    assert [note.startswith(said) for note in notes[:1]] == ([True] if to in ("voc", "yolo") else [])
    again = read_data(out, "train")
    records = {record.path.name: record for record in again.records}
    with (out / "order.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    order = json.loads((out / "order.json").read_text())
    assert (order["weights"], order["min_score"]) == ("best.safetensors", LEAST)
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["distance"] == ""
    for row, entry, record, scores in zip(
        rows, order["pictures"], labelled.dataset.records, labelled.scores, strict=True
    ):
        read = records[Path(row["file"]).name]
        assert (out / row["file"]).read_bytes() == record.path.read_bytes() == Path(row["source"]).read_bytes()
        assert int(row["objects"]) == len(scores) == len(read.targets)
        torch.testing.assert_close(read.targets.boxes, record.targets.boxes, atol=1e-2, rtol=0)
        names = [again.class_names[k] for k in read.targets.labels]
        assert names == [one["name"] for one in entry["objects"]]
        assert [one["score"] for one in entry["objects"]] == pytest.approx(scores.tolist(), abs=1e-6)
    if to == "coco":
        annotations = json.loads((out / "annotations" / "instances_train.json").read_text())
        assert [f"images/{image['file_name']}" for image in annotations["images"]] == [row["file"] for row in rows]
        assert [one["score"] for one in annotations["annotations"]] == [
            one["score"] for entry in order["pictures"] for one in entry["objects"]
        ]
    if to == "voc":
        listed = (out / "ImageSets" / "Main" / "train.txt").read_text().split()
        assert listed == [Path(row["file"]).stem for row in rows]


def test_label_studio(labelled: Labelled, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_labelled(labelled, "label_studio", out, weights="best.safetensors")
    tasks = json.loads((out / "tasks.json").read_text())
    for task, record, scores in zip(tasks, labelled.dataset.records, labelled.scores, strict=True):
        (prediction,) = task["predictions"]
        prefix, _, place = task["data"]["image"].partition("?d=")
        assert prefix == "/data/local-files/"
        assert (out / place).is_file()
        assert prediction["model_version"] == "best.safetensors"
        assert prediction["score"] == pytest.approx(scores.mean().item() if len(scores) else 0, abs=1e-6)
        height, width = record.size
        for result, box, score in zip(prediction["result"], record.targets.boxes.tolist(), scores, strict=True):
            value = result["value"]
            sides = [value["x"] * width, value["y"] * height]
            sides += [(value["x"] + value["width"]) * width, (value["y"] + value["height"]) * height]
            assert [side / 100 for side in sides] == pytest.approx(box, abs=1e-3)
            assert (result["original_width"], result["original_height"]) == (width, height)
            assert result["score"] == pytest.approx(score.item(), abs=1e-6)
    view = (out / "label_config.xml").read_text()
    assert '<RectangleLabels name="label" toName="image">\n    <Label value="cat"/>' in view


def test_nothing_is_found(detector: Detector, folder: Path, tmp_path: Path) -> None:
    none = label(detector, read_any(folder), min_score=1.0)
    assert none.objects == 0
    write_labelled(none, "coco", tmp_path / "out", weights="w")
    assert read_data(tmp_path / "out", "train").summary == "4 pictures, 0 objects"
    with pytest.raises(FileExistsError, match="is not an empty folder; choose another, nothing is overwritten"):
        write_labelled(none, "coco", tmp_path / "out", weights="w")
