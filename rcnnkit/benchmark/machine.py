"""On what, and with what, something was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import rcnnkit

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "opencv-contrib-python-headless", "rcnnkit")
GROUP = Path("/sys/fs/cgroup")  # a container's own limits


def describe(device: torch.device) -> dict[str, Any]:
    """The machine, its versions, the commit of rcnnkit (None outside its repository) and the time, for JSON."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(Path(rcnnkit.__file__).parent),
        "machine": {
            "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "threads": torch.get_num_threads(),
            "memory_gb": _gigabytes(_field("/proc/meminfo", "MemTotal")),
            "load": round(os.getloadavg()[0], 2),  # of the last minute: work of others makes times longer
            "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version(), "cuda": torch.version.cuda, **_versions()},
    }


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had on a device; None where nobody says."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by this process, for itself
        return torch.cuda.mem_get_info(device)[0] + cached
    if device.type != "cpu" or not (free := _field("/proc/meminfo", "MemAvailable")):
        return None
    whole = int(free.split()[0]) * 1024
    try:
        limit, used, stat = ((GROUP / f"memory.{name}").read_text().split() for name in ("max", "current", "stat"))
    except OSError:
        return whole
    if limit == ["max"]:
        return whole
    # What was read of files counts as used, and is given back when memory is asked for.
    return min(whole, int(limit[0]) - int(used[0]) + int(stat[stat.index("inactive_file") + 1]))


def peak_memory() -> int | None:
    """The most bytes of memory that this process has held; None where nobody says."""
    # Not getrusage: after a fork and exec it still has the parent's peak.
    peak = _field("/proc/self/status", "VmHWM")
    return int(peak.split()[0]) * 1024 if peak else None


def _field(file: str, name: str) -> str:
    """The value of the first `name : value` of one of Linux's files; "" without."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _gigabytes(kilobytes: str) -> float | None:
    return round(int(kilobytes.split()[0]) / 2**20, 1) if kilobytes else None


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _commit(package: Path) -> str | None:
    """The commit that is checked out, with "+" where files differ from it."""

    def git(*arguments: str) -> str:
        run = ["git", "-C", str(package), *arguments]
        return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != package.parent.resolve():
            return None  # an installed rcnnkit inside somebody else's repository
        return git("rev-parse", "--short=10", "HEAD") + "+" * bool(git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return None
