"""What was found as one HTML page: the findings, the classes, histograms, and the pictures that matter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rcnnkit.checking.check import Checked
from rcnnkit.checking.drawings import drawn
from rcnnkit.checking.findings import SEVERITIES, Finding, Severity, by_kind
from rcnnkit.checking.histograms import Histogram, histograms
from rcnnkit.colours import HUES
from rcnnkit.data.records import Record
from rcnnkit.files import check_free, check_new, whole, write_json
from rcnnkit.pages import jpeg_source, table, text, whole_page
from rcnnkit.progress import Report, reported, silent
from rcnnkit.text import count

IMAGE = re.compile(r"\(image (.+)\)$")  # how COCO's reader says which picture an annotation is of
PAGE = "report.html"
LISTED = 20  # findings of a kind on the page; the JSON file has all
DRAWN = 2  # pictures of a kind that are drawn
PAIRS = 4  # pairs of pictures that are drawn
CLASSES = 100  # rows of the table of classes
COLOURS = {severity: "#{:02x}{:02x}{:02x}".format(*HUES[i]) for severity, i in zip(SEVERITIES, (2, 0, 1), strict=True)}
WIDTH, HEIGHT = 300, 170  # of a histogram, in its own units
LEFT, RIGHT, TOP, BOTTOM = 18, 18, 14, 34


def check_outputs(out: Path | None, json_file: Path | None, fix: Path | None) -> None:
    """Raise where what is to be written is there already; before anything is checked.

    Raises:
        FileExistsError: it is there; or `fix` holds something.
        FileNotFoundError: there is no folder for the JSON file.
    """
    if json_file:
        check_new(json_file)
    if out and (out / PAGE).exists():
        check_new(out / PAGE)
    if fix:
        check_free(fix)


def write_reports(checked: Checked, out: Path | None, json_file: Path | None, report: Report = silent) -> list[Path]:
    """Write the page into the folder `out`, and all findings into a JSON file; the paths of what was written.

    Raises:
        OSError: a file cannot be written.
    """
    files = []
    if json_file:
        write_json(json_file, checked.to_json())
        files.append(json_file)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        with whole(out / PAGE) as half:
            half.write_text(page(checked, report), encoding="utf-8")
        files.append(out / PAGE)
    return files


def page(checked: Checked, report: Report = silent) -> str:
    """The whole page; the pictures are part of it."""
    title = f"The data in {checked.name}"
    parts = [f"<h1>{text(title)}</h1>", _cards(checked), "<h2>What was found</h2>", *_findings(checked)]
    parts += ["<h2>Classes</h2>", _classes(checked), "<h2>Sizes and numbers</h2>", _plots(checked)]
    parts += [_pairs(checked), _pictures(checked, report)]
    return whole_page(title, parts)


def _cards(checked: Checked) -> str:
    cards = [
        f'<div class="card">{_square(severity)}{severity}s<b>{checked.count(severity):,}</b></div>'
        for severity in SEVERITIES
    ]
    for split, objects in checked.splits.items():
        cards.append(
            f'<div class="card">{text(split)}<b>{len(objects.dataset):,}</b>'
            f'<span class="soft">pictures, {count(len(objects), "object")}</span></div>'
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _square(severity: Severity) -> str:
    return f'<i style="background:{COLOURS[severity]}"></i>'


def _findings(checked: Checked) -> Iterator[str]:
    if not checked.findings:
        yield "<p>Nothing.</p>"
    for findings in by_kind(checked.findings):
        kind = findings[0].kind
        items = "".join(
            f"<li>{text(finding.file)}{': ' + text(finding.where) if finding.where else ''}"
            f"{' (' + text(finding.split) + ')' if finding.split else ''}: {text(finding.message)}</li>"
            for finding in findings[:LISTED]
        )
        note = f'<p class="soft">… and {len(findings) - LISTED:,} more</p>' if len(findings) > LISTED else ""
        yield (
            f"<details{' open' if kind.severity != 'note' else ''}>"
            f"<summary>{_square(kind.severity)}{kind.severity}: {text(kind.title)} <b>{len(findings):,}</b>"
            f" <code>{kind.name}</code></summary>"
            f"<p>{text(kind.fix)}</p><ul>{items}</ul>{note}</details>"
        )


def _classes(checked: Checked) -> str:
    names = next((list(objects.dataset.class_names) for objects in checked.splits.values()), [])
    columns = {
        split: np.bincount(objects.labels[~objects.crowd], minlength=len(names))
        for split, objects in checked.splits.items()
    }
    rows = [["class", *columns, *(f"share in {split}" for split in columns)]]
    order = sorted(range(len(names)), key=lambda label: -sum(int(counts[label]) for counts in columns.values()))
    for label in order[:CLASSES]:
        numbers = [f"{int(counts[label]):,}" for counts in columns.values()]
        shares = [f"{counts[label] / max(1, counts.sum()):.1%}" for counts in columns.values()]
        rows.append([names[label], *numbers, *shares])
    more = f'<p class="soft">… and {len(names) - CLASSES:,} more classes</p>' if len(names) > CLASSES else ""
    return table(rows) + more


def _plots(checked: Checked) -> str:
    plots = "".join(f"<figure>{_plot(each)}</figure>" for each in histograms(checked))
    return f'<div class="plots">{plots}</div>'


def _plot(histogram: Histogram) -> str:
    """Bars over a logarithmic axis, with marks above them."""
    low, high = histogram.edges[0], histogram.edges[-1]
    tallest = max(1, int(histogram.counts.max(initial=0)))

    def across(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * float(np.log(value / low) / np.log(high / low))

    parts = []
    for start, end, number in zip(histogram.edges[:-1], histogram.edges[1:], histogram.counts.tolist(), strict=True):
        tall = (HEIGHT - TOP - BOTTOM) * number / tallest
        if number:
            x, width = across(start), max(1.0, across(end) - across(start) - 1)
            hint = f"{start:.3g} to {end:.3g}: {number:,}"
            parts.append(
                f'<rect x="{x:.1f}" y="{HEIGHT - BOTTOM - tall:.1f}" width="{width:.1f}" height="{tall:.1f}"'
                f' fill="#0072b2"><title>{hint}</title></rect>'
            )
    for mark in histogram.marks:
        if low <= mark <= high:
            parts.append(
                f'<line x1="{across(mark):.1f}" x2="{across(mark):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"'
                ' stroke="#d55e00" stroke-dasharray="3 2"></line>'
            )
    base = HEIGHT - BOTTOM
    parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}" stroke="currentColor"></line>')
    for tick in histogram.ticks:
        parts.append(f'<text x="{across(tick):.1f}" y="{base + 13}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 5}" text-anchor="middle">{text(histogram.label)}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(histogram.label)}">{"".join(parts)}</svg>'


def _pairs(checked: Checked) -> str:
    """Pictures that are nearly the same, side by side; those of two splits come first."""
    records, splits = checked.records, checked.split_of_each
    across = [twin for twin in checked.twins if splits[twin.first] != splits[twin.second]]
    within = [twin for twin in checked.twins if splits[twin.first] == splits[twin.second]]
    figures = [
        _figure(drawn(records[place], None), f"{splits[place]}: {records[place].path.name}")
        for twin in (across + within)[:PAIRS]
        for place in (twin.first, twin.second)
    ]
    return f'<h2>Pictures that look the same</h2><div class="pictures">{"".join(figures)}</div>' if figures else ""


def _pictures(checked: Checked, report: Report) -> str:
    """A few pictures of each kind, with their objects, and with the one in question above them."""
    finder = _Shown(checked)
    examples: list[tuple[Finding, Record]] = []
    for found in by_kind(checked.findings):
        drawable = []
        for finding in found:
            if record := finder.record(finding):
                drawable.append((finding, record))
            if len(drawable) == DRAWN:
                break
        examples += drawable
    figures = []
    for finding, record in reported(examples, "pictures drawn", report):
        where = f", {finding.where}" if finding.where else ""
        caption = f"{finding.kind.title}: {record.path.name}{where}"
        figures.append(_figure(drawn(record, finding.box), caption))
    return f'<h2>Some of them drawn</h2><div class="pictures">{"".join(figures)}</div>' if figures else ""


class _Shown:
    """Finds the picture that a finding is of, where it is not left out itself."""

    def __init__(self, checked: Checked) -> None:
        self._by_file = {str(record.path): record for record in checked.records}
        self._by_stem = {record.path.stem: record for record in checked.records}
        splits = zip(checked.split_of_each, checked.records, strict=True)
        self._by_id = {(split, str(record.id)): record for split, record in splits}

    def record(self, finding: Finding) -> Record | None:
        file = Path(finding.file)
        if file.suffix in (".xml", ".txt"):  # an annotation of one picture
            return self._by_stem.get(file.stem)
        if image := IMAGE.search(finding.where):
            return self._by_id.get((finding.split, image[1]))
        return self._by_file.get(finding.file)


def _figure(jpeg: bytes, caption: str) -> str:
    words = text(caption)
    return f'<figure><img alt="{words}" src="{jpeg_source(jpeg)}"><figcaption>{words}</figcaption></figure>'
