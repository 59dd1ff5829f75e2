from itertools import combinations

import numpy as np
import pytest

from rcnnkit.labelling.choice import choose, uncertainty
from rcnnkit.structures import Array

NONE = np.zeros((0, 2))


@pytest.mark.parametrize(
    ("scores", "threshold", "margins", "expected"),
    [
        ([], 0.5, False, 0.0),
        ([0.5], 0.5, False, 1.0),
        ([0.75], 0.5, False, 0.25),  # (1 - (0.75 - 0.25))²
        ([0.75, 0.25, 0.05], 0.5, False, 0.25 + 0.25 + 0.01),
        ([0.0, 1.0], 0.5, False, 0.0),
        ([0.25], 0.25, False, 1.0),
        ([0.75], 0.25, False, 0.04),  # odds of 3 against a threshold of 1 to 3: 9 to 1
        ([0.5], 0.0, False, 0.0),
        ([0.5, 0.0], 1.0, False, 0.0),
        ([-1.0], -1.0, True, 1.0),
        ([np.log(3), -np.log(3)], 0.0, True, 0.5),  # sigmoids 0.75 and 0.25
        ([1e9, -1e9], 0.0, True, 0.0),
    ],
)
def test_uncertainty(scores: list[float], threshold: float, margins: bool, expected: float) -> None:
    assert uncertainty(np.array(scores), threshold, margins=margins) == pytest.approx(expected, abs=1e-4)


def test_scores_that_are_none() -> None:
    with pytest.raises(ValueError, match="a detection has a score that is not finite; train the detector anew"):
        uncertainty(np.array([0.5, np.nan]), 0.5)


def chosen_by_trying(unsure: Array, descriptors: Array, labelled: Array, count: int) -> tuple[list[int], list[float]]:
    """Every picture that is left against every one that is known, from the definition."""
    order: list[int] = []
    distances = []
    for _ in range(count):
        worths = {}
        for i in set(range(len(unsure))) - set(order):
            known = [*labelled, *descriptors[order]]
            distance = min((float(np.linalg.norm(descriptors[i] - one)) for one in known), default=float("inf"))
            reach = 1.0 if distance == float("inf") else distance
            worths[i] = (round(unsure[i] * reach, 12), round(reach, 12), unsure[i], -i, distance)
        best = max(worths, key=lambda i: worths[i])
        order.append(best)
        distances.append(worths[best][-1])
    return order, distances


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("known", [0, 1, 3])
def test_against_trying_all(seed: int, known: int) -> None:
    rng = np.random.default_rng(seed)
    descriptors = rng.integers(0, 4, (12, 2)).astype(float)  # whole numbers, so that there are ties and twins
    unsure = rng.integers(0, 4, 12) / 2.0
    labelled = rng.integers(0, 4, (known, 2)).astype(float)
    order, distances = choose(unsure, descriptors, labelled, 12)
    expected, expected_distances = chosen_by_trying(unsure, descriptors, labelled, 12)
    assert order == expected
    assert distances == pytest.approx(expected_distances)
    assert choose(unsure, descriptors, labelled, 5)[0] == expected[:5]


def test_equal_uncertainty_is_farthest_first() -> None:
    """On a line, by hand; and never worse than twice the best centres (Gonzalez 1985)."""
    line = np.array([[0.0, 0], [1, 0], [2, 0], [6, 0], [10, 0]])
    assert choose(np.ones(5), line, NONE, 5) == ([0, 4, 3, 2, 1], [float("inf"), 10, 4, 2, 1])
    points = np.random.default_rng(0).random((9, 2))
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    greedy = apart[choose(np.ones(9), points, NONE, 3)[0]].min(axis=0).max()
    best = min(apart[list(centres)].min(axis=0).max() for centres in combinations(range(9), 3))
    assert best <= greedy <= 2 * best


def test_uncertain_and_unlike() -> None:
    places = np.array([[0.0, 0], [0, 0], [3, 0], [0, 4], [0, 4.5]])
    unsure = [5.0, 5.0, 1.0, 2.0, 0.0]
    # 0, then 3 (2 · 4), then 2 (1 · 3); of the two that gain nothing, 4 is 0.5 away and 1 is 0's twin
    assert choose(unsure, places, NONE, 9) == ([0, 3, 2, 4, 1], [float("inf"), 4, 3, 0.5, 0])
    # with one labelled where 3 is, it gains nothing either, and is less uncertain than 1
    assert choose(unsure, places, np.array([[0.0, 4]]), 5)[0] == [0, 2, 4, 1, 3]


def test_few_pictures() -> None:
    assert choose([], np.zeros((0, 3)), np.zeros((0, 3)), 5) == ([], [])
    assert choose([0.0], np.zeros((1, 3)), np.zeros((0, 3)), 5) == ([0], [float("inf")])
    assert choose([1.0], np.zeros((1, 3)), np.zeros((1, 3)), 0) == ([], [])
