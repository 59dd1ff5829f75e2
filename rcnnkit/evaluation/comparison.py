"""Which of two detectors is better, by what both did in the same pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rcnnkit.evaluation.analysis import hits_from_json
from rcnnkit.evaluation.coco import MAXIMUM
from rcnnkit.evaluation.intervals import Interval, drawn, middle, samples_of
from rcnnkit.evaluation.matches import Hits, known_mean
from rcnnkit.evaluation.report import or_none
from rcnnkit.files import check_regular
from rcnnkit.progress import Report, reported, silent

NUMBERS = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}  # thresholds that a number is the mean over

SURE = 0.05  # a chance up to which a difference is said to be there


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """What `rcnnkit compare` reads of a report.json."""

    file: Path
    dataset: str
    class_names: Sequence[str]
    hits: Hits
    pictures: Sequence[Mapping[str, Any]]  # as `Analysis.rows` gives them


@dataclass(frozen=True, slots=True)
class Difference:
    """One number of both, in fractions."""

    name: str
    first: float
    second: float
    interval: Interval  # of second - first, over data sets drawn from the pictures
    chance: float  # of a difference as large if both were equally good; NaN where it was not computed

    @property
    def difference(self) -> float:
        return self.second - self.first


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Two detectors on one data set."""

    first: Evaluated
    second: Evaluated
    numbers: Sequence[Difference]  # of NUMBERS
    classes: Sequence[Difference]  # AP of each class

    @property
    def pictures(self) -> list[tuple[int, int]]:
        """Where they differ most: the places of pictures, and how many mistakes fewer the second one makes there."""
        changes = [_mistakes(a) - _mistakes(b) for a, b in zip(self.first.pictures, self.second.pictures, strict=True)]
        order = sorted(range(len(changes)), key=lambda i: -abs(changes[i]))
        return [(i, changes[i]) for i in order if changes[i]]

    @property
    def verdict(self) -> str:
        """In a sentence, by AP."""
        ap = self.numbers[0]
        if math.isnan(ap.difference):
            return "there is no object to compare them by"
        if ap.chance > SURE:
            return f"these pictures do not tell which is better (p = {ap.chance:.3f})"
        better = self.second if ap.difference > 0 else self.first
        return f"{better.file} is better (AP, p = {ap.chance:.3f})"

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain values; fractions, and null (None) where undefined."""
        return {
            "dataset": self.first.dataset,
            "verdict": self.verdict,
            "first": str(self.first.file),
            "second": str(self.second.file),
            "numbers": [_plain(each) for each in self.numbers],
            "classes": [_plain(each) for each in self.classes],
            "pictures": [
                {"file": self.first.pictures[i]["file"], "id": self.first.pictures[i]["id"], "fewer_mistakes": change}
                for i, change in self.pictures
            ],
        }


def read_evaluated(file: Path) -> Evaluated:
    """Read report.json of `rcnnkit evaluate --report`.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is something else.
    """
    check_regular(file)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} is not there; rcnnkit evaluate --report writes such a file") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is no JSON file ({error}); name a report.json of rcnnkit evaluate --report") from None
    try:
        names = [each["name"] for each in values["classes"]]
        pictures = [{key: row[key] for key in ("file", "id", "missed", "invented")} for row in values["per_picture"]]
        hits = hits_from_json(values["hits"], (len(pictures), len(names)))
        return Evaluated(file, values["dataset"], names, hits, pictures)
    except (KeyError, TypeError, ValueError, IndexError):
        raise ValueError(
            f"{file} does not say what was found in each picture; name a report.json of rcnnkit evaluate --report"
        ) from None


def compare(first: Evaluated, second: Evaluated, report: Report = silent) -> Comparison:
    """Two evaluations of the same pictures.

    Intervals are of the difference over data sets drawn from the pictures, the same ones for both. The chance is by a
    test that swaps the detections of both in half of the pictures, at random: how often that makes a difference as
    large as theirs.

    Raises:
        ValueError: the pictures, their objects or the classes differ.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13 and 15.
    """
    _check_same(first, second)
    pictures = len(first.pictures)
    pair = _together(first.hits, second.hits)
    a, b = (each.hits.ap(MAXIMUM) for each in (first, second))
    bootstrap = []
    for weights in reported(list(drawn(pictures)), "samples drawn", report):
        bootstrap.append(second.hits.ap(MAXIMUM, weights) - first.hits.ap(MAXIMUM, weights))
    differences = np.array(bootstrap)  # (samples, T, K)

    rng = np.random.default_rng(0)
    observed = {name: known_mean(b[part]) - known_mean(a[part]) for name, part in NUMBERS.items()}
    larger = dict.fromkeys(NUMBERS, 1)  # what was observed is one of the cases
    samples = samples_of(pictures)
    for _ in reported(range(samples), "detections swapped", report):
        swapped = rng.random(pictures) < 0.5
        mixed = [
            pair.ap(MAXIMUM, np.concatenate(halves).astype(np.float64))
            for halves in ((~swapped, swapped), (swapped, ~swapped))
        ]
        for name, part in NUMBERS.items():
            low, high = (known_mean(ap[part]) for ap in mixed)
            larger[name] += abs(high - low) >= abs(observed[name]) - 1e-12

    numbers = [
        Difference(
            name,
            known_mean(a[part]),
            known_mean(b[part]),
            middle(np.array([known_mean(sample[part]) for sample in differences])),
            larger[name] / (samples + 1),
        )
        for name, part in NUMBERS.items()
    ]
    classes = [
        Difference(
            name, float(a[:, k].mean()), float(b[:, k].mean()), middle(differences[:, :, k].mean(axis=1)), math.nan
        )
        for k, name in enumerate(first.class_names)
    ]
    return Comparison(first, second, numbers, classes)


def _check_same(first: Evaluated, second: Evaluated) -> None:
    advice = "evaluate both on the same data"
    if list(first.class_names) != list(second.class_names):
        raise ValueError(f"{first.file} and {second.file} have other classes, or in another order; {advice}")
    if len(first.pictures) != len(second.pictures):
        raise ValueError(
            f"{first.file} is of {len(first.pictures):,} pictures, {second.file} of {len(second.pictures):,}; {advice}"
        )
    for one, other in zip(first.pictures, second.pictures, strict=True):
        if one["id"] != other["id"]:
            raise ValueError(f"{first.file} has picture {one['id']} where {second.file} has {other['id']}; {advice}")
    if _objects(first.hits) != _objects(second.hits):
        raise ValueError(f"{first.file} and {second.file} speak of other objects in the same pictures; {advice}")


def _objects(hits: Hits) -> list[tuple[int, int]]:
    return sorted(zip(hits.object_pictures.tolist(), hits.object_labels.tolist(), strict=True))


def _together(first: Hits, second: Hits) -> Hits:
    """Both as if of one detector, the pictures of the second after those of the first."""
    pictures, classes = first.size
    labels, scores = (
        np.concatenate([getattr(each, name) for each in (first, second)]) for name in ("labels", "scores")
    )
    order = np.lexsort((-scores, labels))
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    near = places[np.concatenate([first.near, second.near + len(first.labels)])]
    ascending = np.argsort(near)
    return Hits(
        np.concatenate([first.pictures, second.pictures + pictures])[order],
        labels[order],
        scores[order],
        np.concatenate([first.ranks, second.ranks])[order],
        np.concatenate([first.counted, second.counted])[order],
        near[ascending],
        np.concatenate([first.outcomes, second.outcomes], axis=1)[:, ascending],
        np.concatenate([first.object_pictures, second.object_pictures + pictures]),
        np.concatenate([first.object_labels, second.object_labels]),
        (2 * pictures, classes),
    )


def _mistakes(row: Mapping[str, Any]) -> int:
    return int(row["missed"] + row["invented"])


def _plain(difference: Difference) -> dict[str, Any]:
    low, high = difference.interval
    return {
        "name": difference.name,
        "first": or_none(difference.first),
        "second": or_none(difference.second),
        "difference": or_none(difference.difference),
        "interval": None if math.isnan(low) else [low, high],
        **({} if math.isnan(difference.chance) else {"p": difference.chance}),
    }
