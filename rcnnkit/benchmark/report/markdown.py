"""The results as a Markdown page of tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rcnnkit.benchmark.report.papers import HARDWARE, PAPERS, ratios, seconds_here
from rcnnkit.benchmark.results import Memory, Results, Stage
from rcnnkit.text import count

Rows = list[list[str]]

TITLE = "R-CNN, Fast R-CNN and Faster R-CNN: seconds a picture"
MISSING = 0.03  # share of the whole that may belong to no stage before the report says so


def markdown(results: Results) -> str:
    """The whole page."""
    parts = [f"# {TITLE}", circumstances(results)]
    if notes(results):
        parts.append("\n".join(f"- {note}" for note in notes(results)))
    for heading, rows in tables(results).items():
        parts += [f"## {heading}", _table(rows)]
    return "\n\n".join(parts) + "\n"


def circumstances(results: Results) -> str:
    """One paragraph: on what, with what, when."""
    machine, pictures, options = results.machine, results.pictures, results.options
    backbones = {contender.backbone for contender in results.contenders.values() if contender.backbone}
    memory = f", {machine.memory_gb:g} GB" if machine.memory_gb else ""
    return (
        f"{count(pictures.count, 'picture')} of {pictures.name}, {options.batch} at a time;"
        f" {', '.join(sorted(backbones))}, {'untrained' if options.random else 'trained'}, {options.precision}."
        f" {machine.gpu + ' beside ' if machine.gpu else ''}{machine.cpu}, {machine.cores} cores"
        f"{memory}, {count(options.threads, 'thread')},"
        f" load {machine.load:g} at the start;"
        f" torch {machine.versions['torch']}, rcnnkit {machine.versions.get('rcnnkit', '')}"
        f"{' at ' + machine.commit if machine.commit else ''}; {results.date[:10]}."
    )


def notes(results: Results) -> list[str]:
    """What a reader has to know of these numbers."""
    texts = list(results.notes)
    if not results.complete:
        texts.insert(0, f"Not complete ({results.stopped or 'still running'}): this is what was measured until then.")
    for name, summary in results.summaries.items():
        contender = results.contenders[name]
        if summary.missing > MISSING:
            texts.append(f"{contender.title}: {summary.missing:.1%} of the time is in no named stage (“other”).")
        if summary.steps < 10:
            texts.append(f"{contender.title}: {summary.steps} measurements, few for a median.")
        if name == "rcnn" and not contender.weights:
            texts.append(
                "Untrained detectors find other numbers of boxes than trained ones, which changes suppression."
            )
    return texts


def tables(results: Results) -> dict[str, Rows]:
    """Heading → rows of cells, the first one the header."""
    rows_of = {
        "Each detector": _whole(results),
        "Stage by stage: median in ms a picture, and share of all time": _by_stage(
            results, lambda stage: f"{milliseconds(stage.median)} · {stage.share:.1%}"
        ),
        "Stage by stage: 95th percentile and spread (first to third quartile), ms a picture": _by_stage(
            results, lambda stage: f"{milliseconds(stage.p95)} · {milliseconds(stage.spread)}"
        ),
        f"Beside the papers ({HARDWARE})": _papers(results),
        "Selective search, fast mode": _searches(results),
    }
    return {heading: rows for heading, rows in rows_of.items() if len(rows) > 1}


def _whole(results: Results) -> Rows:
    rows = [["", "s / picture", "p95", "spread", "pictures / s", "proposals", "AP50", "AP", "peak GB", "GPU GB"]]
    for name, summary in results.summaries.items():
        contender, whole = results.contenders[name], summary.whole
        accuracy, memory = contender.accuracy or {}, contender.memory or Memory(None, None)
        rows.append(
            [
                contender.title,
                *map(seconds, (whole.median, whole.p95, whole.spread)),
                f"{summary.images_per_second:.3g}",
                f"{summary.proposals:.0f}" if summary.proposals else "",
                *("" if (share := accuracy.get(metric)) is None else f"{share:.3f}" for metric in ("AP50", "AP")),
                *(f"{peak / 1e9:.2f}" if peak else "" for peak in (memory.process, memory.device)),
            ]
        )
    return _without_empty_columns(rows)


def _by_stage(results: Results, cell: Callable[[Stage], str]) -> Rows:
    """A row a stage, a column a contender."""
    summaries = results.summaries
    rows = [["", *(results.contenders[name].title for name in summaries)]]
    for stage in results.stages:
        parts = [summary.stages.get(stage) for summary in summaries.values()]
        rows.append([stage, *(cell(part) if part else "" for part in parts)])
    return rows


def _papers(results: Results) -> Rows:
    medians, papers = seconds_here(results), {name: paper.seconds for name, paper in PAPERS.items()}
    rows = [["", "here: s / picture", "ratio", "papers: s / picture", "ratio", "source"]]
    for name, median in medians.items():
        ratio = ratios(medians).get(name)
        rows.append(
            [
                results.contenders[name].title,
                seconds(median),
                f"{seconds(ratio)} ×" if ratio else "",
                seconds(papers[name]),
                f"{seconds(ratios(papers)[name])} ×",
                PAPERS[name].source,
            ]
        )
    return rows


def _searches(results: Results) -> Rows:
    rows = [["", "ms / picture", "p95", "boxes"]]
    for name, summary in results.searches.items():
        whole = summary.whole
        rows.append([name, milliseconds(whole.median), milliseconds(whole.p95), f"{summary.proposals:.0f}"])
    return rows


def seconds(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def milliseconds(value: float) -> str:
    return seconds(1e3 * value)


def _without_empty_columns(rows: Rows) -> Rows:
    keep = [i for i in range(len(rows[0])) if i == 0 or any(row[i] for row in rows[1:])]
    return [[row[i] for i in keep] for row in rows]


def _table(rows: Rows) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    header, *rest = rows
    return "\n".join([line(header), "|" + "---|" * len(header), *map(line, rest)])
