"""From scores to boxes, one candidate at a time, as the text states it."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from rcnnkit.boxes import decode
from rcnnkit.suppression import Kept, suppress

SIZE = (80, 100)  # height, width
RULES: dict[str, Any] = {"min_side": 3.0, "nms_iou": 0.4}


def candidates(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, some beyond the picture, deltas and scores of these shapes."""
    rng = np.random.default_rng(seed)
    corner, side = rng.uniform(-10, 90, (*shape, 2)), rng.uniform(2, 40, (*shape, 2))
    boxes, deltas = np.concatenate([corner, corner + side], axis=-1), rng.normal(size=(*shape, 4))
    return torch.tensor(boxes).float(), torch.tensor(deltas).float(), torch.tensor(rng.uniform(size=shape)).float()


def by_definition(rows: list[tuple[Tensor, Tensor, float, int]], threshold: float, most: int) -> list[tuple]:
    """(score, group, box) of rows (box, deltas, score, group)."""
    large = []
    for box, delta, score, group in rows:
        x1, y1, x2, y2 = decode(delta[None], box[None], (10, 10, 5, 5))[0].tolist()
        x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, 100.0), min(y2, 80.0)
        if score > threshold and x2 - x1 >= 3 and y2 - y1 >= 3:
            large.append((score, group, (x1, y1, x2, y2)))
    kept: list[tuple] = []
    for candidate in sorted(large, reverse=True):
        _, group, corners = candidate
        rivals = [torch.tensor([other[2]]) for other in kept if other[1] == group]
        if all(torchvision.ops.box_iou(torch.tensor([corners]), rival) <= 0.4 for rival in rivals):
            kept.append(candidate)
    return kept[:most]


def assert_same(found: Kept, expected: list[tuple]) -> None:
    assert len(expected) > 5
    np.testing.assert_allclose(found.scores.numpy(), [row[0] for row in expected], rtol=1e-6)
    assert found.groups.tolist() == [row[1] for row in expected]
    np.testing.assert_allclose(found.boxes.numpy(), [row[2] for row in expected], atol=1e-4)


@pytest.mark.parametrize("columns", [3, 1])
def test_classes_of_regions_by_definition(columns: int) -> None:
    """(R, K) scores, boxes of each region, and deltas of each class or of all together."""
    boxes, _, _ = candidates(60)
    _, deltas, _ = candidates(60, columns, seed=1)
    _, _, scores = candidates(60, 3, seed=2)
    rows = [
        (boxes[r], deltas[r, k if columns == 3 else 0], scores[r, k].item(), k) for r in range(60) for k in range(3)
    ]
    rules = RULES | {"weights": (10, 10, 5, 5), "threshold": 0.25, "most": 50}
    found = suppress(boxes[:, None], deltas, scores, torch.arange(3), SIZE, **rules)
    assert_same(found, by_definition(rows, 0.25, 50))
    assert {0, 1, 2} == set(found.groups.tolist())


def test_anchors_of_maps_by_definition() -> None:
    """(N,) scores, all of them candidates."""
    boxes, deltas, scores = candidates(90)
    maps = torch.arange(90) % 4
    rows = list(zip(boxes, deltas, scores.tolist(), maps.tolist(), strict=True))
    found = suppress(boxes, deltas, scores, maps, SIZE, weights=(10, 10, 5, 5), **RULES)
    assert_same(found, by_definition(rows, -1, 90))


def test_boxes_that_stay_where_they_are() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [-5, 70, 20, 90], [98, 0, 110, 10], [0, 0, 10, 9]])
    scores = torch.tensor([0.5, 0.9, 0.8, 0.6])
    found = suppress(boxes, None, scores, torch.zeros(4, dtype=torch.int64), SIZE, **RULES)
    assert found.boxes.tolist() == [[0, 70, 20, 80], [0, 0, 10, 9]]  # cut; 2 pixels wide; 9/10 of a better one
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.6]))


def test_the_threshold_is_not_reached_by_itself_or_nan() -> None:
    boxes, none = torch.tensor([[0.0, 0, 10, 10]]), torch.zeros(1, dtype=torch.int64)
    for score, left in ((0.5, 0), (math.nan, 0), (0.50001, 1)):
        assert len(suppress(boxes, None, torch.tensor([score]), none, SIZE, threshold=0.5, **RULES).boxes) == left


def test_no_candidates() -> None:
    for shape in ((0,), (0, 3)):
        boxes = torch.zeros(*shape, 4)
        groups = torch.zeros(shape[1:], dtype=torch.int64).expand(shape)
        for deltas in (None, boxes):
            found = suppress(boxes, deltas, torch.zeros(shape), groups, SIZE, threshold=0.0, **RULES)
            assert found.boxes.shape == (0, 4)
            assert len(found.scores) == len(found.groups) == 0
