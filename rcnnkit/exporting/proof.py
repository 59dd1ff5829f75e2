"""The proof of an exported file: the same answers as the detector's, on pictures of many kinds."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from rcnnkit.boxes import clip, decode
from rcnnkit.data.records import Dataset, Record
from rcnnkit.detectors.detector import Detector, with_proposals
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.evaluation.coco import coco_metrics
from rcnnkit.exporting.agreement import NEAR, PIXELS, SCORES, Limits, difference
from rcnnkit.exporting.placeholders import LOWEST
from rcnnkit.exporting.runtimes import Exported
from rcnnkit.images import read_picture
from rcnnkit.progress import Report, reported, silent
from rcnnkit.structures import Array, Detections, ImageBatch, Proposals
from rcnnkit.text import count

SIDES = ((240, 320), (97, 61), (333, 500), (480, 360), (64, 200))  # of random pictures, (height, width)
BATCHES = (1, 2, 5)
REGIONS = 60  # random proposals of a picture, for a Fast R-CNN
WINDOWS = (1, 2, 5, 33)
DATA = 16  # pictures of the user's data
AP = 0.001
TIED = 1e-5  # of two scores, whose order rounding decides


class Unequal(ValueError):
    """A file does not answer as its detector does."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What was compared."""

    pictures: int
    detections: int
    ties: int  # pictures where equal scores or IoUs at a threshold decided, which each runtime may settle in its way
    ap: tuple[float, float] | None = None  # of the detector and of the file, where pictures are annotated
    script: Path | None = None  # that was written beside the file

    def __str__(self) -> str:
        text = f"equal on {count(self.pictures, 'picture')} with {count(self.detections, 'detection')}"
        if self.ties:
            text += f", of which ties decided in {self.ties:,}"
        if self.ap:
            text += f"; AP {self.ap[0]:.4f} and {self.ap[1]:.4f}"
        return text


@dataclass(frozen=True, slots=True)
class Case:
    """Pictures that go through together, as one batch."""

    name: str
    pictures: Sequence[Array]
    proposals: Sequence[Proposals] | None
    threshold: float | None = None  # in place of the detector's


# Makes the file once more: with another score threshold, and with what is inside as outputs too.
Again = Callable[[float, bool], Exported]


def prove(
    detector: Detector, exported: Exported, again: Again, data: Dataset | None, progress: Report = silent
) -> Proof:
    """Compare a file with the detector that it was made from.

    Args:
        detector: float32, in eval mode, on the CPU.
        exported: the file in its runtime.
        again: for the pictures without any detection, for those with too many, and to find where answers part.
        data: pictures of the user's, annotated or not.

    Returns:
        What was compared.

    Raises:
        Unequal: says which picture differs, and which layer first.
    """
    if isinstance(detector, RCNN):
        return _prove_windows(detector, exported, data)
    assert isinstance(detector, FastRCNN | FasterRCNN)
    pictures = detections = ties = 0
    answers: list[tuple[Detections, Detections]] = []
    for case in reported(list(_cases(detector, data)), "proof", progress):
        own, file = detector, exported
        if case.threshold is not None:
            own, file = _with_threshold(detector, case.threshold), again(case.threshold, False)
        expected = _call(own, case)
        actual = file(case.pictures, case.proposals)
        limits = Limits(own.head.score_threshold, own.head.nms_iou, own.head.max_detections)
        for i, (one, other) in enumerate(zip(expected, actual, strict=True)):
            if reason := difference(one, other, limits):
                name = case.name if len(case.pictures) == 1 else f"{case.name} (number {i + 1})"
                insides = again(own.head.score_threshold, True)
                if not _is_a_tie(own, insides, case, i):
                    layer = _where(own, insides, case)
                    raise Unequal(f"{exported.path.name} and the detector differ on {name}: {reason}; {layer}")
                ties += 1
            detections += len(one)
        pictures += len(expected)
        if case.name.startswith("data"):
            answers += zip(expected, actual, strict=True)
    ap = _accuracies(answers, data)
    if ap and abs(ap[0] - ap[1]) > AP:
        raise Unequal(f"{exported.path.name} has an AP of {ap[1]:.4f}, and the detector one of {ap[0]:.4f}")
    return Proof(pictures, detections, ties, ap)


def check_runs(detector: Detector, exported: Exported) -> None:
    """Run a file on the random pictures of `prove`, whose answers nothing is compared with.

    Raises:
        ValueError: its runtime cannot run it.
    """
    assert isinstance(detector, FastRCNN | FasterRCNN)
    for case in _cases(detector, None):
        exported(case.pictures, case.proposals)


