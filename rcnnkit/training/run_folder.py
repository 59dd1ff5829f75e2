"""The folder of a run: whether it is free, and the settings that made it."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain, count
from pathlib import Path

from rcnnkit.config import Settings
from rcnnkit.config_files import write_settings
from rcnnkit.training.checkpoint import LAST


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
        ValueError: there are no weights whose statistics `model.norm = "frozen"` could keep.
    """
    resume = checkpoint_of(settings.train.resume) if settings.train.resume else None
    if resume and not (wanted := resume if holds == LAST else resume.with_name(holds)).is_file():
        raise FileNotFoundError(f"train.resume: there is no {wanted}, so no run to go on with; leave it away")
    if not goes_on(resume, run) and run.exists() and (not run.is_dir() or any(run.iterdir())):
        goes = f", or continue it with train.resume={run}" if (run / holds).exists() else ""
        raise FileExistsError(f"{run} is no empty folder; choose another{goes}")
    if settings.model.norm == "frozen" and not (settings.model.pretrained or settings.train.init or resume):
        raise ValueError(
            'model.norm = "frozen" keeps the statistics of trained weights, and there are none to start from; set'
            ' model.pretrained = true or train.init, or train from scratch with model.norm = "batch"'
        )
    return resume


def keep_settings(settings: Settings, run: Path, iteration: int) -> None:
    """Write run/settings.toml, without the `resume` that may have continued it.

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
    write_settings(settings.model_copy(update={"train": settings.train.model_copy(update={"resume": None})}), file)


def _free(wanted: Path) -> Path:
    """`wanted`, or with -2, -3, … at its end: R-CNN's later stages go on from one and the same iteration."""
    paths = (wanted.with_stem(f"{wanted.stem}-{number}") for number in count(2))
    return next(path for path in chain([wanted], paths) if not path.exists())
