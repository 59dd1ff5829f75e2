"""The benchmark from beginning to end: what takes part, on what, and where the answers go."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rcnnkit.benchmark import results as store
from rcnnkit.benchmark.compare import Turn, measure, turns
from rcnnkit.benchmark.contenders import Contender, ready
from rcnnkit.benchmark.growth import measure_growth
from rcnnkit.benchmark.machine import describe
from rcnnkit.benchmark.memory import Load, check_memory, peaks
from rcnnkit.benchmark.peers import searches, torchvision_contender
from rcnnkit.benchmark.report import terminal, write_report
from rcnnkit.benchmark.subjects import Options, subjects
from rcnnkit.benchmark.summary import Step
from rcnnkit.benchmark.threads import threads
from rcnnkit.benchmark.variants import TITLES, Variant
from rcnnkit.data.records import Dataset
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.evaluation.coco import coco_metrics
from rcnnkit.images import read_picture
from rcnnkit.precision import DTYPES, pick_dtype
from rcnnkit.structures import Detections
from rcnnkit.terminal import safe, visible
from rcnnkit.weights import pick_device

SHOWN = 4  # pictures with what each detector finds
SHOWN_SIDE = 640  # pixels of the longer side
SEARCHED = 16  # pictures for the two selective searches
WRITE_EVERY = 2.0  # seconds between two versions of the results


def run_benchmark(options: Options, out: Path, console: Console) -> Path:
    """Fill `out` with results.json, report.md, report.html and plots; the path of the page.

    Raises:
        FileExistsError: `out` holds something already.
        FileNotFoundError, ValueError: pictures, weights or a device that cannot be used, or too little memory.
        KeyboardInterrupt: after the report of what was measured until then was written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is not empty; choose another --out, nothing is overwritten")
    device, console = pick_device(options.device), safe(console)
    dtype = pick_dtype(options.dtype, device)
    precision = next(name for name, each in DTYPES.items() if each == dtype)
    with threads(options.threads):
        load = Load(str(device), precision, options.batch, options.proposals, torch.get_num_threads())
        try:
            variants, data, annotated = subjects(options, out, console)
            check_memory(variants, [record.size for record in data.records], load)
        except BaseException:
            _clear(out)
            raise
        found: store.Results = {
            **describe(device),
            "complete": False,
            "stopped": None,
            "options": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()}
            | {"weights": [str(path) for path in options.weights]},
            "dtype": load.precision,
            "device": load.device,
            "pictures": {"name": visible(data.name), "count": len(data), "annotated": annotated},
            "contenders": {},
            "notes": [],
        }
        store.add_steps(found, {})
        out.mkdir(parents=True, exist_ok=True)
        try:
            _measure(found, variants, data, annotated, load, out, console)
            if options.growth:
                first = data.records[0]
                picture, backbone = read_picture(first.path, first.size), variants[0].settings.model.backbone
                measure_growth(found, picture, backbone, load, console, lambda: store.write(found, out))
            found["complete"] = True
        except KeyboardInterrupt:
            found["stopped"] = "interrupted"
            raise
        except (RuntimeError, MemoryError) as error:  # torch's words for too little memory
            if not _is_memory(error):
                raise
            found["stopped"] = "too little memory"
            raise ValueError(
                f"the memory of {device} did not suffice ({str(error).splitlines()[0]}); lower --batch or --proposals;"
                f" what was measured is in {out}"
            ) from None
        finally:
            if store.measured(found):
                store.write(found, out)
                page = write_report(out)
                console.print(terminal(found))
                console.print(f"wrote {page}" + ("" if found["complete"] else ", of what was measured until now"))
            else:
                _clear(out)
    return page


def _clear(out: Path) -> None:
    """Remove the pictures that were drawn: the next try needs an empty folder."""
    shutil.rmtree(out / "data", ignore_errors=True)


