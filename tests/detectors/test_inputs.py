"""What a training loop of one's own may hand to `losses`: each mistake is named, and what is right is learnt from."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit.data.loading import Pictures, draws, load_batches
from rcnnkit.data.reading import read_data
from rcnnkit.data.transforms import Augmentation, AugmentSettings
from rcnnkit.detectors import inputs
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.inputs import check_batch
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.images import Preprocessing
from rcnnkit.structures import ImageBatch, Proposals, Targets

NAMES = ["cat", "dog", "hen"]
PREPROCESSING = Preprocessing(short_side=64, long_side=96)
CPU = torch.device("cpu")


def images(*sizes: tuple[int, int]) -> ImageBatch:
    rng = np.random.default_rng(0)
    return PREPROCESSING([rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes or ((64, 96), (128, 180))])


def objects(*boxes: list[float], labels: list[int] | None = None) -> Targets:
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor([0] * len(boxes) if labels is None else labels, dtype=torch.int64),
    )


GOOD = [10.0, 10.0, 50.0, 40.0]
INF, NAN = float("inf"), float("nan")


def check(batch: ImageBatch, targets: Any) -> None:
    check_batch(batch, targets, len(NAMES), PREPROCESSING, CPU)


# (the second of three boxes in the second of two pictures, 64 high and 90 wide, what is said of it)
BAD_BOXES = [
    ([NAN, 10, 50, 40], "[nan, 10, 50, 40] holds a number that is not finite; boxes are x1, y1, x2, y2"),
    ([10, 10, INF, 40], "[10, 10, inf, 40] holds a number that is not finite"),
    ([10, 10, 10, 40], "[10, 10, 10, 40] has no width; boxes are x1, y1, x2, y2: correct it"),
    ([10, 40, 50, 40], "[10, 40, 50, 40] has no height"),
    ([50, 40, 10, 10], "[50, 40, 10, 10] is inverted: x2 < x1 or y2 < y1"),
    (
        [100, 10, 110, 40],
        "[100, 10, 110, 40] reaches 20 pixels beyond the right edge of the picture, which is 90 wide and 64 high in the"
        " batch; if it is in the pixels of the picture as it was given, pass rcnnkit.boxes.scale(boxes,"
        " images.original_sizes[1], images.sizes[1])",
    ),
    (
        [10, 10, 50, 700],
        "636 pixels beyond the lower edge of the picture, which is 90 wide and 64 high in the batch; cut",
    ),
    (
        [-5, 10, 50, 40],
        "[-5, 10, 50, 40] reaches 5 pixels beyond the left edge of the picture, which is 90 wide and 64 high in the"
        " batch; cut the boxes with rcnnkit.boxes.clip(boxes, images.sizes[1]), and drop boxes that are empty",
    ),
]


@pytest.mark.parametrize(("box", "said"), BAD_BOXES)
def test_bad_boxes_are_named_by_picture_and_object(box: list[float], said: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the text is looked at below
        check(images(), [objects(GOOD), objects(GOOD, box, GOOD)])
    assert str(error.value).startswith("targets[1].boxes[1] = [")
    assert said in str(error.value)


def test_boxes_from_0_to_1_are_told_from_pixels() -> None:
    with pytest.raises(
        ValueError, match=r"^targets\[1\]\.boxes all lie in the first pixel of the picture, such as boxes"
    ) as e:
        check(images(), [objects(GOOD), objects([0.1, 0.2, 0.5, 0.9], [0, 0, 1, 1])])
    assert str(e.value).endswith("multiply x by the picture's width, 90, and y by its height, 64")
    check(images(), [objects(GOOD), objects([0.1, 0.2, 0.5, 0.9], GOOD)])  # one tiny object may be there


@pytest.mark.parametrize("label", [-1, 3, -100])
def test_labels_that_are_no_class(label: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^targets\[1\]\.labels\[1\] = {label}, but the detector has 3 classes: labels"
    ):
        check(images(), [objects(GOOD), objects(GOOD, GOOD, labels=[2, label])])


@pytest.mark.parametrize("change", [lambda pixels: (pixels + 2.2) * 57, lambda pixels: pixels * NAN])
def test_pixels_that_are_not_normalised(change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    batch = images()
    with pytest.raises(
        ValueError, match=r"the pixels span .*, but normalised ones lie in \[-2.12, 2.64\]; make the batch"
    ):
        check(replace(batch, pixels=change(batch.pixels)), [objects(GOOD), objects(GOOD)])
    check(replace(batch, pixels=batch.pixels * 1.5), [objects(GOOD), objects(GOOD)])  # an augmentation may do that


KINDS: list[tuple[Callable[[ImageBatch, list[Targets]], tuple[Any, Any]], str]] = [
    (lambda i, t: (i, t[:1]), "1 targets for 2 images; give one Targets for each picture"),
    (lambda i, t: (i, t[0]), "targets must be a list with one Targets for each picture"),
    (lambda i, t: (i.pixels, t), "images must be an ImageBatch, not Tensor; make one with detector.preprocessing"),
    (lambda i, t: (i, [t[0], {"boxes": t[1].boxes}]), r"targets\[1\] must be a Targets, not dict"),
    (
        lambda i, t: (i, [t[0], replace(t[1], boxes=t[1].boxes.double())]),
        r"targets\[1\]\.boxes are float64 of shape \(1, 4\), and must be float32 of shape \(N, 4\);"
        r" convert them with \.to\(torch\.float32\)",
    ),
    (lambda i, t: (i, [t[0], replace(t[1], boxes=t[1].boxes.long())]), r"targets\[1\]\.boxes are int64"),
    (lambda i, t: (i, [t[0], replace(t[1], labels=t[1].labels.float())]), r"targets\[1\]\.labels are float32"),
    (
        lambda i, t: (i, [t[0], replace(t[1], labels=t[1].labels[:, None])]),
        r"labels are int64 of shape \(1, 1\), and .*; reshape them",
    ),
    (lambda i, t: (i, [t[0], replace(t[1], crowd=t[1].crowd.long())]), r"targets\[1\]\.crowd are int64"),
    (
        lambda i, t: (i, [t[0], t[1].to("meta")]),
        r'targets\[1\]\.boxes are on meta, but images.pixels are on cpu; pass targets\[1\]\.to\("cpu"\)',
    ),
    (lambda i, t: (replace(i, pixels=i.pixels.to("meta")), t), "images.pixels are on meta, but the detector is on cpu"),
    (lambda i, t: (replace(i, pixels=i.pixels.byte()), t), "images.pixels are uint8 of shape .*, and must be float32"),
    (
        lambda i, t: (replace(i, sizes=[(64, 96), (64, 999)]), t),
        r"images.sizes\[1\] = \(64, 999\) does not fit in pixels",
    ),
    (lambda i, t: (ImageBatch(i.pixels[:0], [], []), []), "there are no images in the batch"),
]


@pytest.mark.parametrize(("change", "said"), KINDS)
def test_types_lengths_and_devices(change: Callable[..., tuple[Any, Any]], said: str) -> None:
    targets = [objects(GOOD), objects(GOOD)]
    batch = images()
    check(batch, targets)  # what is known to be right is looked at all the same
    with pytest.raises((TypeError, ValueError), match=said):
        check(*change(batch, targets))


def test_nothing_and_what_rounding_explains_are_right() -> None:
    check(images(), [objects(), objects()])
    check(images(), [objects([-0.9, -0.5, 97, 65]), objects([0, 0, 90.5, 64])])


def test_values_are_looked_at_once_for_a_size_and_a_number_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(inputs, "_check_boxes", lambda name, *_: looked.append(name))

    def seen(batch: ImageBatch, targets: list[Targets], classes: int = 3) -> list[str]:
        looked.clear()
        check_batch(batch, targets, classes, PREPROCESSING, CPU)
        return looked.copy()

    batch, targets = images(), [objects(GOOD), objects(GOOD, GOOD, labels=[0, 1])]
    assert seen(batch, targets) == ["targets[0]", "targets[1]"]
    assert seen(batch, targets) == []
    assert seen(batch, [targets[0].to("cpu"), targets[1][torch.tensor([1])]]) == []
    assert seen(batch, [objects(GOOD), targets[1]]) == ["targets[0]"]
    assert seen(batch, [targets[0], replace(targets[1], boxes=targets[1].boxes + 1)]) == ["targets[1]"]
    assert seen(images((80, 96), (128, 180)), targets) == ["targets[0]"]  # another size of the first picture
    assert seen(batch, targets, classes=4) == ["targets[0]"]  # which was of the other size last
    assert seen(batch, targets, classes=2) == ["targets[0]", "targets[1]"]


def test_our_own_loader_needs_no_look_and_is_right(digits, monkeypatch: pytest.MonkeyPatch) -> None:
    data = read_data(digits, "train")
    augment = AugmentSettings(flip=0.5, flip_vertical=0.5, crop=0.8, scale=(0.3, 1.7))
    pictures = Pictures(data.records, Augmentation(augment, PREPROCESSING), True)
    batches = load_batches(pictures, draws(data.records, 4, 0), workers=0)
    classes = len(data.class_names)
    for _ in range(15):
        batch, targets = next(batches).to(CPU, PREPROCESSING)
        with monkeypatch.context() as patch:
            patch.setattr(inputs, "_check_boxes", pytest.fail)
            check_batch(batch, targets, classes, PREPROCESSING, CPU)
        check_batch(batch, [replace(each) for each in targets], classes, PREPROCESSING, CPU)  # and what a look finds
    with pytest.raises(ValueError, match="but the detector has 1 class:"):
        check_batch(batch, targets, 1, PREPROCESSING, CPU)


def built(detector: str) -> Detector:
    settings: dict[str, dict[str, Any]] = {
        "model": {"kind": detector, "backbone": "timm/test_resnet"},
        "proposals": {"method": "precomputed"},
        "head": {"hidden": 16, "samples": 16},
        "rcnn": {"size": 32, "context": 4, "samples": 8},
        "input": PREPROCESSING.model_dump(),
    }
    if detector != "rcnn":
        settings["model"] |= {"fpn_channels": 16}
    made = build(DetectorSettings.model_validate(settings), NAMES)
    assert isinstance(made, Detector)
    return made.train()


@pytest.mark.parametrize("name", ["faster_rcnn", "fast_rcnn", "rcnn"])
def test_every_detector_looks_at_what_it_learns_from(name: str) -> None:
    detector = built(name)
    proposals = Proposals(torch.tensor([[8.0, 8, 52, 44], [0, 0, 20, 20]]), torch.ones(2))
    batch = replace(images(), proposals=[proposals, proposals])
    bad = [objects(GOOD), objects(GOOD, [50, 40, 10, 10])]
    ways = [detector.losses, *([detector.rpn_losses] if isinstance(detector, FasterRCNN) else [])]
    for losses in ways:
        with pytest.raises(ValueError, match=r"^targets\[1\]\.boxes\[1\] = \[50, 40, 10, 10\] is inverted"):
            losses(batch, bad)
        assert all(value.isfinite() for value in losses(batch, [objects(GOOD), objects()]).values())
        assert all(value.isfinite() for value in losses(batch, [objects(), objects()]).values())
