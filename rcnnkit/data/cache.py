"""What was read and checked is kept, so that the next start, and other processes of the same machine, map it.

It is of use for large data only: fewer than `FROM` pictures are read in the time that looking it up takes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import astuple, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from rcnnkit import __version__
from rcnnkit.archives import Stamp, stamp_of
from rcnnkit.data.flat import Records
from rcnnkit.data.records import Dataset, Problem
from rcnnkit.files import cache_folder, sha256
from rcnnkit.structures import Array, Size

log = logging.getLogger("rcnnkit")

FROM = 1000  # pictures
VERSION = 1  # of what is kept, and of the checks that it passed
READERS = 8  # threads that ask for files: network drives answer several at a time
GONE = (-1, -1)
Warnings = dict[str, tuple[int, Problem]]  # what is odd → how often, and the first


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, and how: with the file's bytes, all that the result depends on besides the pictures."""

    kind: str  # the format
    place: Path  # the file, or a folder, of which nothing is kept
    split: str
    images: Path | None
    class_names: Sequence[str] | None
    check_pictures: bool

    @property
    def asked(self) -> str:
        """Names what is asked for, whatever the file holds by now."""
        return _digest([VERSION, __version__, *map(str, astuple(self)), str(self.place.resolve()), str(Path.cwd())])

    def folder(self) -> Path | None:
        """Where the result is kept while the file is the same; None where nothing is, or the file cannot be read."""
        if (root := cache_folder()) is None:
            return None
        try:
            identity = _digest([stamp_of(self.place), sha256(self.place)])
        except OSError:  # its reader says why
            return None
        return root / "data" / f"{self.asked}-{identity}"


def load_dataset(folder: Path) -> tuple[Dataset, Warnings] | None:
    """What `save_dataset` has put there, unless a picture has changed since."""
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        arrays = {name: _mapped(folder / f"{name}.npy") for name in ("all_objects", "pictures", "text", "phrases")}
        records = Records(**arrays)
        if (folder / "stamps.npy").exists() and (stamps(records.paths) != np.load(folder / "stamps.npy")).any():
            return None
        warnings = {what: (number, Problem(*first)) for what, (number, first) in about["warnings"].items()}
        named = (about["class_names"], about["category_ids"], about["words"])
        return Dataset(about["name"], records, *named), warnings
    except (OSError, ValueError, EOFError, KeyError):  # nothing there, damaged, or removed meanwhile
        return None


def save_dataset(folder: Path, dataset: Dataset, warnings: Warnings, *, check_pictures: bool) -> None:
    """Keep a data set of many pictures in which nothing is wrong; what was kept of its file before is removed.

    Args:
        warnings: what is odd in it.
        check_pictures: the pictures were looked at, and are to be the same when this is loaded.
    """
    if len(dataset) < FROM:
        return
    half = folder.with_name(f".half-{uuid.uuid4().hex}")
    about = {
        "name": dataset.name,
        "class_names": list(dataset.class_names),
        "category_ids": list(dataset.category_ids),
        "words": list(dataset.words),
        "warnings": {what: (number, astuple(first)) for what, (number, first) in warnings.items()},
    }
    try:
        half.mkdir(parents=True)
        for name, array in dataset.flat.arrays.items():
            np.save(half / f"{name}.npy", array)
        if check_pictures:
            np.save(half / "stamps.npy", stamps(dataset.flat.paths))
        (half / "about.json").write_text(json.dumps(about), encoding="utf-8")
        for old in folder.parent.glob(f"{folder.name.partition('-')[0]}-*"):
            shutil.rmtree(old, ignore_errors=True)
        half.rename(folder)
    except OSError as error:
        log.info("%s is read anew next time: %s cannot be written (%s)", dataset.name, folder, error.strerror)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _mapped(file: Path) -> Array:
    array = np.load(file, mmap_mode="r" if file.stat().st_size > 4096 else None)  # nothing cannot be mapped
    return np.asarray(array)


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode(errors="surrogatepass")).hexdigest()[:24]


def stamps(paths: Sequence[str]) -> Array:
    """(N, 2) int64: the stamp of each file, or GONE."""
    parts = [paths[start : start + FROM] for start in range(0, len(paths), FROM)]
    with ThreadPoolExecutor(READERS) as pool:
        found = list(chain.from_iterable(pool.map(lambda part: [stamp_of(path) or GONE for path in part], parts)))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


class SeenPictures:
    """Pictures that were found good, and their (height, width); those that have changed since are unknown.

    Where they cannot be kept, all are unknown.
    """

    def __init__(self) -> None:
        folder = cache_folder()
        self._file = folder and folder / f"pictures-{VERSION}.sqlite"

    def known(self, paths: Sequence[str]) -> dict[str, Size]:
        """Those of the pictures that were seen as they are now."""
        if self._file is None or not self._file.exists():
            return {}
        stamps_now = stamps(paths).tolist()
        sizes: dict[str, Size] = {}
        with suppress(sqlite3.Error), closing(self._open(self._file)) as table:
            for path, key, stamp in zip(paths, _keys(paths), stamps_now, strict=True):
                row = table.execute("SELECT bytes, time, height, width FROM seen WHERE path = ?", (key,)).fetchone()
                if row is not None and list(row[:2]) == stamp:
                    sizes[path] = row[2:]
        return sizes

    def add(self, sizes: Sequence[tuple[str, Stamp, Size]]) -> None:
        """Remember good pictures: of each its path, its stamp from before it was looked at, and (height, width)."""
        if self._file is None:
            return
        keys = _keys(path for path, _, _ in sizes)
        rows = [(key, *stamp, *size) for key, (_, stamp, size) in zip(keys, sizes, strict=True)]
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._open(self._file)) as table, table:
                table.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?)", rows)
        except (OSError, sqlite3.Error) as error:
            log.info("pictures are checked anew next time: %s cannot be written (%s)", self._file, error)

    @staticmethod
    def _open(file: Path) -> sqlite3.Connection:
        table = sqlite3.connect(file, timeout=30)
        table.execute(
            "CREATE TABLE IF NOT EXISTS seen"
            " (path BLOB PRIMARY KEY, bytes INTEGER, time INTEGER, height INTEGER, width INTEGER) WITHOUT ROWID"
        )
        return table


def _keys(paths: Iterable[str]) -> list[bytes]:
    """The absolute path of each."""
    absolute = functools.cache(os.path.abspath)  # text, as `Path` is slow for a hundred thousand
    split = (path.rpartition("/") for path in paths)
    return [os.fsencode(os.path.join(absolute(folder or slash), name)) for folder, slash, name in split]  # noqa: PTH118
