"""The benchmark from beginning to end: what takes part, on what, and where the answers go."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rcnnkit.benchmark.measure.choice import choose
from rcnnkit.benchmark.measure.contenders import Contender, ReadyContender, exported
from rcnnkit.benchmark.measure.growth import measure_growth
from rcnnkit.benchmark.measure.machine import describe, threads
from rcnnkit.benchmark.measure.memory import check_memory, peaks
from rcnnkit.benchmark.measure.searches import searches
from rcnnkit.benchmark.measure.turns import Turn, measure, turns
from rcnnkit.benchmark.measure.twin import torchvision_contender
from rcnnkit.benchmark.options import Options
from rcnnkit.benchmark.report.write import terminal, write_report
from rcnnkit.benchmark.results import MeasuredContender, Pictures, Results, Step, Summary, picture_file, write
from rcnnkit.data.records import Dataset, Record
from rcnnkit.evaluation.coco import coco_metrics
from rcnnkit.files import check_free
from rcnnkit.images import read_picture
from rcnnkit.precision import DTYPES, pick_dtype
from rcnnkit.structures import Detections
from rcnnkit.terminal import safe
from rcnnkit.text import count, visible
from rcnnkit.weights import pick_device

SHOWN = 4  # pictures with what each detector finds
SHOWN_SIDE = 640  # pixels of the longer side
SEARCHED = 16  # pictures for the two selective searches
WRITE_EVERY = 2.0  # seconds between two versions of the results


class Journal:
    """The results so far, and the folder that keeps them."""

    def __init__(self, results: Results, folder: Path) -> None:
        self.results, self.folder = results, folder

    def add(self, **changes: Any) -> None:
        """Results with these fields instead."""
        self.results = replace(self.results, **changes)

    def contender(self, name: str, **changes: Any) -> None:
        """Results with these fields of a contender instead."""
        contenders = self.results.contenders
        self.add(contenders=contenders | {name: replace(contenders[name], **changes)})

    def note(self, text: str) -> None:
        self.add(notes=(*self.results.notes, text))

    def save(self) -> None:
        write(self.results, self.folder)


def run_benchmark(options: Options, out: Path, console: Console) -> Path:
    """Fill `out` with results.json, report.md, report.html and plots; the path of the page.

    Raises:
        FileExistsError: `out` holds something already.
        FileNotFoundError, ValueError: pictures, weights or a device that cannot be used, or too little memory.
        KeyboardInterrupt: after the report of what was measured until then was written.
    """
    check_free(out)
    device, console = pick_device(options.device), safe(console)
    dtype = pick_dtype(options.precision, device)
    precision = next(name for name, known in DTYPES.items() if known == dtype)
    with threads(options.threads):
        options = replace(options, device=str(device), precision=precision, threads=torch.get_num_threads())
        try:
            contenders, data, annotated = choose(options, out, console)
            check_memory(contenders, [record.size for record in data.records], options)
        except BaseException:
            _clear(out)
            raise
        examples = data.records[:: max(1, len(data) // SHOWN)][:SHOWN]
        pictures = Pictures(
            visible(data.name), len(data), annotated, tuple(visible(record.path.name) for record in examples)
        )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        journal = Journal(Results(now, options, describe(device), pictures), out)
        out.mkdir(parents=True, exist_ok=True)
        with _reported(journal, console):
            _measure(journal, contenders, data, [record.id for record in examples], console)
            if options.growth:
                _measure_growth(journal, data.records[0], contenders[0].settings.model.backbone, console)
    return out / "report.html"


@contextmanager
def _reported(journal: Journal, console: Console) -> Iterator[None]:
    """What was measured inside is written and reported, also where this was stopped."""
    out = journal.folder
    try:
        yield
        journal.add(complete=True)
    except KeyboardInterrupt:
        journal.add(stopped="interrupted")
        raise
    except (RuntimeError, MemoryError) as error:  # torch's words for too little memory
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        journal.add(stopped="too little memory")
        raise ValueError(
            f"{journal.results.options.device} ran out of memory ({str(error).splitlines()[0]}); lower"
            f" --batch or --max-proposals; what was measured is in {out}"
        ) from None
    finally:
        if journal.results.summaries:
            journal.save()
            page = write_report(out)
            console.print(terminal(journal.results))
            console.print(f"wrote {page}" + ("" if journal.results.complete else ", with what was measured so far"))
        else:
            _clear(out)


def _clear(out: Path) -> None:
    """Remove the pictures that were drawn: the next try needs an empty folder."""
    shutil.rmtree(out / "data", ignore_errors=True)


def _measure(
    journal: Journal, contenders: Sequence[Contender], data: Dataset, example_ids: Sequence[object], console: Console
) -> None:
    """Everything but growth, put into the journal as it comes."""
    options = journal.results.options
    ready = _prepare(journal, contenders)
    began = time.perf_counter()
    for ready_contender in ready:  # warm-up: first calls pay for what later ones find
        measure(ready_contender, data.records[: options.batch], options.device)
    minutes = (time.perf_counter() - began) * len(data) / options.batch / 60
    titles = ", ".join(contender.title for contender in ready)
    console.print(f"{count(len(data), 'picture')} of {data.name}, {titles}: about {minutes:.1f} minutes at most")
    _take_turns(journal, ready, data, example_ids, console)
    # In processes of their own, so that each detector's peak is its own.
    largest = sorted(data.records, key=lambda record: -record.size[0] * record.size[1])[: options.batch]
    for contender in contenders:
        try:
            journal.contender(contender.name, memory=peaks(contender, largest, options))
        except OSError as error:  # a pity, but no reason to lose the rest
            journal.note(f"{error}.")
        journal.save()
    journal.add(searches=searches(data.records[:SEARCHED]))
    if not journal.results.searches:
        journal.note("No other contender for selective search: OpenCV's contrib build is not installed.")


def _prepare(journal: Journal, contenders: Sequence[Contender]) -> list[ReadyContender]:
    """The detectors, and torchvision's where it can be had, each with its place in the journal."""
    options, ready, places = journal.results.options, [], {}
    for contender in contenders:
        weights, settings = str(contender.weights or "") or None, contender.settings
        ready.append(contender.ready(options))
        places[contender.name] = MeasuredContender(
            contender.title, weights, settings.model.backbone, settings.model_dump(mode="json")
        )
        if contender.name == "faster-rcnn":
            try:
                ready.append(torchvision_contender(contender, options))
                places["torchvision"] = MeasuredContender(ready[-1].title, "the same")
                journal.note("torchvision: its Faster R-CNN, eager, with the same weights.")
            except ValueError as error:
                journal.note(f"No contender from torchvision: {error}.")
    if options.also:
        journal.note(
            "Exported files: the stage “runtime” is the file in its runtime, and “resize” is the rest of the call."
            " The precision beside a file's name is the file's own."
        )
    for file in exported(options.also, contenders[0].class_names, options.threads):
        ready.append(file)
        places[file.name] = MeasuredContender(file.title, file.name)
    journal.add(contenders=places)
    return ready


