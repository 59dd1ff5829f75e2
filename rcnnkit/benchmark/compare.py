"""The same pictures through every contender, in turns, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from PIL import Image

from rcnnkit.benchmark.contenders import Contender
from rcnnkit.benchmark.stages import CALL, StageClock, timed
from rcnnkit.benchmark.summary import Step
from rcnnkit.data.records import Record
from rcnnkit.drawing import draw
from rcnnkit.images import read_picture
from rcnnkit.structures import Detections


@dataclass(frozen=True, slots=True)
class Turn:
    """What one contender did with one batch."""

    contender: Contender
    records: Sequence[Record]
    step: Step
    found: Sequence[Detections]
    drawn: Sequence[Image.Image]


def turns(
    contenders: Sequence[Contender], records: Sequence[Record], batch: int, device: torch.device
) -> Iterator[Turn]:
    """Every batch to every contender. Another one begins each time, so that a drifting machine favours none."""
    for number, start in enumerate(range(0, len(records), batch)):
        for i in range(len(contenders)):
            yield measure(contenders[(number + i) % len(contenders)], records[start : start + batch], device)


def measure(contender: Contender, records: Sequence[Record], device: torch.device) -> Turn:
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
                found = [each.to("cpu") for each in contender.detect(pictures)]
            with clock.stage("drawing"):
                drawn = [
                    draw(picture, each, min_score=contender.least)
                    for picture, each in zip(pictures, found, strict=True)
                ]
        whole = clock.now() - began
    return Turn(contender, records, Step(len(records), whole, clock.seconds, clock.proposals), found, drawn)
