"""Every form of an evaluation's report: the page, its numbers, a row for each picture, plots, and drawn pictures."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

from matplotlib.figure import Figure

from rcnnkit.drawing.canvas import save_picture
from rcnnkit.evaluation.analysis import Analysis
from rcnnkit.evaluation.matches import RECALLS
from rcnnkit.files import whole
from rcnnkit.progress import Report, reported, silent
from rcnnkit.reporting.drawings import side_by_side, truth_and_found
from rcnnkit.reporting.evaluation_page import page
from rcnnkit.reporting.svg import colour
from rcnnkit.text import visible

PAGE, NUMBERS, ROWS = "report.html", "report.json", "pictures.csv"
DRAWN = 100  # of the worst pictures
NAMED = 20  # classes with curves of their own in the plot


def write_report(analysis: Analysis, folder: Path, weights: str, report: Report = silent) -> list[Path]:
    """Write the page, report.json, pictures.csv and plots into a folder; the paths of what was written.

    Raises:
        OSError: a file cannot be written, or a picture not read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        PAGE: page(analysis, weights, report),
        NUMBERS: json.dumps(analysis.to_json(), allow_nan=False),
    }
    for name, content in contents.items():
        with whole(folder / name) as half:
            half.write_text(content, encoding="utf-8")
    write_rows(analysis, folder)
    return [*(folder / name for name in (*contents, ROWS)), *_plots(analysis, folder)]


def write_rows(analysis: Analysis, folder: Path) -> Path:
    """Write pictures.csv: for each picture what was found, missed and invented at the suggested threshold."""
    rows = analysis.rows()
    with whole(folder / ROWS) as half, half.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
    return folder / ROWS


def write_worst(analysis: Analysis, folder: Path, report: Report = silent) -> list[Path]:
    """Write pictures.csv, and the worst pictures with what was annotated beside what was found, worst first.

    Returns:
        The CSV file, and the folder.

    Raises:
        OSError: a file cannot be written, or a picture not read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = write_rows(analysis, folder)
    worst = analysis.pictures.worst[:DRAWN]
    for rank, i in enumerate(reported(worst, "pictures drawn", report), 1):
        row = side_by_side(truth_and_found(analysis, i, analysis.threshold))
        save_picture(row, folder / f"{rank:03}-{analysis.dataset.records[i].path.stem}.jpg")
    return [rows, folder]


def _plots(analysis: Analysis, folder: Path) -> list[Path]:
    plots = {"precision_recall.png": _curves(analysis), "errors.png": _errors(analysis)}
    plots["confusion.png"] = _confusion(analysis)
    if analysis.bins:
        plots["calibration.png"] = _calibration(analysis)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # class names in letters that the font lacks
        for name, figure in plots.items():
            with whole(folder / name) as half:
                figure.savefig(half, dpi=120, format="png")
    return [folder / name for name in plots]


def _curves(analysis: Analysis) -> Figure:
    """Precision over recall at an IoU of 0.5, of the classes with most objects."""
    precision, _ = analysis.matches.hits().curves()
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    order = sorted(range(len(analysis.sweeps)), key=lambda k: -analysis.sweeps[k].objects)
    for k in order[:NAMED]:
        if analysis.sweeps[k].objects:
            axes.plot(RECALLS, precision[0, :, k], color=colour(k), label=_name(analysis.dataset.class_names[k]))
    axes.set(xlabel="recall", ylabel="precision at an IoU of 0.5", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if axes.lines:
        figure.legend(loc="outside right upper", frameon=False)
    return figure


def _errors(analysis: Analysis) -> Figure:
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    costs = analysis.errors.costs
    bars = axes.barh(list(costs), [100 * cost for cost in costs.values()], color=[colour(i) for i in range(len(costs))])
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("points of AP50 gained without these mistakes")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    return figure


def _confusion(analysis: Analysis) -> Figure:
    counts = analysis.confusion
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    names = [_name(name) for name in analysis.dataset.class_names]
    side = 2.5 + 0.28 * len(counts)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(counts))
    axes.set_xticks(ticks, [*names, "missed"], rotation=90)
    axes.set_yticks(ticks, [*names, "nothing"])
    axes.set(xlabel=f"called, from a score of {analysis.threshold:.2f} on", ylabel="annotated")
    if len(counts) <= NAMED:
        for i, row in enumerate(counts.tolist()):
            for j, number in enumerate(row):
                dark = shares[i, j] > 0.5
                axes.text(j, i, str(number or ""), ha="center", va="center", color="white" if dark else "black")
    return figure


def _calibration(analysis: Analysis) -> Figure:
    figure = Figure(figsize=(4.5, 4.2), layout="constrained")
    axes = figure.subplots()
    known = [each for each in analysis.bins if each.detections]
    axes.plot([0, 1], [0, 1], "--", color="#7d858c")
    axes.plot([each.score for each in known], [each.right for each in known], "o-", color=colour(5))
    axes.set(xlabel="mean score", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    return figure


def _name(name: str) -> str:
    """For matplotlib, to which dollar signs would be formulas."""
    name = visible(name)
    return (name if len(name) <= 24 else f"{name[:23]}…").replace("$", r"\$")
