"""The results as one HTML page that needs no network: for a phone, a desk, and paper."""

from __future__ import annotations

import math
from dataclasses import asdict
from html import escape
from pathlib import Path

from rcnnkit.benchmark.report.markdown import TITLE, circumstances, notes, seconds, tables
from rcnnkit.benchmark.report.papers import ratios, seconds_here
from rcnnkit.benchmark.report.plots import AXES, contender_colour, stage_colour
from rcnnkit.benchmark.results import Curve, Results, picture_file
from rcnnkit.pages import jpeg_source, table, whole_page

WIDTH, HEIGHT = 300, 210  # of a plot of growth, in its own units
LEFT, RIGHT, TOP, BOTTOM = 44, 20, 10, 36


def page(results: Results, folder: Path) -> str:
    """The whole page; the pictures in `folder` become part of it."""
    parts = [f"<h1>{escape(TITLE)}</h1>", f'<p class="soft">{escape(circumstances(results))}</p>']
    if items := "".join(f"<li>{escape(note)}</li>" for note in notes(results)):
        parts.append(f"<ul>{items}</ul>")
    parts.append(_cards(results))
    if results.summaries:
        parts += ["<h2>Where the time goes</h2>", _bars(results)]
    parts += [f"<h2>{escape(heading)}</h2>{table(rows)}" for heading, rows in tables(results).items()]
    parts.append(_curves(results))
    parts.append(_pictures(results, folder))
    return whole_page(TITLE, parts)


def _cards(results: Results) -> str:
    """Each detector's seconds in large figures."""
    medians = seconds_here(results)
    cards = []
    for name, median in medians.items():
        title, ratio = results.contenders[name].title, ratios(medians).get(name)
        times = f"{seconds(ratio)} × Faster R-CNN's" if ratio and name != "faster-rcnn" else "&nbsp;"
        cards.append(
            f'<div class="card">{escape(title)}<b>{seconds(median)} s</b><span class="soft">{times}</span></div>'
        )
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""


def _bars(results: Results) -> str:
    """A legend; each contender's time as long as it is, then as shares of itself."""
    means = {name: 1 / summary.images_per_second for name, summary in results.summaries.items()}
    names = results.stages
    items = "".join(f'<li><i style="background:{stage_colour(name)}"></i>{escape(name)}</li>' for name in names)
    parts = [f'<ul class="legend">{items}</ul><p class="soft">Mean seconds a picture, on one scale:</p>']
    for by_share in (False, True):
        if by_share:
            parts.append('<p class="soft">Each one\'s own time as a whole:</p>')
        for contender, mean in means.items():
            spans = []
            for name in names:
                share = results.summaries[contender].share(name)
                width = 100 * share * (1.0 if by_share else mean / max(means.values()))
                label = f"{share:.0%}" if by_share and share >= 0.07 else ""
                hint = f"{name}: {1e3 * share * mean:.3g} ms, {share:.1%}"
                if width > 0:
                    spans.append(
                        f'<span style="width:{width:.3f}%;background:{stage_colour(name)}"'
                        f' title="{escape(hint)}">{label}</span>'
                    )
            title, length = results.contenders[contender].title, "" if by_share else f"<span>{seconds(mean)} s</span>"
            parts.append(f'<div class="name"><span>{escape(title)}</span>{length}</div>')
            parts.append(f'<div class="bar">{"".join(spans)}</div>')
    return "".join(parts)


def _curves(results: Results) -> str:
    if not results.growth or not (curves := results.growth.curves()):
        return ""
    names = {name for lines in curves.values() for name in lines}
    titles = {name: contender.title for name, contender in results.contenders.items() if name in names}
    items = "".join(
        f'<li><i style="background:{contender_colour(name)}"></i>{escape(title)}</li>' for name, title in titles.items()
    )
    base = "; ".join(f"{AXES[name]}: {value}" for name, value in asdict(results.growth.base).items())
    plots = "".join(f"<figure>{_plot(dimension, lines, titles)}</figure>" for dimension, lines in curves.items())
    return (
        f'<h2>How it grows</h2><p class="soft">Seconds a picture, untrained detectors; both axes are logarithmic. What'
        f' a plot does not vary: {escape(base)}.</p><ul class="legend">{items}</ul><div class="plots">{plots}</div>'
    )


def _plot(dimension: str, lines: dict[str, Curve], titles: dict[str, str]) -> str:
    """Log-log curves as SVG."""
    values = sorted({value for points in lines.values() for value, _ in points})
    times = [time for points in lines.values() for _, time in points]
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
    high = max(high, low + 1)

    def x(value: float) -> float:
        share = math.log(value / values[0]) / math.log(values[-1] / values[0])
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(time: float) -> float:
        return TOP + (high - math.log10(time)) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for power in range(low, high + 1):
        level = y(10.0**power)
        parts.append(
            f'<path d="M{LEFT} {level:.1f}H{WIDTH - RIGHT}" stroke="currentColor" stroke-opacity=".2"/>'
            f'<text x="{LEFT - 5}" y="{level + 4:.1f}" text-anchor="end">{10.0**power:g} s</text>'
        )
    parts += [f'<text x="{x(value):.1f}" y="{HEIGHT - 20}" text-anchor="middle">{value}</text>' for value in values]
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{AXES[dimension]}</text>')
    for name, points in lines.items():
        colour = contender_colour(name)
        path = " ".join(f"{x(value):.1f},{y(time):.1f}" for value, time in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x(value):.1f}" cy="{y(time):.1f}" r="3.5" fill="{colour}">'
            f"<title>{escape(titles[name])}, {value}: {seconds(time)} s</title></circle>"
            for value, time in points
        ]
    label = f"Seconds a picture over {AXES[dimension]}"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _pictures(results: Results, folder: Path) -> str:
    """What each contender found in the same pictures, side by side."""
    rows = []
    for i, label in enumerate(results.pictures.shown):
        figures = []
        for name in results.summaries:
            file, title = picture_file(folder, i, name), escape(results.contenders[name].title)
            if file.is_file():
                source = jpeg_source(file.read_bytes())
                figures.append(
                    f'<figure><img alt="{escape(label)}: what {title} found" src="{source}">'
                    f"<figcaption>{title}</figcaption></figure>"
                )
        if figures:
            rows.append(
                f'<section><p class="soft">{escape(label)}</p><div class="pictures">{"".join(figures)}</div></section>'
            )
    return f"<h2>What they found</h2>{''.join(rows)}" if rows else ""
