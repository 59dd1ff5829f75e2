"""Data sets in YOLO's layout for tests."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnnkit.data.reading import read_data
from rcnnkit.data.records import BadData

SIZE = (40, 80)  # height, width


def picture(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)
    return path


def pets(folder: Path) -> Path:
    """Three pictures: two objects, a polygon, none."""
    for split, names in (("train", "ab"), ("val", "c")):
        for name in names:
            picture(folder / "images" / split / f"{name}.png")
        (folder / "labels" / split).mkdir(parents=True)
    (folder / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n\n1 0.25  0.25 0.5 0.5 \n")
    (folder / "labels" / "train" / "b.txt").write_text("1 0.1 0.2 0.5 0.9 0.3 0.5\n")
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnc: 2\nnames: [cat, dog]\n")
    return folder


def write(root: Path, text: str, name: str = "a") -> None:
    (root / "labels" / "train" / f"{name}.txt").write_text(text)


def problems(root: Path, split: str = "train") -> list[str]:
    with pytest.raises(BadData) as error:
        read_data(root, split)
    return [re.sub(rf"{root}/", "", str(problem)) for problem in error.value.problems]
