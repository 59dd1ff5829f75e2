"""What a benchmark writes with --json: its rows, and where and with what they were measured.

`python tools/render_numbers.py add NAME FILE` takes such a file into the documents.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
import torchvision

from rcnnkit import __version__


def processor() -> str:
    """The processor's name, as the system tells it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return ", ".join(sorted(names)) or platform.processor() or platform.machine()


def conditions() -> dict[str, Any]:
    """Where, when and with what something is measured."""
    return {
        "date": date.today().isoformat(),
        "version": __version__,
        "processor": processor(),
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__.partition("+")[0],
        "torchvision": torchvision.__version__.partition("+")[0],
        "command": shlex.join(["python", *sys.argv]),
    }


def write(path: Path, rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    """Write rows of named values as JSON, with the conditions and whatever else was found."""
    values = {**conditions(), "rows": list(rows), **more}
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
