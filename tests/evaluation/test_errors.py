"""Causes and costs of mistakes, beside tidecv where it is installed, and by hand."""

import contextlib
import io

import numpy as np
import pytest
import torch

from rcnnkit.data.records import Dataset
from rcnnkit.evaluation.coco import area_matches
from rcnnkit.evaluation.errors import CAUSES, Errors, find_errors
from rcnnkit.structures import Detections
from tests.evaluation.made import made, without_crowds, without_ties
from tests.evaluation.test_coco import dataset as data_of
from tests.evaluation.test_coco import found, truth

NAMES = {"Cls": "class", "Loc": "place", "Both": "both", "Dupe": "duplicate", "Bkg": "background", "Miss": "missed"}


def errors_of(detections: list[Detections], dataset: Dataset) -> Errors:
    return find_errors(area_matches(detections, dataset), dataset)


@pytest.mark.parametrize("seed", range(3))
def test_causes_and_costs_are_tidecvs(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tidecv = pytest.importorskip("tidecv", reason="tidecv, which tells the same of the same detections, is not there")
    # It reads the curve at k / 100, which differ from COCO's recalls in the last bit.
    monkeypatch.setattr("rcnnkit.evaluation.errors.RECALLS", np.arange(101) / 100)
    detections, dataset = made(seed, classes=4)
    # Without crowds, ties, and classes that have no object, which tidecv's mean takes for 0.
    dataset, detections = without_crowds(dataset), without_ties(detections)
    detections = [each[each.labels < 3] for each in detections]
    truth_data, found_data = tidecv.Data("truth", 10_000), tidecv.Data("found", 10_000)
    for i, (record, answer) in enumerate(zip(dataset.records, detections, strict=True)):
        truth_data.add_image(i, str(i))
        for box, label in zip(record.targets.boxes.tolist(), record.targets.labels.tolist(), strict=True):
            truth_data.add_ground_truth(i, label, [*box[:2], box[2] - box[0], box[3] - box[1]])
        rows = zip(answer.boxes.tolist(), answer.scores.tolist(), answer.labels.tolist(), strict=True)
        for box, score, label in rows:
            found_data.add_detection(i, label, score, [*box[:2], box[2] - box[0], box[3] - box[1]])
    tide = tidecv.TIDE()
    with contextlib.redirect_stdout(io.StringIO()):
        run = tide.evaluate(truth_data, found_data, mode=tidecv.TIDE.BOX)
    errors = errors_of(detections, dataset)
    assert errors.ap50 == pytest.approx(run.ap / 100, abs=1e-9)
    counts, costs = run.count_errors(), run.fix_main_errors()
    for kind in counts:
        assert errors.count(NAMES[kind.short_name]) == counts[kind], kind
        assert errors.costs[NAMES[kind.short_name]] == pytest.approx(costs[kind] / 100, abs=1e-9), kind
    special = {kind.short_name: cost for kind, cost in run.fix_special_errors().items()}
    assert errors.false_positives == pytest.approx(special["FalsePos"] / 100, abs=1e-9)
    assert errors.false_negatives == pytest.approx(special["FalseNeg"] / 100, abs=1e-9)
    assert sum(errors.count(cause) > 0 for cause in CAUSES) >= 5  # a case that says something


def test_one_mistake_of_each_kind() -> None:
    objects = truth(*[([100 * i, 0, 100 * i + 50, 50], i % 2) for i in range(5)])
    detections = found(
        ([0, 0, 50, 50], 0.9, 0),  # right
        ([0, 0, 50, 48], 0.8, 0),  # a duplicate
        ([100, 0, 150, 50], 0.7, 0),  # the wrong class
        ([200, 0, 225, 40], 0.6, 0),  # IoU 0.4
        ([300, 0, 320, 50], 0.5, 0),  # IoU 0.4 with another class
        ([0, 200, 50, 250], 0.4, 1),  # nothing
    )
    errors = errors_of([detections], data_of(objects, names=("a", "b")))
    kinds = {cause: errors.count(cause) for cause in CAUSES}
    assert kinds == {"place": 1, "class": 1, "duplicate": 1, "background": 1, "both": 1, "missed": 2}
    assert errors.costs["missed"] > 0
    assert errors.costs["class"] > 0


def test_nothing_found_is_all_missed() -> None:
    nothing = Detections(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64))
    errors = errors_of([nothing], data_of(truth(([0, 0, 9, 9], 0))))
    assert errors.count("missed") == 1
    assert errors.ap50 == 0
    assert errors.false_negatives == 0  # nothing is left to find, and nothing was found


def test_detections_in_crowds_are_no_mistakes() -> None:
    objects = truth(([0, 0, 100, 100], 0), ([200, 200, 220, 220], 0), crowd=[True, False])
    errors = errors_of([found(([10, 10, 30, 30], 0.9, 0), ([200, 200, 220, 220], 0.8, 0))], data_of(objects))
    assert (errors.causes == -1).all()
    assert not errors.missed.any()
    assert np.isclose(errors.ap50, 1)
