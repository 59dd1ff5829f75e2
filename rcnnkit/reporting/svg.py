"""Plots as SVG, which are part of a page and grow with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rcnnkit.colours import class_colour
from rcnnkit.pages import text

WIDTH, HEIGHT = 300, 200  # of a plot, in its own units
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 10, 36
POINTS = 400  # that a line has at most


@dataclass(frozen=True, slots=True)
class Axis:
    """From the first of the ticks to the last one."""

    label: str
    ticks: Sequence[float]

    def share(self, value: float) -> float:
        """Where a value lies, from 0 to 1."""
        low, high = self.ticks[0], self.ticks[-1]
        return (value - low) / (high - low)


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    points: Sequence[tuple[float, float]]  # in the values of both axes
    colour: str
    dashed: bool = False
    marked: bool = False  # with a dot at each point, which tells its values


UNIT = (0.0, 0.25, 0.5, 0.75, 1.0)  # ticks of shares


def colour(number: int) -> str:
    """Of a class, or of the n-th thing of another kind, as CSS and matplotlib write it."""
    return "#{:02x}{:02x}{:02x}".format(*class_colour(number))


def plot(lines: Sequence[Line], x: Axis, y: Axis, label: str) -> str:
    """Lines over two axes. What lies beyond an axis is cut off at its end."""

    def across(value: float) -> float:
        return LEFT + min(1.0, max(0.0, x.share(value))) * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - min(1.0, max(0.0, y.share(value))) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in y.ticks:
        parts.append(
            f'<path d="M{LEFT} {up(tick):.1f}H{WIDTH - RIGHT}" stroke="currentColor" stroke-opacity=".2"/>'
            f'<text x="{LEFT - 5}" y="{up(tick) + 4:.1f}" text-anchor="end">{_number(tick)}</text>'
        )
    for tick in x.ticks:
        parts.append(f'<text x="{across(tick):.1f}" y="{HEIGHT - 20}" text-anchor="middle">{_number(tick)}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{text(x.label)}</text>')
    for line in lines:
        step = -(-len(line.points) // POINTS) or 1
        points = [*line.points[::step], *line.points[-1:]] if step > 1 else line.points
        path = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in points)
        dash = ' stroke-dasharray="4 3"' if line.dashed else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="2"{dash}/>')
        if line.marked:
            parts += [
                f'<circle cx="{across(a):.1f}" cy="{up(b):.1f}" r="3" fill="{line.colour}">'
                f"<title>{text(line.name)}: {_number(a)}, {_number(b)}</title></circle>"
                for a, b in points
            ]
    words = text(label)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">{"".join(parts)}</svg>'


def legend(lines: Sequence[Line]) -> str:
    items = "".join(f'<li><i style="background:{line.colour}"></i>{text(line.name)}</li>' for line in lines)
    return f'<ul class="legend">{items}</ul>'


def figure(image: str, caption: str) -> str:
    """What a plot or a picture shows, below it."""
    return f"<figure>{image}<figcaption>{text(caption)}</figcaption></figure>"


def round_axis(label: str, low: float, high: float, parts: int = 4) -> Axis:
    """An axis with round ticks that holds two values."""
    span = high - low if high > low else abs(high) or 1.0
    power = 10.0 ** _floor_log10(span / parts)
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power * parts >= span)
    first = int(low // step)
    ticks = [first * step]
    while ticks[-1] < high - 1e-9 * step or len(ticks) < 2:
        ticks.append((first + len(ticks)) * step)
    return Axis(label, ticks)


def _floor_log10(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 and value == int(value) else f"{value:.3g}"
