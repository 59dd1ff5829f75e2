"""Pictures that lie in archives: a path goes on inside a .tar or .zip file, as in train-000.tar/000139.jpg.

A file system that holds a million files is slow, and copying them slower. Members are read where they lie, without
unpacking; where each one lies is looked up once for an archive, in tens of bytes a member.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path

import numpy as np

from rcnnkit.files import cache_folder

SUFFIXES = (".tar", ".zip")
KEPT = 1000  # members: of fewer, looking is faster than keeping what was seen
MEMBER = np.dtype([("key", "<u8"), ("place", "<i8"), ("stored", "<i8"), ("size", "<i8"), ("packed", "?")])
Stamp = tuple[int, int]  # a file's bytes, and the time of its change in nanoseconds
Array = np.ndarray


def split_path(path: Path | str) -> tuple[str, str] | None:
    """The archive and the name in it, for a path that goes on inside an archive; else None."""
    text = os.fspath(path)
    lower = text.lower()
    for suffix in SUFFIXES:
        at = lower.find(f"{suffix}{os.sep}")
        while at >= 0:
            end = at + len(suffix)
            if os.path.isfile(text[:end]):  # noqa: PTH113 - asked for every picture
                return text[:end], text[end + 1 :].strip(os.sep)
            at = lower.find(f"{suffix}{os.sep}", end)
    return None


def read_file(path: Path | str) -> Array:
    """(N,) uint8, writable: the bytes of a file, which may lie in an archive.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: the archive is damaged.
        OSError: it cannot be read.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - read for every picture
            data = np.empty(os.fstat(file.fileno()).st_size, np.uint8)
            return data[: _fill(file, data)]
    except NotADirectoryError:
        place = split_path(path)
    if place is None:
        raise FileNotFoundError(f"there is no {path}")
    archive, name = place
    member = _find(archive, name)
    if member is None:
        raise FileNotFoundError(f"there is no {name} in {archive}")
    with open(archive, "rb", buffering=0) as file:  # noqa: PTH123 - read for every picture
        start = int(member["place"])
        if archive.lower().endswith(".zip"):  # behind a header of its own, with the name and more
            file.seek(start + 26)
            lengths = np.frombuffer(file.read(4), "<u2")
            start += 30 + int(lengths.sum())
        file.seek(start)
        data = np.empty(int(member["stored"]), np.uint8)
        if _fill(file, data) != len(data):
            raise ValueError(f"{archive} ends within {name}; copy it again")
    return np.frombuffer(bytearray(zlib.decompress(data.data, -15)), np.uint8) if member["packed"] else data


def _fill(file: FileIO, data: Array) -> int:
    """Read into all of `data`, in several turns where it is larger than the system reads at a time; the bytes read."""
    bytes_read = 0
    while bytes_read < len(data) and (more := file.readinto(data[bytes_read:].data)):
        bytes_read += more
    return bytes_read


def stamp_of(path: Path | str) -> Stamp | None:
    """What tells whether a file is the one that it was; of a member, its own size and the archive's time. None where
    there is no such file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - asked for every picture
        return status.st_size, status.st_mtime_ns
    except NotADirectoryError:
        if (place := split_path(path)) is None or (member := _find(*place)) is None:
            return None
        return int(member["size"]), os.stat(place[0]).st_mtime_ns  # noqa: PTH116
    except (OSError, ValueError):
        return None


def bytes_of(path: Path | str) -> int:
    """How many a file has. Raises FileNotFoundError."""
    if (stamp := stamp_of(path)) is None:
        raise FileNotFoundError(f"there is no {path}")
    return stamp[0]


def is_folder(path: Path) -> bool:
    """Whether files may lie below: a folder, an archive or a folder in one."""
    return path.is_dir() or (path.suffix.lower() in SUFFIXES and path.is_file()) or split_path(path) is not None


def names_in(archive: Path) -> list[str]:
    """The files in an archive.

    Raises:
        ValueError: it is damaged.
    """
    return [name for name, *_ in _members(str(archive))]


def _find(archive: str, name: str) -> np.void | None:
    status = os.stat(archive)  # noqa: PTH116
    index = _index(archive, status.st_size, status.st_mtime_ns)
    at = int(np.searchsorted(index["key"], _key(name)))
    return index[at] if at < len(index) and index["key"][at] == _key(name) else None


def _key(name: str) -> np.uint64:
    return np.frombuffer(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "<u8")[0]


@functools.cache
def _index(archive: str, size: int, time: int) -> Array:
    """(N,) of MEMBER, sorted by key. Of large archives it is kept, for other processes and later."""
    folder = cache_folder()
    told = hashlib.sha256(os.fsencode(f"{os.path.realpath(archive)} {size} {time}")).hexdigest()[:32]
    file = folder and folder / "archives" / f"{told}.npy"
    if file is not None and file.exists():
        with suppress(OSError, ValueError):
            kept: Array = np.load(file, mmap_mode="r")
            if kept.dtype == MEMBER:
                return np.asarray(kept)
    index = np.array([(_key(name), *rest) for name, *rest in _members(archive)], MEMBER)
    index.sort(order="key")
    if (index["key"][1:] == index["key"][:-1]).any():
        raise ValueError(f"{archive} holds a file twice; pack it anew")
    if file is not None and len(index) >= KEPT:
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            half = file.with_name(f".half-{uuid.uuid4().hex}.npy")
            np.save(half, index)
            half.replace(file)
    return index


def _members(archive: str) -> Iterator[tuple[str, int, int, int, bool]]:
    """Name, place, stored bytes, bytes, and whether it is compressed, of each file in an archive."""
    try:
        if archive.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as zipped:
                for entry in zipped.infolist():
                    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise ValueError(
                            f"{archive}: {entry.filename} is encrypted, or compressed otherwise than by deflate"
                        )
                    if not entry.is_dir():
                        packed = entry.compress_type == zipfile.ZIP_DEFLATED
                        yield entry.filename, entry.header_offset, entry.compress_size, entry.file_size, packed
        else:
            with tarfile.open(archive, "r:") as tarred:
                for member in tarred:
                    if member.isreg():
                        yield member.name.removeprefix("./"), member.offset_data, member.size, member.size, False
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise ValueError(f"{archive} is not an archive that can be read ({error}); copy it again") from None
