from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image

from rcnnkit.data.records import Record
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.structures import Proposals, Targets
from rcnnkit.training.windows import Pictures, Windows, fingerprint

OBJECTS = Targets(
    torch.tensor([[0.0, 0, 10, 10], [20, 0, 40, 10], [0, 20, 60, 40], [50, 0, 60, 10]]),
    torch.tensor([1, 0, 2, 1]),
    difficult=torch.tensor([False, False, False, True]),
    crowd=torch.tensor([False, False, True, False]),
)
# 8/10 of the first object, all of the second but one half, inside the crowd, the difficult one, far away
BOXES = torch.tensor([[2.0, 0, 10, 10], [20, 0, 30, 10], [0, 20, 30, 40], [50, 0, 60, 10], [45, 42, 60, 48]])


def windows(path: Path = Path("a.png"), difficult: bool = False) -> Windows:
    record = Record("a", path, (48, 64), OBJECTS)
    return Windows.of(record, Proposals(BOXES, torch.ones(5)), difficult)


def test_objects_come_first_and_crowds_are_no_windows() -> None:
    assert windows().boxes.equal(torch.cat([OBJECTS.boxes[:2], BOXES]))
    assert windows().objects.labels.tolist() == [1, 0]
    assert windows(difficult=True).objects.labels.tolist() == [1, 0, 1]


def test_what_is_near_by_hand() -> None:
    near, index = windows().near(0.6)
    assert near.tolist() == [0, 1, 2]  # the objects themselves; 8/10 exceeds 0.6, 1/2 does not
    assert index.tolist() == [0, 1, 0]
    assert windows().near(0.5)[0].tolist() == [0, 1, 2]  # exceeds, not reaches
    assert windows().near(0.49)[0].tolist() == [0, 1, 2, 3]
    none = Windows(Record("b", Path("b.png"), (48, 64), OBJECTS), OBJECTS[:0], BOXES)
    assert [part.tolist() for part in none.near(0.1)] == [[], []]


def test_two_objects_with_one_box_have_a_window_each() -> None:
    box = torch.tensor([[10.0, 10, 30, 30]])
    targets = Targets(box.expand(2, 4), torch.tensor([0, 1]))
    record = Record(1, Path("a.png"), (50, 50), targets)
    near, index = Windows.of(record, Proposals(box, torch.ones(1)), use_difficult=False).near(0.6)
    assert (near.tolist(), index.tolist()) == ([0, 1, 2], [0, 1, 0])


def test_overlaps_count_crowds_and_what_is_not_learnt_from() -> None:
    overlaps = windows().overlaps(3)
    pairs = torchvision.ops.box_iou(windows().boxes, OBJECTS.boxes).numpy()
    np.testing.assert_allclose(overlaps[:, 0], pairs[:, 1], rtol=1e-6)
    np.testing.assert_allclose(overlaps[:, 1], pairs[:, [0, 3]].max(axis=1), rtol=1e-6)  # 3 is difficult
    assert overlaps[:, 2].tolist() == [0, 0, 0, 0, 1, 0, 0]  # inside the crowd


def test_a_fingerprint_tells_windows_apart() -> None:
    one = windows()
    assert fingerprint([one]) == fingerprint([windows()])
    assert len({fingerprint(w) for w in ([], [one], [one, one], [windows(difficult=True)])}) == 4
    moved = Windows(one.record, one.targets, one.boxes + 1)
    record = replace(one.record, targets=replace(OBJECTS, labels=OBJECTS.labels + 1))
    relabelled = replace(one, record=record)
    assert len({fingerprint([w]) for w in (one, moved, relabelled)}) == 3


def test_windows_are_cut_as_the_detector_cuts_them(tmp_path: Path) -> None:
    """Whatever the pictures' memory, and also where the network's pictures are larger."""
    array = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    for short_side in (0, 96):
        settings = {
            "model": {"kind": "rcnn", "backbone": "timm/test_resnet"},
            "rcnn": {"size": 32, "context": 4},
            "input": {"short_side": short_side},
        }
        detector = build(DetectorSettings.model_validate(settings), ["a", "b", "c"])
        assert isinstance(detector, RCNN)
        pixels = detector.preprocessing([array]).pixels[0, :, : short_side or 48, : short_side * 4 // 3 or 64]
        factor = short_side / 48 or 1
        expected = detector.warp(pixels, windows().boxes[[3, 0]] * factor)
        for memory in (0, 1):
            pictures = Pictures([windows(tmp_path / "a.png")], detector, memory)
            for _ in range(2):
                torch.testing.assert_close(pictures.cut(0, torch.tensor([3, 0])), expected)
            assert len(pictures.kept) == memory
