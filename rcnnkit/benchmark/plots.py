"""The results as PNG pictures: bars of stages, curves of growth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcnnkit.benchmark.results import Results, curves, measured, stage_names
from rcnnkit.benchmark.stages import CALL, STAGES
from rcnnkit.benchmark.variants import TITLES
from rcnnkit.drawing import class_colour

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


def write_plots(results: Results, folder: Path) -> list[Path]:
    """stages.png, and growth.png where it was measured."""
    from matplotlib.figure import Figure  # imported late: it is slow, and detecting needs none of it

    written = []
    if measured(results):
        written.append(_save(_stages(results, Figure), folder / "stages.png"))
    if curves(results):
        written.append(_save(_growth(results, Figure), folder / "growth.png"))
    return written


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=150)
    return path


def _stages(results: Results, new: Any) -> Figure:
    """Each contender's mean picture: in seconds, and as shares of its own time."""
    contenders = list(reversed(measured(results).values()))
    figure: Figure = new(figsize=(9, 1.8 + 0.45 * len(contenders)), layout="constrained")
    titles = [each["title"] for each in contenders]
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, by_share in ((left, False), (right, True)):
        start = [0.0] * len(contenders)
        for name in stage_names(results):
            widths = [
                each["summary"]["stages"].get(name, {"share": 0})["share"]
                * (100 if by_share else 1 / each["summary"]["images_per_second"])
                for each in contenders
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


def _growth(results: Results, new: Any) -> Figure:
    from matplotlib.ticker import LogLocator

    found = curves(results)
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    figure: Figure = new(figsize=(max(6.0, 3.4 * columns), 2.9 * rows + 0.4), layout="constrained")
    every = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (dimension, lines) in zip(every, found.items(), strict=False):
        for name, points in lines.items():
            x, y = zip(*points, strict=True)
            axes.plot(x, y, MARKERS[name] + "-", color=contender_colour(name), label=TITLES[name])
        axes.set(xscale="log", yscale="log", xlabel=AXES[dimension], ylabel="seconds a picture")
        ticks = sorted({value for points in lines.values() for value, _ in points})
        axes.set_xticks(ticks, labels=[f"{value:g}" for value in ticks])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # also where no power of ten is in sight
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in every[len(found) :]:
        axes.set_visible(False)
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure
