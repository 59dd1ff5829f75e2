"""Who takes part: anything that turns decoded pictures into detections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rcnnkit.detectors.detector import Detector
from rcnnkit.images import Array
from rcnnkit.inference import prepare
from rcnnkit.structures import Detections


@dataclass(frozen=True, slots=True)
class Contender:
    """One who takes its turn with every batch."""

    name: str
    title: str
    detect: Callable[[Sequence[Array]], list[Detections]]
    detector: Detector | None = None  # whose parts are timed; None: the call is one stage
    least: float = 0.5  # score from which on a detection is drawn


def ready(name: str, title: str, detector: Detector, precision: str) -> Contender:
    """A detector as it is to be measured: a copy that is made for detecting alone (`rcnnkit.inference.prepare`)."""
    prepared = prepare(detector, precision)

    def detect(pictures: Sequence[Array]) -> list[Detections]:
        found: list[Detections] = prepared(list(pictures))
        return found

    return Contender(name, title, detect, prepared, 0.0 if detector.scores_are_margins else 0.5)
