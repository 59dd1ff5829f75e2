"""Every form of the results, made from what lies in a benchmark's folder."""

from __future__ import annotations

from pathlib import Path

from rcnnkit.benchmark.markdown import markdown
from rcnnkit.benchmark.results import read


def write_report(folder: Path) -> Path:
    """Write report.md into the folder of a benchmark's results.

    Raises:
        FileNotFoundError, ValueError: the folder holds no results.
    """
    results = read(folder)
    path = folder / "report.md"
    path.write_text(markdown(results), encoding="utf-8")
    return path
