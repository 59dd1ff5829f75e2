"""A data set as the rest of rcnnkit sees it: pictures on disk and the objects in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import torch

from rcnnkit.structures import Size, Targets
from rcnnkit.text import count, visible

# What tools call the folders or keys of splits.
SPLIT_NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One picture on disk and its objects; boxes in its own pixels."""

    id: int | str  # COCO's image id, or the stem of a VOC file
    path: Path
    size: Size  # (height, width) that the annotations speak of
    targets: Targets


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Pictures of one split, with the names of the K classes and the data set's own ids for them."""

    name: str  # what to call it in messages, such as "bccd/train"
    records: Sequence[Record]
    class_names: Sequence[str]
    category_ids: Sequence[int]

    def __len__(self) -> int:
        return len(self.records)

    def with_classes(self, category_ids: Mapping[str, int]) -> Dataset:
        """The same pictures with other classes, name → id, among which all of its own are."""
        names = list(category_ids)
        if names == list(self.class_names):
            return replace(self, category_ids=list(category_ids.values()))
        labels = torch.tensor([names.index(name) for name in self.class_names], dtype=torch.int64)
        records = [
            replace(record, targets=replace(record.targets, labels=labels[record.targets.labels]))
            for record in self.records
        ]
        return Dataset(self.name, records, names, list(category_ids.values()))

    @property
    def objects(self) -> int:
        """How many are annotated, of all kinds."""
        return sum(len(record.targets) for record in self.records)

    @property
    def summary(self) -> str:
        """For people, such as "4 pictures, 12 objects"."""
        return f"{count(len(self), 'picture')}, {count(self.objects, 'object')}"

    def objects_of(self) -> Counter[str]:
        """Class → its objects, of all kinds."""
        labels = chain.from_iterable(record.targets.labels.tolist() for record in self.records)
        return Counter(self.class_names[label] for label in labels)

    def labels(self, use_difficult: bool) -> list[list[int]]:
        """Those of the objects that are learnt from, picture by picture."""
        targets = [record.targets for record in self.records]
        return [t.labels[~t.crowd & (~t.difficult | use_difficult)].tolist() for t in targets]

    def without_objects(self, use_difficult: bool) -> list[str]:
        """The classes that have no object to learn from: crowds are none, nor difficult ones unless they are used."""
        learnt = set(chain.from_iterable(self.labels(use_difficult)))
        return [name for label, name in enumerate(self.class_names) if label not in learnt]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something wrong in a data set, and what to do about it."""

    file: str  # the annotation file or picture
    where: str  # "object 7", "annotation 1234", or "" for the whole file
    message: str  # what is wrong, with the value, and the fix

    def __str__(self) -> str:
        return f"{self.file}: {self.where + ': ' if self.where else ''}{self.message}"


SHOWN = 50  # problems that an error lists


class BadData(ValueError):
    """A data set that cannot be used as it is. Its text lists the first problems, and how many more there are.

    Args:
        thing: what they are, each.
        skip_bad: they were left out already, and nothing remained.
    """

    def __init__(
        self,
        name: str,
        problems: Sequence[Problem],
        thing: str = "problem",
        *,
        skip_bad: bool,
    ) -> None:
        self.name, self.problems = name, tuple(problems)
        lines = [f"{name} has {count(len(problems), thing)}:"]
        lines += [f"  {visible(str(problem))}" for problem in problems[:SHOWN]]
        if len(problems) > SHOWN:
            lines.append(f"  … and {len(problems) - SHOWN} more")
        if skip_bad:
            lines.append("Nothing is left without them.")
        else:
            lines.append(
                "Fix them, or leave these pictures and objects out: data.skip_bad = true in settings, --skip-bad on the"
                " command line."
            )
        super().__init__("\n".join(lines))


def few(names: Sequence[str]) -> str:
    """The names, or the first ten and how many there are."""
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:10])}, … ({len(names)})"
