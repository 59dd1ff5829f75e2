"""Results as tables, for a terminal."""

from __future__ import annotations

import math

from rich.console import Group
from rich.table import Table

from rcnnkit.attacks.attack import Attacked
from rcnnkit.checking.check import Checked
from rcnnkit.checking.findings import SEVERITIES, by_kind
from rcnnkit.detectors.aligner import Grounding
from rcnnkit.evaluation.accuracy import Accuracy
from rcnnkit.evaluation.coco import NUMBERS, UNCAPPED
from rcnnkit.evaluation.comparison import Comparison, Difference
from rcnnkit.evaluation.dense_captions import METEORS, OVERLAPS, DenseCaptions
from rcnnkit.evaluation.described import Described
from rcnnkit.evaluation.report import Evaluation
from rcnnkit.evaluation.retrieval import FIRST, Retrieval
from rcnnkit.proposals.recall import SELECTIONS, Coverage
from rcnnkit.text import count


def result_table(result: Evaluation | Accuracy | Retrieval) -> Group | Table:
    """What `rcnnkit evaluate` prints."""
    if isinstance(result, Retrieval):
        return retrieval_table(result)
    return accuracy_table(result) if isinstance(result, Accuracy) else evaluation_table(result)


def evaluation_table(result: Evaluation) -> Group:
    """All tables of a detector, for `rich.print` or a `rich.console.Console`."""
    captions: list[Table | str] = [phrase_table(result.captions), ""] if result.captions else []
    return Group(*captions, class_table(result), "", coco_table(result))


def class_table(result: Evaluation) -> Table:
    """One row per class and a last one with the means; average precision in percent."""
    difficult = [coco.objects - voc.npos for coco, voc in zip(result.coco.classes, result.voc.classes, strict=True)]
    with_difficult = any(difficult)  # only VOC marks objects so; elsewhere the column says nothing
    table = Table(title=f"{result.dataset}: average precision by class, %", title_justify="left")
    table.add_column("class", overflow="fold")
    columns = ["objects", *["difficult"] * with_difficult, "AP", "AP50", *["AP_all"] * result.crowded]
    columns += ["VOC 11-point", "VOC area"]
    for column in columns:
        table.add_column(column, justify="right")

    def add(name: str, objects: int, hard: int, *values: float, style: str = "") -> None:
        counts = [f"{objects:,}", *[f"{hard:,}"] * with_difficult]
        table.add_row(name, *counts, *map(percent, values), style=style)

    for coco, voc, hard in zip(result.coco.classes, result.voc.classes, difficult, strict=True):
        of_all = [coco.ap_all] * result.crowded
        add(coco.name, coco.objects, hard, coco.ap, coco.ap50, *of_all, voc.ap_11, voc.ap_area)
    table.add_section()
    numbers, objects = result.coco.numbers, sum(each.objects for each in result.coco.classes)
    means = [numbers[name] for name in ("AP", "AP50", *["AP_all"] * result.crowded)]
    means += [result.voc.mean_ap_11, result.voc.mean_ap_area]
    add("mean", objects, sum(difficult), *means, style="bold")
    return table


def coco_table(result: Evaluation) -> Table:
    """COCO's twelve numbers in percent, with what each one means; of crowded pictures, those of UNCAPPED too."""
    pictures = f"{count(result.pictures, 'picture')}"
    speed = "" if math.isnan(result.seconds_per_image) else f", {result.seconds_per_image:.3f} s each"
    table = Table(title=f"{result.dataset}: COCO's numbers, %", caption=pictures + speed, title_justify="left")
    table.caption_justify = "left"
    table.add_column("")
    table.add_column("IoU")
    table.add_column("area, pixels")
    table.add_column("detections", justify="right")
    table.add_column("%", justify="right")
    for name, (overlap, area, detections) in NUMBERS.items():
        value = percent(result.coco.numbers[name])
        table.add_row(name, overlap, area, f"≤ {detections}", value, end_section=name in ("APl", "ARl"))
    for name, (overlap, area) in UNCAPPED.items():
        if result.crowded:
            table.add_row(name, overlap, area, "all", percent(result.coco.numbers[name]))
    return table


