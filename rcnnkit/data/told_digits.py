"""Digits with sentences that tell of two of them: "a large red seven left of a small blue three".

The objects are annotated too, so that a detector can be trained on the same pictures. Digits that are not clearly
beside or above each other are not told of together.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from rcnnkit.data.coco import write_coco
from rcnnkit.data.described_digits import DESCRIBED, name_of, relation_of
from rcnnkit.data.digits import CLASSES, SPLITS, Scene, draw_scene, scan_indices
from rcnnkit.data.records import Dataset, Record
from rcnnkit.files import check_free
from rcnnkit.structures import Size, Targets
from rcnnkit.vocabulary import tokens

# A sentence, and the places of the two digits that it tells of, the first one first.
Caption = tuple[str, tuple[int, int]]


def write_told_digits(
    root: Path,
    *,
    train: int = 512,
    val: int = 64,
    sentences: tuple[int, int] = (3, 1),
    size: Size = (160, 160),
    seed: int = 0,
) -> None:
    """Draw pictures of digits, and write their objects in COCO's format and sentences in that of COCO's captions; same
    seed, same bytes.

    train/ and val/ have the pictures; annotations/ has instances_{train,val}.json and captions_{train,val}.json. Beside
    the `caption` of a sentence are its `boxes`: for each word x, y, width and height of the digit that it speaks of, or
    null for words such as "left" and "of". No scan of a digit is in both splits.

    Args:
        root: a folder that does not exist or is empty.
        train: pictures for training.
        val: pictures held out.
        sentences: the most of a picture for training, and of one that is held out. No sentence is there twice in a
            picture.
        size: (height, width) of each picture.
        seed: of everything that is drawn.

    Raises:
        FileExistsError: `root` is not empty.
    """
    check_free(root)
    (root / "annotations").mkdir(parents=True)
    number = 0
    for split, pictures, most in zip(SPLITS, (train, val), sentences, strict=True):
        (root / split).mkdir()
        scans, records = scan_indices(split, CLASSES), list[Record]()
        images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
        for _ in range(pictures):
            number += 1
            rng = np.random.default_rng((seed, number, 2))
            scene = draw_scene(rng, scans, size, DESCRIBED)
            while not (captions := tell(scene)):
                scene = draw_scene(rng, scans, size, DESCRIBED)
            path = root / split / f"{number:06d}.jpg"
            Image.fromarray(scene.pixels).save(path, quality=95, subsampling=0)
            labels = torch.tensor([CLASSES.index(digit) for digit in scene.digits])
            records.append(Record(number, path, size, Targets(torch.from_numpy(scene.boxes), labels)))
            images.append({"id": number, "file_name": path.name, "height": size[0], "width": size[1]})
            for place in rng.permutation(len(captions))[:most].tolist():
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": number, **_annotation(scene, captions[place])}
                )
        names = [str(digit) for digit in CLASSES]
        data = Dataset(f"digits/{split}", records, names, list(range(1, len(names) + 1)))
        write_coco(data, root / "annotations" / f"instances_{split}.json")
        content = json.dumps({"images": images, "annotations": annotations})
        (root / "annotations" / f"captions_{split}.json").write_text(content, encoding="utf-8")


def tell(scene: Scene) -> list[Caption]:
    """All that can be told of two digits of a picture, each sentence once."""
    names, captions = [name_of(scene, i) for i in range(len(scene.digits))], dict[str, tuple[int, int]]()
    for i, j in permutations(range(len(names)), 2):
        if relation := relation_of(scene.boxes[i], scene.boxes[j]):
            captions.setdefault(f"a {names[i]} {relation} a {names[j]}", (i, j))
    return list(captions.items())


def _annotation(scene: Scene, caption: Caption) -> dict[str, Any]:
    """The sentence, and the box that each word speaks of: the first four words of one digit, the last four of the
    other."""
    sentence, digits = caption
    boxes: list[Sequence[float] | None] = [None] * len(tokens(sentence))
    for digit, places in zip(digits, (range(4), range(len(boxes) - 4, len(boxes))), strict=True):
        x1, y1, x2, y2 = scene.boxes[digit].tolist()
        for place in places:
            boxes[place] = [x1, y1, x2 - x1, y2 - y1]
    return {"caption": sentence, "boxes": boxes}