def _take_turns(
    journal: Journal,
    contenders: Sequence[ReadyContender],
    data: Dataset,
    example_ids: Sequence[object],
    console: Console,
) -> None:
    """Every picture to every contender; what was measured is in the journal also where this is stopped."""
    batch = journal.results.options.batch
    steps: dict[str, list[Step]] = {contender.name: [] for contender in contenders}
    answers: dict[str, dict[object, Detections]] = {contender.name: {} for contender in contenders}

    def add_steps() -> None:
        for name, some in steps.items():
            journal.contender(name, steps=tuple(some), summary=Summary.of(some) if some else None)

    write_time = time.perf_counter()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("turns"), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=-(-len(data) // batch) * len(contenders))
            for turn in turns(contenders, data.records, batch, journal.results.options.device):
                steps[turn.contender.name].append(turn.step)
                ids = [record.id for record in turn.records]
                answers[turn.contender.name] |= dict(zip(ids, turn.detections, strict=True))
                _keep_pictures(turn, example_ids, journal.folder)
                bar.advance(task)
                if time.perf_counter() - write_time > WRITE_EVERY:
                    add_steps()
                    journal.save()
                    write_time = time.perf_counter()
    finally:
        add_steps()
        if journal.results.pictures.annotated:
            for name, of_pictures in answers.items():
                journal.contender(name, accuracy=_accuracy(of_pictures, data) if of_pictures else None)


def _accuracy(answers: dict[object, Detections], data: Dataset) -> dict[str, float | None]:
    """COCO's AP and AP50 on the pictures that were looked at."""
    records = [record for record in data.records if record.id in answers]
    numbers = coco_metrics([answers[record.id] for record in records], replace(data, records=records)).numbers
    return {name: None if numbers[name] != numbers[name] else numbers[name] for name in ("AP", "AP50")}


def _keep_pictures(turn: Turn, example_ids: Sequence[object], folder: Path) -> None:
    for record, drawing in zip(turn.records, turn.drawn, strict=True):
        if record.id in example_ids:
            file = picture_file(folder, example_ids.index(record.id), turn.contender.name)
            file.parent.mkdir(exist_ok=True)
            drawing.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
            drawing.save(file, quality=85)


def _measure_growth(journal: Journal, record: Record, backbone: str, console: Console) -> None:
    picture = read_picture(record.path, record.size)
    for news in measure_growth(picture, backbone, journal.results.options, console):
        if isinstance(news, str):
            journal.note(news)
        else:
            journal.add(growth=news)
            journal.save()
