"""The same pictures through every contender, in turns, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from PIL import Image

from rcnnkit.benchmark.measure.contenders import ReadyContender
from rcnnkit.benchmark.results import CALL, Step
from rcnnkit.data.records import Record
from rcnnkit.drawing import draw
from rcnnkit.images import read_picture
from rcnnkit.stages import StageClock, timed
from rcnnkit.structures import Detections


@dataclass(frozen=True, slots=True)
class Turn:
    """What one contender did with one batch."""

    contender: ReadyContender
    records: Sequence[Record]
    step: Step
    detections: Sequence[Detections]
    drawn: Sequence[Image.Image]


def turns(
    contenders: Sequence[ReadyContender], records: Sequence[Record], batch: int, device: torch.device | str
) -> Iterator[Turn]:
    """Every batch to every contender. Another one begins each time, so that a drifting machine favours none."""
    for number, start in enumerate(range(0, len(records), batch)):
        for i in range(len(contenders)):
            yield measure(contenders[(number + i) % len(contenders)], records[start : start + batch], device)


def measure(contender: ReadyContender, records: Sequence[Record], device: torch.device | str) -> Turn:
    """One batch from its files to drawn boxes."""
    clock = StageClock(device)
    detector = contender.detector
    with timed(detector, clock) if detector else nullcontext():
        began = clock.now()
        with clock.stage("other"):
            with clock.stage("decode"):
                # As annotated: only the record knows the orientation that its boxes speak of.
                pictures = [read_picture(record.path, record.size) for record in records]
            with nullcontext() if detector else clock.stage(CALL):
                detections = [each.to("cpu") for each in contender.detect(pictures)]
            with clock.stage("drawing"):
                drawings = [
                    draw(picture, answer, min_score=contender.min_score)
                    for picture, answer in zip(pictures, detections, strict=True)
                ]
        whole = clock.now() - began
    return Turn(contender, records, Step(len(records), whole, clock.seconds, clock.proposals), detections, drawings)
