"""Changed copies of a data set's pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image

from rcnnkit.data.records import Dataset, Record
from rcnnkit.images import Array, read_picture
from rcnnkit.progress import Report, reported

SPLIT = "test"  # what the new data set has; `rcnnkit evaluate` looks for it first

# Of the picture's place in the data set, its record and its pixels (H, W, 3) uint8; gives such pixels.
Change = Callable[[int, Record, Array], Array]


def write_copies(data: Dataset, folder: Path, name: str, change: Change, progress: Report) -> Dataset:
    """The data set with changed pictures, numbered in its order, as PNGs in a folder that is there.

    Args:
        name: what was done to them, for people.
        progress: called with what is done so far.

    Raises:
        OSError, ValueError: a picture cannot be read or written.
    """
    digits, records = len(str(len(data))), []
    for number, record in enumerate(reported(data.records, name, progress)):
        picture = read_picture(record.path, record.size, checked=True)
        path = folder / f"{number + 1:0{digits}d}_{record.path.stem}.png"
        Image.fromarray(change(number, record, picture)).save(path)
        records.append(replace(record, path=path))
    return replace(data, name=f"{data.name}, {name}", records=records)