def phrase_table(result: DenseCaptions) -> Table:
    """The dense-captioning AP at each pair of thresholds, in percent."""
    title = f"dense captions: AP {percent(result.numbers['dense_AP'])} %, {result.meteor}"
    caption = f"{count(result.objects, 'object')}; AP of the boxes alone {percent(result.numbers['regions_AP'])} %"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("IoU at least")
    for least in METEORS:
        table.add_column(f"METEOR > {least:g}", justify="right")
    table.add_column("any phrase", justify="right")
    for least, row, boxes in zip(OVERLAPS, result.ap, result.boxes_ap, strict=True):
        table.add_row(f"{least:g}", *map(percent, row), percent(boxes))
    return table


def described_table(result: Described) -> Table:
    """What was said of true boxes: whole phrases in percent, and the scores of sentences."""
    title = f"whole phrases right, from true boxes: {percent(result.whole)} %"
    table = Table(title=title, caption=count(len(result.said), "phrase"), title_justify="left", caption_justify="left")
    for name in result.scores:
        table.add_column(name, justify="right")
    table.add_row(*(_number(value, 3) for value in result.scores.values()))
    return table


def retrieval_table(result: Retrieval) -> Table:
    """How often what belongs together is among the first, in percent, and the median of its rank; both ways."""
    caption = f"{count(result.pictures, 'picture')}, {count(len(result.picture_ranks), 'sentence')}"
    if result.silent:
        caption += f"; {percent(result.silent)} % of the words have the vector 0"
    table = Table(title=f"{result.dataset}: among all others, %", caption=caption, title_justify="left")
    table.add_column("")
    for column in (*(f"R@{k}" for k in FIRST), "median rank", "candidates"):
        table.add_column(column, justify="right")
    numbers = result.numbers
    for name, title, candidates in (
        ("sentences", "a sentence of each picture", len(result.picture_ranks)),
        ("pictures", "the picture of each sentence", result.pictures),
    ):
        shares = (percent(numbers[f"R{k}_{name}"]) for k in FIRST)
        table.add_row(title, *shares, f"{numbers[f'median_{name}']:g}", f"{candidates:,}")
    return table


def grounding_table(grounding: Grounding) -> Table:
    """Each piece of the sentence, its region, and the mean score of its words."""
    table = Table(caption=f"picture and sentence: {grounding.score:.2f}", caption_justify="left")
    table.add_column("words", overflow="fold")
    for column in ("region: x1, y1, x2, y2", "score"):
        table.add_column(column, justify="right")
    place = 0
    for region, snippet in grounding.snippets:
        words = slice(place, place := place + len(snippet.split(" ")))
        box = ", ".join(f"{side:.0f}" for side in grounding.boxes[region].tolist())
        score = float(grounding.scores[words].mean())
        table.add_row(snippet, box if region else f"the whole picture ({box})", f"{score:.2f}")
    return table


def comparison_table(result: Comparison, limit: int = 10) -> Group:
    """The numbers and classes of both in percent, the difference in points, and the pictures where they differ most."""
    table = Table(title=f"{result.first.dataset}: the second beside the first, %", title_justify="left")
    table.add_column("", overflow="fold")
    for column in ("first", "second", "difference", "95 % range", "p"):
        table.add_column(column, justify="right")

    def add(difference: Difference) -> None:
        low, high = (f"{100 * value:+.1f}" for value in difference.interval)
        known = not math.isnan(difference.difference)
        cells = [f"{100 * difference.difference:+.1f}", f"{low} – {high}"] if known else ["–", "–"]
        chance = "" if math.isnan(difference.chance) else f"{difference.chance:.3f}"
        table.add_row(difference.name, percent(difference.first), percent(difference.second), *cells, chance)

    for difference in result.numbers:
        add(difference)
    table.add_section()
    for row in sorted(result.classes, key=lambda row: -abs(row.difference if row.difference == row.difference else 0)):
        add(row)
    lines: list[Table | str] = [table, "", result.verdict]
    if result.pictures:
        lines.append(f"they differ most in these pictures ({len(result.pictures):,} in all):")
        for i, change in result.pictures[:limit]:
            which = "second" if change > 0 else "first"
            fewer = count(abs(change), "fewer mistake")
            lines.append(f"  {result.first.pictures[i]['file']}: the {which} makes {fewer}")
    return Group(*lines)