def _measure(
    found: store.Results,
    variants: Sequence[Variant],
    data: Dataset,
    annotated: bool,
    load: Load,
    out: Path,
    console: Console,
) -> None:
    """Everything but growth, put into `found` as it comes; `annotated`: with the accuracy."""
    contenders = _contenders(found, variants, load)
    began = time.perf_counter()
    for contender in contenders:  # warm-up: first calls pay for what later ones find
        measure(contender, data.records[: load.batch], torch.device(load.device))
    minutes = (time.perf_counter() - began) * len(data) / load.batch / 60
    titles = ", ".join(contender.title for contender in contenders)
    console.print(f"{len(data)} pictures of {data.name}, {titles}: about {minutes:.1f} minutes at most")
    _take_turns(found, contenders, data, annotated, load, out, console)
    # In processes of their own, so that each detector's peak is its own.
    largest = sorted(data.records, key=lambda record: -record.size[0] * record.size[1])[: load.batch]
    for variant in variants:
        try:
            found["contenders"][variant.name]["memory"] = peaks(variant, largest, load)
        except OSError as error:  # a pity, but no reason to lose the rest
            found["notes"].append(f"{error}.")
        store.write(found, out)
    found["searches"] = searches(data.records[:SEARCHED])
    if not found["searches"]:
        found["notes"].append("No peer for selective search: OpenCV's contrib build is not installed.")


def _contenders(found: store.Results, variants: Sequence[Variant], load: Load) -> list[Contender]:
    """The detectors, and torchvision's where it can be had, each with its place in `found`."""
    contenders = []
    for variant in variants:
        detector = variant.load(torch.device(load.device), load.proposals)
        contenders.append(ready(variant.name, TITLES[variant.name], detector, load.precision))
        found["contenders"][variant.name] = {
            "title": TITLES[variant.name],
            "weights": str(variant.weights) if variant.weights else None,
            "backbone": variant.settings.model.backbone,
            "settings": variant.settings.model_dump(mode="json"),
        }
        if isinstance(detector, FasterRCNN):
            try:
                contenders.append(torchvision_contender(detector, variant.settings, load.precision))
                found["contenders"]["torchvision"] = {"title": contenders[-1].title, "weights": "the same"}
                found["notes"].append("torchvision: its Faster R-CNN, eager, with the weights of this one.")
            except ValueError as error:
                found["notes"].append(f"No peer from torchvision: {error}.")
    return contenders


def _take_turns(
    found: store.Results,
    contenders: Sequence[Contender],
    data: Dataset,
    annotated: bool,
    load: Load,
    out: Path,
    console: Console,
) -> None:
    """Every picture to every contender; what was measured is in `found`, and on disk, also where this is stopped."""
    steps: dict[str, list[Step]] = {contender.name: [] for contender in contenders}
    answers: dict[str, dict[object, Detections]] = {contender.name: {} for contender in contenders}
    shown = data.records[:: max(1, len(data) // SHOWN)][:SHOWN]
    found["pictures"]["shown"] = [visible(record.path.name) for record in shown]
    written = time.perf_counter()
    try:
        with _bar(console) as bar:
            task = bar.add_task("", total=-(-len(data) // load.batch) * len(contenders))
            for turn in turns(contenders, data.records, load.batch, torch.device(load.device)):
                name = turn.contender.name
                steps[name].append(turn.step)
                answers[name] |= {record.id: each for record, each in zip(turn.records, turn.found, strict=True)}
                _keep_pictures(turn, [record.id for record in shown], out)
                bar.advance(task)
                if time.perf_counter() - written > WRITE_EVERY:
                    store.add_steps(found, steps)
                    store.write(found, out)
                    written = time.perf_counter()
    finally:
        store.add_steps(found, steps)
        for name, each in answers.items():
            found["contenders"][name]["accuracy"] = _accuracy(each, data) if annotated else None


def _accuracy(answers: dict[object, Detections], data: Dataset) -> dict[str, float | None] | None:
    """COCO's AP and AP50 on the pictures that were looked at; None without any."""
    records = [record for record in data.records if record.id in answers]
    if not records:
        return None
    numbers = coco_metrics([answers[record.id] for record in records], replace(data, records=records)).numbers
    return {name: None if numbers[name] != numbers[name] else numbers[name] for name in ("AP", "AP50")}


def _keep_pictures(turn: Turn, shown: Sequence[object], folder: Path) -> None:
    for record, drawn in zip(turn.records, turn.drawn, strict=True):
        if record.id in shown:
            file = store.picture_file(folder, shown.index(record.id), turn.contender.name)
            file.parent.mkdir(exist_ok=True)
            drawn.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
            drawn.save(file, quality=85)


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def _bar(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("turns"), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
