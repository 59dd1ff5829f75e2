"""rcnnkit detect."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rcnnkit.cli.errors import complain, reason
from rcnnkit.cli.options import Batch, Device, Files, MaxDetections, Precision, Weights, console, finite
from rcnnkit.defaults import BATCH, DEVICE, PRECISION

if TYPE_CHECKING:
    from rcnnkit.detectors.detector import Detector
    from rcnnkit.images import Array
    from rcnnkit.structures import Detections

# What one picture may raise where the next is well: too little memory is a RuntimeError of torch, too.
FAILURES = (OSError, ValueError, RuntimeError, MemoryError)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the next one would fail as well


def detect(
    weights: Weights,
    files: Files,
    out: Annotated[
        Path, typer.Option(help="Folder for the pictures with boxes, in the same sub-folders, and detections.json.")
    ],
    min_score: Annotated[
        float | None,
        typer.Option(callback=finite, help="Draw boxes from this score on; by default 0.5, of SVMs' margins 0."),
    ] = None,
    max_detections: MaxDetections = None,
    batch: Batch = BATCH,
    device: Device = DEVICE,
    precision: Precision = PRECISION,
) -> None:
    """Find things: pictures with boxes, and one JSON file in COCO's results format.

    A result's image_id is the path of its picture as it was given. A picture that cannot be read,
    searched or drawn is named, the others are done, and the exit status is 1. Other files in the
    folders are counted in one line.
    """
    from rcnnkit.data.checks import pictures_in
    from rcnnkit.drawing import draw, save_picture
    from rcnnkit.files import whole
    from rcnnkit.weights import load

    pictures = list(dict.fromkeys(pictures_in(files, out)))
    drawn = _drawn_names(pictures, out, [file for file in files if file.is_dir()])
    taken = [path for path in [*drawn.values(), out / "detections.json"] if path.exists()]
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file; choose another --out, the folder that pictures go into")
    if taken:
        raise FileExistsError(f"{taken[0]} is there already; choose another --out, nothing is overwritten")
    detector = load(weights, device, precision, max_detections)
    least = min_score if min_score is not None else 0.0 if detector.scores_are_margins else 0.5
    results: list[dict[str, object]] = []
    searched = saved = 0
    try:
        for path, array, detections in _found(detector, pictures, batch):
            drawn[path].parent.mkdir(parents=True, exist_ok=True)
            results += detections.to_coco(str(path))
            searched += 1
            try:
                file = save_picture(draw(array, detections, min_score=least), drawn[path])
            except FAILURES as error:
                if getattr(error, "errno", None) in NO_ROOM:
                    raise
                complain(
                    f"{path}: the picture with its boxes cannot be written ({reason(error)}); what was found is in"
                    f" {out}/detections.json"
                )
                continue
            saved += 1
            seen = detections.above(least)
            counts = {name: seen.names.count(name) for name in dict.fromkeys(seen.names)}
            summary = ", ".join(f"{count} {name}" for name, count in counts.items())
            summary = summary or f"nothing that scores {least:g}"
            console.print(f"{path}: {summary}" + ("" if file == drawn[path] else f"; drawn in {file}"))
    finally:  # also of what a Ctrl-C leaves undone
        if searched:  # else a corrected call shall find nothing in its way
            with whole(out / "detections.json") as half:
                half.write_text(json.dumps(results), encoding="utf-8")
    if searched:
        console.print(f"wrote {saved} pictures and {len(results)} detections in {out}/detections.json")
    if saved < len(pictures):
        raise typer.Exit(1)


def _found(detector: Detector, paths: Sequence[Path], batch: int) -> Iterator[tuple[Path, Array, Detections]]:
    """Pictures with what is in them, `batch` at a time. One that cannot be read or searched is named and left out."""
    import cv2

    from rcnnkit.images import read_picture

    failures = (*FAILURES, cv2.error)
    queue = iter(paths)
    while some := list(islice(queue, batch)):
        arrays = {}
        for path in some:
            try:
                arrays[path] = read_picture(path)
            except failures as error:
                complain(error if isinstance(error, OSError | ValueError) else f"{path}: {reason(error)}")
        try:
            found = dict(zip(arrays, detector(list(arrays.values())), strict=True))
        except failures:
            found = {}  # one of them may be at fault: each alone
        for path, array in arrays.items():
            try:
                detections = found[path] if found else detector(array)
            except failures as error:
                complain(f"{path}: the search failed ({reason(error)}); a smaller picture takes less memory")
                continue
            yield path, array, detections


def _drawn_names(pictures: list[Path], out: Path, folders: list[Path]) -> dict[Path, Path]:
    """Where each picture goes: its own name, in its sub-folder in out/; a second one of a name gets a number."""
    drawn: dict[Path, Path] = {}
    used: set[Path] = set()
    for path in pictures:
        place = next((path.relative_to(folder).parent for folder in folders if path.is_relative_to(folder)), Path())
        file, number = out / place / f"{path.stem}.jpg", 1
        while file in used:
            number += 1
            file = out / place / f"{path.stem}-{number}.jpg"
        used.add(file)
        drawn[path] = file
    return drawn
