"""A data set as the rest of rcnnkit sees it: pictures on disk and the objects in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rcnnkit.data.flat import Record as Record
from rcnnkit.data.flat import Records
from rcnnkit.structures import Array
from rcnnkit.text import count, visible
from rcnnkit.vocabulary import FIRST, Vocabulary

# What to say of a folder of annotations without folders of splits, where another split than train was asked for.
UNDIVIDED = "it has no folders of splits, so all pictures are train; divide them with `rcnnkit split`"
# What tools call the folders or keys of splits.
SPLIT_NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
ALL_SPLIT_NAMES = [name for names in SPLIT_NAMES.values() for name in names]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Pictures of one split, with the names of the K classes and the data set's own ids for them."""

    name: str  # what to call it in messages, such as "bccd/train"
    records: Sequence[Record]  # kept as `Records`, whatever sequence they come in
    class_names: Sequence[str]
    category_ids: Sequence[int]
    words: Sequence[str] = ()  # of the phrases that describe the objects, in the order of their numbers

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", Records.of(self.records))

    def __len__(self) -> int:
        return len(self.records)

    @property
    def flat(self) -> Records:
        """The records, for what looks at all of them."""
        assert isinstance(self.records, Records)
        return self.records

    def with_classes(self, category_ids: Mapping[str, int]) -> Dataset:
        """The same pictures with other classes, name → id, among which all of its own are."""
        names = list(category_ids)
        ids = list(category_ids.values())
        if names == list(self.class_names):
            return replace(self, category_ids=ids)
        records = self.flat.with_labels([names.index(name) for name in self.class_names])
        return replace(self, records=records, class_names=names, category_ids=ids)

    def with_words(self, words: Sequence[str]) -> Dataset:
        """The same phrases in the numbers of another vocabulary; words that it lacks become UNKNOWN."""
        if tuple(words) == tuple(self.words):
            return self
        numbers = [*range(FIRST), *Vocabulary(words).numbers(self.words)]
        return replace(self, records=self.flat.with_words(np.array(numbers)), words=tuple(words))

    def words_of(self) -> Counter[str]:
        """Word → how often it is in the phrases; the most frequent first, and those of one count in their order."""
        counts = np.bincount(self.flat.phrases.ravel(), minlength=FIRST + len(self.words))[FIRST:].tolist()
        order = sorted(range(len(counts)), key=lambda i: -counts[i])
        return Counter({self.words[i]: counts[i] for i in order if counts[i]})

    @property
    def objects(self) -> int:
        """How many are annotated, of all kinds."""
        return len(self.flat.objects)

    @property
    def summary(self) -> str:
        """For people, such as "4 pictures, 12 objects"."""
        return f"{count(len(self), 'picture')}, {count(self.objects, 'object')}"

    def objects_of(self) -> Counter[str]:
        """Class → its objects, of all kinds."""
        counts = np.bincount(self.flat.objects["label"], minlength=len(self.class_names)).tolist()
        return Counter({name: number for name, number in zip(self.class_names, counts, strict=True) if number})

    def learnt(self, use_difficult: bool) -> Array:
        """(N,) bool: which of `flat.objects` are learnt from: no crowds, and no difficult ones unless they are used."""
        objects = self.flat.objects
        return ~objects["crowd"] if use_difficult else ~(objects["crowd"] | objects["difficult"])

    def labels(self, use_difficult: bool) -> list[Array]:
        """Those of the objects that are learnt from, picture by picture."""
        learnt, objects = self.learnt(use_difficult), self.flat.objects
        pictures = np.repeat(np.arange(len(self)), self.flat.counts)[learnt]
        return np.split(objects["label"][learnt], np.searchsorted(pictures, np.arange(1, len(self))))[: len(self)]

    def fullest(self, of_class: bool = False) -> Array:
        """(P,) how many objects each picture holds, without crowds; or how many of the class that it holds most of."""
        objects, classes = self.flat.objects, max(1, len(self.class_names)) if of_class else 1
        counted = ~objects["crowd"]
        pictures = np.repeat(np.arange(len(self)), self.flat.counts)[counted]
        keys, number = np.unique(
            pictures * classes + (objects["label"][counted] if of_class else 0), return_counts=True
        )
        most = np.zeros(len(self), dtype=np.int64)
        np.maximum.at(most, keys // classes, number)
        return most

    def without_objects(self, use_difficult: bool) -> list[str]:
        """The classes that have no object to learn from: crowds are none, nor difficult ones unless they are used."""
        learnt = set(self.flat.objects["label"][self.learnt(use_difficult)].tolist())
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
        nothing_left: no picture remains without them, so that leaving them out does not help.
        class_names: of the data set, as far as it could be read; other splits have to have the same.
    """

    def __init__(
        self,
        name: str,
        problems: Sequence[Problem],
        thing: str = "problem",
        *,
        nothing_left: bool,
        class_names: Sequence[str] = (),
    ) -> None:
        self.name, self.problems, self.nothing_left = name, tuple(problems), nothing_left
        self.class_names = tuple(class_names)
        lines = [f"{name} has {count(len(problems), thing)}:"]
        lines += [f"  {visible(str(problem))}" for problem in problems[:SHOWN]]
        if len(problems) > SHOWN:
            lines.append(f"  … and {len(problems) - SHOWN} more")
        if nothing_left:
            lines.append("Fix them: without them, no picture is left.")
        else:
            lines.append(
                "Fix them, or leave these pictures and objects out: data.skip_bad=true with rcnnkit train, --skip-bad"
                " with other commands."
            )
        super().__init__("\n".join(lines))


def find_split(split: str, names: Container[str]) -> str | None:
    """The one of `names` that is this split: "val" is "valid" too."""
    return next((name for name in SPLIT_NAMES.get(split, (split,)) if name in names), None)


def split_folder(root: Path, split: str, pattern: str) -> Path:
    """Where the annotations of a split are that each picture has for itself: the folder of its name below `root`, or
    `root` for "train" where there are no such folders.

    Args:
        pattern: of their files, such as "*.xml".

    Raises:
        FileNotFoundError: the split has no annotation.
    """
    folders = [name for name in ALL_SPLIT_NAMES if (root / name).is_dir()]
    folder = find_split(split, folders)
    base = root / folder if folder else root if split == "train" and not folders else None
    if base is None or next(base.rglob(pattern), None) is None:
        there = f"its folders of splits are {few(folders)}" if folders else UNDIVIDED
        raise FileNotFoundError(f"{root} holds no annotation for the split {split!r}; {there}")
    return base


def check_class_names(names: Sequence[str]) -> None:
    """Raise ValueError where a name is given twice."""
    if len(set(names)) < len(names):
        raise ValueError(f"class_names holds a name twice: {', '.join(names)}")


def few(names: Sequence[str]) -> str:
    """The names, or the first ten and how many there are."""
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:10])}, … ({len(names)})"
