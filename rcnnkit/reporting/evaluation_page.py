"""An evaluation as one HTML page: how good, how sure, which mistakes, in which pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from rcnnkit.checking.drawings import small_jpeg
from rcnnkit.evaluation.analysis import Analysis, Part
from rcnnkit.evaluation.coco import NUMBERS, UNCAPPED
from rcnnkit.evaluation.errors import CAUSES
from rcnnkit.evaluation.intervals import Interval, samples_of
from rcnnkit.evaluation.matches import RECALLS
from rcnnkit.evaluation.operating import USES, Point, calibration_error
from rcnnkit.evaluation.strata import PLACES
from rcnnkit.pages import jpeg_source, table, text, whole_page
from rcnnkit.progress import Report, reported, silent
from rcnnkit.reporting.drawings import FOUND, INVENTED, MISSED, cut_out, truth_and_found
from rcnnkit.reporting.svg import UNIT, Axis, Line, colour, figure, legend, plot, round_axis
from rcnnkit.structures import Array
from rcnnkit.text import count

WORST = 12  # pictures that are drawn
CUT_OUTS = 24  # mistakes that are drawn
CURVES = 12  # classes whose curves are open; the others are below a heading that opens
MATRIX = 24  # classes up to which the confusion matrix is a table
CONFUSED = 20  # pairs of classes that are listed
SMALL = 240  # pixels of a cut-out
STEPS = Axis("score from which detections count", UNIT)
SHARE = Axis("", UNIT)


def page(analysis: Analysis, weights: str, report: Report = silent) -> str:
    """The whole page; the pictures are part of it.

    Args:
        weights: what to call the detector.

    Raises:
        FileNotFoundError, ValueError: a picture cannot be read.
    """
    title = f"{weights} on {analysis.dataset.name}"
    parts = [f"<h1>{text(title)}</h1>", _cards(analysis), _in_short(analysis)]
    parts += ["<h2>Where average precision is lost</h2>", *_errors(analysis)]
    parts += ["<h2>Which score to ask for</h2>", *_thresholds(analysis)]
    parts += ["<h2>Numbers</h2>", _numbers(analysis)]
    parts += ["<h2>Classes</h2>", _classes(analysis), *_class_curves(analysis)]
    parts += ["<h2>What is taken for what</h2>", *_confusion(analysis)]
    parts += ["<h2>Parts of the data</h2>", *_parts(analysis)]
    parts += _calibration(analysis)
    parts += _worst(analysis, report)
    parts += _mistakes(analysis, report)
    return whole_page(title, parts)


def percent(value: float, interval: Interval | None = None) -> str:
    """A fraction in percent, with its interval: `41.2 (38.0 – 44.1)`; – where it is undefined."""
    if math.isnan(value):
        return "–"
    if interval is None or math.isnan(interval[0]):
        return f"{100 * value:.1f}"
    return f"{100 * value:.1f} ({100 * interval[0]:.1f} – {100 * interval[1]:.1f})"


def _cards(analysis: Analysis) -> str:
    result = analysis.evaluation
    cards = []
    shown = [(name, result.numbers[name]) for name in result.headline]
    shown.append(("VOC area", result.voc.mean_ap_area))
    for name, value in shown:
        interval = analysis.intervals["voc_area" if name == "VOC area" else name]
        low, high = (percent(each) for each in interval)
        cards.append((name, percent(value), f"{low} – {high}"))
    point = analysis.together.at(analysis.threshold)
    cards.append(("suggested score", f"{analysis.threshold:.2f}", f"F1 {percent(point.f1)}"))
    cards.append(("pictures", f"{result.pictures:,}", count(analysis.together.objects, "object")))
    items = "".join(
        f'<div class="card">{text(name)}<b>{text(value)}</b><span class="soft">{text(note)}</span></div>'
        for name, value, note in cards
    )
    return f'<div class="cards">{items}</div>'


def _in_short(analysis: Analysis) -> str:
    """The largest loss and the threshold, in sentences."""
    costs = analysis.errors.costs
    worst = max(costs, key=lambda cause: costs[cause])
    point = analysis.together.at(analysis.threshold)
    sentences = []
    if costs[worst] > 0:
        sentences.append(
            f"Most is lost to mistakes of the kind “{worst}” ({CAUSES[worst]}): without them AP50 would be"
            f" {100 * costs[worst]:.1f} points higher."
        )
    if point.found:
        sentences.append(
            f"From a score of {analysis.threshold:.2f} on, {percent(point.precision)} % of the detections are right,"
            f" and {percent(point.recall)} % of the objects are found."
        )
    sentences.append(
        f"The ranges hold 95 % of what {samples_of(len(analysis.dataset))} data sets give that are drawn from these"
        " pictures. Two detectors whose ranges overlap may still differ; rcnnkit compare tests that."
    )
    return f"<p>{text(' '.join(sentences))}</p>"


def _errors(analysis: Analysis) -> Iterator[str]:
    errors = analysis.errors
    top = max([*errors.costs.values(), 1e-9])
    for number, (cause, cost) in enumerate(errors.costs.items()):
        yield (
            f'<div class="name"><span>{text(cause)}: {text(CAUSES[cause])}</span>'
            f"<span>{100 * cost:.1f}</span></div>"
            f'<div class="bar"><span style="width:{100 * cost / top:.2f}%;background:{colour(number)}"></span></div>'
        )
    yield (
        '<p class="soft">Points of AP50 that would be gained if mistakes of one kind were put right, the others left.'
        " The gains do not add up (TIDE, Bolya et al. 2020).</p>"
    )
    rows = [["kind", "mistakes", "AP50 gained"]]
    rows += [[cause, f"{errors.count(cause):,}", f"{100 * cost:.1f}"] for cause, cost in errors.costs.items()]
    rows.append(["all false detections", "", percent(errors.false_positives)])
    rows.append(["all objects not found", "", percent(errors.false_negatives)])
    yield table(rows)


def _point(point: Point) -> list[str]:
    counts = [f"{number:,}" for number in (point.found, point.missed, point.invented)]
    return [f"{point.threshold:.2f}", *counts, *(percent(v) for v in (point.precision, point.recall, point.f1))]


def _thresholds(analysis: Analysis) -> Iterator[str]:
    sweep, columns = analysis.together, ["score", "found", "missed", "invented", "precision", "recall", "F1"]
    yield "<p>All classes together, at an IoU of 0.5. Each use has its own best score:</p>"
    rows = [["good for", *columns]]
    for use, meaning in USES.items():
        point = sweep.best(use)
        rows.append([f"{use}: {meaning}", *(_point(point) if point else ["–"] * len(columns))])
    yield table(rows)
    if len(sweep.thresholds):
        thresholds = sweep.thresholds
        axis = STEPS if analysis.bins else round_axis(STEPS.label, thresholds[-1], thresholds[0])
        f1 = 2 * sweep.found / (sweep.shown + sweep.objects) if sweep.objects else sweep.recall
        lines = [
            Line(name, list(zip(thresholds.tolist(), values.tolist(), strict=True)), colour(number))
            for number, (name, values) in enumerate(
                {"precision": sweep.precision, "recall": sweep.recall, "F1": f1}.items()
            )
            if not np.isnan(values).any()
        ]
        drawing = plot(lines, axis, SHARE, "precision, recall and F1 over the score")
        yield f'{legend(lines)}<div class="plots">{figure(drawing, "All classes together")}</div>'
    yield table([columns, *(_point(sweep.at(step)) for step in analysis.steps)])


def _numbers(analysis: Analysis) -> str:
    result = analysis.evaluation
    rows = [["", "%, with the range", "IoU", "area, pixels", "detections"]]
    for name, (overlap, area, detections) in NUMBERS.items():
        shown = percent(result.numbers[name], analysis.intervals[name])
        rows.append([name, shown, overlap, area, f"≤ {detections}"])
    for name, (overlap, area) in UNCAPPED.items():
        if result.crowded:
            rows.append([name, percent(result.numbers[name], analysis.intervals[name]), overlap, area, "all"])
    for name, key, value in (
        ("VOC 11-point", "voc_11", result.voc.mean_ap_11),
        ("VOC area", "voc_area", result.voc.mean_ap_area),
    ):
        rows.append([name, percent(value, analysis.intervals[key]), "0.50", "all", "all"])
    for name, value in analysis.by_limit.items():
        limit = "all" if name == "all" else f"≤ {name}"
        rows.append([f"AP of {'all' if name == 'all' else name} detections", percent(value), "0.50:0.95", "all", limit])
    return table(rows)


def _order(analysis: Analysis) -> list[int]:
    """The classes, those with most objects first."""
    return sorted(range(len(analysis.sweeps)), key=lambda k: -analysis.sweeps[k].objects)


def _classes(analysis: Analysis) -> str:
    rows = [["class", "objects", "AP, with the range", "AP50", "best score", "precision", "recall", "F1"]]
    for k in _order(analysis):
        coco = analysis.evaluation.coco.classes[k]
        interval = analysis.class_intervals[k]
        best = analysis.sweeps[k].best("best F1")
        chosen = [f"{best.threshold:.2f}", *map(percent, (best.precision, best.recall, best.f1))] if best else ["–"] * 4
        rows.append([coco.name, f"{coco.objects:,}", percent(coco.ap, interval), percent(coco.ap50), *chosen])
    return table(rows)


def _class_curves(analysis: Analysis) -> Iterator[str]:
    precision, _ = analysis.matches.hits().curves()
    figures = []
    for k in _order(analysis):
        if np.isnan(precision[0, 0, k]):
            continue
        name = analysis.dataset.class_names[k]
        lines = [
            Line(f"IoU {iou:g}", list(zip(RECALLS.tolist(), precision[t, :, k].tolist(), strict=True)), colour(number))
            for number, (t, iou) in enumerate(((0, 0.5), (5, 0.75)))
        ]
        drawing = plot(lines, Axis("recall", UNIT), Axis("precision", UNIT), f"precision over recall, {name}")
        figures.append(figure(drawing, f"{name}: precision over recall"))
    if not figures:
        return
    yield legend([Line(f"at an IoU of {iou:g}", (), colour(number)) for number, iou in enumerate((0.5, 0.75))])
    yield f'<div class="plots">{"".join(figures[:CURVES])}</div>'
    if more_figures := figures[CURVES:]:
        yield (
            f"<details><summary>The curves of {count(len(more_figures), 'more class')}</summary>"
            f'<div class="plots">{"".join(more_figures)}</div></details>'
        )


def _confusion(analysis: Analysis) -> Iterator[str]:
    counts, names = analysis.confusion, list(analysis.dataset.class_names)
    yield (
        f"<p>From a score of {analysis.threshold:.2f} on, at an IoU of 0.5. Rows are what was annotated, columns what"
        " it was called.</p>"
    )
    if len(names) <= MATRIX:
        yield _matrix(counts, names)
    pairs = [(int(counts[i, j]), i, j) for i, j in np.argwhere(counts[:-1, :-1]) if i != j]
    pairs.sort(reverse=True)
    if pairs:
        rows = [["annotated", "called", "times"]]
        rows += [[names[i], names[j], f"{number:,}"] for number, i, j in pairs[:CONFUSED]]
        more = f" The first {CONFUSED} of {len(pairs):,} pairs." if len(pairs) > CONFUSED else ""
        yield f"<p>Classes that are mistaken for each other.{more}</p>{table(rows)}"
    else:
        yield "<p>No object was called by the name of another class.</p>"


def _matrix(counts: Array, names: Sequence[str]) -> str:
    """Each cell is as dark as its share of its row."""
    header = "".join(f"<th>{text(name)}</th>" for name in [*names, "missed"])
    rows = []
    for name, row in zip([*names, "nothing"], counts.tolist(), strict=True):
        whole = max(1, sum(row))
        cells = []
        for number in row:
            share = number / whole
            shade = f' style="background:rgba(0,114,178,{0.75 * share:.3f})"' if number else ""
            cells.append(f"<td{shade}>{number or ''}</td>")
        rows.append(f"<tr><td>{text(name)}</td>{''.join(cells)}</tr>")
    head, body = f"<thead><tr><th></th>{header}</tr></thead>", "".join(rows)
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _parts(analysis: Analysis) -> Iterator[str]:
    columns = ["objects", "AP", "AP50"]

    def rows(parts: Sequence[Part]) -> list[list[str]]:
        return [[part.name, f"{part.objects:,}", percent(part.ap), percent(part.ap50)] for part in parts]

    yield "<p>By the size of the objects, as COCO divides them (small: below 32², large: above 96² pixels):</p>"
    yield table([["size", *columns], *rows(analysis.parts["size"])])
    yield "<p>By how many objects the picture holds:</p>"
    yield table([["objects in the picture", *columns], *rows(analysis.parts["crowding"])])
    yield "<p>By the ninth of the picture that the centre lies in; AP, and how many objects are there:</p>"
    places = {part.name: part for part in analysis.parts["place"]}
    aps = [part.ap for part in places.values() if not math.isnan(part.ap)]
    cells = []
    for i in range(0, 9, 3):
        row = ""
        for part in (places[name] for name in PLACES[i : i + 3]):
            shade = 0.6 * part.ap / max([*aps, 1e-9]) if not math.isnan(part.ap) else 0
            row += (
                f'<td style="background:rgba(0,158,115,{shade:.3f});text-align:center">{percent(part.ap)}'
                f'<br><span class="soft">{part.objects:,}</span></td>'
            )
        cells.append(f"<tr>{row}</tr>")
    yield f'<div class="scroll"><table class="even"><tbody>{"".join(cells)}</tbody></table></div>'


def _calibration(analysis: Analysis) -> Iterator[str]:
    yield "<h2>What scores are worth</h2>"
    if not analysis.bins:
        yield "<p>The scores are margins of SVMs. They are no probabilities, so there is nothing to compare.</p>"
        return
    bins = [score_bin for score_bin in analysis.bins if score_bin.detections]
    lines = [
        Line("as it should be", [(0, 0), (1, 1)], "#7d858c", dashed=True),
        Line("detections", [(score_bin.score, score_bin.right) for score_bin in bins], colour(5), marked=True),
    ]
    error = calibration_error(analysis.bins)
    caption = "Share of detections that are right, over their score"
    drawing = plot(lines, Axis("mean score", UNIT), Axis("share", UNIT), caption)
    yield f'<div class="plots">{figure(drawing, caption)}</div>'
    yield (
        f"<p>Mean distance between a score and the share that is right, weighted by detections (expected calibration"
        f" error): {percent(error)} %. Below the dashed line scores promise too much.</p>"
    )
    rows = [["score", "detections", "mean score, %", "right, %"]]
    rows += [
        [
            f"{score_bin.low:.1f} – {score_bin.high:.1f}",
            f"{score_bin.detections:,}",
            percent(score_bin.score),
            percent(score_bin.right),
        ]
        for score_bin in analysis.bins
    ]
    yield table(rows)


def _css(hue: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*hue)


def _worst(analysis: Analysis, report: Report) -> Iterator[str]:
    worst, rows = analysis.pictures.worst, analysis.rows()
    yield "<h2>The worst pictures</h2>"
    if not worst:
        yield f"<p>From a score of {analysis.threshold:.2f} on there is no mistake in any picture.</p>"
        return
    yield (
        f"<p>{count(len(worst), 'picture')} of {len(rows):,} with mistakes, most mistakes first, from a score of"
        f" {analysis.threshold:.2f} on. On the left what was annotated, on the right what was found.</p>"
    )
    hues = {"found": FOUND, "missed": MISSED, "invented": INVENTED}
    yield legend([Line(name, (), _css(hue)) for name, hue in hues.items()])
    for i in reported(worst[:WORST], "pictures drawn", report):
        row, name = rows[i], analysis.dataset.records[i].path.name
        numbers = f"{row['found']} found, {row['missed']} missed, {row['invented']} invented"
        images = "".join(
            f'<figure><img alt="{text(f"{name}: {what}")}" src="{jpeg_source(small_jpeg(drawing))}"></figure>'
            for what, drawing in zip(
                ("annotated", "found"), truth_and_found(analysis, i, analysis.threshold), strict=True
            )
        )
        yield (
            f'<section><p class="soft">{text(name)}: {numbers}</p><div class="pictures wide">{images}</div></section>'
        )


def _mistakes(analysis: Analysis, report: Report) -> Iterator[str]:
    mistakes = analysis.mistakes[:CUT_OUTS]
    yield "<h2>The most confident mistakes</h2>"
    if not mistakes:
        yield "<p>There are none.</p>"
        return
    yield (
        "<p>Look at these first: a detector that is sure and wrong has often found an object that nobody annotated, or"
        " one with the wrong class. Pink is the detection, green the object that it was held against. report.json lists"
        " them all as mistakes; rcnnkit check takes it with --mistakes.</p>"
    )
    figures = []
    for mistake in reported(mistakes, "mistakes drawn", report):
        facts = analysis.told(mistake)
        record = analysis.dataset.records[analysis.matches.ranking.pictures[mistake.detection]]
        beside = facts.get("object")
        drawing = cut_out(record, facts["box"], beside["box"] if beside else None)
        annotated = f", annotated: {beside['class']}" if beside and mistake.cause == "class" else ""
        caption = f"{facts['class']} {facts['score']:.2f} ({mistake.cause}{annotated}), {record.path.name}"
        words = text(caption)
        source = jpeg_source(small_jpeg(drawing, SMALL))
        figures.append(f'<figure><img alt="{words}" src="{source}"><figcaption>{words}</figcaption></figure>')
    yield f'<div class="pictures">{"".join(figures)}</div>'
