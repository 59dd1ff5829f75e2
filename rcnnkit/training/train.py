"""One way to train: every detector, and the classifier that one can start from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from rich.console import Console

from rcnnkit.config import Settings
from rcnnkit.config_files import NO_NOTES
from rcnnkit.detectors.kinds import KINDS
from rcnnkit.files import free_folder
from rcnnkit.training.alignment import train_aligner
from rcnnkit.training.alternating import dry_run_alternating, train_alternating
from rcnnkit.training.checkpoint import LAST
from rcnnkit.training.loggers import Logger
from rcnnkit.training.ranks import joined, may_restart, restarted
from rcnnkit.training.run import Run
from rcnnkit.training.run_folder import alone, checkpoint_of
from rcnnkit.training.suggest import is_data, settings_of


def train(
    settings: Settings | Path | str,
    run: Path | str | None = None,
    *,
    console: Console | None = None,
    notes: Mapping[str, str] = NO_NOTES,
    loggers: Sequence[Logger] = (),
) -> Path:
    """Train a detector or a classifier, and leave it in a folder of its own.

    Started by torchrun, several processes train one model; see `rcnnkit.training.ranks`. Only the first of them writes.

    The folder gets settings.toml (every setting, resolved), log.jsonl, tensorboard/, last.safetensors (continues
    the run), best.safetensors (best AP on `data.val`, or AP_all where that is crowded; of a classifier, the best
    top-1 accuracy; the last weights where there is no `data.val`), evaluation.json (the last one) and report.html,
    which shows all of it and grows meanwhile.

    Args:
        settings: of the run, or a TOML file of them; or a data set, for which they are chosen (`suggest`).
        run: its folder; must not hold anything yet, unless `train.resume` names it. By default the folder that
            `train.resume` continues, or a new one in runs/, named after the file of settings or the detector.
        console: where progress is shown; the terminal by default.
        notes: section.setting → why it is what it is; they are comments in the run's settings.toml.
        loggers: objects of your own that get the run's numbers; see `rcnnkit.training.loggers.Logger`.

    Returns:
        The path of best.safetensors.

    Raises:
        FileExistsError: `run` holds something already, or another process trains there.
        BadData: annotations are bad, all listed, and `data.skip_bad` is off.
        ValueError: the settings, or the data, cannot be trained with: found before anything is trained.
        NonFiniteLoss: a loss or its gradient is NaN or infinite; the last checkpoint stays, and the folder diverged/
            has what is needed to see why.
        Interrupted: Ctrl-C or SIGTERM; the last checkpoint was written just before.
        LostProcess: another of several processes ended; the last checkpoint was written just before.
    """
    file = None
    if not isinstance(settings, Settings):
        file = Path(settings)
        settings, suggestion = settings_of(file)
        notes = suggestion.notes | dict(notes) if suggestion else notes
    folder = Path(run) if run else run_folder(settings, file)
    with joined() as ranks:
        folder = Path(ranks.from_first(str(folder)))  # each may have found another one free
        if restarted() and ranks.from_first(settings.train.resume is None and (folder / LAST).is_file()):
            settings = settings.model_copy(update={"train": settings.train.model_copy(update={"resume": folder})})
        with alone(settings, folder):
            return _train(settings, folder, console, notes, loggers)


def _train(
    settings: Settings,
    folder: Path,
    console: Console | None,
    notes: Mapping[str, str],
    loggers: Sequence[Logger],
) -> Path:
    """One process's part of `train`."""
    if settings.alternating.enabled:
        return train_alternating(settings, folder, console, functools.partial(train, loggers=loggers))
    begun = Run(settings, folder, console, notes=notes)
    begun.loggers = loggers
    return trainer_of(settings)(begun)


def trainer_of(settings: Settings) -> Callable[[Run], Path]:
    """What trains the model of these settings."""
    return train_aligner if settings.alignment.enabled else trainer(settings.model.kind)


def trainer(kind: str) -> Callable[[Run], Path]:
    """What trains a model of this kind."""
    module, _, name = KINDS[kind].trainer.rpartition(".")
    function: Callable[[Run], Path] = getattr(import_module(f"rcnnkit.training.{module}"), name)
    return function


def dry_run(
    settings: Settings, run: Path, *, console: Console | None = None, notes: Mapping[str, str] = NO_NOTES
) -> None:
    """All that `train` does before the first iteration, and one batch, the largest; nothing is written.

    Where proposals are not computed yet, those of a few pictures are, and forgotten again. Of four-step training each
    network is tried once. Args are those of `train`.

    Raises:
        As `train`.
    """
    if settings.alternating.enabled:
        dry_run_alternating(settings, run, console, trainer_of(settings))
    else:
        trainer_of(settings)(Run(settings, run, console, notes=notes, dry=True))


def run_folder(settings: Settings, file: Path | None = None) -> Path:
    """The folder that `train.resume` continues, or a new one in runs/, named after the settings' file or the data."""
    if settings.train.resume:
        return checkpoint_of(settings.train.resume).parent
    if may_restart():
        raise ValueError(
            "torchrun --max-restarts continues a run in its folder, so the folder needs a name: give --out"
        )
    if file is None:
        return free_folder(Path("runs") / settings.model.kind)
    if is_data(file):
        return free_folder(Path("runs") / (file.resolve().name if file.is_dir() else file.stem))
    return free_folder(Path("runs") / (file.parent.name if file.name == "settings.toml" else file.stem))
