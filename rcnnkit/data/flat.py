"""The records of a data set in flat arrays, which take tens of bytes an object and can be mapped from a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import overload

import numpy as np
import torch
from numpy.typing import ArrayLike

from rcnnkit.structures import Array, Size, Targets

FLAGS = ("difficult", "truncated", "crowd")
OBJECT = np.dtype([("box", "<f4", 4), ("area", "<f4"), ("label", "<i4"), *((flag, "?") for flag in FLAGS)])
PICTURE = np.dtype(
    [
        ("height", "<i4"),
        ("width", "<i4"),
        ("first", "<i8"),  # of its objects
        ("objects", "<i4"),  # how many
        ("text", "<i8"),  # where the bytes of its path begin, and right behind them those of its id
        ("path", "<i4"),  # how many bytes
        ("id", "<i4"),
        ("number", "?"),  # whether the id is one
    ]
)
AT_A_TIME = 4096  # records that are held as objects while arrays are made of them


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One picture on disk and its objects; boxes in its own pixels."""

    id: int | str  # COCO's image id, or the stem of a VOC file
    path: Path
    size: Size  # (height, width) that the annotations speak of
    targets: Targets


class Records(Sequence[Record]):
    """Pictures and their objects. A `Record` is made of copies when it is asked for: changing one changes nothing here.

    Args:
        all_objects: (N,) of OBJECT; those of a picture follow each other.
        pictures: (P,) of PICTURE, some or all of those that the objects are of.
        text: (B,) uint8.
        phrases: (N, L) int32, the numbers of the words of each object; none by default.
    """

    __slots__ = ("_all_objects", "_phrases", "_pictures", "_text")

    def __init__(self, all_objects: Array, pictures: Array, text: Array, phrases: Array | None = None) -> None:
        self._all_objects, self._pictures, self._text = all_objects, pictures, text
        self._phrases = np.zeros((len(all_objects), 0), np.int32) if phrases is None else phrases

    @classmethod
    def of(cls, records: Iterable[Record]) -> Records:
        """Those of any iterable."""
        if isinstance(records, Records):
            return records
        growing = GrowingRecords()
        for record in records:
            growing.append(record)
        return growing.all()

    @classmethod
    def joined(cls, parts: Sequence[Records]) -> Records:
        """All of several, in their order."""
        if len(parts) == 1:
            return parts[0]
        all_objects, text = (
            np.concatenate([np.zeros(0, kind), *(getattr(part, name) for part in parts)])
            for name, kind in (("_all_objects", OBJECT), ("_text", np.uint8))
        )
        pictures = np.concatenate([np.zeros(0, PICTURE), *(part._pictures for part in parts)])
        ends = list(accumulate((len(part) for part in parts), initial=0))
        for name, arrays in (("first", "_all_objects"), ("text", "_text")):
            before = accumulate((len(getattr(part, arrays)) for part in parts), initial=0)
            for start, end, added in zip(ends[:-1], ends[1:], before, strict=False):
                pictures[name][start:end] += added
        return cls(all_objects, pictures, text, _stacked([part._phrases for part in parts]))

    def __len__(self) -> int:
        return len(self._pictures)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | Array) -> Records: ...

    def __getitem__(self, index: int | slice | Sequence[int] | Array) -> Record | Records:
        """One, or some: those of a slice, of indices or of a mask, which share the memory of all."""
        if not isinstance(index, int | np.integer):
            chosen = index if isinstance(index, slice) else np.asarray(index, None if len(index) else np.int64)
            return Records(self._all_objects, self._pictures[chosen], self._text, self._phrases)
        height, width, first, number, *_ = row = self._pictures[index].item()
        key, path = self._named(row)
        part = self._all_objects[first : first + number]
        targets = Targets(
            torch.from_numpy(part["box"].copy()),
            torch.from_numpy(part["label"].astype(np.int64)),
            **{flag: torch.from_numpy(part[flag].copy()) for flag in FLAGS},
            areas=torch.from_numpy(part["area"].copy()),
            phrases=torch.from_numpy(self._phrases[first : first + number].astype(np.int64)),
        )
        return Record(key, Path(path), (height, width), targets)

    @property
    def objects(self) -> Array:
        """(N,) of OBJECT: those of the first picture, of the second, …"""
        return self._all_objects[self._rows]

    @property
    def phrases(self) -> Array:
        """(N, L) int32: the numbers of the words of `objects`, see `rcnnkit.vocabulary`."""
        return self._phrases[self._rows]

    @property
    def _rows(self) -> slice | Array:
        """Where the objects are among all."""
        firsts, counts = self._pictures["first"], self._pictures["objects"].astype(np.int64)
        before = np.cumsum(counts) - counts
        if len(firsts) and (firsts == firsts[0] + before).all():
            return slice(firsts[0], firsts[0] + counts.sum())
        return np.repeat(firsts - before, counts) + np.arange(counts.sum())

    @property
    def counts(self) -> Array:
        """(P,) int32: how many objects each picture has."""
        return self._pictures["objects"]

    @property
    def sizes(self) -> Array:
        """(P, 2) int32: height and width of each picture."""
        return np.stack([self._pictures["height"], self._pictures["width"]], axis=1)

    @property
    def ids(self) -> list[int | str]:
        return [self._named(row)[0] for row in self._pictures.tolist()]

    @property
    def paths(self) -> list[str]:
        text = self._text.data
        places, lengths = self._pictures["text"].tolist(), self._pictures["path"].tolist()
        return [os.fsdecode(bytes(text[at : at + n])) for at, n in zip(places, lengths, strict=True)]

    @property
    def arrays(self) -> dict[str, Array]:
        """What `Records` is made of, by the names of its arguments."""
        return {
            "all_objects": self._all_objects,
            "pictures": self._pictures,
            "text": self._text,
            "phrases": self._phrases,
        }

    def with_labels(self, labels: ArrayLike) -> Records:
        """The same with other labels: the new one of each old one."""
        all_objects = self._all_objects.copy()
        all_objects["label"] = np.asarray(labels, np.int32)[all_objects["label"]] if len(all_objects) else 0
        return Records(all_objects, self._pictures, self._text, self._phrases)

    def with_words(self, numbers: Array) -> Records:
        """The same with other numbers of words: the new one of each old one."""
        return Records(self._all_objects, self._pictures, self._text, np.asarray(numbers, np.int32)[self._phrases])

    def with_ids(self, ids: Sequence[int | str]) -> Records:
        """The same with other ids."""
        pictures = self._pictures.copy()
        text = _write_text(pictures, self.paths, ids)
        return Records(self._all_objects, pictures, text, self._phrases)

    def _named(self, row: tuple[int, ...]) -> tuple[int | str, str]:
        """The id and path of a picture."""
        *_, place, path, key, number = row
        text = self._text[place : place + path + key].tobytes()
        name = text[path:].decode(errors="surrogatepass")
        return int(name) if number else name, os.fsdecode(text[:path])


