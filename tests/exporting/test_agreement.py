import pytest
import torch

from rcnnkit.exporting.agreement import Limits, difference
from rcnnkit.structures import Detections

LIMITS = Limits(threshold=0.05, nms_iou=0.5, most=4)
BOXES: list[list[float]] = [[10.0, 10, 50, 60], [100, 20, 180, 90], [30, 100, 90, 160]]


def found(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    return Detections(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels), ("cat", "dog"))


ONE = found(BOXES, [0.9, 0.8, 0.7], [0, 1, 0])


def test_what_agrees() -> None:
    assert difference(ONE, ONE, LIMITS) == ""
    assert difference(found([], [], []), found([], [], []), LIMITS) == ""
    moved = found([[x + 0.009 for x in box] for box in BOXES], [0.90009, 0.8, 0.7], [0, 1, 0])
    assert difference(ONE, moved, LIMITS) == ""


def test_order_does_not_count_where_scores_are_equal() -> None:
    one = found(BOXES[:2], [0.8, 0.8], [0, 1])
    other = found(BOXES[1::-1], [0.8, 0.8], [1, 0])
    assert difference(one, other, LIMITS) == ""


@pytest.mark.parametrize("change", ["box", "score", "label", "less", "more"])
def test_what_differs(change: str) -> None:
    boxes, scores, labels = [list(box) for box in BOXES], [0.9, 0.8, 0.7], [0, 1, 0]
    if change == "box":
        boxes[1][2] += 0.02
    elif change == "score":
        scores[1] += 0.0002
    elif change == "label":
        labels[1] = 0
    elif change == "less":
        del boxes[1], scores[1], labels[1]
    else:
        boxes, scores, labels = [*boxes, [5.0, 5, 20, 20]], [*scores, 0.5], [*labels, 1]
    other = found(boxes, scores, labels)
    told = difference(ONE, other, LIMITS)
    alone = "the file" if change == "more" else "the detector"
    thing = "dog with 0.5000 at 5.00, 5.00" if change == "more" else "dog with 0.8000 at 100.00, 20.00"
    assert told.startswith(f"3 and {len(other)} detections; {thing}")
    assert told.endswith(f"is found by {alone} alone")


def test_rounding_decides_at_a_threshold() -> None:
    at_threshold = found([*BOXES, [5.0, 5, 20, 20]], [0.9, 0.8, 0.7, 0.05005], [0, 1, 0, 1])
    assert difference(ONE, at_threshold, LIMITS) == ""
    assert difference(at_threshold, ONE, LIMITS) == ""
    # Boxes of 10 × 10, of which the second is moved by a third: an IoU of 0.5.
    pair: list[list[float]] = [[0, 0, 12, 10], [4, 0, 16, 10]]
    both, first = found(pair, [0.9, 0.8], [0, 0]), found(pair[:1], [0.9], [0])
    assert difference(both, first, LIMITS) == ""
    assert difference(both, first, Limits(0.05, 0.6, 4)) != ""


def test_the_last_of_as_many_as_there_may_be() -> None:
    one = found([*BOXES, [5.0, 5, 20, 20]], [0.9, 0.8, 0.7, 0.6], [0, 1, 0, 1])
    other = found([*BOXES, [200.0, 5, 220, 20]], [0.9, 0.8, 0.7, 0.60004], [0, 1, 0, 1])
    assert difference(one, other, LIMITS) == ""
    assert difference(one, other, Limits(0.05, 0.5, 0)) != ""


def test_nan_differs() -> None:
    assert difference(ONE, found(BOXES, [float("nan"), 0.8, 0.7], [0, 1, 0]), LIMITS) != ""
