"""The results as a Markdown page of tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rcnnkit.benchmark.papers import HARDWARE, PAPERS
from rcnnkit.benchmark.results import Results, measured, stage_names
from rcnnkit.benchmark.summary import MISSING
from rcnnkit.benchmark.variants import TITLES

Rows = list[list[str]]


def markdown(results: Results) -> str:
    """The whole page."""
    parts = [f"# {title(results)}", about(results)]
    if notes(results):
        parts.append("\n".join(f"- {note}" for note in notes(results)))
    for heading, rows in tables(results).items():
        parts += [f"## {heading}", _table(rows)]
    return "\n\n".join(parts) + "\n"


def title(results: Results) -> str:
    return "R-CNN, Fast R-CNN and Faster R-CNN: seconds a picture"


def about(results: Results) -> str:
    """One paragraph: on what, with what, when."""
    machine, versions, pictures = results["machine"], results["versions"], results["pictures"]
    backbones = {each.get("backbone") for each in results["contenders"].values()} - {None}
    memory = f", {machine['memory_gb']:g} GB" if machine["memory_gb"] else ""
    trained = any(each.get("weights") for each in results["contenders"].values())
    return (
        f"{pictures['count']} pictures of {pictures['name']}, {results['options']['batch']} at a time;"
        f" {', '.join(sorted(backbones))}, {'trained' if trained else 'untrained'}, {results['dtype']}."
        f" {machine['gpu'] + ' beside ' if machine['gpu'] else ''}{machine['cpu']}, {machine['cores']} cores"
        f"{memory}, {machine['threads']} thread{'s' * (machine['threads'] != 1)},"
        f" load {machine['load']:g} at the start;"
        f" torch {versions['torch']}, rcnnkit {versions.get('rcnnkit', '')}"
        f"{' at ' + results['commit'] if results['commit'] else ''}; {results['date'][:10]}."
    )


def notes(results: Results) -> list[str]:
    """What a reader has to know of these numbers."""
    found = list(results["notes"])
    if not results["complete"]:
        found.insert(
            0, f"Not complete ({results['stopped'] or 'still running'}): this is what was measured until then."
        )
    for name, each in measured(results).items():
        missing = each["summary"]["missing"]
        if missing > MISSING:
            found.append(f"{each['title']}: {missing:.1%} of the time are in no named stage (“other”).")
        if each["summary"]["steps"] < 10:
            found.append(f"{each['title']}: {each['summary']['steps']} measurements, few for a median.")
        if name == "rcnn" and not each["weights"]:
            found.append("Untrained detectors find other numbers of boxes than trained ones: see suppression so.")
    return found


def tables(results: Results) -> dict[str, Rows]:
    """Heading → rows of cells, the first one the header."""
    found = {
        "Each detector": _whole(results),
        "Stage by stage: median in ms a picture, and share of all time": _stages(results),
        "Stage by stage: 95th percentile and spread (first to third quartile), ms a picture": _spreads(results),
        f"Beside the papers ({HARDWARE})": _papers(results),
    }
    if results.get("searches"):
        found["Selective search, fast mode"] = _searches(results)
    return {heading: rows for heading, rows in found.items() if len(rows) > 1}


def _whole(results: Results) -> Rows:
    rows = [["", "s / picture", "p95", "spread", "pictures / s", "proposals", "AP50", "AP", "peak GB", "GPU GB"]]
    for each in measured(results).values():
        summary, accuracy, memory = each["summary"], each.get("accuracy") or {}, each.get("memory") or {}
        whole = summary["whole"]
        rows.append(
            [
                each["title"],
                seconds(whole["median"]),
                seconds(whole["p95"]),
                seconds(whole["spread"]),
                f"{summary['images_per_second']:.3g}",
                f"{summary['proposals']:.0f}" if summary["proposals"] else "",
                *(f"{accuracy[name]:.3f}" if accuracy.get(name) is not None else "" for name in ("AP50", "AP")),
                *(f"{memory[name] / 1e9:.2f}" if memory.get(name) else "" for name in ("process", "device")),
            ]
        )
    return _without_empty_columns(rows)


def _stages(results: Results) -> Rows:
    """Median and share."""
    return _by_stage(results, lambda stage: f"{milliseconds(stage['median'])} · {stage['share']:.1%}")


def _spreads(results: Results) -> Rows:
    return _by_stage(results, lambda stage: f"{milliseconds(stage['p95'])} · {milliseconds(stage['spread'])}")


def _by_stage(results: Results, cell: Callable[[dict[str, float]], str]) -> Rows:
    """A row a stage, a column a contender."""
    contenders = measured(results).values()
    rows = [["", *(each["title"] for each in contenders)]]
    for name in stage_names(results):
        stages = [each["summary"]["stages"].get(name) for each in contenders]
        rows.append([name, *(cell(stage) if stage else "" for stage in stages)])
    return rows


def _papers(results: Results) -> Rows:
    here, papers = results["ratios"]["here"], results["ratios"]["papers"]
    rows = [["", "here: s / picture", "ratio", "papers: s / picture", "ratio", "source"]]
    for name, taken in here["seconds"].items():
        ratio = here["ratios"].get(name)
        rows.append(
            [
                TITLES[name],
                seconds(taken),
                f"{seconds(ratio)} ×" if ratio else "",
                seconds(papers["seconds"][name]),
                f"{seconds(papers['ratios'][name])} ×",
                PAPERS[name].source,
            ]
        )
    return rows


def _searches(results: Results) -> Rows:
    rows = [["", "ms / picture", "p95", "boxes"]]
    for name, summary in results["searches"].items():
        whole = summary["whole"]
        rows.append([name, *(milliseconds(whole[key]) for key in ("median", "p95")), f"{summary['proposals']:.0f}"])
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