class GrowingRecords:
    """Takes records one by one, of which few are held as they come."""

    def __init__(self) -> None:
        self._parts: list[Records] = []
        self._last: list[Record] = []

    def __len__(self) -> int:
        return sum(map(len, self._parts)) + len(self._last)

    def append(self, record: Record) -> None:
        self._last.append(record)
        if len(self._last) == AT_A_TIME:
            self._parts.append(_made(self._last))
            self._last = []

    def all(self) -> Records:
        return Records.joined([*self._parts, *([_made(self._last)] if self._last else [])])


def flat_records(
    objects: Array,
    counts: Array,
    sizes: ArrayLike,
    ids: Sequence[int | str],
    paths: Sequence[str],
    phrases: Array | None = None,
) -> Records:
    """Records from arrays.

    Args:
        objects: (N,) of OBJECT, in the order of their pictures.
        counts: (P,) how many each picture has.
        sizes: (P, 2) height and width.
        ids, paths: of the P pictures.
        phrases: (N, L), as `Records` takes them.
    """
    pictures = np.zeros(len(counts), PICTURE)
    pictures["objects"] = counts
    pictures["first"] = np.cumsum(counts) - counts
    pictures["height"], pictures["width"] = np.asarray(sizes, np.int32).reshape(-1, 2).T
    return Records(objects, pictures, _write_text(pictures, paths, ids), phrases)


def _write_text(pictures: Array, paths: Sequence[str], ids: Sequence[int | str]) -> Array:
    """The bytes of paths and ids; where each is goes to `pictures`."""
    names = [os.fsencode(path) for path in paths]
    keys = [str(key).encode(errors="surrogatepass") for key in ids]
    pictures["path"], pictures["id"] = [len(name) for name in names], [len(key) for key in keys]
    pictures["number"] = [not isinstance(key, str) for key in ids]
    lengths = pictures["path"].astype(np.int64) + pictures["id"]
    pictures["text"] = np.cumsum(lengths) - lengths
    return np.frombuffer(b"".join(part for pair in zip(names, keys, strict=True) for part in pair), np.uint8)


def _made(records: Sequence[Record]) -> Records:
    targets = [record.targets for record in records]
    counts = np.array([len(target) for target in targets], dtype=np.int64)
    objects = np.zeros(counts.sum(), OBJECT)
    for name, parts in (
        ("box", [target.boxes for target in targets]),
        ("label", [target.labels for target in targets]),
        ("area", [target.areas for target in targets]),
        *((flag, [getattr(target, flag) for target in targets]) for flag in FLAGS),
    ):
        objects[name] = torch.cat(parts).numpy(force=True)
    sizes = [record.size for record in records]
    paths = [str(record.path) for record in records]
    phrases = _stacked([target.phrases.numpy(force=True).astype(np.int32) for target in targets])
    return flat_records(objects, counts, sizes, [record.id for record in records], paths, phrases)


def _stacked(parts: Sequence[Array]) -> Array:
    """Phrases (N, L) of several, each with its own L, as one; what is missing is 0, which is no word."""
    longest = max((part.shape[1] for part in parts), default=0)
    padded = [np.pad(part, ((0, 0), (0, longest - part.shape[1]))) for part in parts]
    return np.concatenate([np.zeros((0, longest), np.int32), *padded])
