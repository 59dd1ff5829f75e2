"""Classes: spelt in two ways, without objects, and more frequent in one split than in another."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from rcnnkit.checking.findings import CLASS_WITHOUT_OBJECTS, NOT_IN_TRAINING, SHIFT, SPELT_TWICE, Finding
from rcnnkit.checking.objects import Objects
from rcnnkit.structures import Array
from rcnnkit.text import count

LONG = 5  # letters; shorter names that differ in one letter are often two words
RARE = 0.1  # share of the frequent spelling's objects that a slip has at most
CHANCE = 1e-3  # probability of a false alarm in a data set whose splits were drawn by chance
TIMES = 2.0  # as frequent in one split as in the other, at least


class Spelling(NamedTuple):
    """Two labels that may be one class."""

    rare: int
    frequent: int
    certain: bool  # they differ in case, spaces or hyphens alone
    how: str


def spellings(names: Sequence[str], counts: Sequence[int]) -> list[Spelling]:
    """Pairs of classes that may be one.

    Args:
        names: of K classes.
        counts: objects of each.
    """
    pairs = []
    for a, b in combinations(range(len(names)), 2):
        rare, frequent = sorted((a, b), key=lambda label: (counts[label], -label))
        if how := _certainly(names[a], names[b]):
            pairs.append(Spelling(rare, frequent, True, how))
        elif _plural(names[a], names[b]):
            pairs.append(Spelling(rare, frequent, False, "an s at the end"))
        elif _slip(names[a], names[b]) and counts[rare] <= RARE * counts[frequent]:
            pairs.append(Spelling(rare, frequent, False, "one letter"))
    return pairs


def _certainly(first: str, second: str) -> str:
    """In what two spellings of one name differ, or nothing."""
    if first.casefold() == second.casefold():
        return "upper and lower case"
    plain = [re.sub(r"[\s_-]+", "", name.casefold()) for name in (first, second)]
    return "spaces or hyphens" if plain[0] == plain[1] else ""


def _plural(first: str, second: str) -> bool:
    short, long = sorted((first.casefold(), second.casefold()), key=len)
    return len(short) > 2 and long in (f"{short}s", f"{short}es")


def _slip(first: str, second: str) -> bool:
    """Whether one letter is missing, wrong or swapped with its neighbour; digits tell classes apart."""
    first, second = first.casefold(), second.casefold()
    short, long = sorted((first, second), key=len)
    if len(short) < LONG or len(long) - len(short) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    tail, other_tail = short[start:], long[start:]
    if any(letter.isdigit() for letter in (tail[:1], other_tail[:1])):
        return False
    if len(short) < len(long):
        return tail == other_tail[1:]
    swapped = tail[:2] == other_tail[1::-1] and tail[2:] == other_tail[2:]
    return tail[1:] == other_tail[1:] or swapped


def check_classes(splits: Mapping[str, Objects]) -> Iterator[Finding]:
    """What the classes of all splits show; the first split is what is learnt from."""
    training, *other_splits = splits
    training_objects = splits[training]
    names = list(training_objects.dataset.class_names)
    alike = {split: objects for split, objects in splits.items() if list(objects.dataset.class_names) == names}
    counts = {split: per_class(objects) for split, objects in alike.items()}
    total = np.sum(list(counts.values()), axis=0)
    for rare, frequent, _, how in spellings(names, total.tolist()):
        message = (
            f"it differs from {names[frequent]!r} in {how}; there are {count(int(total[rare]), 'object')} of it, and"
            f" {count(int(total[frequent]), 'object')} of {names[frequent]!r}"
        )
        yield Finding(SPELT_TWICE, "", training_objects.dataset.name, f"class {names[rare]!r}", message)
    pictures = {split: _pictures_with(objects) for split, objects in alike.items()}
    splits_compared = [split for split in other_splits if split in alike and len(alike[split].dataset)]
    level = CHANCE / max(1, len(names) * len(splits_compared))
    shifts = set()
    for split in splits_compared:
        sizes = len(training_objects.dataset), len(alike[split].dataset)
        for label, name in enumerate(names):
            number, other_number = int(pictures[training][label]), int(pictures[split][label])
            if not sizes[0] or chance((number, other_number), sizes) > level:
                continue
            shares = number / sizes[0], other_number / sizes[1]
            if max(shares) < TIMES * min(shares):
                continue
            shifts.add(label)
            message = (
                f"{count(number, 'picture')} of {sizes[0]:,} in {training} ({shares[0]:.1%}) and {other_number:,} of"
                f" {sizes[1]:,} in {split} ({shares[1]:.1%}) show it; by chance that is next to impossible"
            )
            kind = SHIFT if number else NOT_IN_TRAINING
            yield Finding(kind, split, alike[split].dataset.name, f"class {name!r}", message)
    for label, name in enumerate(names):
        if counts[training][label] or label in shifts:
            continue
        elsewhere = [f"{count(int(counts[split][label]), 'object')} in {split}" for split in splits_compared]
        message = f"there is no object of it in {training}" + "".join(f", {each}" for each in elsewhere)
        yield Finding(CLASS_WITHOUT_OBJECTS, training, training_objects.dataset.name, f"class {name!r}", message)


def chance(counts: tuple[int, int], totals: tuple[int, int]) -> float:
    """The probability that two shares differ so much by chance: the likelihood-ratio test, one degree of freedom.

    Args:
        counts: pictures with the class in either split.
        totals: pictures in either split.
    """
    share = sum(counts) / sum(totals)
    ratio = 0.0
    for number, size in zip(counts, totals, strict=True):
        for seen, expected in ((number, size * share), (size - number, size * (1 - share))):
            ratio += 2 * seen * math.log(seen / expected) if seen else 0.0
    return math.erfc(math.sqrt(max(ratio, 0.0) / 2))


def per_class(objects: Objects) -> Array:
    """(K,) objects of each class, without crowds."""
    return np.bincount(objects.labels[~objects.crowd], minlength=len(objects.dataset.class_names))


def _pictures_with(objects: Objects) -> Array:
    """(K,) pictures that show each class."""
    plain = ~objects.crowd
    pairs = np.unique(np.stack([objects.pictures[plain], objects.labels[plain]]), axis=1)
    return np.bincount(pairs[1], minlength=len(objects.dataset.class_names))
