"""Rare classes seen more often: repeat-factor sampling (Gupta, Dollár and Girshick 2019, LVIS, arXiv:1908.03195)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rcnnkit.structures import Array


def repeat_factors(labels: Sequence[Sequence[int] | Array], threshold: float) -> Array | None:
    """How often each picture comes in an epoch.

    A class c that is in a share f(c) of the pictures has r(c) = max(1, √(threshold ÷ f(c))), and a picture the greatest
    r(c) of its classes; one without objects comes once.

    Args:
        labels: of the objects in each of N pictures.
        threshold: t of the paper; the share of pictures below which a class is rare.

    Returns:
        (N,) float64 from 1 on; None where no picture is to be repeated.
    """
    of_each = np.repeat(np.arange(len(labels)), [len(of_picture) for of_picture in labels])
    flat = np.concatenate([*labels, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    classes, first = int(flat.max(initial=0)) + 1, np.zeros(len(flat), dtype=bool)
    first[np.unique(of_each * classes + flat, return_index=True)[1]] = True  # objects of a class in one picture
    pictures = np.bincount(flat[first], minlength=classes)  # that each class is in
    of_class = np.maximum(1.0, np.sqrt(threshold * len(labels) / np.maximum(1, pictures)))
    factors = np.ones(len(labels))
    np.maximum.at(factors, of_each, of_class[flat])
    return factors if (factors > 1).any() else None


def endless(pictures: int, rng: np.random.Generator, repeats: Array | None = None) -> Iterator[int]:
    """Indices of pictures, epoch after epoch, each in another order.

    Args:
        repeats: how often each comes in an epoch; of a fraction, a random number decides anew in each epoch. By default
            each comes once.
    """
    while True:
        order = np.arange(pictures)
        if repeats is not None:
            whole = np.floor(repeats)
            order = np.repeat(order, (whole + (rng.random(pictures) < repeats - whole)).astype(int))
        yield from rng.permutation(order).tolist()
