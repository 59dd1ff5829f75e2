"""What many measurements come to: medians, spreads and shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rcnnkit.benchmark.stages import STAGES

MISSING = 0.03  # share of the whole that may belong to no stage before the report says so
OUTSIDE = ("decode", "drawing")  # what is not the detector's


@dataclass(frozen=True, slots=True)
class Step:
    """One batch of pictures through one contender; seconds."""

    pictures: int
    whole: float
    stages: dict[str, float]
    proposals: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def summarise(steps: Sequence[Step]) -> dict[str, Any]:
    """Seconds per picture of the whole and of each stage.

    Returns:
        `whole`, `detecting` (without decoding and drawing: the detector's call) and `stages[name]`, each with `median`,
        `p95` and `spread` (from the first to the third quartile) over the steps; a stage's `share` of all seconds;
        `images_per_second`; `proposals`, the mean of a picture; `missing`, the share of the whole that is in no stage
        but "other".

    Raises:
        ValueError: there are no steps.
    """
    if not steps:
        raise ValueError("nothing was measured, so there is nothing to summarise")
    pictures = np.array([step.pictures for step in steps])
    whole = np.array([step.whole for step in steps])
    names = [name for name in STAGES if any(name in step.stages for step in steps)]
    names += sorted({name for step in steps for name in step.stages} - set(names))
    seconds = {name: np.array([step.stages.get(name, 0.0) for step in steps]) for name in names}
    detecting = whole - sum(seconds[name] for name in names if name in OUTSIDE)
    named = sum(float(seconds[name].sum()) for name in names if name != "other")
    return {
        "steps": len(steps),
        "pictures": int(pictures.sum()),
        "whole": _quantiles(whole / pictures),
        "detecting": _quantiles(detecting / pictures),
        "stages": {
            name: _quantiles(each / pictures) | {"share": float(each.sum() / whole.sum())}
            for name, each in seconds.items()
        },
        "images_per_second": float(pictures.sum() / whole.sum()),
        "proposals": float(sum(step.proposals for step in steps) / pictures.sum()),
        "missing": float(1 - named / whole.sum()),
    }


def _quantiles(values: np.ndarray) -> dict[str, float]:
    first, median, third, p95 = (float(v) for v in np.quantile(values, [0.25, 0.5, 0.75, 0.95]))
    return {"median": median, "p95": p95, "spread": third - first}
