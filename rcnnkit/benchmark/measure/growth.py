"""How the time of each detector grows with what it is given: one thing at a time, untrained detectors."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import torch
from rich.console import Console
from torch import Tensor

from rcnnkit.benchmark.measure.contenders import Contender, untrained
from rcnnkit.benchmark.measure.machine import threads
from rcnnkit.benchmark.measure.memory import GB, estimate
from rcnnkit.benchmark.options import Options
from rcnnkit.benchmark.results import Growth, Point, Setting, Step
from rcnnkit.detectors.detector import Detector, ProposalMethod
from rcnnkit.inference import prepare
from rcnnkit.memory import free_memory
from rcnnkit.stages import StageClock, timed
from rcnnkit.structures import Array, ImageBatch, Proposals

# What is varied, and what the others are meanwhile. R-CNN's time is nearly all proposals, so these are few.
VALUES = {
    "proposals": (100, 300, 1000, 2000),
    "classes": (1, 20, 80),
    "side": (300, 600, 900, 1200),
    "batch": (1, 4, 16),
}
BASE = Setting(proposals=100, classes=20, side=600, batch=1, threads=0)  # 0: all
LONGEST = 120.0  # seconds; a point that would take longer, by what the first one took, is left out
REPEATS, SHORT = 3, 1.0  # what takes less than a second is measured three times more, and that is what counts


class Exactly:
    """A method's proposals made up to `count` with random ones, so that every picture has as many."""

    def __init__(self, method: ProposalMethod, count: int) -> None:
        self.method, self.count = method, count

    def propose(self, images: ImageBatch, features: Sequence[Tensor] = ()) -> list[Proposals]:
        generator = torch.Generator().manual_seed(0)
        result = []
        for proposals, (height, width) in zip(self.method.propose(images, features), images.sizes, strict=True):
            missing = max(0, self.count - len(proposals))
            corners = torch.rand(missing, 2, 2, generator=generator).sort(dim=1).values * torch.tensor([width, height])
            boxes = torch.cat([proposals.boxes, corners.flatten(1).to(proposals.boxes)])[: self.count]
            result.append(Proposals(boxes, torch.arange(len(boxes), 0, -1.0, device=boxes.device)))
        return result


def measure_growth(picture: Array, backbone: str, options: Options, console: Console) -> Iterator[Growth | str]:
    """Seconds a picture of each detector at more and more points; or a note, why one is left out.

    Args:
        picture: (H, W, 3) uint8, which is resized.
        options: device and type to compute in; their threads are the most that are tried.
    """
    growth = Growth(base := replace(BASE, threads=options.threads))
    base_pairs = _pairs(backbone, base.classes, options)
    base_seconds: dict[str, float] = {}  # of each contender
    work = 0.0  # seconds of all points
    points = _points(options.threads)
    for number, (dimension, value) in enumerate(points):
        setting = replace(base, **{dimension: value})
        pairs = base_pairs if setting.classes == base.classes else _pairs(backbone, setting.classes, options)
        for i in range(len(pairs)):
            contender, detector = pairs[(number + i) % len(pairs)]
            name, shares_features = contender.name, detector.shares_features
            expected = base_seconds.get(name, 0.0) * _times(shares_features, dimension, value, options.threads)
            reason = _too_large(contender, setting, picture, options)
            if expected > LONGEST:
                reason = f"it would take about {expected:.0f} s"
            if reason:
                yield f"{contender.title}, {dimension} {value}: left out of growth, as {reason}."
                continue
            with threads(setting.threads):
                step = _step(detector, setting, picture, options)
            stages = {stage: taken / step.pictures for stage, taken in step.stages.items()}
            seconds, proposals = step.whole / step.pictures, step.proposals / step.pictures
            point = Point(dimension, value, name, seconds, proposals, stages)
            yield (growth := replace(growth, points=(*growth.points, point)))
            if number == 0:
                base_seconds[name] = seconds
                work += _work(seconds, shares_features, points, options.threads)
        if number == 0:
            console.print(f"growth: about {work / 60:.1f} minutes")


def _points(most: int) -> list[tuple[str, int]]:
    """What is varied, and to which value; the first one is BASE itself."""
    powers = [2**i for i in range(most.bit_length()) if 2**i < most]
    every = VALUES | {"threads": (*powers, most)}
    return [(dimension, value) for dimension, values in every.items() for value in values]


def _pairs(backbone: str, classes: int, options: Options) -> list[tuple[Contender, Detector]]:
    contenders = untrained(backbone, [f"class {i}" for i in range(1, classes + 1)])
    return [(contender, prepare(contender.load(options.device), options.precision)) for contender in contenders]


def _step(detector: Detector, setting: Setting, picture: Array, options: Options) -> Step:
    """A batch of the same picture; of several turns the one in the middle."""
    pictures = [_resized(picture, setting.side)] * setting.batch
    _set(detector, setting)

    def once() -> Step:
        clock = StageClock(options.device)
        with timed(detector, clock), clock.stage("other"):
            detector(pictures)
        return Step(len(pictures), sum(clock.seconds.values()), clock.seconds, clock.proposals)

    began = time.perf_counter()
    steps = [once()]
    if time.perf_counter() - began < SHORT:
        steps = [once() for _ in range(REPEATS)]
    return sorted(steps, key=lambda step: step.whole)[len(steps) // 2]


def _set(detector: Detector, setting: Setting) -> None:
    """Make a detector look at pictures of this side, with so many proposals in each."""
    detector.count = setting.proposals  # an RPN on several maps finds as many, where it may
    if detector.proposer is not None:
        method = detector.proposer.method if isinstance(detector.proposer, Exactly) else detector.proposer
        detector.proposer = Exactly(method, setting.proposals)
    if detector.preprocessing.short_side:  # 0: R-CNN's windows are cut from the picture as it is
        detector.preprocessing = detector.preprocessing.model_copy(
            update={"short_side": setting.side, "long_side": 100 * setting.side}
        )


def _resized(picture: Array, side: int) -> Array:
    factor = side / min(picture.shape[:2])
    height, width = (round(length * factor) for length in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)


def _too_large(contender: Contender, setting: Setting, picture: Array, options: Options) -> str:
    """Why a point will not fit into memory; "" of one that will."""
    free = free_memory(torch.device(options.device))
    height, width = _resized(picture, setting.side).shape[:2]
    detector = contender.load("meta")
    _set(detector, setting)
    need = estimate(detector, (height, width), setting.batch)
    if free is None or need <= free:
        return ""
    return f"it needs about {need / GB:.1f} GB and {free / GB:.1f} GB are free"


def _times(shares_features: bool, dimension: str, value: int, most: int) -> float:
    """About how many times as long as in the base case, with `most` threads, a batch takes.

    Where regions do not share their features, their number alone counts, and not the size of the picture.
    """
    by_size = {"side": (value / BASE.side) ** 2} if shares_features else {"proposals": value / BASE.proposals}
    return (by_size | {"batch": value, "threads": most / value}).get(dimension, 1)


def _work(seconds: float, shared: bool, points: Sequence[tuple[str, int]], most: int) -> float:
    """About how many seconds all points of a contender take together, whose base case takes `seconds`."""
    each = [seconds * _times(shared, dimension, value, most) for dimension, value in points[1:]]
    return sum(taken if taken > SHORT else (1 + REPEATS) * taken for taken in each if taken <= LONGEST)
