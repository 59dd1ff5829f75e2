"""How much memory there is, and how much this process has held."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

GROUP = Path("/sys/fs/cgroup")  # a container's own limits


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had on a device; None where nobody says."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by this process, for itself
        return torch.cuda.mem_get_info(device)[0] + cached
    if device.type != "cpu" or not (free := proc_field("/proc/meminfo", "MemAvailable")):
        return None
    whole = int(free.split()[0]) * 1024
    try:
        limit, current, stat = ((GROUP / f"memory.{name}").read_text().split() for name in ("max", "current", "stat"))
    except OSError:
        return whole
    if limit == ["max"]:
        return whole
    # What was read of files counts as used, and is given back when memory is asked for.
    return min(whole, int(limit[0]) - int(current[0]) + int(stat[stat.index("inactive_file") + 1]))


def held_memory() -> int | None:
    """Bytes of memory that this process holds; None where nobody says."""
    held = proc_field("/proc/self/status", "VmRSS")
    return int(held.split()[0]) * 1024 if held else None


def forget_peak() -> None:
    """`peak_memory` is of what comes from now on, where the system allows that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_memory() -> int | None:
    """The most bytes of memory that this process has held; None where nobody says."""
    # Not getrusage: after a fork and exec it still has the parent's peak.
    peak = proc_field("/proc/self/status", "VmHWM")
    return int(peak.split()[0]) * 1024 if peak else None


def proc_field(file: str, name: str) -> str:
    """The value of the first `name : value` of one of Linux's files; "" without."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
