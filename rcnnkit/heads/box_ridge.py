"""Boxes by ridge regression, one regressor per class (R-CNN, arXiv:1311.2524v5, appendix C)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import solve

Array = np.ndarray[Any, np.dtype[Any]]

WHITENING_FLOOR = 1e-3  # added to the targets' variances (released code)


class BoxRidge:
    """The regressor of one class, from windows near its objects that are added a picture at a time.

    It keeps at most about 2 (D + 1)² numbers, however many windows there are: the windows themselves while they are
    fewer than D, then their sums.

    Args:
        size: D, the length of the features.
        ridge: λ.

    Where this follows the released code beyond the paper: the targets are whitened before the regression, so
    that λ bears alike on all four, and the weight of the constant is regularised too.
    """

    def __init__(self, size: int, ridge: float = 1000.0) -> None:
        self.size, self.ridge = size, ridge
        self.rows: list[Array] = []  # (n, D + 1 + 4): x with a 1 at its end, then t
        self.xx: Array | None = None  # Σ x xᵀ of windows that are not kept
        self.xt = np.zeros((size + 1, 4))  # Σ x tᵀ of these
        self.count, self.t, self.tt = 0, np.zeros(4), np.zeros((4, 4))  # of all: n, Σ t, Σ t tᵀ

    def add(self, features: Array, deltas: Array) -> None:
        """Take in windows.

        Args:
            features: (N, D), scaled.
            deltas: (N, 4) from each window to its object (`rcnnkit.boxes.encode`).
        """
        t = deltas.astype(np.float64)
        self.rows.append(np.column_stack([features, np.ones(len(features)), deltas]))
        self.count += len(t)
        self.t += t.sum(axis=0)
        self.tt += t.T @ t
        if sum(map(len, self.rows)) > self.size:
            self._add_up()

    def _add_up(self) -> None:
        x, t = np.split(np.concatenate(self.rows).astype(np.float64), [self.size + 1], axis=1)
        self.xx = x.T @ x + (0 if self.xx is None else self.xx)
        self.xt += x.T @ t
        self.rows = []

    def solve(self) -> tuple[Array, Array]:
        """Weight (4, D) and bias (4,), float32: the deltas of features x are weight · x + bias.

        The whitening is folded in: with targets (t − μ) T, the regressor is undone by T⁻¹ and μ.

        Raises:
            ValueError: nothing was added.
        """
        if not self.count:
            raise ValueError("no window is near an object of the class; there is nothing to regress from")
        mean = self.t / self.count
        variances, axes = np.linalg.eigh(self.tt / self.count - np.outer(mean, mean))
        deviations = np.sqrt(variances.clip(min=0) + WHITENING_FLOOR)
        whitening, unwhitening = (axes * factor @ axes.T for factor in (1 / deviations, deviations))
        if self.xx is None:  # (XᵀX + λ)⁻¹ Xᵀ = Xᵀ (XXᵀ + λ)⁻¹, which is smaller
            x, t = np.split(np.concatenate(self.rows).astype(np.float64), [self.size + 1], axis=1)
            weight = x.T @ _solve(x @ x.T, self.ridge, (t - mean) @ whitening)
        else:
            if self.rows:
                self._add_up()
            weight = _solve(self.xx.copy(), self.ridge, (self.xt - np.outer(self.xx[:, -1], mean)) @ whitening)
        weight = weight @ unwhitening
        return weight[:-1].T.astype(np.float32), (weight[-1] + mean).astype(np.float32)


def _solve(matrix: Array, ridge: float, goals: Array) -> Array:
    """(`matrix` + `ridge`)⁻¹ `goals`; `matrix` is used up."""
    matrix[np.diag_indices_from(matrix)] += ridge
    return solve(matrix, goals, assume_a="pos", overwrite_a=True)
