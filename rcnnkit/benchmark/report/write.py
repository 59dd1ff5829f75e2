"""Every form of the results, made from what lies in a benchmark's folder."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group
from rich.table import Table

from rcnnkit.benchmark.report.markdown import markdown, notes, tables
from rcnnkit.benchmark.report.page import page
from rcnnkit.benchmark.report.plots import write_plots
from rcnnkit.benchmark.results import Results, read


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


def terminal(results: Results) -> Group:
    """The tables and notes, for a `rich.console.Console`."""
    parts: list[Table | str] = []
    for heading, (header, *rows) in tables(results).items():
        table = Table(title=heading, title_justify="left")
        for column in header:
            table.add_column(column, justify="right" if column else "left")
        for row in rows:
            table.add_row(*row)
        parts.append(table)
    return Group(*parts, *notes(results))
