"""What a benchmark measured, as JSON on disk. Nothing here needs torch, and nothing in `report/` does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from rcnnkit.benchmark.options import Options
from rcnnkit.files import check_regular, whole

FILE = "results.json"
FORMAT: Literal[2] = 2  # of the file; the first one had no number
# In the order in which they are shown. "other" is what no stage claims.
STAGES = ("decode", "resize", "proposals", "backbone", "regions", "heads", "suppression", "drawing", "other")
OUTSIDE = ("decode", "drawing")  # what is not the detector's
CALL = "whole call"  # of a contender whose parts are not ours

Curve = list[tuple[int, float]]  # (value, seconds a picture), ascending


@dataclass(frozen=True, slots=True)
class Machine:
    """On what, and with what, something was measured; None and "" where nobody says."""

    cpu: str
    cores: int | None
    memory_gb: float | None
    load: float  # of the last minute: work of others makes times longer
    gpu: str | None
    system: str
    versions: dict[str, str | None]
    commit: str | None  # of rcnnkit's repository, with "+" where files differ from it


@dataclass(frozen=True, slots=True)
class Pictures:
    name: str
    count: int
    annotated: bool
    shown: tuple[str, ...]  # names of those that the report shows


@dataclass(frozen=True, slots=True)
class Step:
    """One batch of pictures through one contender; seconds."""

    pictures: int
    whole: float
    stages: dict[str, float]
    proposals: int = 0


@dataclass(frozen=True, slots=True)
class Seconds:  # of a picture, over all steps
    median: float
    p95: float
    spread: float  # from the first to the third quartile


@dataclass(frozen=True, slots=True)
class Stage(Seconds):
    share: float  # of all seconds


@dataclass(frozen=True, slots=True)
class Summary:
    """What all steps of a contender come to."""

    steps: int
    pictures: int
    whole: Seconds
    detecting: Seconds  # without decoding and drawing: the detector's call
    stages: dict[str, Stage]
    images_per_second: float
    proposals: float  # mean of a picture
    missing: float  # share of the whole that is in no stage but "other"

    @classmethod
    def of(cls, steps: Sequence[Step]) -> Summary:
        """Of one step at least; ValueError without any."""
        if not steps:
            raise ValueError("nothing was measured, so there is nothing to summarise")
        pictures = np.array([step.pictures for step in steps])
        whole = np.array([step.whole for step in steps])
        names = in_order({name for step in steps for name in step.stages})
        seconds = {name: np.array([step.stages.get(name, 0.0) for step in steps]) for name in names}
        detecting = whole - sum(seconds[name] for name in names if name in OUTSIDE)
        shares = {name: float(taken.sum() / whole.sum()) for name, taken in seconds.items()}
        return cls(
            steps=len(steps),
            pictures=int(pictures.sum()),
            whole=Seconds(*_quantiles(whole / pictures)),
            detecting=Seconds(*_quantiles(detecting / pictures)),
            stages={name: Stage(*_quantiles(seconds[name] / pictures), shares[name]) for name in names},
            images_per_second=float(pictures.sum() / whole.sum()),
            proposals=float(sum(step.proposals for step in steps) / pictures.sum()),
            missing=1 - sum(shares[name] for name in names if name != "other"),
        )

    def share(self, stage: str) -> float:
        """Of all seconds, that the stage has."""
        return self.stages[stage].share if stage in self.stages else 0.0


@dataclass(frozen=True, slots=True)
class Memory:  # the most bytes that were held; None where nobody says
    process: int | None
    device: int | None


@dataclass(frozen=True, slots=True)
class MeasuredContender:
    """What is known of a contender; more and more while the benchmark runs."""

    title: str
    weights: str | None  # None: untrained
    backbone: str | None = None
    settings: dict[str, Any] | None = None  # the detector's, as in a weights file
    steps: tuple[Step, ...] = ()
    summary: Summary | None = None  # None before the first step
    accuracy: dict[str, float | None] | None = None  # AP and AP50
    memory: Memory | None = None


@dataclass(frozen=True, slots=True)
class Setting:  # of a point of growth
    proposals: int  # of a picture
    classes: int
    side: int  # pixels of the picture's shorter one
    batch: int
    threads: int


@dataclass(frozen=True, slots=True)
class Point:
    """A contender's seconds a picture with one thing varied."""

    dimension: str  # a field of Setting
    value: int
    contender: str
    seconds: float
    proposals: float
    stages: dict[str, float]


@dataclass(frozen=True, slots=True)
class Growth:
    base: Setting  # where nothing is varied
    points: tuple[Point, ...] = ()

    def curves(self) -> dict[str, dict[str, Curve]]:
        """What was varied → contender → its curve of at least two values."""
        lines: dict[str, dict[str, Curve]] = {}
        for point in self.points:
            line = lines.setdefault(point.dimension, {}).setdefault(point.contender, [])
            line.append((point.value, point.seconds))
        for dimension, by_name in lines.items():
            lines[dimension] = {name: sorted(line) for name, line in by_name.items() if len(line) > 1}
        return {dimension: by_name for dimension, by_name in lines.items() if by_name}


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that a benchmark measured until now."""

    date: str
    options: Options
    machine: Machine
    pictures: Pictures
    format: Literal[2] = FORMAT
    complete: bool = False
    stopped: str | None = None  # why it is not complete
    contenders: dict[str, MeasuredContender] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    searches: dict[str, Summary] = field(default_factory=dict)  # selective search: ours and OpenCV's
    growth: Growth | None = None

    @property
    def summaries(self) -> dict[str, Summary]:
        """Of the contenders that had a turn."""
        return {name: contender.summary for name, contender in self.contenders.items() if contender.summary}

    @property
    def stages(self) -> list[str]:
        """Those that any contender had."""
        return in_order({name for summary in self.summaries.values() for name in summary.stages})


def in_order(stages: set[str]) -> list[str]:
    """Ours in the order of the work, then those of others, "other" last."""
    *ours, other = STAGES
    return [name for name in (*ours, *sorted(stages - set(STAGES)), other) if name in stages]


def _quantiles(values: np.ndarray) -> tuple[float, float, float]:
    """Median, 95th percentile and spread."""
    first, median, third, p95 = (float(v) for v in np.quantile(values, [0.25, 0.5, 0.75, 0.95]))
    return median, p95, third - first


def write(results: Results, folder: Path) -> None:
    """Write FILE in `folder` atomically."""
    with whole(folder / FILE) as half:
        half.write_text(json.dumps(asdict(results), indent=1, allow_nan=False, default=str), encoding="utf-8")


def read(folder: Path) -> Results:
    """The results in a folder.

    Raises:
        FileNotFoundError: there are none.
        ValueError: the file is none of a benchmark, or has another format.
    """
    path = folder / FILE
    check_regular(path)
    try:
        return TypeAdapter(Results).validate_json(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} holds no {FILE}; run `rcnnkit benchmark --out {folder}`") from None
    except ValidationError:
        raise ValueError(f"{path} holds no results of `rcnnkit benchmark` in format {FORMAT}; run it again") from None


def picture_file(folder: Path, number: int, contender: str) -> Path:
    """Where a benchmark's folder has what a contender found in the picture of that number."""
    return folder / "pictures" / f"{number}-{contender}.jpg"
