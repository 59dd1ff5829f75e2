"""Boxes by ridge regression, one regressor per class (R-CNN, arXiv:1311.2524v5, appendix C)."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsyrk

from rcnnkit.structures import Array

WHITENING_FLOOR = 1e-3  # added to the targets' variances (released code)
BLOCK = 1024  # windows that are added to the sums at a time


class BoxRidge:
    """The regressor of one class, from windows near its objects that are added a picture at a time.

    It keeps at most about 2 (D + 1)² numbers of 8 bytes at a time, however many windows there are: the windows
    themselves while they are fewer than D, then their sums, and a copy of these in the end.

    Args:
        size: D, the length of the features.
        ridge: λ.

    Where this follows the released code beyond the paper: the targets are whitened before the regression, so
    that λ bears alike on all four, and the weight of the constant is regularised too.
    """

    def __init__(self, size: int, ridge: float) -> None:
        self.size, self.ridge = size, ridge
        self.rows: list[Array] = []  # (n, D + 1 + 4) float32: x with a 1 at its end, then t
        self.xx: Array | None = None  # Σ x xᵀ of windows that are not kept, its upper triangle
        self.xt = np.zeros((size + 1, 4))  # Σ x tᵀ of these
        self.count, self.t, self.tt = 0, np.zeros(4), np.zeros((4, 4))  # of all: n, Σ t, Σ t tᵀ

    def add(self, features: Array, deltas: Array) -> None:
        """Take in windows.

        Args:
            features: (N, D), scaled.
            deltas: (N, 4) from each window to its object (`rcnnkit.boxes.encode`).
        """
        t = deltas.astype(np.float64)
        self.rows.append(np.column_stack([features, np.ones(len(features)), deltas]).astype(np.float32))
        self.count += len(t)
        self.t += t.sum(axis=0)
        self.tt += t.T @ t
        if sum(map(len, self.rows)) > (self.size if self.xx is None else BLOCK):
            self._add_up()

    def _add_up(self) -> None:
        if self.xx is None:
            self.xx = np.zeros((self.size + 1, self.size + 1), order="F")
        rows, self.rows = np.concatenate(self.rows), []
        for start in range(0, len(rows), BLOCK):
            x, t = self._split(rows[start : start + BLOCK])
            self.xx = dsyrk(1.0, x.T, beta=1.0, c=self.xx, overwrite_c=True)  # in its place
            self.xt += x.T @ t

    def _split(self, rows: Array) -> tuple[Array, Array]:
        x, t = np.split(rows.astype(np.float64), [self.size + 1], axis=1)
        return x, t

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
            x, t = self._split(np.concatenate(self.rows))
            weight = x.T @ _solve(x @ x.T, self.ridge, (t - mean) @ whitening)
        else:
            if self.rows:
                self._add_up()
            weight = _solve(self.xx.copy("F"), self.ridge, (self.xt - np.outer(self.xx[:, -1], mean)) @ whitening)
        weight = weight @ unwhitening
        return weight[:-1].T.astype(np.float32), (weight[-1] + mean).astype(np.float32)


def _solve(matrix: Array, ridge: float, goals: Array) -> Array:
    """(`matrix` + `ridge`)⁻¹ `goals`, of a symmetric matrix's upper triangle, which is used up."""
    matrix[np.diag_indices_from(matrix)] += ridge
    return cho_solve(cho_factor(matrix, overwrite_a=True, check_finite=False), goals)