def accuracy_table(result: Accuracy) -> Table:
    """One row per class, then the mean of these, then all pictures."""
    table = Table(title=f"{result.dataset}: accuracy, %", title_justify="left")
    table.add_column("class", overflow="fold")
    for column in ("pictures", "top-1", "top-5"):
        table.add_column(column, justify="right")
    for each in result.classes:
        table.add_row(each.name, f"{each.pictures:,}", percent(each.top1), "")
    table.add_section()
    table.add_row("mean of classes", "", percent(result.numbers["class_mean"]), "")
    table.add_row("all pictures", f"{result.pictures:,}", percent(result.top1), percent(result.top5), style="bold")
    return table


def coverage_table(result: Coverage) -> Table:
    """One row for each count of proposals, first for all objects, then for the large ones; fractions."""
    table = Table(title="recall at IoU above 0.5 and 0.7; mean average best overlap", title_justify="left")
    table.add_column("objects")
    for column in ("first", "mean number", "recall 0.5", "recall 0.7", "MABO"):
        table.add_column(column, justify="right")
    for name, min_area in SELECTIONS.items():
        objects = f"{name}: {int((result.areas >= min_area).sum()):,}"
        for first in result.counts:
            there_are = float(result.lengths.clamp(max=first).double().mean())
            recalls = (result.recall(first, threshold, min_area) for threshold in (0.5, 0.7))
            values = [_number(value, 3) for value in (*recalls, result.mabo(first, min_area))]
            table.add_row(objects, f"{first:,}", _number(there_are, 0), *values)
            objects = ""
        table.add_section()
    return table


def attack_table(result: Attacked) -> Table:
    """A row for each version of the pictures, in percent; the shares are of objects, and the last of detections."""
    title = f"{result.method}, at most {count(result.eps, 'grey level')}, %"
    caption = f"shares: of detections that score {result.min_score:g} or more"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("pictures")
    for column in ("largest change", "AP", "AP50", "vanished", "changed class", "invented"):
        table.add_column(column, justify="right")
    names = {"clean": "as they are", "random": "random signs", "attacked": "attacked"}
    for version, each in result.versions.items():
        shares = (each.outcomes.vanished, each.outcomes.renamed, each.outcomes.invented)
        table.add_row(names[version], str(each.largest), *map(percent, (each.ap, each.ap50, *shares)))
    return table


def percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:,.{digits}f}"


def checked_table(checked: Checked, limit: int = 3) -> Group:
    """The splits of a checked data set, and the first findings of each kind."""
    table = Table(title=checked.name, title_justify="left")
    table.add_column("split")
    for column in ("pictures", "without objects", "objects", "classes"):
        table.add_column(column, justify="right")
    for split, objects in checked.splits.items():
        empty = int((objects.counts == 0).sum())
        classes = len(objects.dataset.class_names)
        table.add_row(split, *(f"{number:,}" for number in (len(objects.dataset), empty, len(objects), classes)))
    lines: list[Table | str] = [table]
    for findings in by_kind(checked.findings):
        kind = findings[0].kind
        lines += ["", f"{kind.severity}: {kind.title} ({len(findings):,}, {kind.name})"]
        lines += [f"  {finding}" for finding in findings[:limit]]
        if len(findings) > limit:
            lines.append(f"  … and {len(findings) - limit:,} more")
        lines.append(f"  {kind.fix}")
    totals = ", ".join(count(checked.count(severity), severity) for severity in SEVERITIES)
    return Group(*lines, "", totals)
