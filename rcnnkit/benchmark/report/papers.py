"""What the papers measured, to stand beside what this machine does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rcnnkit.benchmark.results import Results


@dataclass(frozen=True, slots=True)
class Published:
    """What VGG16 took on an Nvidia Tesla K40, with pictures of VOC2007 at 600 pixels."""

    seconds: float  # a picture
    source: str


# Proposals and the rest. Fast R-CNN's table 4 leaves selective search out; its time is Faster R-CNN's, table 5.
PAPERS = {
    "rcnn": Published(1.51 + 47.0, "Fast R-CNN, table 4"),
    "fast-rcnn": Published(1.51 + 0.32, "Fast R-CNN, table 4"),
    "faster-rcnn": Published(0.010 + 0.188, "Faster R-CNN, table 5"),
}
HARDWARE = "VGG16 on an Nvidia Tesla K40: somebody else's hardware, network and pictures"


def seconds_here(results: Results) -> dict[str, float]:
    """Median seconds that the papers' contenders take here."""
    return {name: summary.detecting.median for name, summary in results.summaries.items() if name in PAPERS}


def ratios(seconds: Mapping[str, float]) -> dict[str, float]:
    """How many times as long as Faster R-CNN each takes; empty without it."""
    fastest = seconds.get("faster-rcnn")
    return {name: taken / fastest for name, taken in seconds.items()} if fastest else {}
