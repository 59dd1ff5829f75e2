"""Pictures that are taken out of training, to evaluate on, where a data set has none for that."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import replace

import numpy as np

from rcnnkit.data.records import Dataset
from rcnnkit.text import count


def hold_out(data: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """A data set in two: what is left for training, and a share of its pictures to evaluate on.

    Which pictures these are depends on their ids and the seed alone, so that a resumed run, or an evaluation later,
    sees the same. The only picture of a class stays in training.

    Args:
        data: two pictures at least.
        share: of the pictures, above 0 and below 1; at least one is held out, and at least one left.

    Raises:
        ValueError: there is one picture, or none.
    """
    if len(data) < 2:
        number = count(len(data), "picture")
        raise ValueError(f"{data.name} has {number}, so none can be held out; set data.val_share = 0")
    records = data.flat
    keys = [hashlib.sha256(f"{seed}/{key}".encode()).digest() for key in records.ids]
    order = sorted(range(len(data)), key=keys.__getitem__)
    labels = np.split(records.objects["label"], np.cumsum(records.counts)[:-1])
    classes = [set(each.tolist()) for each in labels]
    counts = Counter(label for labels in classes for label in labels)
    size = min(max(1, math.floor(share * len(data) + 0.5)), len(data) - 1)
    indices: set[int] = set()
    for index in order:
        if len(indices) < size and all(counts[label] > 1 for label in classes[index]):
            indices.add(index)
            counts.subtract(classes[index])
    out = np.isin(np.arange(len(data)), list(indices))
    training, validation = (
        replace(data, name=name, records=records[part])
        for name, part in ((data.name, ~out), (f"{data.name} (held out)", out))
    )
    return training, validation
