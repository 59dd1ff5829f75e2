"""One training as it goes: its folder and device, how far it is, and what it reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import rich.console
import torch

from rcnnkit import __version__, weights
from rcnnkit.config import Settings
from rcnnkit.config_files import NO_NOTES, resolved
from rcnnkit.model import Model
from rcnnkit.precision import pick_dtype
from rcnnkit.terminal import Console, safe
from rcnnkit.text import count
from rcnnkit.training.checkpoint import BEST, LAST, Progress, load_checkpoint, save_checkpoint
from rcnnkit.training.log import write_evaluation, write_line
from rcnnkit.training.loggers import Logger, check_loggers
from rcnnkit.training.ranks import current, device_of
from rcnnkit.training.run_folder import changes, claim, goes_on, keep_settings
from rcnnkit.training.writing import Writer

# What may lie elsewhere on another machine; that the data is the same is checked when it has been read.
ELSEWHERE = {
    ("train", "device"),
    ("train", "resume"),
    ("train", "init"),
    ("data", "root"),
    ("data", "images"),
    ("data", "workers"),
    ("proposals", "folder"),
}


class Result(Protocol):
    """How good a model is on the data that it is judged by."""

    @property
    def numbers(self) -> Mapping[str, float]: ...

    @property
    def headline(self) -> Sequence[str]:
        """Which numbers are printed; the weights with the greatest first one are the best."""
        ...

    def to_json(self) -> dict[str, Any]: ...


class Run:
    """A run in its folder, which it claims.

    Of several processes that train together, only the first writes and prints.

    Args:
        settings: of the run.
        folder: holds nothing yet, unless `train.resume` names it.
        console: where progress is shown; the terminal by default.
        holds: the file that is in the folder of a run that can be resumed.
        notes: section.setting → why it is what it is, for the run's settings.toml.
        dry: it ends before anything is written.

    Raises:
        FileExistsError, FileNotFoundError, ValueError: as `rcnnkit.training.run_folder.claim`; or there is no such
            device or precision, or one of `train.loggers` is not installed; or processes that should train together
            have other settings.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        console: rich.console.Console | None = None,
        holds: str = LAST,
        notes: Mapping[str, str] = NO_NOTES,
        dry: bool = False,
    ) -> None:
        check_loggers(settings.train.loggers)
        self.ranks = current()
        self.settings, self.folder = settings, folder
        self.console = safe(console) if self.ranks.first else Console(quiet=True)
        self.notes, self.dry = notes, dry
        self.loggers: Sequence[Logger] = ()  # get the run's numbers, besides those that `train.loggers` names
        self.resume = claim(settings, folder, holds)  # the checkpoint to go on from
        self.device = weights.pick_device(device_of(settings.train.device, self.ranks))
        self.dtype = pick_dtype(settings.train.precision, self.device)
        self.progress = Progress()
        self.writer = Writer()  # of checkpoints
        self._agree()
        self.changes: list[str] = []  # settings that a resumed run has otherwise
        self.epochs: int | None = None  # that `train.iterations` were given as

    def _agree(self) -> None:
        """Raise ValueError where processes that should train together have other settings, or other code."""
        own = {"rcnnkit": __version__, "torch": torch.__version__} | {
            f"{section}.{name}": repr(value)
            for section, values in resolved(self.settings).items()
            for name, value in values.items()
            if (section, name) not in ELSEWHERE
        }
        first, *others = self.ranks.gathered(own)
        for rank, other in enumerate(others, 1):
            if changed := [f"{key} = {other[key]}, not {first[key]}" for key in first if other[key] != first[key]]:
                raise ValueError(
                    f"process {rank} has {'; '.join(changed)} as the first process; start all with the same settings"
                    " and the same installation"
                )

    @property
    def last(self) -> Path:
        return self.folder / LAST

    @property
    def best(self) -> Path:
        return self.folder / BEST

    @property
    def precision(self) -> str:
        """float32, bfloat16 or float16."""
        return str(self.dtype).removeprefix("torch.")

    def count_in(self, pictures: int) -> Settings:
        """The settings, with `train.epochs` through so many training pictures as iterations from now on."""
        train = self.settings.train.for_pictures(pictures)
        self.epochs = self.settings.train.epochs
        self.settings = self.settings.model_copy(update={"train": train})
        return self.settings

    def restore(self, model: Model, optimizer: torch.optim.Optimizer, average: Model | None = None) -> None:
        """Go on from the checkpoint, if there is one. Raises as `load_checkpoint`."""
        if self.resume:
            self.progress = load_checkpoint(self.resume, model, optimizer, average)
        if not goes_on(self.resume, self.folder):  # the best weights so far are not in this folder
            self.progress.best_ap, self.progress.evaluated, self.progress.stale = Progress.best_ap, 0, 0

    def keep_settings(self) -> None:
        self.changes = changes(self.settings, self.resume)
        if (before := self.progress.processes) != self.ranks.size and self.resume:
            self.changes.append(
                f"{count(before, 'process')} → {self.ranks.size}: sums are rounded differently, so the last bits of the"
                " weights are not those of an undisturbed run"
            )
        self.progress.processes = self.ranks.size
        if self.ranks.first:
            keep_settings(self.settings, self.folder, self.progress.iteration, self.notes)

    def save(self, model: Model, optimizer: torch.optim.Optimizer, average: Model | None = None) -> None:
        """Write the checkpoint beside training; `writer` waits for it. Raises OSError, also of the one before."""
        if self.ranks.first:
            save_checkpoint(self.folder, model, optimizer, self.settings, self.progress, average, self.writer)

    def save_best(self, model: Model, about: Mapping[str, Any]) -> None:
        """Write the weights that the run is made for. Raises OSError."""
        if self.ranks.first:
            weights.save(model, self.settings, self.best, about)

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False)

    def log(self, values: Mapping[str, Any]) -> None:
        """Add a line to log.jsonl."""
        if self.ranks.first:
            write_line(self.folder, values)

    def evaluated(self, result: Result, name: str, when: str = "") -> dict[str, Any]:
        """Write evaluation.json, and print the numbers on the data set `name`.

        Returns:
            What the weights are to say of it.
        """
        write_evaluation(self.folder, result.to_json())
        printed = ", ".join(f"{key} {result.numbers[key]:.3f}" for key in result.headline)
        self.say(f"{when}{name}: {printed}")
        first = result.headline[0]
        value = result.numbers[first]
        return {"val": name, first: value if value == value else 0.0}  # NaN: no object to tell it from
