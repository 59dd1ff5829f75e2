"""1,500 objects in one picture: no stage from reading to drawing loses one of them, and what would is named."""

import json
import logging
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from rcnnkit import cli, weights
from rcnnkit.config_files import check_settings
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Dataset, Record
from rcnnkit.detectors.detector import Detector, Limit
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.drawing import draw
from rcnnkit.drawing.boxes import class_colour
from rcnnkit.drawing.canvas import Canvas
from rcnnkit.evaluation.crowding import warn_of_cocos_maximum, warn_of_limits
from rcnnkit.evaluation.report import evaluate
from rcnnkit.proposals.store import Store
from rcnnkit.structures import Proposals, Targets
from rcnnkit.tables import evaluation_table
from rcnnkit.tiles import ViewSettings
from rcnnkit.training.train import train

COUNT, SIDE, PITCH, ROW = 1500, 8, 10, 40
COLOURS = np.array([[230, 120, 20], [20, 120, 230]], dtype=np.uint8)
AP_OF_100_IN_750 = 14 / 101  # the share of recalls 0, 0.01, …, 1 that 100 of 750 objects reach: up to 0.13


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO data set of one picture with 1,500 squares, orange and blue by turns."""
    folder = tmp_path_factory.mktemp("crowded") / "squares"
    folder.mkdir()
    picture = np.full((PITCH * -(-COUNT // ROW), PITCH * ROW, 3), 60, dtype=np.uint8)
    annotations = []
    for i in range(COUNT):
        y, x = (PITCH * place for place in divmod(i, ROW))
        picture[y : y + SIDE, x : x + SIDE] = COLOURS[i % 2]
        box = {"bbox": [x, y, SIDE, SIDE], "area": SIDE**2, "iscrowd": 0}
        annotations.append({"id": i + 1, "image_id": 1, "category_id": 1 + i % 2} | box)
    Image.fromarray(picture).save(folder / "squares.png")
    images = [{"id": 1, "file_name": "squares.png", "height": picture.shape[0], "width": picture.shape[1]}]
    categories = [{"id": 1, "name": "orange"}, {"id": 2, "name": "blue"}]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (folder / "squares.json").write_text(text)
    return folder


def settings_for(kind: str) -> dict[str, Any]:
    own = {"size": 32, "context": 4} if kind == "rcnn" else {}
    return {
        "model": {"kind": kind, "backbone": "timm/test_resnet", "fpn_channels": 16, "fpn_norm": "batch"},
        "rpn": {"anchor_sizes": [[8], [16], [32], [64], [128]], "anchor_ratios": [1.0], "post_nms": 80},
        "head": {"hidden": 16, "samples": 64, "score_threshold": 0.0, "nms_iou": 1.0},
        "rcnn": own,
        "proposals": {"method": "precomputed"},
        "input": {"short_side": 0},
    }


def test_from_training_to_detecting(
    squares: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    values = settings_for("faster_rcnn")
    values["data"] = {"root": str(squares), "train": "squares.json", "val": "squares.json", "workers": 0}
    values["train"] = {"iterations": 1, "batch": 1, "log_every": 1, "device": "cpu", "precision": "float32"}
    with caplog.at_level(logging.WARNING, "rcnnkit"):
        best = train(check_settings(values, "test"), tmp_path / "run")
    holds = (
        "squares/squares: 1 of 1 pictures holds more objects than %s allows"
        f" (1,500 in {squares}/squares.png); set it to"
    )
    limits = {
        "head.max_detections = 100": "1500 or more, or to 0 for no limit",
        "rpn.pre_nms = 1000": "4500",
        "rpn.post_nms = 80": "4500",
    }
    warned = [f"{holds % limit} {fix}" for limit, fix in limits.items()]
    assert caplog.messages[: len(warned)] == warned  # of the training pictures
    assert caplog.messages[len(warned) : -1] == warned  # of the validation pictures
    assert "more objects of one class than the 100 detections that COCO's AP and AR look at" in caplog.messages[-1]
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "loss" in line] == [1]
    assert {"AP", "AP_all", "AP50_all", "AR_all"} <= lines[-1].keys()
    assert "AP_all" in weights.read(best)[0]["training"]  # it chose the best weights
    assert "squares/squares: AP_all 0." in capsys.readouterr().out

    # Every region answers for both classes and suppresses nothing: 100, all of 80 regions, and as many as asked for.
    for option, found in (([], 100), (["--max-detections", "0"], 160), (["--max-detections", "1500"], 1500)):
        out = tmp_path / f"found-{found}"
        with pytest.raises(SystemExit) as end:
            cli.app(["detect", str(best), str(squares / "squares.png"), "--out", str(out), "--device", "cpu", *option])
        assert end.value.code == 0
        assert len(json.loads((out / "detections.json").read_text())) == found


def exact(detector: Detector, objects: Targets) -> Detector:
    """A Fast R-CNN that knows the class of each of its proposals, which are the objects, and leaves them in place."""
    head = detector.get_submodule("head")
    scores = torch.nn.functional.one_hot(objects.labels, 2).float() * 0.9
    head.score = lambda hidden: scores[: len(hidden)]  # type: ignore[assignment]  # torch types it as a module
    for parameter in head.get_submodule("delta_layer").parameters():
        torch.nn.init.zeros_(parameter)
    return detector


def test_what_is_found_exactly_has_an_ap_of_1_and_is_drawn(
    squares: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = read_data(squares, "squares.json")
    (record,) = data.records
    assert len(record.targets) == COUNT
    settings = DetectorSettings.model_validate(settings_for("fast_rcnn"))
    weights.save(build(settings, data.class_names), settings, tmp_path / "exact.safetensors")
    store = Store.create(tmp_path / "proposals", "by-hand", {})
    store.write(record.id, Proposals(record.targets.boxes, torch.ones(COUNT)), record.size, record.path)

    capped = exact(weights.load(tmp_path / "exact.safetensors", "cpu", for_training=True), record.targets)
    few = evaluate(capped, data, proposals=store)
    assert few.coco.numbers["AP_all"] == pytest.approx(7 / 101)  # 100 of 1,500 reach 6 %, with half of each class
    assert (
        "squares/squares: 1 of 1 pictures holds more objects than head.max_detections = 100 allows"
        f" (1,500 in {record.path}); evaluate with --max-detections 1500 (in Python: load(…, max_detections=1500)), or"
        " more"
    ) in caplog.messages
    caplog.clear()

    free = exact(
        weights.load(tmp_path / "exact.safetensors", "cpu", max_detections=0, for_training=True), record.targets
    )
    every = evaluate(free, data, proposals=store)
    assert len(caplog.messages) == 1  # of COCO's maximum
    assert every.coco.numbers["AP"] == pytest.approx(AP_OF_100_IN_750)
    assert every.coco.numbers["AP_all"] == every.coco.numbers["AR_all"] == pytest.approx(1)
    assert every.voc.mean_ap_11 == every.voc.mean_ap_area == 1
    console = Console(width=90, record=True, file=StringIO())
    console.print(evaluation_table(every))
    rows = [line.replace("│", " ").split() for line in console.export_text().splitlines()]
    assert ["blue", "750", "13.9", "13.9", "100.0", "100.0", "100.0"] in rows  # AP, AP50, AP_all, VOC's two
    assert ["AP_all", "0.50:0.95", "all", "all", "100.0"] in rows
    told = every.to_json()
    assert told["coco"]["AP_all"] == pytest.approx(1)
    assert [each["AP_all"] for each in told["classes"]] == pytest.approx([1, 1])

    found = free(record.path, store.read(record.id, record.size, record.path))
    assert len(found) == len(found.to_coco(1)) == COUNT
    monkeypatch.setattr(Canvas, "write_all", lambda canvas, frames, texts, colours: written.extend(texts))
    written: list[str] = []
    drawn = np.array(draw(record.path, found))
    assert (len(written), set(written)) == (COUNT, {"orange: 0.90", "blue: 0.90"})
    corners = record.targets.boxes[:, 2:].long() - 1
    expected = [class_colour(label) for label in record.targets.labels.tolist()]
    assert drawn[corners[:, 1], corners[:, 0]].tolist() == [list(colour) for colour in expected]


def test_the_warnings_count_pictures_and_classes(caplog: pytest.LogCaptureFixture) -> None:
    def record(name: str, count: int, crowds: int = 0) -> Record:
        boxes, labels = torch.tensor([[0.0, 0, 9, 9]]).expand(count + crowds, 4), torch.arange(count + crowds) % 2
        crowd = torch.arange(count + crowds) >= count
        return Record(name, Path(name), (9, 9), Targets(boxes, labels, crowd=crowd))

    data = Dataset("d", [record("a", 5), record("b", 9), record("c", 4, crowds=9)], ["x", "y"], [1, 2])

    def warned(limit: Limit) -> list[str]:
        caplog.clear()
        warn_of_limits(data, [limit], lambda limit, most: f"{limit.setting} of {most}")
        return caplog.messages

    assert warned(Limit("n", 4)) == ["d: 2 of 3 pictures hold more objects than n = 4 allows (9 in b); n of 9"]
    assert warned(Limit("n", 4, of_class=True)) == [
        "d: 1 of 3 pictures holds more objects of one class than n = 4 allows (5 in b); n of 5"
    ]
    assert warned(Limit("n", 9)) == warned(Limit("n", 0)) == []
    boxes = torch.arange(0, 300.0, 10)[:, None] * torch.tensor([1, 0, 1, 0]) + torch.tensor([0, 0, 9, 9])
    wide = Dataset("w", [Record("w", Path("w"), (9, 300), Targets(boxes, torch.arange(30) % 2))], ["x", "y"], [1, 2])
    tiles = ViewSettings(tile=100, tile_overlap=0)
    caplog.clear()
    for limit in (Limit("n", 10), Limit("n", 5, of_class=True), Limit("n", 9)):
        warn_of_limits(wide, [limit], lambda limit, most: "fix", tiles)
    assert caplog.messages == ["w: 1 of 1 pictures holds more objects in a tile than n = 9 allows (10 in w); fix"]
    caplog.clear()
    warn_of_cocos_maximum(data)
    assert caplog.messages == []
    warn_of_cocos_maximum(Dataset("e", [record("f", 202), record("a", 200)], ["x", "y"], [1, 2]))
    assert caplog.messages == [
        "e: 1 of 2 pictures holds more objects of one class than the 100 detections that COCO's AP and AR look at (101"
        " in f); AP_all, AP50_all and AR_all are of all detections"
    ]


@pytest.mark.parametrize(
    ("kind", "before", "after", "free"),
    [
        (
            "faster_rcnn",
            {"head.max_detections": 100, "rpn.pre_nms": 1000, "rpn.post_nms": 80},
            {"head.max_detections": 900, "rpn.pre_nms": 2700, "rpn.post_nms": 2700},
            {"head.max_detections": 0, "rpn.pre_nms": 1000, "rpn.post_nms": 80},
        ),
        (
            "fast_rcnn",
            {"head.max_detections": 100, "proposals.count": 2000},
            {"head.max_detections": 900, "proposals.count": 2700},
            {"head.max_detections": 0, "proposals.count": 2000},
        ),
        (
            "rcnn",
            {"rcnn.max_detections": 100, "proposals.count": 2000},
            {"rcnn.max_detections": 900, "proposals.count": 2700},
            {"rcnn.max_detections": 0, "proposals.count": 2000},
        ),
    ],
)
def test_another_maximum_brings_proposals_enough(
    kind: str, before: dict[str, int], after: dict[str, int], free: dict[str, int]
) -> None:
    settings = DetectorSettings.model_validate(settings_for(kind))
    changed = settings, settings.with_max_detections(900), settings.with_max_detections(0)
    for each, limits in zip(changed, (before, after, free), strict=True):
        with torch.device("meta"):
            detector = build(each, ["orange", "blue"])
        assert isinstance(detector, Detector)
        assert {limit.setting: limit.most for limit in detector.limits()} == limits


def test_a_negative_maximum_is_refused() -> None:
    for wrong in (-1, "50", 2.5, True):
        with pytest.raises(ValueError, match=f"max_detections is {wrong!r}; give a whole number of 1 or more, or 0"):
            weights.load("a.safetensors", "cpu", max_detections=wrong)  # type: ignore[arg-type]  # some are no integers
