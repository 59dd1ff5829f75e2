"""Boxes by ridge regression, one regressor per class (R-CNN, arXiv:1311.2524v5, appendix C)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import solve

Array = np.ndarray[Any, np.dtype[Any]]

WHITENING_FLOOR = 1e-3  # added to the targets' variances (released code)


class BoxRidge:
    """The regressor of one class, from windows near its objects that are added a picture at a time.

    Only sums are kept, (D + 1)² numbers, however many windows there are.

    Args:
        size: D, the length of the features.
        ridge: λ.

    Where this follows the released code beyond the paper: the targets are whitened before the regression, so
    that λ bears alike on all four, and the weight of the constant is regularised too.
    """

    def __init__(self, size: int, ridge: float = 1000.0) -> None:
        self.ridge, self.count = ridge, 0
        self.xx = np.zeros((size + 1, size + 1))  # Σ x xᵀ, x with a 1 at its end
        self.xt = np.zeros((size + 1, 4))  # Σ x tᵀ
        self.tt = np.zeros((4, 4))  # Σ t tᵀ

    def add(self, features: Array, deltas: Array) -> None:
        """Take in windows.

        Args:
            features: (N, D), scaled.
            deltas: (N, 4) from each window to its object (`rcnnkit.boxes.encode`).
        """
        x = np.column_stack([features, np.ones(len(features))]).astype(np.float64)
        t = deltas.astype(np.float64)
        self.count += len(x)
        self.xx += x.T @ x
        self.xt += x.T @ t
        self.tt += t.T @ t

    def solve(self) -> tuple[Array, Array]:
        """Weight (4, D) and bias (4,), float32: the deltas of features x are weight · x + bias.

        The whitening is folded in: with targets (t − μ) T, the regressor is undone by T⁻¹ and μ.

        Raises:
            ValueError: nothing was added.
        """
        if not self.count:
            raise ValueError("no window is near an object of the class; there is nothing to regress from")
        sums = self.xt[-1]  # Σ t: the last of x is 1
        mean = sums / self.count
        covariance = self.tt / self.count - np.outer(mean, mean)
        variances, axes = np.linalg.eigh(covariance)
        deviations = np.sqrt(variances.clip(min=0) + WHITENING_FLOOR)
        whitening, unwhitening = (axes * factor @ axes.T for factor in (1 / deviations, deviations))
        # Σ x ((t − μ) T)ᵀ from the sums: Σ x is the last column of Σ x xᵀ
        goals = (self.xt - np.outer(self.xx[:, -1], mean)) @ whitening
        weight = solve(self.xx + self.ridge * np.eye(len(self.xx)), goals, assume_a="pos", overwrite_a=True)
        weight = weight @ unwhitening
        return weight[:-1].T.astype(np.float32), (weight[-1] + mean).astype(np.float32)
