"""Detections of tiles, put together, are those of the whole picture."""

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from rcnnkit.merging import Look, merge
from rcnnkit.structures import Detections, Size
from rcnnkit.tiles import Part, ViewSettings


def detections(boxes: list[list[float]] | Tensor, scores: list[float], labels: list[int] | None = None) -> Detections:
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Detections(boxes, torch.tensor(scores), torch.tensor(labels or [0] * len(boxes), dtype=torch.int64))


def looks_of(truth: Tensor, labels: Tensor, size: Size, settings: ViewSettings, seed: int = 0) -> list[Look]:
    """Of a detector that finds the truth, cut to its tile, with any scores."""
    rng = np.random.default_rng(seed)
    looks = []
    parts = [view.part for group in settings.views(size) for view in group]
    for part in parts:
        low, high = torch.tensor([*part[:2], *part[:2]]), torch.tensor([*part[2:], *part[2:]])
        cut = truth.maximum(low).minimum(high)
        seen = ((cut[:, 2:] - cut[:, :2]) > 0).all(dim=1)
        scores = torch.from_numpy(rng.uniform(0.1, 1, int(seen.sum())).astype(np.float32))
        order = scores.argsort(descending=True)
        looks.append(Look(part, Detections(cut[seen][order], scores[order], labels[seen][order])))
    return looks


def apart(rng: np.random.Generator, size: Size, number: int, sides: tuple[int, int]) -> Tensor:
    """Boxes that do not touch each other."""
    found: list[list[int]] = []
    for _ in range(20 * number):
        height, width = rng.integers(*sides, 2).tolist()
        if height > size[0] or width > size[1]:
            continue
        y, x = int(rng.integers(0, size[0] - height + 1)), int(rng.integers(0, size[1] - width + 1))
        box = [x, y, x + width, y + height]
        if all(box[0] > o[2] or o[0] > box[2] or box[1] > o[3] or o[1] > box[3] for o in found):
            found.append(box)
    return torch.tensor(found[:number], dtype=torch.float32)


