"""The results as PNG pictures: bars of stages, curves of growth."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from rcnnkit.benchmark.results import CALL, STAGES, Curve, Results
from rcnnkit.colours import class_colour

# Blue, vermilion, green: apart for any colour vision, and in grey.
COLOURS = {"rcnn": 5, "fast-rcnn": 2, "faster-rcnn": 3}
MARKERS = {"rcnn": "o", "fast-rcnn": "s", "faster-rcnn": "^"}
AXES = {
    "proposals": "proposals a picture",
    "classes": "classes",
    "side": "shorter side, pixels",
    "batch": "pictures at a time",
    "threads": "threads",
}


def stage_colour(name: str) -> str:
    """The colour of a stage as CSS and matplotlib write it; grey for what is no stage of ours."""
    if name not in STAGES or name == "other":
        return "#c4c8cc" if name == CALL else "#7d858c"
    return "#{:02x}{:02x}{:02x}".format(*class_colour(STAGES.index(name)))


def contender_colour(name: str) -> str:
    return "#{:02x}{:02x}{:02x}".format(*class_colour(COLOURS[name]))


def write_plots(results: Results, folder: Path) -> None:
    """stages.png, and growth.png where it was measured."""
    if results.summaries:
        _stages(results).savefig(folder / "stages.png", dpi=150)
    if results.growth and results.growth.curves():
        _growth(results, results.growth.curves()).savefig(folder / "growth.png", dpi=150)


def _stages(results: Results) -> Figure:
    """Each contender's mean picture: in seconds, and as shares of its own time."""
    summaries = list(reversed(results.summaries.values()))
    figure = Figure(figsize=(9, 1.8 + 0.45 * len(summaries)), layout="constrained")
    titles = [results.contenders[name].title for name in reversed(results.summaries)]
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, by_share in ((left, False), (right, True)):
        start = [0.0] * len(summaries)
        for name in results.stages:
            widths = [
                summary.share(name) * (100 if by_share else 1 / summary.images_per_second) for summary in summaries
            ]
            axes.barh(titles, widths, left=start, color=stage_colour(name), label=name)
            start = [a + b for a, b in zip(start, widths, strict=True)]
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("% of its own time" if by_share else "seconds a picture, mean")
        if not by_share:
            axes.set_xlim(0, 1.18 * max(start))
            for title, end in zip(titles, start, strict=True):
                axes.text(end, title, f" {end:.3g}", va="center")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def _growth(results: Results, curves: dict[str, dict[str, Curve]]) -> Figure:
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(max(6.0, 3.4 * columns), 2.9 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (dimension, lines) in zip(grid, curves.items(), strict=False):
        for name, points in lines.items():
            x, y = zip(*points, strict=True)
            axes.plot(x, y, MARKERS[name] + "-", color=contender_colour(name), label=results.contenders[name].title)
        axes.set(xscale="log", yscale="log", xlabel=AXES[dimension], ylabel="seconds a picture")
        ticks = sorted({value for points in lines.values() for value, _ in points})
        axes.set_xticks(ticks, labels=[f"{value:g}" for value in ticks])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # also where no power of ten is in sight
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(curves) :]:
        axes.set_visible(False)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure
