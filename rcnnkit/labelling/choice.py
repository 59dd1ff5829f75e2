"""Which pictures to label first: those that a detector is unsure of, and that are not like one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rcnnkit.structures import Array

EDGE = 1e-6  # a threshold this near to 0 or 1 leaves nothing to be unsure of


def uncertainty(scores: Array, threshold: float, *, margins: bool = False) -> float:
    """How unsure a detector is of a picture: its doubtful detections, added up.

    A detection counts 1 where its score is the threshold, and little where it is far from it: (1 - |2p - 1|)², where p
    is its score moved so that the threshold lies at 0.5 (on the logit's scale). It is the 1-vs-2 measure of Brust et
    al. (arXiv:1809.09875), of an object against background. Its square keeps the many detections of low scores, which
    every picture has, from drowning the few doubtful ones; entropy would give a score of 0.05 more than a quarter of a
    bit. The sum says that a picture with more doubtful objects teaches more. It also takes longer to label.

    Args:
        scores: (N,) of the detections in one picture.
        threshold: detections from this score on are taken for objects.
        margins: scores are margins of SVMs, without bounds, in place of probabilities.

    Raises:
        ValueError: a score is not finite.
    """
    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        raise ValueError("a detection has a score that is not finite; train the detector anew")
    if margins:
        certainty = np.abs(np.tanh((scores - threshold) / 2))  # |2p - 1| of p = sigmoid
    else:
        limit = min(max(threshold, EDGE), 1 - EDGE)
        objects, others = scores * (1 - limit), (1 - scores) * limit
        certainty = np.abs(objects - others) / (objects + others)
    return float(((1 - certainty) ** 2).sum())


def choose(
    uncertainties: Sequence[float] | Array, descriptors: Array, labelled: Array, count: int
) -> tuple[list[int], list[float]]:
    """The first `count` pictures to label, in their order, and how far each is from what was known before it.

    Greedy k-centre (Sener and Savarese, arXiv:1708.00489, algorithm 1), weighed: each time the picture for which the
    uncertainty times the distance to the nearest labelled or chosen picture is largest. Where no picture is uncertain,
    the farthest goes first, and of pictures that are all alike the most uncertain one. With nothing labelled, the most
    uncertain picture begins. Of ties, the first picture wins.

    Args:
        uncertainties: (P,) of each picture.
        descriptors: (P, D) of each picture; their Euclidean distance says how much two pictures differ.
        labelled: (L, D) of pictures that are labelled already.

    Returns:
        `count` indices, all P where there are no more; and as many distances, infinite where nothing was known.
    """
    unsure = np.asarray(uncertainties, np.float64)
    nearest = np.full(len(unsure), np.inf)
    for known in labelled:
        nearest = np.minimum(nearest, _distances(descriptors, known))
    candidates = np.arange(len(unsure))
    order: list[int] = []
    distances: list[float] = []
    for _ in range(min(count, len(unsure))):
        reach = np.where(np.isinf(nearest[candidates]), 1.0, nearest[candidates])
        rows = np.arange(len(candidates))
        for worth in (unsure[candidates] * reach, reach, unsure[candidates]):
            rows = rows[worth[rows] == worth[rows].max()]
        best = int(candidates[rows[0]])
        order.append(best)
        distances.append(float(nearest[best]))
        candidates = np.delete(candidates, rows[0])
        nearest[candidates] = np.minimum(nearest[candidates], _distances(descriptors[candidates], descriptors[best]))
    return order, distances


def _distances(descriptors: Array, one: Array) -> Array:
    """(P,) from (P, D) to (D,); exactly 0 where they are equal."""
    apart = descriptors - one
    return np.sqrt(np.einsum("pd,pd->p", apart, apart))
