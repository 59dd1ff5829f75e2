"""Repeat-factor sampling, worked by hand after the paper's formula."""

import numpy as np
import pytest

from rcnnkit.data.rare import endless, repeat_factors


def test_repeat_factors_by_hand() -> None:
    # class 0 in 8 of 10 pictures, 1 in 2, 2 in 1; class 3 in none
    labels = [[0, 0], [0, 1], [0, 2, 1], [0], [0], [0], [0], [0], [], []]
    factors = repeat_factors(labels, 0.4)
    assert factors is not None
    expected = [1, 2**0.5, 2, *[1] * 7]  # √(0.4 / 0.2), √(0.4 / 0.1)
    np.testing.assert_allclose(factors, np.array(expected))
    assert repeat_factors(labels, 0.1) is None  # no class is rarer
    assert repeat_factors(labels, 0) is None
    assert repeat_factors([[], []], 0.5) is None
    factors = repeat_factors([[5], []], 1)
    assert factors is not None
    np.testing.assert_allclose(factors, np.array([2**0.5, 1]))


def test_pictures_come_as_often_as_their_factors() -> None:
    """Of a fraction, a random number decides in each epoch."""
    repeats, epochs = np.array([1.0, 1.25, 2.0, 3.5]), 1000
    drawn = endless(4, np.random.default_rng(0), repeats)
    taken, counts = [], np.zeros(4)
    for _ in range(round(repeats.sum() * epochs)):
        taken.append(next(drawn))
        counts[taken[-1]] += 1
    # deviations: √(1000 · 0.25 · 0.75) = 14 and √(1000 · 0.25) = 16, and where the last epoch is cut
    assert counts / epochs == pytest.approx(repeats, abs=0.1)
    again = endless(4, np.random.default_rng(0), repeats)
    assert [next(again) for _ in range(50)] == taken[:50]


def test_without_repeats_an_epoch_is_a_permutation() -> None:
    rng, expected = np.random.default_rng(3), np.random.default_rng(3)
    drawn = endless(5, rng)
    for _ in range(3):
        assert [next(drawn) for _ in range(5)] == expected.permutation(5).tolist()
