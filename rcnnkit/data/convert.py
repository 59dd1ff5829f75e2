"""A data set in another format: its pictures copied or linked into a new folder, its annotations written anew."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from rcnnkit.boxes import area
from rcnnkit.data.coco import write_coco
from rcnnkit.data.file_names import composed
from rcnnkit.data.records import Dataset, Record
from rcnnkit.data.voc_writing import write_voc
from rcnnkit.data.yolo_writing import write_yolo
from rcnnkit.files import check_free
from rcnnkit.structures import Targets
from rcnnkit.text import count

LINKS = ("hard", "symbolic")
ROUNDING = 1e-3  # pixels
PICTURES = {"coco": "images", "voc": "JPEGImages", "yolo": "images"}  # where each format has them
NARROWEST = 1.0  # pixels; VOC's inclusive corners of a box that is no wider coincide


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written."""

    splits: Mapping[str, Dataset]  # with the new pictures
    notes: list[str]  # what could not be kept


def convert(
    splits: Mapping[str, Dataset],
    to: str,
    out: Path,
    link: str | None = None,
    scores: Mapping[str, Sequence[Sequence[float]]] | None = None,
) -> Converted:
    """Write a data set as `to` into a new folder; reading it gives the same boxes, to less than 0.01 pixel.

    A picture keeps its name, unless another has it too; its folders' names are put before it then. Splits are called
    train, val and test, as they are in `splits`.

    Args:
        splits: of the same classes, as `read_layout` gives them.
        to: COCO: annotations/instances_SPLIT.json and images/; VOC: ImageSets/Main/SPLIT.txt, Annotations/ and
            JPEGImages/; YOLO: data.yaml, images/SPLIT/ and labels/SPLIT/.
        out: does not exist or is empty. When anything goes wrong, what was written into it is removed.
        link: put links to the pictures there in place of copies.
        scores: of each split the scores of each picture's objects, where a detector found them. Only COCO's annotations
            have a place for them.

    Raises:
        FileExistsError: `out` holds something already.
        OSError: a picture cannot be copied or linked.
    """
    check_free(out)
    existed = out.exists()
    sources = {split: _what_is_kept(data, to) for split, data in splits.items()}
    notes = _notes(splits, to)
    try:
        results = {}
        names = _Names()
        for split, data in sources.items():
            folder = out / PICTURES[to] / split if to == "yolo" else out / PICTURES[to]
            folder.mkdir(parents=True, exist_ok=True)
            records = []
            for record in data.records:
                path = folder / names.take(record.path)
                _copy(record.path, path, link)
                records.append(replace(record, path=path))
            results[split] = replace(data, records=records)
        if to == "yolo":
            write_yolo(results, out)
        for split, data in results.items():
            if to == "coco":
                of_split = None if scores is None else scores[split]
                write_coco(data, out / "annotations" / f"instances_{split}.json", of_split)
            elif to == "voc":
                whole = [replace(r, targets=replace(r.targets, boxes=_whole(r.targets.boxes))) for r in data.records]
                write_voc(replace(data, records=whole), out, split)
    except BaseException:
        for path in out.iterdir() if existed else [out]:
            shutil.rmtree(path, ignore_errors=True)
            if path.is_file():
                path.unlink()
        raise
    return Converted(results, notes)


