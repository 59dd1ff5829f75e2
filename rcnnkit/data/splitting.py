"""Pictures divided at random into training, validation and test, so that each gets its share of every class.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", ECML 2011):
pictures of the rarest class are dealt first. Here each goes to the split that lacks most of what is in it, relative to
its share, and what is counted are objects, so that crowded pictures weigh more. Then pictures change their split while
that brings the shares nearer, since the last ones dealt cannot make up for all that went before.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rcnnkit.data.reading import join_data
from rcnnkit.data.records import Dataset, few
from rcnnkit.text import count

log = logging.getLogger("rcnnkit")
SPLITS = ("train", "val", "test")
PASSES = 10  # over all pictures at most; two or three are usual


def split_dataset(
    data: Dataset, *, val: float, test: float = 0.0, seed: int = 0, group_by: str | None = None
) -> dict[str, Dataset]:
    """Divide pictures into "train", "val" and, where it has a share, "test".

    Classes of which no object is left for training are logged by name.

    Args:
        data: all pictures.
        val: its share of pictures and of the objects of each class, between 0 and 1.
        test: likewise; 0 makes none. The rest is "train".
        seed: of what chance decides. The same seed gives the same splits.
        group_by: a regular expression. Pictures in whose file names it finds the same text are kept together: all of
            it, or its groups in parentheses where it has some.

    Returns:
        Split → its pictures, in their order.

    Raises:
        ValueError: the shares leave nothing for training, there are too few pictures or groups for so many splits, or
            the expression is wrong or found in no name.
    """
    shares = {"train": 1 - val - test, "val": val, "test": test}
    if not (0 < val < 1 and 0 <= test < 1 and shares["train"] > 1e-9):
        raise ValueError(
            f"--val {val:g} and --test {test:g} are shares of the pictures: --val must be above 0, and their sum"
            " below 1"
        )
    names = [name for name in SPLITS if shares[name] > 0]
    groups = groups_of(data, group_by)
    members = list(groups.values())
    if len(members) < len(names):
        raise ValueError(
            f"{data.name} has {count(len(members), 'group' if group_by else 'picture')}, too few for"
            f" {len(names)} splits; give more, or a --group-by that keeps fewer together"
        )
    split_of = stratify(_counts(data, members), np.array([shares[name] for name in names]), seed)
    splits = {}
    for number, name in enumerate(names):
        indices = sorted(i for group, split in zip(members, split_of, strict=True) if split == number for i in group)
        splits[name] = replace(data, name=f"{data.name}: {name}", records=data.flat[indices])
    total, learnt = data.objects_of(), splits["train"].objects_of()
    if missing_classes := [name for name in data.class_names if total[name] and not learnt[name]]:
        log.warning(
            "%s: no object of %s is in train, so %s cannot be learnt; give smaller shares to val and test%s",
            *(
                data.name,
                few(missing_classes),
                "it" if len(missing_classes) == 1 else "they",
                ", or another --group-by" if group_by else "",
            ),
        )
    return splits


def class_shares(part: Dataset, whole: Dataset) -> str:
    """The share of the objects of each class that a split has, for people: "cat 20.3 %, dog 19.8 %"."""
    total, inside = whole.objects_of(), part.objects_of()
    return few([f"{name} {100 * inside[name] / total[name]:.1f} %" for name in whole.class_names if total[name]])


def join_splits(parts: Sequence[Dataset]) -> Dataset:
    """Several splits of the same classes as one; where they number their pictures alike, ids are paths.

    Raises:
        ValueError: a picture is in two of them.
    """
    ids = Counter(key for part in parts for key in part.flat.ids)
    if max(ids.values(), default=1) > 1:
        parts = [replace(part, records=part.flat.with_ids(part.flat.paths)) for part in parts]
    return join_data(parts)


def groups_of(data: Dataset, pattern: str | None) -> dict[object, list[int]]:
    """Key → the indices of the pictures that belong together; each picture alone where there is no pattern.

    Raises:
        ValueError: the pattern is not a regular expression, or is found in no name.
    """
    if pattern is None:
        return {i: [i] for i in range(len(data))}
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"--group-by {pattern} is not a regular expression: {error}") from None
    groups: dict[object, list[int]] = {}
    for i, path in enumerate(data.flat.paths):
        found = expression.search(path.rpartition(os.sep)[2])
        groups.setdefault((found.groups() or found[0]) if found else i, []).append(i)
    if not any(isinstance(key, str | tuple) for key in groups):
        first = data.records[0].path.name if data.records else ""
        raise ValueError(f"--group-by {pattern} is found in no file name, such as {first}; correct it, or leave it out")
    return groups


def _counts(data: Dataset, groups: list[list[int]]) -> npt.NDArray[np.float64]:
    """(G, K + 1): the objects of each class in each group of pictures, and its pictures."""
    classes = len(data.class_names)
    group_of = np.empty(len(data), dtype=np.int64)  # each picture
    for number, group in enumerate(groups):
        group_of[group] = number
    counts = np.zeros((len(groups), classes + 1))
    np.add.at(counts, (np.repeat(group_of, data.flat.counts), data.flat.objects["label"]), 1)
    counts[:, classes] = [len(group) for group in groups]
    return counts


def stratify(counts: npt.NDArray[np.float64], shares: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.int64]:
    """The split of each group.

    Args:
        counts: (G, C) how much of what is in each group; none of the last column is 0.
        shares: (S,) of each split; their sum is 1.
        seed: of the order among equals.

    Returns:
        (G,) 0 … S - 1; each split has a group.
    """
    generator = np.random.default_rng(seed)
    totals = counts.sum(axis=0)
    weights = counts / np.maximum(totals, 1) ** 2
    needs = shares[:, None] * totals  # (S, C) what each split still lacks
    split_of = np.full(len(counts), -1)
    by_chance = generator.permutation(len(counts))
    groups_left = (counts > 0).sum(axis=0)  # groups that have each and are not dealt yet
    while (split_of < 0).any():
        open_ = np.flatnonzero(groups_left > 0)
        rarest = open_[groups_left[open_].argmin()]
        having = by_chance[(counts[by_chance, rarest] > 0) & (split_of[by_chance] < 0)]
        for group in having[np.argsort(-counts[having, rarest], kind="stable")]:
            split = int(((needs @ weights[group]) / shares).argmax())
            split_of[group] = split
            needs[split] -= counts[group]
            groups_left -= counts[group] > 0
    _settle(split_of, counts, shares, needs, by_chance)
    for split in range(len(shares)):  # of few groups, a small share may have got none
        if not (split_of == split).any():
            sizes = np.bincount(split_of, minlength=len(shares))
            rich = np.flatnonzero(split_of == sizes.argmax())
            split_of[rich[counts[rich, -1].argmin()]] = split
    return split_of


def _settle(
    split_of: npt.NDArray[np.int64],
    counts: npt.NDArray[np.float64],
    shares: npt.NDArray[np.float64],
    needs: npt.NDArray[np.float64],
    order: npt.NDArray[np.int64],
) -> None:
    """Move groups to other splits while that lessens the sum of needs² ÷ (share × total), the χ² of the division."""
    scale = 1 / (shares[:, None] * np.maximum(counts.sum(axis=0), 1))  # (S, C)
    for _ in range(PASSES):
        moved = False
        for group in order:
            has = np.flatnonzero(counts[group])
            amounts, own = counts[group, has], split_of[group]
            loss = ((2 * needs[own, has] + amounts) * amounts * scale[own, has]).sum()
            gains = ((2 * needs[:, has] - amounts) * amounts * scale[:, has]).sum(axis=1)
            gains[own] = loss
            best = int(gains.argmax())
            if gains[best] > loss + 1e-9:
                needs[own] += counts[group]
                needs[best] -= counts[group]
                split_of[group], moved = best, True
        if not moved:
            return
