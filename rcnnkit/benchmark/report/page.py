"""The results as one HTML page that needs no network: for a phone, a desk, and paper."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

from rcnnkit.benchmark.report.markdown import TITLE, Rows, about, notes, seconds, tables
from rcnnkit.benchmark.report.papers import ratios, seconds_here
from rcnnkit.benchmark.report.plots import AXES, contender_colour, stage_colour
from rcnnkit.benchmark.results import Curve, Results, picture_file

STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --paper: #fff; --soft: #5b6570; --line: #d5dae0; --plate: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --paper: #14171a; --soft: #a2acb6; --line: #39414a; --plate: #1f2429; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .5rem 0; } .soft { color: var(--soft); font-size: .88rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(6rem, 1fr)); gap: .6rem; margin: 1.2rem 0; }
.card { background: var(--plate); border-radius: .5rem; padding: .6rem .7rem; }
.card b { display: block; font-size: clamp(1.2rem, 5vw, 1.8rem); line-height: 1.3; font-variant-numeric: tabular-nums; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: .6rem 0; padding: 0; list-style: none;
  font-size: .88rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: .15rem; margin-right: .35rem; }
.name { display: flex; justify-content: space-between; gap: 1rem; font-size: .92rem; margin-top: .7rem; }
.bar { display: flex; height: 1.5rem; border-radius: .25rem; overflow: hidden; background: var(--plate); }
.bar span { flex: none; min-width: 0; overflow: hidden; color: #000; font-size: .75rem; line-height: 1.5rem;
  text-align: center; white-space: nowrap; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; min-width: 100%; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
th:first-child, td:first-child { white-space: normal; min-width: 6.5rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17.5rem), 1fr)); gap: 1rem; }
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; fill: currentColor; }
figure { margin: 0; } figcaption { font-size: .8rem; color: var(--soft); }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 9.5rem), 1fr)); gap: .7rem;
  margin: 0 0 1.2rem; }
.pictures img { display: block; width: 100%; height: auto; border-radius: .25rem; }
@page { margin: 1.5cm; }
@media print {
  :root { color-scheme: light; --ink: #000; --paper: #fff; --soft: #444; --line: #bbb; --plate: #f2f2f2; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  h2 { break-after: avoid; } .legend, .name { break-after: avoid; }
  figure, tr, .card, .name, .bar, .plots, section { break-inside: avoid; }
  .scroll { overflow: visible; } table { font-size: 7.5pt; } th, td { padding-right: .4rem; white-space: normal; }
  .pictures, .cards { grid-template-columns: repeat(4, 1fr); } .plots { grid-template-columns: repeat(3, 1fr); }
}
"""
WIDTH, HEIGHT = 300, 210  # of a plot of growth, in its own units
LEFT, RIGHT, TOP, BOTTOM = 44, 20, 10, 36


def page(results: Results, folder: Path) -> str:
    """The whole page; the pictures in `folder` become part of it."""
    parts = [f"<h1>{escape(TITLE)}</h1>", f'<p class="soft">{escape(about(results))}</p>']
    if items := "".join(f"<li>{escape(note)}</li>" for note in notes(results)):
        parts.append(f"<ul>{items}</ul>")
    parts.append(_cards(results))
    if results.summaries:
        parts += ["<h2>Where the time goes</h2>", _bars(results)]
    parts += [f"<h2>{escape(heading)}</h2>{_table(rows)}" for heading, rows in tables(results).items()]
    parts.append(_curves(results))
    parts.append(_pictures(results, folder))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(TITLE)}</title><style>{STYLE}</style></head>\n"
        f"<body>{chr(10).join(filter(None, parts))}\n</body></html>\n"
    )


def _cards(results: Results) -> str:
    """Each detector's seconds in large figures."""
    here = seconds_here(results)
    cards = []
    for name, median in here.items():
        title, ratio = results.contenders[name].title, ratios(here).get(name)
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


def _table(rows: Rows) -> str:
    header, *rest = rows

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(cells, "td") for cells in rest)
    return f'<div class="scroll"><table><thead>{line(header, "th")}</thead><tbody>{body}</tbody></table></div>'


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
        f'<h2>How it grows</h2><p class="soft">Seconds a picture, untrained detectors; both axes are logarithmic. Where'
        f' it is not varied: {escape(base)}.</p><ul class="legend">{items}</ul><div class="plots">{plots}</div>'
    )


def _plot(dimension: str, lines: dict[str, Curve], titles: dict[str, str]) -> str:
    """Log-log curves as SVG."""
    values = sorted({value for points in lines.values() for value, _ in points})
    times = [taken for points in lines.values() for _, taken in points]
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
    high = max(high, low + 1)

    def x(value: float) -> float:
        share = math.log(value / values[0]) / math.log(values[-1] / values[0])
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(taken: float) -> float:
        return TOP + (high - math.log10(taken)) / (high - low) * (HEIGHT - TOP - BOTTOM)

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
        path = " ".join(f"{x(value):.1f},{y(taken):.1f}" for value, taken in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x(value):.1f}" cy="{y(taken):.1f}" r="3.5" fill="{colour}">'
            f"<title>{escape(titles[name])}, {value}: {seconds(taken)} s</title></circle>"
            for value, taken in points
        ]
    label = f"Seconds a picture over {AXES[dimension]}"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _pictures(results: Results, folder: Path) -> str:
    """What each contender found in the same pictures, side by side."""
    rows = []
    for i, shown in enumerate(results.pictures.shown):
        figures = []
        for name in results.summaries:
            file, title = picture_file(folder, i, name), escape(results.contenders[name].title)
            if file.is_file():
                data = base64.b64encode(file.read_bytes()).decode()
                figures.append(
                    f'<figure><img alt="{escape(shown)}: what {title} found" src="data:image/jpeg;base64,{data}">'
                    f"<figcaption>{title}</figcaption></figure>"
                )
        if figures:
            rows.append(
                f'<section><p class="soft">{escape(shown)}</p><div class="pictures">{"".join(figures)}</div></section>'
            )
    return f"<h2>What they found</h2>{''.join(rows)}" if rows else ""
