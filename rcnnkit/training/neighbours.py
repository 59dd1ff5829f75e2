"""Whether other processes hold a training up: its parallel parts wait for the thread that has no core."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger("rcnnkit")

LONG = 20.0  # seconds that are looked at, at least; shorter ones say little
MUCH = 0.15  # of the machine, in other hands
FULL = 0.1  # of the machine, idle: with more than this, nobody waits


class Load(NamedTuple):
    """Processor time since the machine started, in ticks summed over its cores."""

    total: float
    idle: float
    ours: float  # of this process and its workers


class Neighbours:
    """Says once that other processes take the cores that a training needs. Only Linux reports it."""

    def __init__(self) -> None:
        self.before = load()

    def look(self) -> None:
        """Look at what happened since the last look, if that is long enough."""
        load_now = load() if self.before else None
        if self.before is None or load_now is None:
            return
        cores = os.cpu_count() or 1
        if load_now.total - self.before.total < LONG * cores * os.sysconf("SC_CLK_TCK"):
            return
        share = others(self.before, load_now)
        self.before = load_now
        if share > MUCH:
            log.warning(
                "other processes take %.1f of the %d cores; training is much slower than it would be alone",
                share * cores,
                cores,
            )
            self.before = None  # once is enough


def others(before: Load, after: Load) -> float:
    """The share of a full machine that other processes took between two looks; 0 where cores were idle."""
    total, idle, own = (b - a for a, b in zip(before, after, strict=True))
    if total <= 0 or idle > FULL * total:
        return 0.0
    return max(0.0, (total - idle - own) / total)


def load() -> Load | None:
    """The load so far; None where the system does not report it."""
    try:
        user, nice, system, idle, wait, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
        return Load(user + nice + system + idle + wait + sum(rest), idle + wait, sum(map(_ticks, _family())))
    except (OSError, ValueError):
        return None


def _family() -> list[str]:
    """This process and its children, by their numbers."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")  # workers are started by the main thread
    return ["self", *(children.read_text().split() if children.exists() else [])]


def _ticks(process: str) -> int:
    """The processor time of a process and of its children that ended; 0 if it ended just now."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))
