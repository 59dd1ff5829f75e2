"""What a run tells while it goes: a progress bar, one JSON line per step, TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class RunLog:
    """Writes run/log.jsonl and, where tensorboard is installed, run/tensorboard; shows a progress bar.

    Args:
        iterations, done: of the whole run, and before it began or went on.
        things: what a batch is made of, which `step` is told the number of a second: images or windows.
    """

    def __init__(self, run: Path, console: Console, iterations: int, done: int, things: str = "images") -> None:
        self.console, self.things = console, things
        self.file = (run / "log.jsonl").open("a", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter

            # What was logged after the checkpoint that a run goes on from is drawn no more.
            self.board: Any = SummaryWriter(str(run / "tensorboard"), purge_step=done + 1)
        except ImportError:
            self.board = None
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.bar.add_task("", total=iterations, completed=done, status="")

    def __enter__(self) -> RunLog:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        self.file.close()
        if self.board:
            self.board.close()

    def advance(self) -> None:
        self.bar.advance(self.task)

    def step(self, iteration: int, values: dict[str, float]) -> None:
        """One log step: `values` under the number of iterations done."""
        self._write({"iteration": iteration, **values})
        speed = values[f"{self.things}_per_second"]
        status = f"loss {values['loss']:.3f}  {speed:.1f} {self.things}/s"
        self.bar.update(self.task, status=status)
        if not self.console.is_terminal:  # a file or a pipe gets lines instead of a bar
            left = (self.bar.tasks[0].total or 0) - iteration
            seconds = left * values["batch"] / max(speed, 1e-9)
            self.console.print(f"{iteration:>7}  {status}  lr {values['lr']:.2g}  {seconds / 60:.1f} min left")

    def evaluation(self, iteration: int, name: str, numbers: dict[str, float], shown: Sequence[str]) -> None:
        """The numbers on the data set of that name; `shown` names those that are printed."""
        self._write({"iteration": iteration, **numbers})
        printed = ", ".join(f"{key} {numbers[key]:.3f}" for key in shown)
        self.console.print(f"after {iteration} iterations, {name}: {printed}", highlight=False)

    def _write(self, values: dict[str, float]) -> None:
        # JSON has no NaN; an undefined number is null
        clean = {k: None if v != v else round(v, 6) for k, v in values.items()}
        self.file.write(json.dumps(clean) + "\n")
        self.file.flush()
        for name, value in values.items():
            if self.board and name != "iteration":
                self.board.add_scalar(name, value, values["iteration"])
