"""What tests of readers share."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from rcnnkit.data.reading import read_data
from rcnnkit.data.records import BadData

OTHER_SIZE = "correct the size, or put back the picture that was annotated"


def pictures(root: Path, *names: str) -> None:
    """Pictures, 80 wide and 60 high."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 60)).save(root / name)


def read(
    root: Path, split: str = "train", class_names: Sequence[str] | None = None
) -> dict[str, list[tuple[object, ...]]]:
    """Picture -> its objects: class and box, rounded to a thousandth."""
    data = read_data(root, split, class_names=class_names)
    return {
        record.path.relative_to(root).as_posix(): [
            (data.class_names[label], *(round(v, 3) for v in box))
            for box, label in zip(record.targets.boxes.tolist(), record.targets.labels.tolist(), strict=True)
        ]
        for record in data.records
    }


def problems(root: Path, split: str = "train") -> list[str]:
    """All that is wrong with a data set, without the folder's name."""
    with pytest.raises(BadData) as error:
        read_data(root, split)
    return [re.sub(rf"{root}/?", "", str(problem)) for problem in error.value.problems]