class _Names:
    """Names for pictures in one folder: without their endings, and in small letters, no two are the same."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, path: Path) -> str:
        """A free name for a picture: its own, or that with its folder before it, or with a number behind it."""
        name = re.sub(r"[\x00-\x1f\x7f/\\]", "_", path.name)
        stem, suffix = Path(name).stem, Path(name).suffix
        base, number = f"{path.parent.name}_{stem}" if self._is_taken(stem) else stem, 1
        free = base
        while self._is_taken(free):
            number += 1
            free = f"{base}-{number}"
        self._taken.add(composed(free).lower())
        return f"{free}{suffix}"

    def _is_taken(self, stem: str) -> bool:
        return composed(stem).lower() in self._taken


def _whole(boxes: Tensor) -> Tensor:
    """Whole pixels where only the rounding of another format, such as shares of the sides, has moved a box."""
    return torch.where((boxes - boxes.round()).abs() < ROUNDING, boxes.round(), boxes)


def _copy(path: Path, copy: Path, link: str | None) -> None:
    try:
        if link == "hard":
            os.link(path.resolve(), copy)
        elif link == "symbolic":
            copy.symlink_to(path.resolve())
        else:
            shutil.copyfile(path, copy)
    except OSError as error:
        fix = "leave --link out, so that they are copied" if link else "free some space, or choose another --out"
        raise OSError(f"{path} cannot be put at {copy} ({error.strerror}); {fix}") from None


def _what_is_kept(data: Dataset, to: str) -> Dataset:
    """The data set without the objects that the format cannot hold."""
    records = []
    for record in data.records:
        lost = _lost(record, to)
        records.append(replace(record, targets=record.targets[~lost]) if lost.any() else record)
    return replace(data, records=records)


def _lost(record: Record, to: str) -> Tensor:
    """(N,) bool: the objects that are left out."""
    targets = record.targets
    if to == "voc":
        sides = targets.boxes[:, 2:] - targets.boxes[:, :2]
        return (sides <= NARROWEST).any(dim=1)
    return targets.crowd if to == "yolo" else torch.zeros(len(targets), dtype=torch.bool)


def _notes(splits: Mapping[str, Dataset], to: str) -> list[str]:
    """What the format cannot hold as it was, in words, with numbers."""
    records = [record for data in splits.values() for record in data.records]
    first = next(iter(splits.values()))

    def number(which: Callable[[Targets], Tensor]) -> int:
        return sum(int(which(record.targets).sum()) for record in records)

    crowds, areas = number(lambda t: t.crowd), number(lambda t: ~torch.isclose(t.areas, area(t.boxes), rtol=1e-3))
    flags = {"difficult": number(lambda t: t.difficult), "truncated": number(lambda t: t.truncated)}
    notes = []
    if first.words and to != "coco":  # whose writer says so
        described = sum(data.objects for data in splits.values())
        notes.append(f"the phrases of {count(described, 'object')} are lost: {to} has no place for them")
    for flag, flagged in flags.items():
        if flagged and to == "coco":
            notes.append(f"the flag `{flag}` of {count(flagged, 'object')} is kept; most other tools do not read it")
        elif flagged and to == "yolo":
            notes.append(f"the flag {flag} of {count(flagged, 'object')} is lost")
    if to == "voc":
        if narrow := sum(int(_lost(record, to).sum()) for record in records):
            notes.append(f"{count(narrow, 'object')} left out: at most 1 pixel wide or high, which VOC cannot express")
        if crowds:
            notes.append(f"{count(crowds, 'crowd region')} written as difficult objects, which are ignored likewise")
        if between := number(lambda t: (_whole(t.boxes) != t.boxes.round()).any(dim=1)):
            notes.append(
                f"{count(between, 'object')} written with decimals, which rcnnkit reads exactly; tools that read only"
                " whole numbers move such boxes by up to a pixel"
            )
        used = {label for record in records for label in record.targets.labels.tolist()}
        if unused := len(first.class_names) - len(used):
            notes.append(f"{count(unused, 'class')} without objects lost: VOC has no list of classes")
        if list(first.category_ids) != list(range(1, len(first.category_ids) + 1)) or (
            list(first.class_names) != sorted(first.class_names)
        ):
            notes.append("the classes have new ids, 1, 2, 3, …, in the order of their names")
    if to == "yolo":
        if crowds:
            notes.append(f"{count(crowds, 'crowd region')} left out, since YOLO would take them for objects")
        if list(first.category_ids) != list(range(len(first.category_ids))):
            notes.append("the classes have new ids, 0, 1, 2, …, in the same order")
    if areas and to != "coco":
        notes.append(f"the area of the outline of {count(areas, 'object')} is lost")
    numbered = all(isinstance(record.id, int) for record in records)
    if to == "coco" and not numbered:
        notes.append("the pictures have new ids, 1, 2, 3, …, since theirs are names")
    elif to != "coco" and numbered:
        notes.append("the pictures lose their ids; their names take the place")
    return notes
