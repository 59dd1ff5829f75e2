"""How the time of each detector grows with what it is given: one thing at a time, untrained detectors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import torch
from rich.console import Console
from torch import Tensor

from rcnnkit.benchmark.contenders import Contender, ready
from rcnnkit.benchmark.machine import free_memory
from rcnnkit.benchmark.memory import GB, Load, estimate
from rcnnkit.benchmark.results import Results
from rcnnkit.benchmark.stages import StageClock, timed
from rcnnkit.benchmark.summary import Step
from rcnnkit.benchmark.threads import threads
from rcnnkit.benchmark.variants import TITLES, Variant, untrained
from rcnnkit.detectors.detector import Detector, ProposalMethod
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.images import Array
from rcnnkit.structures import ImageBatch, Proposals

# What is varied, and what the others are meanwhile. R-CNN's time is nearly all proposals, so these are few.
VALUES = {
    "proposals": (100, 300, 1000, 2000),
    "classes": (1, 20, 80),
    "side": (300, 600, 900, 1200),  # pixels of the picture's shorter one
    "batch": (1, 4, 16),
}
BASE = {"proposals": 100, "classes": 20, "side": 600, "batch": 1}
LONGEST = 120.0  # seconds; a point that would take longer, by what the first one took, is left out
PRE_NMS = 1000  # proposals of a map that enter the suppression, at least
REPEATS, SHORT = 3, 1.0  # what takes less than a second is measured three times more, and that is what counts


class Exactly:
    """A method's proposals made up to a number with random ones, so that every picture has as many.

    Args:
        method: whose time is to be part of the whole.
        count: how many proposals every picture gets.
    """

    def __init__(self, method: ProposalMethod, count: int) -> None:
        self.method, self.count = method, count

    def propose(self, images: ImageBatch, features: Sequence[Tensor] = ()) -> list[Proposals]:
        generator = torch.Generator().manual_seed(0)
        filled = []
        for found, (height, width) in zip(self.method.propose(images, features), images.sizes, strict=True):
            missing = max(0, self.count - len(found))
            corners = torch.rand(missing, 2, 2, generator=generator).sort(dim=1).values * torch.tensor([width, height])
            boxes = torch.cat([found.boxes, corners.flatten(1).to(found.boxes)])[: self.count]
            filled.append(Proposals(boxes, torch.arange(len(boxes), 0, -1.0, device=boxes.device)))
        return filled


def measure_growth(
    results: Results, picture: Array, backbone: str, load: Load, console: Console, save: Callable[[], None]
) -> None:
    """Put `growth` into `results`: seconds a picture of each detector at each point.

    Args:
        picture: (H, W, 3) uint8, which is resized.
        load: device and type to compute in; its threads are the most that are tried.
        save: called after each point.
    """
    growth: Results = {"base": BASE | {"threads": load.threads}, "points": []}
    results["growth"] = growth
    usual = _contenders(backbone, BASE["classes"], load)
    base: dict[str, float] = {}  # seconds of each at the first point, where nothing is varied
    for number, (dimension, value) in enumerate(points := _points(load.threads)):
        at = growth["base"] | {dimension: value}
        pairs = usual if at["classes"] == BASE["classes"] else _contenders(backbone, value, load)
        for i in range(len(pairs)):
            variant, contender = pairs[(number + i) % len(pairs)]
            expected = base.get(variant.name, 0.0) * _times(variant.name, dimension, value, load.threads)
            why = _too_large(variant, at, picture, load)
            if expected > LONGEST:
                why = f"it would take about {expected:.0f} s"
            if why:
                results["notes"].append(f"{TITLES[variant.name]}, {dimension} {value}: left out of growth, as {why}.")
                continue
            with threads(at["threads"]):
                step = _step(contender, at, picture, load)
            seconds = step.whole / step.pictures
            growth["points"].append(
                {
                    "dimension": dimension,
                    "value": value,
                    "contender": variant.name,
                    "seconds": seconds,
                    "proposals": step.proposals / step.pictures,
                    "stages": {name: each / step.pictures for name, each in step.stages.items()},
                }
            )
            save()
            if number == 0:
                base[variant.name] = seconds
        if number == 0:
            console.print(f"growth: about {_work(base, points, load.threads) / 60:.1f} minutes")


def _points(most: int) -> list[tuple[str, int]]:
    """What is varied, and to which value; the first one is BASE itself."""
    powers = [2**i for i in range(most.bit_length()) if 2**i < most]
    values = VALUES | {"threads": (*powers, most)}
    return [(dimension, value) for dimension, each in values.items() for value in each]


def _contenders(backbone: str, classes: int, load: Load) -> list[tuple[Variant, Contender]]:
    variants = untrained(backbone, [f"class {i}" for i in range(1, classes + 1)])
    device = torch.device(load.device)
    return [(each, ready(each.name, TITLES[each.name], each.load(device), load.precision)) for each in variants]


def _step(contender: Contender, at: dict[str, int], picture: Array, load: Load) -> Step:
    """A batch of the same picture; of several turns the one in the middle."""
    detector = contender.detector
    assert detector is not None  # `ready` has it
    _give(detector, at)
    pictures = [_resized(picture, at["side"])] * at["batch"]

    def once() -> Step:
        clock = StageClock(load.device)
        with timed(detector, clock), clock.stage("other"):
            contender.detect(pictures)
        return Step(len(pictures), sum(clock.seconds.values()), clock.seconds, clock.proposals)

    began = time.perf_counter()
    runs = [once()]
    if time.perf_counter() - began < SHORT:
        runs = [once() for _ in range(REPEATS)]
    return sorted(runs, key=lambda step: step.whole)[len(runs) // 2]


def _give(detector: Detector, at: dict[str, int]) -> None:
    """Make a detector look at pictures of this side, with so many proposals in each."""
    if isinstance(detector, FasterRCNN):  # of several maps, as many or more are left by the suppression
        detector.rpn.keep = (max(PRE_NMS, at["proposals"]), at["proposals"])
    else:
        assert isinstance(detector, (RCNN, FastRCNN))
        assert detector.proposer is not None
        method = detector.proposer.method if isinstance(detector.proposer, Exactly) else detector.proposer
        detector.proposer, detector.count = Exactly(method, at["proposals"]), at["proposals"]
    if not isinstance(detector, RCNN):  # whose windows are cut from the picture as it is
        detector.preprocessing = detector.preprocessing.model_copy(
            update={"short_side": at["side"], "long_side": 100 * at["side"]}
        )


def _resized(picture: Array, side: int) -> Array:
    factor = side / min(picture.shape[:2])
    height, width = (round(each * factor) for each in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)


def _too_large(variant: Variant, at: dict[str, int], picture: Array, load: Load) -> str:
    """Why a point will not fit into memory; "" of one that will."""
    free = free_memory(torch.device(load.device))
    height, width = _resized(picture, at["side"]).shape[:2]
    if variant.name != "rcnn":
        input_ = variant.settings.input.model_copy(update={"short_side": at["side"], "long_side": 100 * at["side"]})
        variant = replace(variant, settings=variant.settings.model_copy(update={"input": input_}))
    need = estimate(variant, (height, width), replace(load, batch=at["batch"], proposals=at["proposals"]))
    if free is None or need <= free:
        return ""
    return f"it needs about {need / GB:.1f} GB and {free / GB:.1f} GB are free"


def _times(name: str, dimension: str, value: int, most: int) -> float:
    """About how many times as long as in the base case a batch takes."""
    windows = name == "rcnn"  # which grow in number with the proposals, and not in size with the picture
    return {
        "proposals": value / BASE["proposals"] if windows else 1,
        "side": 1 if windows else (value / BASE["side"]) ** 2,
        "batch": value,
        "threads": most / value,
    }.get(dimension, 1)


def _work(base: dict[str, float], points: Sequence[tuple[str, int]], most: int) -> float:
    """About how many seconds all points take together."""
    total = 0.0
    for name, seconds in base.items():
        for dimension, value in points[1:]:
            taken = seconds * _times(name, dimension, value, most)
            total += 0 if taken > LONGEST else taken if taken > SHORT else (1 + REPEATS) * taken
    return total
