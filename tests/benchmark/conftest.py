"""Results by hand."""

import pytest

from rcnnkit.benchmark.options import Options
from rcnnkit.benchmark.results import (
    Growth,
    Machine,
    MeasuredContender,
    Memory,
    Pictures,
    Point,
    Results,
    Setting,
    Step,
    Summary,
)

TITLES = {"rcnn": "R-CNN", "fast-rcnn": "Fast R-CNN", "faster-rcnn": "Faster R-CNN"}


def contender(title: str, whole: float) -> MeasuredContender:
    """Ten pictures of `whole` seconds each."""
    steps = (Step(1, whole, {"backbone": 0.8 * whole, "heads": 0.1 * whole}, 300),) * 10
    accuracy, memory = {"AP": 0.5, "AP50": None}, Memory(1_500_000_000, None)
    return MeasuredContender(title, "x", "resnet18", {"a": 1}, steps, Summary.of(steps), accuracy, memory)


@pytest.fixture
def results() -> Results:
    """Ten pictures: 5 s, 0.5 s and 0.25 s each."""
    versions: dict[str, str | None] = {"torch": "2.14", "rcnnkit": "0.1.0"}
    return Results(
        date="2026-11-25T10:00:00+00:00",
        options=Options(batch=1, threads=2),
        machine=Machine("A <CPU> & more", 2, 24.0, 0.1, None, "Linux", versions, "abc123"),
        pictures=Pictures("<digits>", 10, True, ("a|b.jpg",)),
        complete=True,
        notes=("A note with <b>.",),
        contenders={
            name: contender(title, whole) for (name, title), whole in zip(TITLES.items(), (5.0, 0.5, 0.25), strict=True)
        },
        growth=Growth(
            Setting(proposals=100, classes=20, side=600, batch=1, threads=2),
            tuple(
                Point("proposals", value, name, value * share, 1.0, {})
                for value in (2000, 100)
                for name, share in (("rcnn", 0.01), ("faster-rcnn", 0.0001))
            ),
        ),
    )
