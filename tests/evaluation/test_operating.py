"""Thresholds, confusions and calibration beside what plain loops count."""

import math

import numpy as np
import pytest

from rcnnkit.boxes import iou
from rcnnkit.data.records import Dataset
from rcnnkit.evaluation.coco import area_matches
from rcnnkit.evaluation.operating import (
    USES,
    WANTED,
    Sweep,
    calibration,
    calibration_error,
    confusion,
    steps,
)
from rcnnkit.structures import Detections
from tests.evaluation.made import made, without_crowds, without_ties
from tests.evaluation.test_coco import dataset as data_of
from tests.evaluation.test_coco import found, truth


def counted(detections: list[Detections], dataset: Dataset, threshold: float, label: int) -> tuple[int, int, int]:
    """Found, missed, invented of one class, picture by picture from the definition."""
    right = shown = objects = 0
    for answer, record in zip(detections, dataset.records, strict=True):
        mine = answer[(answer.labels == label) & (answer.scores >= threshold)]
        mine = mine[mine.scores.argsort(descending=True)]
        theirs = record.targets.boxes[record.targets.labels == label]
        free = [True] * len(theirs)
        for row in iou(mine.boxes.double(), theirs.double()).tolist():
            best = max((value, j) for j, value in enumerate([*row, 0.0]) if j == len(row) or free[j])
            if best[0] >= 0.5:
                free[best[1]] = False
                right += 1
        shown, objects = shown + len(mine), objects + len(theirs)
    return right, objects - right, shown - right


@pytest.mark.parametrize("threshold", [0, 0.3, 0.8])
def test_counts_at_a_threshold_are_those_of_a_plain_loop(threshold: float) -> None:
    detections, dataset = made(0)
    dataset, detections = without_crowds(dataset), without_ties(detections)
    matches = area_matches(detections, dataset)
    all_of = [0, 0, 0]
    for label in range(5):
        point = Sweep.of(matches, label).at(threshold)
        expected = counted(detections, dataset, threshold, label)
        assert (point.found, point.missed, point.invented) == expected
        all_of = [a + b for a, b in zip(all_of, expected, strict=True)]
    point = Sweep.of(matches).at(threshold)
    assert [point.found, point.missed, point.invented] == all_of
    hits, missed, invented = all_of
    assert point.precision == pytest.approx(hits / (hits + invented))
    assert point.recall == pytest.approx(hits / (hits + missed))
    assert point.f1 == pytest.approx(2 / (1 / point.precision + 1 / point.recall))


def test_the_best_threshold_is_the_best_of_all() -> None:
    detections, dataset = made(1)  # with ties
    sweep = Sweep.of(area_matches(detections, dataset))
    points = [sweep.at(float(score)) for score in sweep.thresholds]
    best = sweep.best("best F1")
    assert best
    assert best.f1 == max(point.f1 for point in points)
    certain = [point for point in points if point.precision >= WANTED]
    few = sweep.best("few mistakes")
    assert (few is None) == (not certain)
    assert few is None or few.recall == max(point.recall for point in certain)
    complete = [point for point in points if point.recall >= WANTED]
    few = sweep.best("few misses")
    assert (few is None) == (not complete)
    assert few is None or few.precision == max(point.precision for point in complete)


def test_nothing_has_no_best_threshold() -> None:
    sweep = Sweep.of(area_matches([found()], data_of(truth())))
    assert [sweep.best(use) for use in USES] == [None] * 3
    assert math.isnan(sweep.at(0.5).precision)
    assert steps(np.zeros(0), probabilities=False) == []


def test_confusions_by_hand() -> None:
    objects = truth(*[([100 * i, 0, 100 * i + 50, 50], label) for i, label in enumerate((0, 0, 1, 1, 2))])
    detections = found(
        ([0, 0, 50, 50], 0.9, 0),  # right
        ([0, 0, 50, 49], 0.8, 1),  # that object again, as another class: it is found, so this shows nothing
        ([100, 0, 150, 50], 0.7, 1),  # 0 taken for 1
        ([200, 0, 250, 50], 0.6, 2),  # 1 taken for 2, once
        ([200, 0, 250, 50], 0.5, 0),
        ([0, 200, 50, 250], 0.4, 2),  # nothing
        ([400, 0, 450, 50], 0.1, 2),  # right, but not from 0.2 on
    )
    data = data_of(objects, names=("a", "b", "c"))
    table = confusion(area_matches([detections], data), data, 0.2)
    assert table.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1], [1, 1, 1, 0]]


def test_confusions_add_up() -> None:
    detections, dataset = made(2)
    matches = area_matches(detections, dataset)
    table, point = confusion(matches, dataset, 0.3), Sweep.of(matches).at(0.3)
    assert np.trace(table) == point.found
    assert table[:-1].sum() == point.found + point.missed
    assert table[:, :-1].sum() == point.found + point.invented


def test_calibration_by_hand() -> None:
    objects = truth(([0, 0, 50, 50], 0), ([100, 0, 150, 50], 0))
    detections = found(
        ([0, 0, 50, 50], 0.95, 0), ([100, 0, 150, 50], 0.85, 0), ([0, 200, 9, 209], 0.81, 0), ([0, 300, 9, 309], 0.1, 0)
    )
    bins = calibration(area_matches([detections], data_of(objects)))
    assert [each.detections for each in bins] == [0, 1, 0, 0, 0, 0, 0, 0, 2, 1]
    assert (bins[8].score, bins[8].right) == pytest.approx((0.83, 0.5))
    assert calibration_error(bins) == pytest.approx((0.05 + 2 * 0.33 + 0.1) / 4, abs=1e-6)
    assert math.isnan(calibration_error(calibration(area_matches([found()], data_of(objects)))))
