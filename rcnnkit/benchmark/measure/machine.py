"""On what, and with what, something is measured: the machine and its threads."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import torch

import rcnnkit
from rcnnkit.benchmark.results import Machine
from rcnnkit.memory import proc_field

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "opencv-contrib-python-headless", "rcnnkit")


def describe(device: torch.device) -> Machine:
    """This machine, its versions, and the commit of rcnnkit (None outside its repository)."""
    memory = proc_field("/proc/meminfo", "MemTotal")
    return Machine(
        cpu=proc_field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        memory_gb=round(int(memory.split()[0]) / 2**20, 1) if memory else None,
        load=round(os.getloadavg()[0], 2),
        gpu=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        system=platform.platform(),
        versions={"python": platform.python_version(), "cuda": torch.version.cuda, **_versions()},
        commit=_commit(Path(rcnnkit.__file__).parent),
    )


@contextmanager
def threads(count: int) -> Iterator[None]:
    """While inside, torch and OpenCV get `count` threads; 0 leaves them alone."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    if count:
        torch.set_num_threads(count)
        cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


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
