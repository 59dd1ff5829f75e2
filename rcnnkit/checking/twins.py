"""Pictures that are the same, or nearly so, without comparing all with all.

The same bytes have the same digest. Pictures that were scaled, compressed again, brightened or cut a little look the
same from afar: of a small grey copy, 64 low frequencies of its cosine transform are each above or below their median.
Two such codes of 64 bits that differ in 6 bits at most have two of their 8 bytes in common, so that sorting by each of
the 28 pairs of bytes brings them together. What the codes propose, the edges in the small copies decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from rcnnkit.checking.looks import SIDE, Look
from rcnnkit.structures import Array

FLAT = 2  # grey levels from the darkest to the brightest of a small copy that shows nothing
BITS = 10  # of 64, in which the codes of two pictures may differ
EDGES = 0.8  # correlation of the edges; those of copies have 0.85 and more, and of different pictures 0.5 and less
NEIGHBOURS = 200  # that a code is compared with, of those with the same pair of bytes: videos have thousands
BLOCK = 4096  # pairs whose edges are compared at a time


class Twin(NamedTuple):
    """Two pictures that look the same, by their places in a list; the first comes before the second."""

    first: int
    second: int
    same: bool  # byte by byte


def is_blank(look: Look) -> bool:
    """Whether a picture shows nothing."""
    return int(look.small.max()) - int(look.small.min()) <= FLAT


def find_twins(looks: Sequence[Look], group: Sequence[int]) -> list[Twin]:
    """Each picture with the first one before it that is the same, of its own group and of the others.

    Args:
        looks: of N pictures.
        group: of each picture, the number of its split.
    """
    places: dict[bytes, list[int]] = {}
    for i, look in enumerate(looks):
        places.setdefault(look.digest, []).append(i)
    twins = [twin for same in places.values() for twin in _first_twins(same, [same] * len(same), group, True)]
    seeing = [same[0] for same in places.values() if not is_blank(looks[same[0]])]
    small = np.stack([looks[i].small for i in seeing]) if seeing else np.zeros((0, SIDE, SIDE), np.uint8)
    near: dict[int, list[int]] = {}
    for first, second in similar(small):
        # The copies of a picture stand for it in their own splits.
        for i in places[looks[seeing[first]].digest]:
            for j in places[looks[seeing[second]].digest]:
                near.setdefault(max(i, j), []).append(min(i, j))
    twins += _first_twins(list(near), [sorted(others) for others in near.values()], group, False)
    return sorted(twins, key=lambda twin: (twin.second, twin.first))


def _first_twins(
    pictures: Sequence[int], others: Sequence[Sequence[int]], group: Sequence[int], same: bool
) -> Iterator[Twin]:
    for picture, before in zip(pictures, others, strict=True):
        own = next((i for i in before if i < picture and group[i] == group[picture]), None)
        foreign = next((i for i in before if i < picture and group[i] != group[picture]), None)
        # Where its own split has it already, that one is compared with the others.
        if own is not None:
            yield Twin(own, picture, same)
        elif foreign is not None:
            yield Twin(foreign, picture, same)


def similar(small: Array) -> Iterator[tuple[int, int]]:
    """Pairs i < j of N small pictures (N, SIDE, SIDE) that are nearly the same."""
    if len(small) < 2:
        return
    first, second = _candidates(_codes(small))
    for start in range(0, len(first), BLOCK):
        i, j = first[start : start + BLOCK], second[start : start + BLOCK]
        alike = (_edges(small[i]) * _edges(small[j])).sum(axis=1) >= EDGES
        yield from zip(i[alike].tolist(), j[alike].tolist(), strict=True)


def _codes(small: Array) -> Array:
    """(N, 8) uint8: which of 64 low frequencies are above their median."""
    k, x = np.arange(9), np.arange(SIDE)
    cosines = np.cos(math.pi / SIDE * k[:, None] * (x + 0.5)).astype(np.float32)
    cosines[0] /= math.sqrt(2)
    found = cosines @ small.astype(np.float32) @ cosines.T  # (N, 9, 9)
    low = found[:, :8, :8].reshape(-1, 64)
    low[:, 0] = found[:, 0, 8]  # in place of the mean, which is brightness
    return np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)


def _candidates(codes: Array) -> tuple[Array, Array]:
    """Pairs i < j of codes (N, 8) that differ in few bits, each pair once."""
    whole = np.ascontiguousarray(codes).view(np.uint64)[:, 0]
    ones = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)
    pairs: list[Array] = []
    for a, b in combinations(range(8), 2):
        key = codes[:, a].astype(np.uint16) << 8 | codes[:, b]
        order = np.lexsort((whole, key))
        sorted_keys = key[order]
        for step in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
            places = np.flatnonzero(sorted_keys[:-step] == sorted_keys[step:])
            if not len(places):
                break
            i, j = order[places], order[places + step]
            close = ones[codes[i] ^ codes[j]].sum(axis=1) <= BITS
            pairs.append(np.sort(np.stack([i[close], j[close]], axis=1), axis=1))
    found = np.unique(np.concatenate(pairs), axis=0)
    return found[:, 0], found[:, 1]


def _edges(small: Array) -> Array:
    """(N, E) float32 of length 1: differences of neighbouring pixels, after a blur that forgives small shifts."""
    grey: Array = small.astype(np.float32)
    for axis in (1, 2):
        padded = np.pad(grey, [(1, 1) if each == axis else (0, 0) for each in range(3)], mode="edge")
        low, high = (np.take(padded, np.arange(start, start + SIDE), axis=axis) for start in (0, 2))
        grey = (low + 2 * grey + high) / 4
    edges = np.concatenate([np.diff(grey, axis=axis).reshape(len(grey), -1) for axis in (1, 2)], axis=1)
    edges -= edges.mean(axis=1, keepdims=True)
    return edges / np.maximum(np.linalg.norm(edges, axis=1, keepdims=True), 1e-6)
