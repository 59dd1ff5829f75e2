"""What a run reports while it goes: a progress bar, one JSON line per step, and its numbers to loggers."""

from __future__ import annotations

import functools
import io
import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
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
)

from rcnnkit.files import whole, write_json
from rcnnkit.training import checkpoint
from rcnnkit.training.neighbours import Neighbours

LOG = "log.jsonl"
log = logging.getLogger("rcnnkit")


class RunLog:
    """Writes run/log.jsonl, passes numbers to loggers, and shows a progress bar.

    What cannot be written is left out, which is said once: a log is not worth a training.

    Args:
        iterations: of the whole run.
        progress: of the run before it began or went on; what log.jsonl has beyond that is cut off.
        things: what a batch is made of, images or windows; `step` needs the number of them a second.
        loggers: as of `rcnnkit.training.loggers`; one that fails is left out from then on.
    """

    def __init__(
        self,
        run: Path,
        console: Console,
        iterations: int,
        progress: checkpoint.Progress,
        things: str = "images",
        loggers: Sequence[Any] = (),
    ) -> None:
        self.run, self.console, self.things, self.iterations = run, console, things, iterations
        _cut(run / LOG, progress)
        self.loggers = list(loggers)
        iteration = progress.iteration
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[status]}"),
            console=console,
        )
        self.began = progress.iteration, progress.seconds
        self.neighbours = Neighbours()
        self.task = self.bar.add_task("", total=iterations, completed=iteration, status="")

    def __enter__(self) -> RunLog:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        self._tell("finish")

    def advance(self) -> None:
        self.bar.advance(self.task)

    def step(self, iteration: int, values: dict[str, float]) -> None:
        """One log step: `values` under the number of iterations done; `seconds` are those of training so far."""
        self.write({"iteration": iteration, **values})
        self.neighbours.look()
        first, before = self.began
        # By all iterations since the run began or went on: those since the last line may have been held up.
        left = (self.iterations - iteration) * (values["seconds"] - before) / (iteration - first)
        speed = f"{values[f'{self.things}_per_second']:.1f} {self.things}/s"
        status = f"loss {values['loss']:.3f}  {speed}  lr {values['lr']:.2g}  {left / 60:.1f} min left"
        self.bar.update(self.task, status=status)
        if not self.console.is_terminal:  # a file or a pipe gets lines instead of a bar
            self.console.print(f"{iteration:>7}  {status}")

    def write(self, values: dict[str, float]) -> None:
        """A line of log.jsonl, which loggers get too."""
        write_line(self.run, values)
        numbers = {name: value for name, value in values.items() if name != "iteration" and math.isfinite(value)}
        self._tell("log", int(values["iteration"]), numbers)

    def show(self, what: str, iteration: int, *things: Any) -> None:
        """Give pictures to those loggers that take them, such as the run's page: `saw` or `judged`."""
        self._tell(what, iteration, *things)

    def _tell(self, method: str, *arguments: Any) -> None:
        for logger in self.loggers.copy():
            try:
                if take := getattr(logger, method, None):
                    take(*arguments)
            except Exception as error:  # of a service, or of code of one's own
                said = " ".join(str(error).split()) or type(error).__name__
                log.warning("%s fails (%s). Training goes on without it", type(logger).__name__, said)
                self.loggers.remove(logger)


class NoLog:
    """What stands for a RunLog in all processes but the first of several."""

    def __enter__(self) -> NoLog:
        return self

    def __exit__(self, *_: object) -> None: ...

    def advance(self) -> None: ...

    def step(self, iteration: int, values: dict[str, float]) -> None: ...

    def write(self, values: dict[str, float]) -> None: ...

    def show(self, what: str, iteration: int, *things: Any) -> None: ...


def write_line(run: Path, values: Mapping[str, Any]) -> None:
    """Add a line to run/log.jsonl, or say that it cannot be written. JSON has no NaN; it becomes null."""
    clean = {k: None if v != v else round(v, 6) if isinstance(v, float) else v for k, v in values.items()}
    _append(run / LOG, f"{json.dumps(clean)}\n".encode())


def write_evaluation(run: Path, values: Mapping[str, Any]) -> None:
    """Write run/evaluation.json, or say that it cannot be written."""
    try:
        write_json(run / "evaluation.json", values)
    except OSError as error:
        log.warning("%s. Training goes on without it", error)


class Board:
    """TensorBoard's file. torch's SummaryWriter writes in a thread, whose errors nobody can catch.

    Raises:
        ImportError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, iteration: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.event, self.summary, self.writer = Event, Summary, RecordWriter
        self.path = folder / f"events.out.tfevents.{time.time():.6f}.{os.uname().nodename}.{os.getpid()}"
        self._add(file_version="brain.Event:2")
        # What was logged after the checkpoint that a run goes on from is drawn no more.
        self._add(step=iteration + 1, session_log=SessionLog(status=SessionLog.START))

    def log(self, iteration: int, numbers: Mapping[str, float]) -> None:
        scalars = [self.summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._add(step=iteration, summary=self.summary(value=scalars))

    def finish(self) -> None:
        """Every number was written at once."""

    def _add(self, **fields: Any) -> None:
        record = io.BytesIO()
        self.writer(record).write(self.event(wall_time=time.time(), **fields).SerializeToString())
        _append(self.path, record.getvalue())


def _append(path: Path, data: bytes) -> None:
    """Add to a file, all or nothing. It is opened each time: the folder may have been moved and made again."""
    try:
        path.parent.mkdir(exist_ok=True)
        # Without O_NONBLOCK a FIFO that nobody reads would be waited for.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
        with os.fdopen(os.open(path, flags, 0o666), "ab", buffering=0) as file:
            end = file.tell()
            try:
                written = file.write(data)
                if written < len(data):  # the system says why only when it can write nothing at all
                    file.write(data[written:])
            except OSError:
                with suppress(OSError):  # a device
                    file.truncate(end)
                raise
    except OSError as error:
        _complain(path, error.strerror or str(error))


@functools.cache  # once
def _complain(path: Path, reason: str) -> None:
    log.warning("%s cannot be written (%s). Training goes on without it", path, reason)


def _cut(path: Path, progress: checkpoint.Progress) -> None:
    """Leave out the lines that a run which goes on from `progress` will write again."""
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []  # a device may have no end
    except OSError:
        return
    lines_kept = [line for line in lines if _stays(line, progress)]
    if lines_kept != lines:
        try:
            with whole(path) as half:
                half.write_bytes(b"".join(lines_kept))
        except OSError as error:
            log.warning("%s. Lines after iteration %d will be there twice", error, progress.iteration)


def _stays(line: bytes, progress: checkpoint.Progress) -> bool:
    try:
        iteration = (values := json.loads(line))["iteration"]
    except KeyError:  # a stage of R-CNN's
        return True
    except (ValueError, TypeError):  # cut short when the machine went down
        return False
    return bool(iteration <= (progress.iteration if "loss" in values else progress.evaluated))