@pytest.mark.parametrize("by", ["iou", "inside"])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_the_truth_comes_back_from_tiles(seed: int, whole: bool, by: Literal["iou", "inside"]) -> None:
    """Objects no larger than the overlap are whole in some tile, each once and with its own box."""
    rng = np.random.default_rng(seed)
    size = (400, 600)
    truth = apart(rng, size, 40, (3, 60))
    labels = torch.from_numpy(rng.integers(0, 3, len(truth)))
    settings = ViewSettings(tile=200, tile_overlap=60, tile_whole=whole, test_flip=seed % 2 == 1, merge=by)
    looks = looks_of(truth, labels, size, settings, seed)
    assert sum(len(look.found) for look in looks) > 1.5 * len(truth)
    found = merge(looks, size, settings)
    rows = sorted(zip(found.boxes.tolist(), found.labels.tolist(), strict=True))
    assert rows == sorted(zip(truth.tolist(), labels.tolist(), strict=True))
    assert (found.scores.diff() <= 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_objects_larger_than_a_tile_are_put_together(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = apart(rng, (700, 900), 6, (70, 420))
    settings = ViewSettings(tile=150, tile_overlap=30)
    found = merge(looks_of(truth, torch.zeros(len(truth)).long(), (700, 900), settings, seed), (700, 900), settings)
    assert sorted(found.boxes.tolist()) == sorted(truth.tolist())


def test_the_whole_is_preferred_to_a_part_that_scores_more() -> None:
    left: Look = Look((0, 0, 100, 100), detections([[80, 10, 100, 30]], [0.9]))  # cut at its right
    right = Look((70, 0, 170, 100), detections([[80, 10, 110, 30]], [0.6]))
    for looks in ([left, right], [right, left]):
        for by in ("iou", "inside"):
            found = merge(looks, (100, 170), ViewSettings(merge=by))
            assert found.boxes.tolist() == [[80, 10, 110, 30]]
            assert found.scores.tolist() == pytest.approx([0.9])


def test_classes_do_not_merge_and_neither_do_detections_of_one_tile() -> None:
    box = [80.0, 10, 95, 30]
    one = Look((0, 0, 100, 100), detections([box, [81, 10, 95, 30]], [0.9, 0.8]))
    other = Look((70, 0, 170, 100), detections([box], [0.7], [1]))
    found = merge([one, other], (100, 170), ViewSettings())
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert found.labels.tolist() == [0, 0, 1]


def test_nested_objects_stay_where_a_tile_finds_both() -> None:
    """Both tiles show both objects whole."""
    large, small = [68.0, 10, 92, 34], [75.0, 12, 83, 20]
    parts: list[Part] = [(0, 0, 100, 100), (60, 0, 170, 100)]
    both = [Look(part, detections([large, small], [0.9, 0.8])) for part in parts]
    one_each = [Look(parts[0], detections([large], [0.9])), Look(parts[1], detections([small], [0.8]))]
    for by in ("iou", "inside"):
        assert merge(both, (100, 170), ViewSettings(merge=by)).boxes.tolist() == [large, small]
    assert merge(one_each, (100, 170), ViewSettings()).boxes.tolist() == [large, small]
    assert merge(one_each, (100, 170), ViewSettings(merge="inside")).boxes.tolist() == [large]


def test_a_small_object_in_a_large_one_that_is_cut_stays() -> None:
    large = [[0.0, 0, 100, 100], [70.0, 0, 170, 100]]  # cut by both tiles
    small = [75.0, 40, 90, 55]
    looks = [
        Look((0, 0, 100, 100), detections([large[0], small], [0.9, 0.5])),
        Look((70, 0, 170, 100), detections([large[1], small], [0.8, 0.6])),
    ]
    found = merge(looks, (100, 170), ViewSettings())
    assert found.boxes.tolist() == [[0, 0, 170, 100], small]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    found = merge(looks, (100, 170), ViewSettings(merge="inside"))  # what is shared is 0.3 of either
    assert found.boxes.tolist() == [large[0], large[1], small]


def test_the_same_look_twice_is_plain_suppression() -> None:
    """As with mirrored pictures. Witness: suppression from its definition."""
    rng = np.random.default_rng(5)
    part: Part = (0, 0, 100, 100)
    corners = rng.uniform(0, 70, (40, 2))
    truth = np.concatenate([corners, corners + rng.uniform(10, 30, (40, 2))], axis=1)
    sides = []
    for seed in (1, 2):
        jitter = np.random.default_rng(seed)
        boxes = np.clip(truth + jitter.normal(0, 1.5, truth.shape), 0, 100)
        scores = np.sort(jitter.uniform(0, 1, 40))[::-1].copy()
        sides.append(detections(torch.from_numpy(boxes), scores.astype(np.float32).tolist()))
    found = merge([Look(part, side) for side in sides], (100, 100), ViewSettings(merge_threshold=0.6))

    boxes = torch.cat([side.boxes for side in sides]).double().numpy()
    scores = torch.cat([side.scores for side in sides]).numpy()
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        if all(i // 40 == k // 40 or _iou(boxes[i], boxes[k]) < 0.6 for k in kept):
            kept.append(i)
    assert found.scores.tolist() == scores[kept].tolist()
    np.testing.assert_allclose(found.boxes.numpy(), boxes[kept].astype(np.float32))


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    return shared / (float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - shared)


def test_nothing_and_one_look() -> None:
    nothing = detections([], [])
    assert len(merge([Look((0, 0, 10, 10), nothing)], (10, 20), ViewSettings())) == 0
    empty = merge([Look((0, 0, 10, 10), nothing), Look((5, 0, 20, 10), nothing)], (10, 20), ViewSettings())
    assert empty.boxes.shape == (0, 4)
    one = detections([[1, 1, 5, 5], [1, 1, 5, 5]], [0.5, 0.5])
    assert merge([Look((0, 0, 10, 10), one)], (10, 10), ViewSettings()) is one


def test_hundreds_of_tiles() -> None:
    """Pairs of all detections would be millions, most of which are far apart."""
    settings = ViewSettings(tile=100, tile_overlap=20)
    size = (1540, 1540)
    rng = np.random.default_rng(0)
    corners = np.stack(np.meshgrid(np.arange(0, 1520, 50), np.arange(0, 1520, 50)), axis=-1).reshape(-1, 2)
    corners = corners + rng.integers(0, 20, corners.shape)
    truth = torch.from_numpy(np.concatenate([corners, corners + rng.integers(3, 20, corners.shape)], axis=1)).float()
    looks = looks_of(truth, torch.zeros(len(truth)).long(), size, settings)
    assert len(looks) == 361
    assert sorted(merge(looks, size, settings).boxes.tolist()) == sorted(truth.tolist())
