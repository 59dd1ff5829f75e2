import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from rcnnkit.boxes import encode
from rcnnkit.heads.box_ridge import BoxRidge


def windows(count: int = 200, size: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Features of length about 20, and deltas that follow from them, but for noise."""
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(count, size)) * 20 / np.sqrt(size)).astype(np.float32)
    deltas = features @ rng.normal(size=(size, 4)) * 0.01 + rng.normal(size=(count, 4)) * 0.05 + [0.1, -0.2, 0.3, 0.0]
    return features, deltas.astype(np.float32)


@pytest.mark.parametrize("size", [7, 150, 199, 200, 300])
def test_equals_scikit_learns_ridge_on_whitened_targets(size: int) -> None:
    features, deltas = windows(size=size)  # more windows than numbers in a feature, and fewer
    regressor = BoxRidge(size, 1000.0)
    for part in (slice(0, 50), slice(50, 50), slice(50, 200)):  # a picture at a time, one of them without any
        regressor.add(features[part], deltas[part])
    weight, bias = regressor.solve()

    mean = deltas.astype(np.float64).mean(axis=0)
    covariance = np.cov(deltas.T.astype(np.float64), bias=True)
    values, vectors = np.linalg.eigh(covariance)
    whitening = vectors @ np.diag(1 / np.sqrt(values + 0.001)) @ vectors.T
    inputs = np.hstack([features, np.ones((200, 1))]).astype(np.float64)  # the constant's weight is regularised too
    ridge = Ridge(alpha=1000, fit_intercept=False).fit(inputs, (deltas - mean) @ whitening)
    expected = ridge.predict(inputs) @ np.linalg.inv(whitening) + mean
    assert (regressor.xx is None) == (size >= 200)
    np.testing.assert_allclose(features @ weight.T + bias, expected, atol=5e-6)
    again = regressor.solve()
    assert all(np.array_equal(a, b) for a, b in zip(again, (weight, bias), strict=True))
    assert np.abs(expected - mean).max() > 0.1  # it is no constant


def test_one_window_and_equal_windows_regress_to_their_mean() -> None:
    for count in (1, 5):
        regressor = BoxRidge(3, 1000.0)
        delta = encode(torch.tensor([[0.0, 0, 20, 10]]), torch.tensor([[5.0, 0, 25, 10]])).numpy()
        regressor.add(np.ones((count, 3)), np.repeat(delta, count, axis=0))
        weight, bias = regressor.solve()
        np.testing.assert_allclose(np.ones(3) @ weight.T + bias, [-0.25, 0, 0, 0], atol=1e-6)
        np.testing.assert_allclose(weight, 0, atol=1e-9)


def test_without_windows_there_is_nothing_to_solve() -> None:
    with pytest.raises(ValueError, match="nothing to regress from"):
        BoxRidge(3, 1000.0).solve()
