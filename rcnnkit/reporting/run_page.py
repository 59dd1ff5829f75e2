"""A run as one HTML page that grows while it trains: losses, rates, numbers, speed, batches and detections."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rcnnkit.checking.drawings import small_jpeg
from rcnnkit.colours import class_colour
from rcnnkit.data.loading import Batch
from rcnnkit.data.records import Dataset
from rcnnkit.drawing import draw
from rcnnkit.drawing.canvas import Canvas
from rcnnkit.evaluation.report import Evaluation
from rcnnkit.files import whole
from rcnnkit.images import read_picture
from rcnnkit.pages import jpeg_source, text, whole_page
from rcnnkit.reporting.svg import Line, colour, figure, legend, plot, round_axis

PAGE, PICTURES = "report.html", "report"  # the page, and the folder of its pictures, in a run's folder
SHOWN = 8  # pictures of a batch, and validation pictures
TIMES = 6  # evaluations whose detections are shown
SMALL = 240  # pixels of a picture's longer side
HEADLINES = (("AP_all", "AP50_all"), ("AP", "AP50"), ("top1", "class_mean"), ("R5", "R5_sentences", "R5_pictures"))
EVERY = 20.0  # seconds between two versions of the page, besides those of evaluations
RELOAD = '<meta http-equiv="refresh" content="30">'  # a page of a run that goes on


class RunPage:
    """Writes run/report.html again and again. It takes numbers as a logger does.

    Args:
        run: its folder, in which log.jsonl is.
        iterations: of the whole run.
    """

    def __init__(self, run: Path, iterations: int) -> None:
        self.run, self.iterations = run, iterations
        self.written = -math.inf

    def log(self, iteration: int, numbers: Mapping[str, float]) -> None:
        if time.monotonic() - self.written > EVERY:
            self._write(RELOAD)

    def saw(self, iteration: int, batch: Any) -> None:
        """Keep the pictures of a batch as the network sees them. Batches of windows have none."""
        if not isinstance(batch, Batch):
            return
        for number, (pixels, targets) in enumerate(zip(batch.pictures[:SHOWN], batch.targets, strict=False)):
            canvas = Canvas(pixels.permute(1, 2, 0).cpu().numpy())
            colours = [class_colour(label) for label in targets.labels.tolist()]
            canvas.outline(targets.boxes.cpu(), colours, canvas.pixels(2))
            self._keep(f"batch-{iteration:07}-{number}.jpg", small_jpeg(canvas.image, SMALL))

    def judged(self, iteration: int, result: Any, dataset: Any) -> None:
        """Keep what was found in the same pictures at every evaluation: as many detections as there are objects."""
        if isinstance(result, Evaluation) and isinstance(dataset, Dataset):
            for number, i in enumerate(chosen(dataset)):
                record, detections = dataset.records[i], result.detections[i]
                best = detections[torch.argsort(-detections.scores, stable=True)[: max(1, len(record.targets))]]
                drawing = draw(read_picture(record.path, record.size, checked=True), best, min_score=-math.inf)
                self._keep(f"found-{iteration:07}-{number}.jpg", small_jpeg(drawing, SMALL))
        self._write(RELOAD)

    def finish(self) -> None:
        self._write("")

    def _keep(self, name: str, data: bytes) -> None:
        (self.run / PICTURES).mkdir(exist_ok=True)
        with whole(self.run / PICTURES / name) as half:
            half.write_bytes(data)

    def _write(self, head: str) -> None:
        with whole(self.run / PAGE) as half:
            half.write_text(page(self.run, self.iterations, head), encoding="utf-8")
        self.written = time.monotonic()


def chosen(dataset: Dataset) -> list[int]:
    """The places of up to eight pictures with objects, evenly from all of them; the same at every evaluation."""
    some = [i for i, record in enumerate(dataset.records) if len(record.targets)]
    return some[:: -(-len(some) // SHOWN) or 1][:SHOWN]


def page(run: Path, iterations: int, head: str = "") -> str:
    """The whole page, of log.jsonl and the pictures in a run's folder.

    Args:
        iterations: of the whole run.
        head: HTML for the head of the page.
    """
    lines = _lines(run)
    steps = [line for line in lines if "loss" in line]
    evaluations = [line for line in lines if "iteration" in line and "loss" not in line]
    title = f"Training {run.name or run.resolve().name}"
    parts = [f"<h1>{text(title)}</h1>", _cards(steps, evaluations, iterations)]
    if not steps:
        parts.append("<p>Nothing is logged yet.</p>")
    parts += [_plots(steps, evaluations, iterations), _batches(run), _found(run)]
    return whole_page(title, parts, head)


def _lines(run: Path) -> list[dict[str, Any]]:
    """Of log.jsonl; a line that is cut short is left out."""
    try:
        raw = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    lines = []
    for line in raw:
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict):
            lines.append(values)
    return lines


def _headline(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """The numbers that choose the best weights, the first one first."""
    for names in HEADLINES:
        if any(name in line for line in evaluations for name in names):
            return list(names)
    return []


def _cards(steps: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]], iterations: int) -> str:
    cards = []
    if steps:
        last = steps[-1]
        speed = next((name for name in last if name.endswith("_per_second")), None)
        cards.append(("iteration", f"{last['iteration']:,}", f"of {iterations:,}"))
        cards.append(("loss", _number(last["loss"]), ""))
        if speed:
            cards.append((f"{speed.removesuffix('_per_second')} a second", _number(last[speed]), ""))
        cards.append(("minutes", f"{last['seconds'] / 60:.1f}", "of training"))
    for name in _headline(evaluations):
        known = [(line[name], line["iteration"]) for line in evaluations if line.get(name) is not None]
        if known:
            best, where = max(known, key=lambda each: each[0])
            cards.append((f"best {name}, %", f"{100 * best:.1f}", f"after {where:,}"))
    items = "".join(
        f'<div class="card">{text(name)}<b>{text(value)}</b><span class="soft">{text(note) or "&nbsp;"}</span></div>'
        for name, value, note in cards
    )
    return f'<div class="cards">{items}</div>' if cards else ""


def _plots(steps: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]], iterations: int) -> str:
    if not steps:
        return ""
    known = {name for line in steps for name, value in line.items() if isinstance(value, int | float)}
    speeds = sorted(name for name in known if name.endswith("_per_second"))
    losses = [name for name in steps[-1] if name in known - {"iteration", "lr", "batch", "seconds", *speeds}]
    losses.sort(key=lambda name: name != "loss")  # the sum first
    validation = sorted({name for line in evaluations for name in line if name.startswith("val_loss")})
    groups = [("losses", steps, losses), ("learning rate", steps, ["lr"])]
    if headline := _headline(evaluations):
        groups.append(("on the validation pictures", evaluations, headline))
    if validation:
        groups.append(("losses of the validation pictures", evaluations, validation))
    groups += [(name.replace("_", " "), steps, [name]) for name in speeds]
    figures = []
    for title, source, names in groups:
        lines = []
        for number, name in enumerate(names):
            points = [(line["iteration"], line[name]) for line in source if line.get(name) is not None]
            if points:
                lines.append(Line(name, points, colour(number), marked=len(points) <= 40))
        if lines:
            values = [value for line in lines for _, value in line.points]
            x = round_axis("iteration", 0, max(iterations, steps[-1]["iteration"]))
            drawing = plot(lines, x, round_axis(title, min(0.0, *values), max(values)), title)
            figures.append(f"<div>{legend(lines)}{figure(drawing, title)}</div>")
    return f'<h2>Curves</h2><div class="plots">{"".join(figures)}</div>'


def _kept(run: Path, kind: str) -> dict[int, list[Path]]:
    """The pictures of a kind, by iteration."""
    paths: dict[int, list[Path]] = {}
    for path in sorted((run / PICTURES).glob(f"{kind}-*-*.jpg")):
        paths.setdefault(int(path.stem.split("-")[1]), []).append(path)
    return paths


def _batches(run: Path) -> str:
    paths = _kept(run, "batch")
    if not paths:
        return ""
    parts = ["<h2>What the network sees</h2>", "<p>Training pictures after augmentation, with their objects.</p>"]
    for iteration in dict.fromkeys((min(paths), max(paths))):
        images = "".join(_picture(path, f"a picture of iteration {iteration}") for path in paths[iteration])
        parts.append(
            f'<section><p class="soft">iteration {iteration:,}</p><div class="pictures">{images}</div></section>'
        )
    return "".join(parts)


def _found(run: Path) -> str:
    paths = _kept(run, "found")
    if not paths:
        return ""
    iterations = list(paths)
    some = sorted({iterations[round(i * (len(iterations) - 1) / (TIMES - 1))] for i in range(TIMES)})
    parts = ["<h2>What it finds</h2>", "<p>The same validation pictures, with as many detections as objects.</p>"]
    for iteration in some:
        images = "".join(_picture(path, f"found after {iteration} iterations") for path in paths[iteration])
        title = f'<p class="soft">after {iteration:,} iterations</p>'
        parts.append(f'<section>{title}<div class="pictures">{images}</div></section>')
    return "".join(parts)


def _picture(path: Path, words: str) -> str:
    return f'<figure><img alt="{text(words)}" src="{jpeg_source(path.read_bytes())}"></figure>'


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
