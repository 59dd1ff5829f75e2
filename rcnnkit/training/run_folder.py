"""The folder of a run: whether it is free, that one process has it, and the settings that made it."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

from rcnnkit.config import Settings
from rcnnkit.config_files import NO_NOTES, read_settings, resolved, write_settings
from rcnnkit.files import remove_halves
from rcnnkit.training.checkpoint import LAST
from rcnnkit.training.ranks import current

log = logging.getLogger("rcnnkit")

LOCK = ".lock"
_locks: set[int] = set()  # descriptors; a forked process closes its copies, which would keep them locked


@contextmanager
def alone(settings: Settings, run: Path) -> Iterator[None]:
    """Only one training at a time is in a run's folder; of several processes that train together, the first holds it.

    Raises:
        FileExistsError: another trains there now; the message gives its process, machine and start.
    """
    resume = settings.train.resume
    missing = resume and not resume.exists() and not run.exists()
    if not current().first or missing or (run.exists() and not run.is_dir()):  # `claim` says what is wrong
        yield
        return
    folders = [folder for folder in (run, *run.parents) if not folder.exists()]
    file, descriptor = run / LOCK, None
    try:
        try:
            run.mkdir(parents=True, exist_ok=True)
            descriptor = _hold(file)
        except FileExistsError:
            raise
        except OSError as error:
            raise OSError(f"{run} cannot be written ({error.strerror}); fix that, or choose another folder") from None
        _locks.add(descriptor)
        remove_halves(run, alone=True)
        yield
    finally:
        if descriptor is not None:
            if _is_at(descriptor, file):  # the folder may have been moved away, and be another's now
                file.unlink()
            _locks.discard(descriptor)
            os.close(descriptor)
        for folder in folders:
            with suppress(OSError):
                folder.rmdir()  # only if nothing was left in it


def _hold(file: Path) -> int:
    """A descriptor of the file, locked; the system unlocks it when this process ends, however that is.

    Raises:
        FileExistsError: another process holds it.
    """
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 1000, 0).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise FileExistsError(
                f"{file.parent} is in use: {holder} is training there. Choose another folder, or wait until it has"
                " ended and continue it with train.resume"
            ) from None
        except OSError as error:  # a network drive without locks
            log.warning("%s cannot be locked (%s); take care that no other run uses it", file.parent, error.strerror)
        if _is_at(descriptor, file):  # not one that its holder has just removed
            break
        os.close(descriptor)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    with suppress(OSError):  # a full disk: a run may end there all the same
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}, started {since},".encode(), 0)
    return descriptor


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except OSError:
        return False


def _leave_locks() -> None:
    for descriptor in _locks:
        os.close(descriptor)
    _locks.clear()


os.register_at_fork(after_in_child=_leave_locks)


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return (folder / "settings.toml").is_file()


def checkpoint_of(resume: Path) -> Path:
    """The checkpoint in a run's folder, or the file itself."""
    return resume / LAST if resume.is_dir() else resume


def goes_on(resume: Path | None, run: Path) -> bool:
    """Whether a checkpoint, or the folder of one, is of that very run."""
    return resume is not None and checkpoint_of(resume).parent.resolve() == run.resolve()


def claim(settings: Settings, run: Path, holds: str = LAST) -> Path | None:
    """The checkpoint that a run goes on from, or None for a new one.

    Args:
        holds: the file that is there where a run can go on.

    Raises:
        FileExistsError: `run` holds something already, and `train.resume` does not name it.
        FileNotFoundError: `train.resume` names no run.
        ValueError: TensorBoard could not write into a folder of this name; or there are no weights whose statistics
            `model.norm = "frozen"` could keep.
    """
    try:
        str(run).encode()
    except UnicodeEncodeError:
        raise ValueError(f"the run folder {run} is not UTF-8, as TensorBoard needs it; choose another name") from None
    resume = checkpoint_of(settings.train.resume) if settings.train.resume else None
    if resume and not (wanted := resume if holds == LAST else resume.with_name(holds)).is_file():
        raise FileNotFoundError(f"train.resume: there is no {wanted}, so there is no run to continue; leave it out")
    if not goes_on(resume, run) and run.exists() and not _is_free(run):
        goes = f", or continue it with train.resume={run}" if (run / holds).exists() else ""
        raise FileExistsError(f"{run} is not an empty folder; choose another{goes}")
    if settings.model.norm == "frozen" and not (settings.model.pretrained or settings.train.init or resume):
        raise ValueError(
            'model.norm = "frozen" keeps the statistics of trained weights, and there are none to start from; set'
            ' model.pretrained = true or train.init, or train from scratch with model.norm = "batch"'
        )
    return resume


def differences(began: Settings, settings: Settings) -> dict[str, tuple[Any, Any]]:
    """What changed between two settings of one run: section.setting → before and now.

    Where a run is computed, and by how many processes, makes no other run of it.
    """
    before, after = (
        {
            f"{section}.{name}": value
            for section, values in resolved(part).items()
            for name, value in values.items()
            if (section, name) not in (("train", "resume"), ("train", "device"), ("data", "workers"))
        }
        for part in (began, settings)
    )
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def changes(settings: Settings, resume: Path | None) -> list[str]:
    """What is other than in the run that a checkpoint is of, such as "train.batch 2 → 4"; nothing where that has no
    settings.toml beside it, or one that cannot be read."""
    if resume is None:
        return []
    try:
        values = differences(read_settings(resume.with_name("settings.toml")), settings)
    except (OSError, ValueError):
        return []
    return [f"{key} {before} → {now}" for key, (before, now) in values.items()]


def keep_settings(settings: Settings, run: Path, iteration: int, notes: Mapping[str, str] = NO_NOTES) -> None:
    """Write run/settings.toml with `notes` (section.setting → text), without the `resume` that may have continued it.

    What a continued run was made with until `iteration` stays beside it.
    """
    run.mkdir(parents=True, exist_ok=True)
    file = run / "settings.toml"
    if goes_on(settings.train.resume, run):
        with suppress(FileNotFoundError):
            file.replace(_free(run / f"settings-until-{iteration}.toml"))
    try:
        file.touch(exist_ok=False)  # of two runs that found the folder free, one is first
    except FileExistsError:
        raise FileExistsError(f"{run} holds a run already; choose another folder") from None
    begun = settings.model_copy(update={"train": settings.train.model_copy(update={"resume": None})})
    write_settings(begun, file, notes)


def _is_free(run: Path) -> bool:
    return run.is_dir() and all(path.name == LOCK for path in run.iterdir())


def _free(file: Path) -> Path:
    """`file`, or with -2, -3, … at its end: R-CNN's later stages go on from one and the same iteration."""
    paths = (file.with_stem(f"{file.stem}-{number}") for number in count(2))
    return next(path for path in chain([file], paths) if not path.exists())
