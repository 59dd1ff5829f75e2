"""A fixed copy of a data set, in COCO's format with its pictures, and all that was changed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from rcnnkit.checking.boxes import doubles
from rcnnkit.checking.check import Checked
from rcnnkit.checking.classes import per_class, spellings
from rcnnkit.checking.findings import (
    OBJECT_TWICE,
    SAME_IN_TWO_SPLITS,
    SAME_PICTURE,
    SPELT_TWICE,
    STOPS_TRAINING,
    UNUSABLE_SPLIT,
)
from rcnnkit.data.coco import write_coco
from rcnnkit.data.records import Dataset, Record
from rcnnkit.files import check_free
from rcnnkit.progress import Report, reported, silent
from rcnnkit.structures import Array
from rcnnkit.text import visible

CHANGES = "changes.txt"


@dataclass(frozen=True, slots=True)
class Changes:
    """What a fixed copy has other than the data set: kind of finding → one line for each change."""

    lines: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, line: str) -> None:
        self.lines.setdefault(kind, []).append(visible(line))


def write_fixed(checked: Checked, out: Path, report: Report = silent) -> Changes:
    """Write a copy into the folder `out`: annotations/instances_SPLIT.json, the pictures of each split, changes.txt.

    What stops training is corrected where there is one clear answer: boxes that reach beyond their picture are cut to
    it, corners in the wrong order are swapped, and the picture's own size replaces another one. Otherwise it is left
    out, and so are the second ones of objects and pictures that are there twice. A picture in two splits leaves the one
    that is learnt from. Classes that differ in case, spaces or hyphens alone become one. Nothing else is changed: for
    that a person has to look.

    Args:
        checked: made with `check_data(…, fix=True)`.

    Raises:
        FileExistsError: `out` holds something already.
        ValueError: nothing is left of a split.
    """
    check_free(out)
    changes = Changes()
    for finding in checked.findings:
        if finding.kind.name in (STOPS_TRAINING.name, UNUSABLE_SPLIT.name):
            line = f"corrected: {finding}; now {finding.fixed}" if finding.fixed else f"left out: {finding}"
            changes.add(finding.kind.name, line)
    duplicates = _dropped_pictures(checked, changes)
    labels, names, ids = _one_spelling(checked, changes)
    start = 0
    records_of: dict[str, list[Record]] = {}
    for split, objects in checked.splits.items():
        keep = np.ones(len(objects), bool)
        for i, j in doubles(objects):
            keep[j] = False
            line = f"left out: {objects.file(j)}: {objects.name(j)}, which is {objects.name(i)} too"
            changes.add(OBJECT_TWICE.name, line)
        parts = np.split(keep, objects.starts[1:])
        records_of[split] = [
            _with(record, part, labels)
            for number, (record, part) in enumerate(zip(objects.dataset.records, parts, strict=True), start)
            if number not in duplicates
        ]
        start += len(objects.dataset)
        if not records_of[split]:
            raise ValueError(f"no picture is left of {split}; correct the data set by hand")
    for split, records in records_of.items():
        dataset = replace(checked.splits[split].dataset, records=records, class_names=names, category_ids=ids)
        _write_split(dataset, split, out, report)
    listing = "".join(f"{kind}: {line}\n" for kind, lines in changes.lines.items() for line in lines)
    (out / CHANGES).write_text(listing or "nothing was changed\n", encoding="utf-8")
    return changes


def _dropped_pictures(checked: Checked, changes: Changes) -> set[int]:
    """The pictures that are there again, by their places among those of all splits."""
    records, splits = checked.records, checked.split_of_each
    duplicates = set()
    for first, second, same in checked.twins:
        if not same:
            continue
        across = splits[first] != splits[second]
        duplicate, original = (first, second) if across else (second, first)
        kind = SAME_IN_TWO_SPLITS if across else SAME_PICTURE
        where = f" of {splits[duplicate]}" if across else ""
        kept_where = f" of {splits[original]}" if across else ""
        twin = f"{records[original].path}{kept_where}"
        changes.add(kind.name, f"left out: {records[duplicate].path}{where}, which is {twin} too")
        duplicates.add(duplicate)
    return duplicates


def _one_spelling(checked: Checked, changes: Changes) -> tuple[Array, list[str], list[int]]:
    """The new label of each old one, and the names and ids of the new ones."""
    datasets = [objects.dataset for objects in checked.splits.values()]
    names, ids = list(datasets[0].class_names), list(datasets[0].category_ids)
    counts = np.sum([per_class(objects) for objects in checked.splits.values()], axis=0)
    into = list(range(len(names)))
    for rare, frequent, certain, how in spellings(names, counts.tolist()):
        if certain:
            into[rare] = frequent
            line = f"class {names[rare]!r} became {names[frequent]!r}, from which it differs in {how}"
            changes.add(SPELT_TWICE.name, line)
    for label in range(len(names)):
        while into[into[label]] != into[label]:
            into[label] = into[into[label]]
    left = sorted(set(into))
    new = {old: label for label, old in enumerate(left)}
    return np.array([new[each] for each in into]), [names[old] for old in left], [ids[old] for old in left]


def _with(record: Record, keep: Array, labels: Array) -> Record:
    targets = record.targets[torch.from_numpy(keep)]
    return replace(record, targets=replace(targets, labels=torch.from_numpy(labels)[targets.labels]))


def _write_split(dataset: Dataset, split: str, out: Path, report: Report) -> None:
    """Copy the pictures into a folder of the split's name, and write their annotations."""
    folder = out / split
    folder.mkdir(parents=True)
    number_of: dict[str, int] = {}
    records = []
    for record in reported(dataset.records, f"{split} copied", report):
        number = number_of[record.path.name] = number_of.get(record.path.name, 0) + 1
        name = record.path.name if number == 1 else f"{record.path.stem}-{number}{record.path.suffix}"
        while number > 1 and name in number_of:
            name = f"{Path(name).stem}-{number}{record.path.suffix}"
        number_of.setdefault(name, 1)
        shutil.copyfile(record.path, folder / name)
        records.append(replace(record, path=folder / name))
    write_coco(replace(dataset, records=records), out / "annotations" / f"instances_{split}.json")
