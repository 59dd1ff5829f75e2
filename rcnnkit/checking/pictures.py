"""What pictures themselves show: twins, depth, colours, orientation, and that they have no objects."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rcnnkit.checking.findings import (
    BLANK,
    CMYK,
    IN_NO_SPLIT,
    NO_OBJECTS,
    SAME_IN_TWO_SPLITS,
    SAME_PICTURE,
    SIMILAR_IN_TWO_SPLITS,
    SIMILAR_PICTURE,
    SIXTEEN_BITS,
    TURNED,
    Finding,
)
from rcnnkit.checking.looks import Look
from rcnnkit.checking.twins import Twin, is_blank
from rcnnkit.data.checks import is_picture
from rcnnkit.data.records import Dataset, Record, few
from rcnnkit.structures import Targets
from rcnnkit.text import count


def check_pictures(dataset: Dataset, looks: Sequence[Look], split: str) -> Iterator[Finding]:
    """What each picture shows by itself."""
    for record, look in zip(dataset.records, looks, strict=True):
        file = str(record.path)
        if look.highest:
            message = f"its highest value is {look.highest:,} of 65,535, which becomes {look.highest >> 8} of 255"
            yield Finding(SIXTEEN_BITS, split, file, "", message)
        if look.mode == "CMYK":
            yield Finding(CMYK, split, file, "", "its colours are cyan, magenta, yellow and black")
        if is_blank(look):
            objects = count(len(record.targets), "object")
            yield Finding(BLANK, split, file, "", f"it shows one colour, and has {objects}")
        if message := _turn(record, look):
            yield Finding(TURNED, split, file, "", message)
        if not len(record.targets):
            yield Finding(NO_OBJECTS, split, file, "", "it has no object")


def check_unused(
    folder: Path, records: Sequence[Record], splits: Sequence[str], findings: Sequence[Finding]
) -> Iterator[Finding]:
    """Pictures below a folder that are in none of the splits, without those that were left out for a problem."""
    paths = {os.path.realpath(record.path) for record in records}
    unused = [
        path
        for path in sorted(folder.rglob("*"))
        if is_picture(path) and not path.name.startswith(".") and os.path.realpath(path) not in paths
    ]
    messages = "\n".join(f"{finding.file} {finding.where} {finding.message}" for finding in findings) if unused else ""
    stray = [path for path in unused if path.stem not in messages]
    if stray:
        where = f"{count(len(stray), 'picture')} below {folder}"
        message = f"in none of {few(list(splits))}: {where}; this is the first"
        yield Finding(IN_NO_SPLIT, "", str(stray[0]), "", message)


def _turn(record: Record, look: Look) -> str:
    """What is doubtful about how EXIF turns a picture, or nothing."""
    height, width = look.stored
    if look.turn == 1:
        return ""
    if look.turn < 5 or height == width:
        how = {2: "mirrors it", 3: "rotates it by 180°", 4: "mirrors it"}.get(look.turn, "rotates it by 90°")
        return f"EXIF {how}, and the annotated size does not show whether the boxes are rotated too"
    if record.size == look.stored:
        return (
            f"EXIF rotates it by 90°, and the annotation has the size before that, {width} wide and {height} high; the"
            " boxes are taken to be those of the unrotated picture"
        )
    return ""


def check_twins(
    twins: Sequence[Twin], records: Sequence[Record], looks: Sequence[Look], splits: Sequence[str]
) -> Iterator[Finding]:
    """What comparing pictures shows.

    Args:
        twins: by their places in …
        records, looks, splits: … these, of all splits in turn; `splits` has the name of each picture's split.
    """
    for first, second, same_bytes in twins:
        first_record, second_record = records[first], records[second]
        across = splits[first] != splits[second]
        kind = (SAME_IN_TWO_SPLITS if same_bytes else SIMILAR_IN_TWO_SPLITS) if across else None
        kind = kind or (SAME_PICTURE if same_bytes else SIMILAR_PICTURE)
        likeness = "it has the same bytes as" if same_bytes else "it looks like"
        place = f"{first_record.path} of {splits[first]}" if across else f"{first_record.path}"
        mine, others = _size(looks[second]), _size(looks[first])
        size = "" if same_bytes else f" (both {mine})" if mine == others else f" ({mine}, and that one {others})"
        boxes = (
            "their objects are the same"
            if _same_objects(first_record.targets, second_record.targets)
            else "their objects differ"
        )
        yield Finding(kind, splits[second], str(second_record.path), "", f"{likeness} {place}{size}; {boxes}")


def _size(look: Look) -> str:
    return f"{look.stored[1]} × {look.stored[0]}"


def _same_objects(first: Targets, second: Targets) -> bool:
    if len(first) != len(second):
        return False
    first_rows, second_rows = (
        sorted(np.column_stack([each.labels.numpy(), each.boxes.numpy()]).tolist()) for each in (first, second)
    )
    return first_rows == second_rows
