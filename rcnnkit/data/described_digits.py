"""Digits with a phrase each: "large red seven", or "large red seven left of a small blue three".

A digit that is close to another is described by it, too. Pictures in which it is not clear what a phrase should say are
not used: the size is in one of two ranges, gaps between digits are small or large, and a neighbour is beside a digit or
above or below it, not in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rcnnkit.data.digits import CLASSES, SPLITS, Scene, Style, draw_scene, scan_indices
from rcnnkit.data.records import Dataset, Record
from rcnnkit.data.visual_genome import REGION, write_regions
from rcnnkit.files import check_free
from rcnnkit.structures import Size, Targets
from rcnnkit.vocabulary import Vocabulary

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DESCRIBED = Style(
    objects=(2, 4),
    sides={"small": (18.0, 26.0), "large": (38.0, 54.0)},
    colours={
        "red": (215, 30, 30),
        "green": (25, 140, 45),
        "blue": (35, 60, 215),
        "yellow": (235, 215, 40),
        "white": (240, 240, 240),
        "black": (15, 15, 15),
    },
    contrast=50.0,
)
CLOSE, FAR = 10.0, 22.0  # pixels between two boxes: neighbours up to the first, none from the second on
CLEAR = 1.5  # how many times farther a neighbour is along one axis than along the other


def write_described_digits(
    root: Path, *, train: int = 512, val: int = 64, size: Size = (160, 160), seed: int = 0
) -> None:
    """Draw pictures of digits, and write what is in them in the format of Visual Genome; same seed, same bytes.

    train/ and val/ have the pictures; region_descriptions_{train,val}.json describe them. No scan of a digit is in
    both.

    Args:
        root: a folder that does not exist or is empty.
        train: pictures for training.
        val: pictures held out.
        size: (height, width) of each picture.
        seed: of everything that is drawn.

    Raises:
        FileExistsError: `root` is not empty.
    """
    check_free(root)
    number = 0
    for split, pictures in zip(SPLITS, (train, val), strict=True):
        (root / split).mkdir(parents=True)
        scans, scenes, phrases = scan_indices(split, CLASSES), list[tuple[Path, Scene]](), list[list[str]]()
        for _ in range(pictures):
            number += 1
            rng = np.random.default_rng((seed, number, 1))
            scene = draw_scene(rng, scans, size, DESCRIBED)
            while (described := describe(scene)) is None:
                scene = draw_scene(rng, scans, size, DESCRIBED)
            path = root / split / f"{number:06d}.jpg"
            Image.fromarray(scene.pixels).save(path, quality=95, subsampling=0)
            scenes.append((path, scene))
            phrases.append(described)
        words = sorted({word for scene_phrases in phrases for phrase in scene_phrases for word in phrase.split()})
        vocabulary, records = Vocabulary(words), []
        for (path, scene), scene_phrases in zip(scenes, phrases, strict=True):
            labels = torch.zeros(len(scene_phrases), dtype=torch.int64)
            targets = Targets(torch.from_numpy(scene.boxes), labels, phrases=vocabulary.encode(scene_phrases))
            records.append(Record(path.stem, path, size, targets))
        data = Dataset(f"digits/{split}", records, [REGION], [1], words)
        write_regions(data, root / f"region_descriptions_{split}.json")


def describe(scene: Scene) -> list[str] | None:
    """A phrase for each digit; None where it is not clear what one of them should say."""
    names = [name_of(scene, i) for i in range(len(scene.digits))]
    phrases = []
    for i, name in enumerate(names):
        gaps = [_gap(scene.boxes[i], box) if j != i else np.inf for j, box in enumerate(scene.boxes)]
        if any(CLOSE < gap < FAR for gap in gaps):
            return None
        near = [j for j, gap in enumerate(gaps) if gap <= CLOSE]
        if len(near) > 1:
            return None
        relation = relation_of(scene.boxes[i], scene.boxes[near[0]]) if near else ""
        if relation is None:
            return None
        phrases.append(f"{name} {relation} a {names[near[0]]}" if near else name)
    return phrases


def name_of(scene: Scene, digit: int) -> str:
    """What the digit at this place looks like: "large red seven"."""
    size, colour = scene.looks[digit]
    return f"{size} {colour} {NAMES[scene.digits[digit]]}"


def _gap(one: Sequence[float], other: Sequence[float]) -> float:
    """Pixels between two boxes along the axis where they are farther apart; negative where they overlap."""
    return max(max(one[0], other[0]) - min(one[2], other[2]), max(one[1], other[1]) - min(one[3], other[3]))


def relation_of(one: Sequence[float], other: Sequence[float]) -> str | None:
    """Where the first box is from the second; None where it is not clear."""
    x, y = (other[0] + other[2] - one[0] - one[2]) / 2, (other[1] + other[3] - one[1] - one[3]) / 2
    if max(abs(x), abs(y)) < CLEAR * min(abs(x), abs(y)):
        return None
    if abs(x) > abs(y):
        return "left of" if x > 0 else "right of"
    return "above" if y > 0 else "below"
