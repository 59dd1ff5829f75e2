"""Files: that nothing is in the way of new ones, that they appear atomically, and a digest of their bytes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any

from safetensors import SafetensorError


def check_new(path: Path, suffix: str = "") -> None:
    """Raise unless a new file can be written there; for before anything is computed.

    Args:
        suffix: what its name has to end with.

    Raises:
        FileExistsError: it is there.
        FileNotFoundError: there is no such folder.
        ValueError: its name ends otherwise.
    """
    if path.exists():
        raise FileExistsError(f"{path} is there already; choose another file, nothing is overwritten")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is not a folder; make it, or write {path.name} elsewhere")
    if not path.name.endswith(suffix):
        raise ValueError(f"{path} must end with {suffix}, which is what it will be")


def check_regular(path: Path) -> None:
    """Raise unless `path` is a file to read, or a folder or nothing at all, which its reader reports in its own words.

    A FIFO would keep its reader waiting, and a device such as /dev/zero has no end. Of a file that may not be read
    some readers say that it is not there.

    Raises:
        PermissionError: it may not be read.
        ValueError: it is a FIFO, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        raise PermissionError(
            f"{path} may not be read (permission denied); change its permissions, or ask its owner to do so"
        ) from None
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError(f"{path} is not a regular file; copy what it gives into one, and name that")


def is_free(folder: Path) -> bool:
    """Whether new files can have the folder to themselves: it is not there, or empty."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def check_free(folder: Path) -> None:
    """Raise FileExistsError unless new files can have the folder to themselves; for before anything is computed."""
    if not is_free(folder):
        raise FileExistsError(f"{folder} is not an empty folder; choose another, nothing is overwritten")


def free_folder(wanted: Path) -> Path:
    """`wanted`, or `wanted`-2, -3, …: the first that holds nothing yet."""
    folders = chain([wanted], (wanted.with_name(f"{wanted.name}-{number}") for number in count(2)))
    return next(filter(is_free, folders))


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A new file beside `path` to write to, which takes the place of `path` in the end, unless an error comes.

    Raises:
        OSError: it cannot be written; `path` is as it was, and nothing half remains.
    """
    # Processes on several machines may write the same file. A folder holds what a library writes on its way, too.
    folder = path.with_name(f".half-{os.getpid()}-{os.uname().nodename}-{uuid.uuid4().hex}")
    half = folder / path.name
    try:
        folder.mkdir()
        half.touch()
        mode = half.stat().st_mode  # as the umask has it
        yield half
        if half.stat().st_mode != mode:  # safetensors puts a file in its place that nobody else may read
            half.chmod(stat.S_IMODE(mode))
        half.replace(path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"{path} cannot be written ({reason}); fix that, or choose another folder") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write a plain value as JSON for people to read. Raises as `whole`."""
    with whole(path) as half:
        half.write_text(json.dumps(value, indent=1), encoding="utf-8")


def remove_halves(folder: Path, *, alone: bool = False) -> None:
    """Remove what processes that were killed in `whole` left in a folder.

    Args:
        alone: nobody else writes into it. Otherwise what is of another machine stays, as its process may be alive.
    """
    for half in folder.glob(".half-*"):
        if named := re.fullmatch(r"\.half-(\d+)-(.+)-[0-9a-f]{32}", half.name):
            process, machine = int(named[1]), named[2]
            if alone or (machine == os.uname().nodename and not is_running(process)):
                shutil.rmtree(half, ignore_errors=True)


def is_running(process: int) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def cache_folder() -> Path | None:
    """Where things are kept that can be made again: RCNNKIT_CACHE, or rcnnkit in the user's folder of caches.

    None where RCNNKIT_CACHE is empty: nothing is kept then.
    """
    folder = os.environ.get("RCNNKIT_CACHE")
    if folder is None:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - Path's own raises
        return Path(base, "rcnnkit")
    return Path(folder) if folder else None


def sha256(path: Path) -> str:
    """Of the file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
