"""Every form of the results, made from what lies in a benchmark's folder."""

from __future__ import annotations

from pathlib import Path

from rcnnkit.benchmark.markdown import markdown
from rcnnkit.benchmark.page import page
from rcnnkit.benchmark.plots import write_plots
from rcnnkit.benchmark.results import read


def write_report(folder: Path) -> Path:
    """Write report.md, report.html and PNG plots into the folder of a benchmark's results; the path of the page.

    Raises:
        FileNotFoundError, ValueError: the folder holds no results.
    """
    results = read(folder)
    (folder / "report.md").write_text(markdown(results), encoding="utf-8")
    path = folder / "report.html"
    path.write_text(page(results, folder), encoding="utf-8")
    write_plots(results, folder)
    return path