def random_picture(height: int, width: int, generator: np.random.Generator) -> Array:
    """(H, W, 3) uint8: rectangles on a background that changes slowly, and noise."""
    coarse = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int64)
    for _ in range(12):
        (top, bottom), (left, right) = (np.sort(generator.integers(0, side + 1, 2)) for side in (height, width))
        picture[top:bottom, left:right] = generator.integers(0, 256, 3)
    noise = generator.integers(-20, 21, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def _cases(detector: FastRCNN | FasterRCNN, data: Dataset | None) -> Iterator[Case]:
    generator = np.random.default_rng(0)

    def case(name: str, pictures: Sequence[Array], threshold: float | None = None) -> Case:
        regions = [_random_regions(picture, generator) for picture in pictures] if detector.takes_proposals else None
        return Case(name, pictures, regions, threshold)

    for height, width in SIDES:
        yield case(f"a random picture, {width} × {height}", [random_picture(height, width, generator)])
    for size in BATCHES:
        height, width = SIDES[size % len(SIDES)]
        batch = [random_picture(height, width, generator) for _ in range(size)]
        yield case(f"a batch of {count(size, 'random picture')}", batch)
    picture = random_picture(*SIDES[0], generator)
    yield case("a picture without detections", [picture], threshold=math.inf)
    yield case("a picture with more than max_detections", [picture], threshold=_lowest(detector))
    yield case("a picture of one colour", [np.full((*SIDES[0], 3), (90, 140, 200), np.uint8)])
    for record in data.records[:DATA] if data else ():
        yield case(f"data: {record.path.name}", [read_record(record)])


def read_record(record: Record) -> Array:
    """Its picture, as its annotations have it."""
    return read_picture(record.path, record.size if all(record.size) else None)


def _lowest(detector: FastRCNN | FasterRCNN) -> float:
    return -1e9 if detector.scores_are_margins else -1.0


def _random_regions(picture: Array, generator: np.random.Generator) -> Proposals:
    height, width = picture.shape[:2]
    corners = np.sort(generator.uniform(0, 1, (REGIONS, 2, 2)), axis=1) * [width, height]
    boxes = torch.from_numpy(corners.reshape(-1, 4).astype(np.float32))
    return Proposals(boxes, torch.linspace(1, 0, REGIONS))


def _with_threshold(detector: FastRCNN | FasterRCNN, threshold: float) -> Any:
    copy_ = copy.copy(detector)  # shares its tensors
    copy_._modules = dict(detector._modules)
    copy_.head = copy.copy(detector.head)
    copy_.head.score_threshold = threshold
    return copy_


def _call(detector: FastRCNN | FasterRCNN, case: Case) -> list[Detections]:
    if case.proposals is None:
        return detector(list(case.pictures))
    return detector(list(case.pictures), list(case.proposals))


def _batch(detector: FastRCNN | FasterRCNN, case: Case) -> ImageBatch:
    images = detector.preprocessing(list(case.pictures))
    return images if case.proposals is None else with_proposals(images, case.proposals)


def _inside(detector: FastRCNN | FasterRCNN, images: ImageBatch) -> dict[str, Any]:
    """What is inside, by the names of `TracedPictures.layers`; of proposals a list."""
    with torch.no_grad():
        features = detector.backbone(images.pixels)
        proposals = detector.rpn.propose(images, features) if isinstance(detector, FasterRCNN) else images.proposals
        scores, _ = detector.head.predict(detector.pool(features, proposals))
    maps = {f"map of stride {stride}": each for stride, each in zip(detector.backbone.strides, features, strict=True)}
    return {"normalised pixels": images.pixels, **maps, "regions": proposals, "class scores": scores}


def _file_proposals(values: Array, i: int) -> Proposals:
    real = torch.from_numpy(values[i][values[i][:, 4] > LOWEST])
    return Proposals(real[:, :4], real[:, 4])


def _is_a_tie(detector: FastRCNN | FasterRCNN, insides: Exported, case: Case, number: int) -> bool:
    """Whether the file took others among anchors that score the same, and answers as the detector does with those.

    Where many score the same, as in a picture of one colour, each runtime takes others of them.
    """
    if not isinstance(detector, FasterRCNN):
        return False
    images = _batch(detector, case)
    inside = insides.run(insides.feed(case.pictures, case.proposals)[0])
    proposals = [_file_proposals(inside["regions"], i) for i in range(len(images))]
    with torch.no_grad():
        features = detector.backbone(images.pixels)
        if not _are_candidates(proposals[number], *_candidates(detector, images, features, number)):
            return False
        regions = detector.pool(features, proposals)
        kept = detector.head.detect(regions, proposals, images.sizes)
        expected = detector.in_pictures(kept, images)[number]
        scores = detector.head.predict(regions)[0].split([len(each) for each in proposals])[number]
    actual = insides(case.pictures, case.proposals)[number]
    limits = Limits(detector.head.score_threshold, detector.head.nms_iou, detector.head.max_detections)
    if not difference(expected, actual, limits):
        return True
    # Where most regions score the same, the suppression has nothing to go by either; then their scores have to agree.
    real = inside["regions"][number][:, 4] > LOWEST
    off = scores - torch.from_numpy(inside["class scores"][number][real])
    off = off[off.isfinite()]  # a box that is too small has none in the file
    gaps = scores.sort(dim=0).values.diff(dim=0)
    return bool((gaps <= TIED).float().mean() > 0.5) and bool((off.abs() <= SCORES).all())


def _candidates(
    detector: FasterRCNN, images: ImageBatch, features: Sequence[Tensor], number: int
) -> tuple[Tensor, Tensor]:
    """Boxes (N, 4) and scores (N,) of the anchors of a picture that are the best of their map, or tie with them."""
    rpn = detector.rpn
    boxes, scores = [], []
    for anchors, logits, deltas in zip(rpn.place_anchors(images, features), *rpn(features), strict=True):
        of_picture = logits[number]
        least = of_picture.topk(min(rpn.keep[0], len(of_picture))).values[-1]
        best = of_picture >= least - NEAR
        boxes.append(clip(decode(deltas[number][best], anchors[best]), images.sizes[number]))
        scores.append(of_picture[best].sigmoid())
    return torch.cat(boxes), torch.cat(scores)


def _are_candidates(proposals: Proposals, boxes: Tensor, scores: Tensor) -> bool:
    """Whether each proposal is one of these boxes, with its score."""
    for box, score in zip(proposals.boxes, proposals.scores, strict=True):
        near = (scores - score).abs() <= SCORES
        if not ((boxes[near] - box).abs().amax(1) <= PIXELS).any():
            return False
    return True


def _where(detector: FastRCNN | FasterRCNN, insides: Exported, case: Case) -> str:
    """The first layer whose values differ, in words."""
    outputs = insides.run(insides.feed(case.pictures, case.proposals)[0])
    images = _batch(detector, case)
    for name, ours in _inside(detector, images).items():
        theirs = outputs[name]
        if name == "regions":
            for i, one in enumerate(ours):
                other = _file_proposals(theirs, i)
                if len(one) != len(other) or (one.boxes - other.boxes).abs().max() > PIXELS:
                    return "they part at the proposals"
            continue
        if name == "class scores":
            break
        if ours.shape != theirs.shape:
            shapes = f"{tuple(ours.shape)} and {tuple(theirs.shape)}"
            return f"they part at the {name}, of {shapes}{_advice(name, insides)}"
        off, largest = (ours - torch.from_numpy(theirs)).abs().max(), ours.abs().max().clamp(min=1)
        if off > SCORES * largest:
            return f"they part at the {name}, by {off:.2g}{_advice(name, insides)}"
    return "they part at the class scores and boxes, and what is before them is equal"


def _advice(layer: str, exported: Exported) -> str:
    if layer == "normalised pixels" and exported.about["with_preprocessing"]:
        return "; this runtime resizes otherwise, so leave --with-preprocessing out"
    return ""


def _accuracies(answers: Sequence[tuple[Detections, Detections]], data: Dataset | None) -> tuple[float, float] | None:
    """AP of both, where there are objects to find."""
    if not data or not answers or not any(len(record.targets) for record in data.records[: len(answers)]):
        return None
    part = replace(data, records=data.records[: len(answers)])
    own, files = (coco_metrics([pair[i] for pair in answers], part).numbers["AP"] for i in (0, 1))
    return None if math.isnan(own) else (own, files)


def _prove_windows(detector: RCNN, exported: Exported, data: Dataset | None) -> Proof:
    """The same of an R-CNN's classifier of windows: scores, and boxes that a region of a window's size moves to."""
    side = detector.settings.size
    generator = np.random.default_rng(0)
    cases = {f"{count(n, 'random window')}": [random_picture(side, side, generator) for _ in range(n)] for n in WINDOWS}
    cases["a window of one colour"] = [np.full((side, side, 3), (90, 140, 200), np.uint8)]
    for record in data.records[:DATA] if data else ():
        cases[f"data: {record.path.name}"] = [cv2.resize(read_record(record), (side, side))]
    windows_compared = 0
    for name, windows in cases.items():
        stacked = np.stack(windows)
        with torch.no_grad():
            pixels = detector.preprocessing.batch(
                [torch.from_numpy(window).permute(2, 0, 1) for window in windows], [(side, side)] * len(windows), "cpu"
            ).pixels
            features = detector.backbone(pixels, detector.last_layer)
            expected = {"scores": detector.score(features), "deltas": detector.regress(features)}
        actual = exported.run({"windows": stacked})
        for output, most in (("scores", SCORES), ("deltas", PIXELS / side)):
            off = (expected[output] - torch.from_numpy(actual[output])).abs().max()
            if not off <= most * expected[output].abs().max().clamp(min=1):
                raise Unequal(f"{exported.path.name} and the detector differ on {name}: {output} by {off:.2g}")
        windows_compared += len(windows)
    return Proof(windows_compared, 0, 0)
