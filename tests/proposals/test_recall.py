"""Recall and average best overlap, against cases worked by hand and loops from the definition."""

import json
import math

import numpy as np
import pytest
import torch
from rich.console import Console

from rcnnkit.data.reading import read_data
from rcnnkit.proposals.recall import best_overlaps, coverage
from rcnnkit.structures import Proposals, Targets
from rcnnkit.tables import coverage_table


def proposals(*boxes):
    """Best first."""
    return Proposals(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), -torch.arange(len(boxes)).float())


def objects(*rows, **flags):
    boxes = torch.tensor([box for box, _ in rows], dtype=torch.float32).reshape(-1, 4)
    return Targets(boxes, torch.tensor([label for _, label in rows], dtype=torch.int64), **flags)


def iou_by_definition(box, other):
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return width * height / (sum(areas) - width * height)


def test_worked_by_hand():
    # Two pictures, classes a and b (and c, which nothing has).
    found = [
        proposals([0, 0, 10, 5], [0, 0, 10, 8], [50, 50, 90, 100]),  # 0.5, then 0.8 of the first; 0.8 of the second
        proposals([0, 0, 1, 1], [0, 0, 2, 1]),
    ]
    truth = [
        objects(([0, 0, 10, 10], 0), ([50, 50, 100, 100], 1)),
        objects(([0, 0, 4, 1], 0)),  # 0.25, then exactly 0.5
    ]
    result = coverage(found, truth, ("a", "b", "c"), counts=(1, 2, 3))
    assert result.overlaps.tolist() == [[0.5, 0, 0.25], [0.8, 0, 0.5], [0.8, 0.8, 0.5]]
    assert [result.recall(n) for n in (1, 2, 3)] == pytest.approx([0, 1 / 3, 2 / 3])  # 0.5 is not above 0.5
    assert [result.recall(3, t) for t in (0.7, 0.8)] == pytest.approx([2 / 3, 0])
    np.testing.assert_allclose(result.abo(1), [0.375, 0, math.nan])
    np.testing.assert_allclose(result.abo(3), [0.65, 0.8, math.nan])
    assert result.mabo(3) == pytest.approx(0.725)
    assert result.mabo(3, min_area=100) == pytest.approx(0.8)  # the area of the first object is exactly 100
    assert result.recall(2, min_area=101) == 0
    assert math.isnan(result.recall(2, min_area=1e6))
    assert math.isnan(result.mabo(2, min_area=1e6))


def test_the_same_as_loops_over_random_boxes():
    rng = np.random.default_rng(0)

    def boxes(n):
        corner, side = rng.uniform(0, 80, (n, 2)), rng.uniform(1, 40, (n, 2))
        return torch.tensor(np.concatenate([corner, corner + side], 1), dtype=torch.float32)

    found = [Proposals(boxes(n), torch.zeros(n)) for n in (30, 0, 1, 12)]
    truth = [Targets(boxes(n), torch.tensor(rng.integers(0, 3, n))) for n in (5, 2, 3, 0)]
    counts = (20, 5, 100)  # in any order
    result = coverage(iter(found), iter(truth), ("a", "b", "c"), counts)
    for row, count in enumerate(counts):
        best = [
            max((iou_by_definition(p, box) for p in each.boxes[:count].tolist()), default=0.0)
            for each, target in zip(found, truth, strict=True)
            for box in target.boxes.tolist()
        ]
        np.testing.assert_allclose(result.overlaps[row], best, atol=1e-12)
        assert result.recall(count) == pytest.approx(np.mean(np.array(best) > 0.5))
        labels = torch.cat([target.labels for target in truth]).numpy()
        means = [np.mean(np.array(best)[labels == k]) for k in range(3) if (labels == k).any()]
        assert result.mabo(count) == pytest.approx(np.mean(means))


def test_inclusive_pixels_are_the_same_thing():
    # The papers' IoU of 1-based inclusive boxes, and ours of the boxes that stand for them.
    rng = np.random.default_rng(1)
    low = rng.integers(1, 40, (40, 2))
    inclusive = np.concatenate([low, low + rng.integers(0, 30, (40, 2))], axis=1)
    ours = torch.tensor(inclusive - [1, 1, 0, 0], dtype=torch.float32)

    def papers(a, b):
        width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + 1 for i in (0, 1))
        areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
        shared = width * height if width > 0 and height > 0 else 0
        return shared / (sum(areas) - shared)

    expected = [max(papers(a, b) for a in inclusive[:20]) for b in inclusive[20:]]
    np.testing.assert_allclose(best_overlaps(ours[:20], ours[20:], (20,))[0], expected, atol=1e-12)


def test_difficult_and_crowd_objects_are_left_out():
    rows = [([0, 0, 10, 10], 0), ([20, 20, 30, 30], 0), ([40, 40, 50, 50], 1)]
    flags = {"difficult": torch.tensor([False, True, False]), "crowd": torch.tensor([False, False, True])}
    result = coverage([proposals([0, 0, 10, 9])], [objects(*rows, **flags)], ("a", "b"))
    assert result.overlaps.tolist() == [[0.9]] * 4
    np.testing.assert_allclose(result.abo(100), [0.9, math.nan])


def test_boxes_that_are_none_overlap_nothing():
    bad = proposals([math.nan] * 4, [10, 10, 0, 0], [-math.inf, -math.inf, math.inf, math.inf], [0, 0, 0, 10])
    assert best_overlaps(bad.boxes, torch.tensor([[0.0, 0, 10, 10]]), (4,)).tolist() == [[0]]


def test_nothing_at_all():
    empty = coverage([], [], ("a",))
    assert len(empty.lengths) == 0
    assert math.isnan(empty.recall(100))
    assert empty.to_json()["first"][0]["mabo"] is None
    Console(quiet=True).print(coverage_table(empty))
    without = coverage([proposals()], [objects(([0, 0, 4, 4], 0))], ("a",))
    assert (without.recall(100), without.mabo(2000)) == (0, 0)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="zip"):
        coverage([proposals()], [], ("a",))
    with pytest.raises(ValueError, match=r"counts is \[0\]"):
        coverage([], [], ("a",), counts=(0,))
    with pytest.raises(ValueError, match="50 proposals were not measured; there are 100, 500, 1000, 2000"):
        coverage([], [], ("a",)).recall(50)


def test_json_and_table_on_real_objects(coco256):
    data = read_data(coco256, "annotations/instances_train2017.json")
    targets = [record.targets for record in data.records]
    # The objects themselves as proposals: all is found; each one's first object alone: one a picture.
    own = coverage((Proposals(t.boxes, torch.zeros(len(t))) for t in targets), targets, data.class_names, (1, 2000))
    assert (own.recall(2000, 0.999), own.mabo(2000)) == (1, 1)
    numbers = json.loads(json.dumps(own.to_json()))
    large = sum(int((t.areas >= 1024).sum()) for t in targets)  # here, the annotated areas are the boxes'
    assert [each["objects"] for each in numbers["first"]] == [929, 929, large, large]
    assert numbers["first"][0]["recall_50"] == pytest.approx(own.recall(1))
    assert 126 / 929 <= own.recall(1) < 0.5
    console = Console(width=120)
    with console.capture() as shown:
        console.print(coverage_table(own))
    assert "all: 929" in shown.get()
    assert f"≥ 32×32: {large}" in shown.get()
