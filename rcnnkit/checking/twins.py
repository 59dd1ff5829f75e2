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
NEIGHBOURS = 32  # that a code is compared with, of those with the same pair of bytes: videos have thousands
CLOSEST = 4  # pictures before it with which each one's edges are compared, in its group and in the others
# Of a column of pixels: each as the mean of itself, twice, and its neighbours; and of these the differences.
BLUR = (2 * np.eye(SIDE) + np.eye(SIDE, k=1) + np.eye(SIDE, k=-1)).astype(np.float32)
BLUR /= BLUR.sum(axis=1, keepdims=True)
EDGE = np.diff(BLUR, axis=0)
BLOCK = 1024  # pairs whose edges are compared at a time


class Twin(NamedTuple):
    """Two pictures that look the same, by their places in a list; the first comes before the second."""

    first: int
    second: int
    same: bool  # byte by byte


def is_blank(look: Look) -> bool:
    """Whether a picture shows nothing."""
    return int(look.small.max()) - int(look.small.min()) <= FLAT


def find_twins(looks: Sequence[Look], group: Sequence[int]) -> list[Twin]:
    """Each picture that is the same as one before it: of its own group where there is one, else of another.

    Args:
        looks: of N pictures.
        group: of each picture, the number of its split.
    """
    places: dict[bytes, list[int]] = {}
    for i, look in enumerate(looks):
        places.setdefault(look.digest, []).append(i)
    before: dict[int, list[int]] = {}
    for copies in places.values():
        for i in copies[1:]:
            before[i] = copies
    twins = [Twin(_nearest(i, copies, group), i, same=True) for i, copies in before.items()]
    # Of pictures with the same bytes the first one in each group is compared with others.
    seeing = [
        i
        for copies in places.values()
        if not is_blank(looks[copies[0]])
        for i in {group[i]: i for i in reversed(copies)}.values()
    ]
    small = np.stack([looks[i].small for i in seeing]) if seeing else np.zeros((0, SIDE, SIDE), np.uint8)
    near: dict[int, list[int]] = {}
    for first, second in similar(small, [group[i] for i in seeing]):
        i, j = sorted((seeing[first], seeing[second]))
        if looks[i].digest != looks[j].digest:
            near.setdefault(j, []).append(i)
    twins += [Twin(_nearest(i, sorted(neighbours), group), i, same=False) for i, neighbours in near.items()]
    return sorted(twins, key=lambda twin: (twin.second, twin.first))


def _nearest(picture: int, others: Sequence[int], group: Sequence[int]) -> int:
    """The first of the pictures before one that is of its group, or else the first."""
    return next((i for i in others if i < picture and group[i] == group[picture]), others[0])


def similar(small: Array, group: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs i < j of N small pictures (N, SIDE, SIDE) that are nearly the same.

    Of pictures that are like very many others, as frames of a video are, some pairs are left out, but not the last.
    """
    first, second = _candidates(_codes(small), np.asarray(group, np.int64))
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


def _candidates(codes: Array, group: Array) -> tuple[Array, Array]:
    """Pairs i < j of codes (N, 8) that differ in few bits: of each j the `CLOSEST` in its group and in the others."""
    whole = np.ascontiguousarray(codes).view(np.uint64).reshape(-1)
    ones = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.int64)
    candidates = _same_codes(whole, group)
    for a, b in combinations(range(8), 2):
        pairs = [candidates]
        key = codes[:, a].astype(np.uint16) << 8 | codes[:, b]
        order = np.lexsort((whole, key))
        sorted_keys = key[order]
        for step in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
            places = np.flatnonzero(sorted_keys[:-step] == sorted_keys[step:])
            if not len(places):
                break
            i, j = order[places], order[places + step]
            close = ones[codes[i] ^ codes[j]].sum(axis=1) <= BITS
            pairs.append(_pairs(i[close], j[close], len(codes)))
        candidates = np.unique(np.concatenate(pairs))
    i, j = np.divmod(candidates, max(1, len(codes)))
    bits = ones[codes[i] ^ codes[j]].sum(axis=1)
    own = group[i] == group[j]
    order = np.lexsort((i, bits, own, j))
    i, j, own = i[order], j[order], own[order]
    begins = np.ones(len(i), bool)
    begins[1:] = (j[1:] != j[:-1]) | (own[1:] != own[:-1])
    rank = np.arange(len(i)) - np.maximum.accumulate(np.where(begins, np.arange(len(i)), 0))
    return i[rank < CLOSEST], j[rank < CLOSEST]


def _same_codes(whole: Array, group: Array) -> Array:
    """Each picture with the first one in each group that has its very code; there may be thousands."""
    pairs = [np.zeros(0, np.int64)]
    for each in np.unique(group):
        members = np.flatnonzero(group == each)
        values, first = np.unique(whole[members], return_index=True)
        place = np.searchsorted(values, whole).clip(max=len(values) - 1)
        j = np.flatnonzero(values[place] == whole)
        i = members[first[place[j]]]
        pairs.append(_pairs(i[i != j], j[i != j], len(whole)))
    return np.concatenate(pairs)


def _pairs(i: Array, j: Array, count: int) -> Array:
    """Each pair as one number: the smaller one times `count` plus the greater one."""
    return np.minimum(i, j) * count + np.maximum(i, j)


def _edges(small: Array) -> Array:
    """(N, E) float32 of length 1: differences of neighbouring pixels, after a blur that forgives small shifts."""
    grey = small.astype(np.float32)
    edges = np.concatenate([(EDGE @ grey @ BLUR.T), (BLUR @ grey @ EDGE.T).transpose(0, 2, 1)], axis=1)
    edges = edges.reshape(len(small), -1)
    edges -= edges.mean(axis=1, keepdims=True)
    return edges / np.maximum(np.linalg.norm(edges, axis=1, keepdims=True), 1e-6)
