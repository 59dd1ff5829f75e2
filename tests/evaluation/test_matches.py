"""Matching and averaging beside pycocotools, cell by cell."""

import contextlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Dataset
from rcnnkit.evaluation.coco import NUMBERS, area_matches, summarize
from rcnnkit.evaluation.matches import RECALLS, Matches, Objects, Ranking, Strata, hits_needed, match, overlaps
from rcnnkit.structures import Detections, coco_entry
from tests.evaluation.made import made, without_ties


def pycocotools(detections: list[Detections], dataset: Dataset, most: int = 100) -> COCOeval:
    """Its own evaluation, of the same numbers."""
    official, results = COCO(), []
    annotations: list[dict[str, Any]] = []
    ids = [each.id if isinstance(each.id, int) else i + 1 for i, each in enumerate(dataset.records)]
    for image_id, record, answer in zip(ids, dataset.records, detections, strict=True):
        objects = record.targets
        for i, (box, label) in enumerate(zip(objects.boxes.tolist(), objects.labels.tolist(), strict=True)):
            entry = coco_entry(image_id, label + 1, box)
            number, crowd, area = len(annotations) + 1, int(objects.crowd[i]), float(objects.areas[i])
            annotations.append({"id": number, **entry, "iscrowd": crowd, "area": area})
        for box, score, label in zip(
            answer.boxes.tolist(), answer.scores.tolist(), answer.labels.tolist(), strict=True
        ):
            results.append(coco_entry(image_id, label + 1, box) | {"score": score})
    official.dataset = {
        "images": [{"id": i} for i in ids],
        "annotations": annotations,
        "categories": [{"id": k + 1} for k in range(len(dataset.class_names))],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        official.createIndex()
        run = COCOeval(official, official.loadRes(results), "bbox")
        run.params.maxDets = [1, 10, most]
        run.evaluate()
        run.accumulate()
        if most == 100:
            run.summarize()
    return run


@pytest.mark.parametrize("seed", range(6))
def test_every_precision_and_recall_is_pycocotools(seed: int) -> None:
    detections, dataset = made(seed)
    run, matches = pycocotools(detections, dataset), area_matches(detections, dataset)
    for stratum in range(4):
        for m, most in enumerate((1, 10, 100)):
            precision, recall = matches.hits(stratum).curves(most)
            expected = run.eval["precision"][:, :, :, stratum, m], run.eval["recall"][:, :, stratum, m]
            np.testing.assert_allclose(np.nan_to_num(precision, nan=-1), expected[0], rtol=0, atol=1e-12)
            np.testing.assert_allclose(np.nan_to_num(recall, nan=-1), expected[1], rtol=0, atol=1e-12)
    numbers = summarize(matches, dataset).numbers
    assert list(numbers) == list(NUMBERS)
    np.testing.assert_allclose(np.nan_to_num(list(numbers.values()), nan=-1), run.stats, rtol=0, atol=1e-12)
    assert 0.2 < numbers["AP"] < 0.9  # a case that says something


def test_real_pictures_score_as_in_pycocotools(coco256: Path) -> None:
    dataset = read_data(coco256, "val")
    rng = np.random.default_rng(0)
    found = []
    for record in dataset.records:
        objects = record.targets
        boxes = objects.boxes.repeat(3, 1)
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        boxes = boxes + torch.from_numpy(rng.normal(0, 0.12, boxes.shape)).float() * sides
        boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2])
        labels = objects.labels.repeat(3)
        labels = torch.where(torch.from_numpy(rng.random(len(labels)) < 0.2), (labels + 1) % 80, labels)
        found.append(Detections(boxes, torch.from_numpy(rng.random(len(boxes))).float(), labels))
    run, matches = pycocotools(found, dataset), area_matches(found, dataset)
    numbers = list(summarize(matches, dataset).numbers.values())
    np.testing.assert_allclose(numbers, run.stats, rtol=0, atol=1e-12)
    assert 0.1 < numbers[0] < 0.9


@pytest.mark.parametrize("most", [3, 1000])
def test_ap_at_any_number_of_detections(most: int) -> None:
    detections, dataset = made(3)
    run = pycocotools(detections, dataset, most)
    precision, _ = area_matches(detections, dataset).hits().curves(most)
    expected = run.eval["precision"][:, :, :, 0, sorted([1, 10, most]).index(most)]
    np.testing.assert_allclose(np.nan_to_num(precision, nan=-1), expected, rtol=0, atol=1e-12)


def all_in(ranking: Ranking, objects: Objects) -> Strata:
    return Strata(["all"], np.ones((1, len(objects)), bool), np.ones((1, len(ranking)), bool))


def matched(detections: list[Detections], dataset: Dataset) -> Matches:
    ranking, objects = Ranking.of(detections, dataset), Objects.of(dataset)
    return match(ranking, objects, dataset, all_in(ranking, objects))


def test_a_picture_that_counts_twice_is_two_pictures() -> None:
    """Weights of a bootstrap: as if the data set held the picture so often."""
    detections, dataset = made(1, pictures=12)
    detections = without_ties(detections)  # so that the copies of a detection follow each other
    times = np.array([0, 1, 2, 3, 1, 1, 0, 2, 1, 1, 1, 0])
    order = np.repeat(np.arange(12), times).tolist()
    records = [replace(dataset.records[i], id=f"p{number}") for number, i in enumerate(order)]
    drawn = matched([detections[i] for i in order], replace(dataset, records=records))
    weighted = matched(detections, dataset).hits().ap(weights=times.astype(float))
    np.testing.assert_allclose(weighted, drawn.hits().ap(), atol=1e-12)
    assert np.isfinite(weighted[:, :4]).all()


def test_overlaps_in_parts_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    detections, dataset = made(2)
    ranking, objects = Ranking.of(detections, dataset), Objects.of(dataset)

    def pairs() -> list[tuple[int, int, float]]:
        parts = list(overlaps(ranking, objects, dataset, 0.1, same_class=False))
        return sorted(zip(*(np.concatenate([part[i] for part in parts]).tolist() for i in range(3)), strict=True))

    whole = pairs()
    monkeypatch.setattr("rcnnkit.evaluation.matches.PAIRS", 7)
    assert pairs() == whole
    assert len(whole) > 100
    assert all(ranking.pictures[d] == objects.pictures[g] for d, g, _ in whole)


def test_hits_needed_are_the_fewest_that_reach_a_recall() -> None:
    for objects in (1, 2, 3, 7, 29, 100, 101, 300, 1234):
        recalls = np.arange(objects + 1) / objects
        assert hits_needed(objects).tolist() == np.searchsorted(recalls, RECALLS).tolist()


def test_recalls_are_cocos() -> None:
    run = COCOeval(iouType="bbox")
    assert (run.params.recThrs == RECALLS).all()
