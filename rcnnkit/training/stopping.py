"""Stopping a training with Ctrl-C or SIGTERM: after the iteration that runs, with a checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class Interrupted(Exception):  # not an error: somebody pressed Ctrl-C
    """Stopped by Ctrl-C or SIGTERM, which `signal` names, after the checkpoint that `path` names."""

    def __init__(self, path: Path, iteration: int, signal: int, unit: str = "iterations") -> None:
        go_on = f"rcnnkit train {path.parent}/settings.toml train.resume={path.parent}"
        super().__init__(f"stopped after {iteration} {unit}; continue with {go_on}")
        self.path, self.iteration, self.signal = path, iteration, signal


@dataclass
class Stop:
    """Whether Ctrl-C or SIGTERM came."""

    signal: int | None = None  # its number
    interrupts: bool = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise KeyboardInterrupt when a signal comes, or if one has come."""
        if self.signal:
            raise KeyboardInterrupt
        self.interrupts = True
        try:
            yield
        finally:
            self.interrupts = False


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Notes that Ctrl-C or SIGTERM came; a second Ctrl-C interrupts at once."""
    stop = Stop()

    def note(number: int, _: object) -> None:
        stop.signal = stop.signal or number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if stop.interrupts:
            raise KeyboardInterrupt

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # only the main thread may; elsewhere the caller sees to it
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
