"""Files and folders of pictures, as a Python user has them; the command's own tests are in test_cli.py."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import rcnnkit
from rcnnkit import DetectedPicture, Detections, detect_files
from rcnnkit.detecting import Source
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings


@pytest.fixture(scope="module")
def detector() -> FasterRCNN:
    values = {
        "model": {"backbone": "timm/test_resnet", "fpn_channels": 16},
        "rpn": {"anchor_sizes": [[8], [16], [32], [64], [128]], "post_nms": 20},
        "head": {"hidden": 16, "score_threshold": 0.0, "max_detections": 7},
        "input": {"short_side": 64, "long_side": 96},
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = build(DetectorSettings.model_validate(values), ["cat", "dog"])
    assert isinstance(detector, FasterRCNN)
    return detector.eval()


def test_what_was_found_in_words() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9]]).repeat(4, 1)
    scores, labels = torch.tensor([0.9, 0.8, 0.7, 0.4]), torch.tensor([1, 0, 1, 0])
    detections = Detections(boxes, scores, labels, ("cat", "dog"), (1, 2))
    source = Source("a.jpg", Path("a"))
    found = DetectedPicture(source, detections=detections, drawn=Path("out/a.jpg"))
    assert found.summary(0.5) == "a.jpg: 2 dog, 1 cat"
    assert found.summary(0.95) == "a.jpg: nothing that scores 0.95"
    as_png = replace(found, drawn=Path("out/a.png"))
    assert as_png.summary(0.85) == "a.jpg: 1 dog; drawn in out/a.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, colour in (("a.png", "red"), ("b/a.png", "blue"), ("b/c.png", "green")):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), colour).save(tmp_path / "in" / name)
    (tmp_path / "in" / "b" / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    return tmp_path / "in"


def test_every_picture_is_answered_in_order(
    detector: FasterRCNN, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[DetectedPicture] = []
    out = tmp_path / "out"
    done = detect_files(detector, str(folder), str(out), min_score=0.0, batch=3, report=seen.append)
    assert [Path(each.name).relative_to(folder).as_posix() for each in done] == [
        "a.png",
        "b/a.png",
        "b/bad.jpg",
        "b/c.png",
    ]
    assert seen == done
    bad = done.pop(2)
    assert (bad.detections, bad.drawn) == (None, None)
    assert isinstance(bad.error, ValueError)
    assert str(bad.error).startswith(f"{bad.name} ")
    entries = []
    for each in done:
        expected = detector(each.name)
        assert each.detections is not None
        assert len(each.detections) == 7
        torch.testing.assert_close(each.detections.boxes, expected.boxes)
        torch.testing.assert_close(each.detections.scores, expected.scores)
        assert each.error is None
        assert each.drawn == out / Path(each.name).relative_to(folder).with_suffix(".jpg")
        assert Image.open(each.drawn).size == (64, 48)
        entries += each.detections.to_coco(each.name)
    assert json.loads((out / "detections.json").read_text()) == entries
    assert not caplog.messages


def test_nothing_is_written_without_out_and_errors_are_logged(
    detector: FasterRCNN, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = sorted(tmp_path.rglob("*"))
    files = [folder / "b" / "bad.jpg", folder / "a.png", folder / "a.png", folder / "none.png"]
    bad, good, none = detect_files(detector, files)
    assert good.detections is not None
    assert good.drawn is None
    assert sorted(tmp_path.rglob("*")) == before
    assert caplog.messages == [str(bad.error), f"{folder}/none.png: no such picture"]
    assert isinstance(none.error, FileNotFoundError)


def test_nothing_found_is_no_failure(detector: FasterRCNN, folder: Path, tmp_path: Path) -> None:
    detector.head.score_threshold = 1.0
    try:
        (one,) = detect_files(detector, folder / "a.png", tmp_path / "out")
    finally:
        detector.head.score_threshold = 0.0
    assert one.detections is not None
    assert one.detections.boxes.shape == (0, 4)
    assert one.drawn is not None
    assert (tmp_path / "out" / "detections.json").read_text() == "[]"


def test_what_holds_for_every_picture_is_raised(detector: FasterRCNN, folder: Path) -> None:
    with pytest.raises(ValueError, match="batch = 0; give 1 or more pictures at a time"):
        rcnnkit.detect_files(detector, folder, batch=0)
    with pytest.raises(RuntimeError, match=r"training mode; call detector\.eval"):
        rcnnkit.detect_files(detector.train(), folder)
    detector.eval()
