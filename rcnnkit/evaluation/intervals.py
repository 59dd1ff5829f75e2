"""How sure numbers are: intervals from data sets drawn from the pictures again and again (the bootstrap)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import numpy as np

from rcnnkit.evaluation.matches import Floats
from rcnnkit.progress import Report, reported, silent

Key = TypeVar("Key")
CONFIDENCE = 0.95
Interval = tuple[float, float]


def samples_of(pictures: int) -> int:
    """How many data sets are drawn. Of many pictures each takes long, and the intervals are narrow."""
    return 500 if pictures <= 1000 else 200


def drawn(pictures: int, seed: int = 0) -> Iterator[Floats]:
    """(P,) how often each picture is in a sample of as many pictures, drawn with replacement; always the same ones."""
    rng = np.random.default_rng(seed)
    for _ in range(samples_of(pictures)):
        yield np.bincount(rng.integers(0, pictures, pictures), minlength=pictures).astype(np.float64)


def intervals(
    numbers: Callable[[Floats], Mapping[Key, float]], pictures: int, report: Report = silent
) -> dict[Key, Interval]:
    """The interval that holds the middle 95 % of each number over samples of the pictures; NaN where it is undefined.

    Args:
        numbers: told how often each picture counts. What is NaN in a sample is left out of it.
        pictures: how many there are, at least one.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13, the percentile interval.
    """
    values: dict[Key, list[float]] = {}
    for weights in reported(list(drawn(pictures)), "samples drawn", report):
        for key, value in numbers(weights).items():
            values.setdefault(key, []).append(value)
    return {key: middle(np.array(some)) for key, some in values.items()}


def middle(values: Floats) -> Interval:
    """The quantiles that hold the middle 95 %; NaN where there are no numbers."""
    numbers = values[~np.isnan(values)]
    if not numbers.size:
        return float("nan"), float("nan")
    low, high = np.quantile(numbers, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
