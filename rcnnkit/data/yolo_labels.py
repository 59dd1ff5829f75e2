"""YOLO's label files: one for each picture, a line for each object.

A line is the object's class, counted from 0, then x and y of its centre, width and height, or the corners of a polygon
around it; all in shares of the picture's width and height, 0 to 1.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch

from rcnnkit.data.checks import Box, Findings
from rcnnkit.data.file_names import composed
from rcnnkit.data.records import few
from rcnnkit.files import check_regular
from rcnnkit.structures import Size, Targets
from rcnnkit.text import count

CORNERS = 6  # numbers of a polygon, at least


def label_file(picture: Path) -> Path:
    """Where a picture's objects are: in labels/ in place of the last images/ of its path, in a .txt of its name."""
    parts = list(picture.parts)
    for i in reversed(range(len(parts) - 1)):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def find_label_file(picture: Path) -> Path:
    """The `label_file` of a picture; where there is none, one beside the picture or in a folder labels/ there."""
    usual = label_file(picture)
    others = (picture.with_suffix(".txt"), picture.parent / "labels" / f"{picture.stem}.txt")
    return next((path for path in (usual, *others) if path.is_file()), usual)


class Labels:
    """Reads label files. Mistakes that most lines share are one problem.

    Args:
        own_names: number → name, as data.yaml has them.
        labels: name → label in the data set that is made.
        key_points: lines go on with key points after the box.
        findings: takes what is wrong.
    """

    def __init__(
        self, own_names: Mapping[int, str], labels: Mapping[str, int], key_points: bool, findings: Findings
    ) -> None:
        self.own_names, self.labels, self.key_points, self.findings = own_names, labels, key_points, findings
        self.objects = 0
        self.in_pixels: list[tuple[Path, str, str]] = []
        self.unknown: dict[str, list[tuple[Path, str]]] = defaultdict(list)

    def read(self, file: Path, size: Size) -> Targets | None:
        """The objects of a picture of this (height, width); None where the file cannot be read."""
        try:
            check_regular(file)
            lines = file.read_text(encoding="utf-8-sig").splitlines() if file.is_file() else []
        except (OSError, ValueError) as error:
            self.findings.add(file, "", f"it cannot be read ({error}); write it again, as UTF-8 text")
            return None
        boxes: list[Box] = []
        classes: list[int] = []
        numbers: dict[str, int] = {}  # what is written in a line -> the first line that has it
        for number, line in enumerate(lines, start=1):
            if not (text := " ".join(line.split())):
                continue
            self.objects += 1
            where = f"line {number}"
            try:
                entry = self._object(text, size, file, where)
            except ValueError as error:
                self.findings.add(file, where, str(error))
                entry = None
            if entry is None:
                self.findings.objects += 1
                continue
            if (first := numbers.setdefault(text, number)) != number:
                message = f"it repeats line {first}; delete one of them"
                self.findings.warn("an object that is annotated twice", file, where, message)
            classes.append(entry[0])
            boxes.append(entry[1])
        return Targets(torch.tensor(boxes).reshape(-1, 4), torch.tensor(classes, dtype=torch.int64))

    def _object(self, text: str, size: Size, file: Path, where: str) -> tuple[int, Box] | None:
        """The label and box of a line; None where `tell` will say what is wrong. Raises ValueError."""
        first, *rest = text.split()
        try:
            number, numbers = float(first), [float(word) for word in rest]
        except ValueError:
            raise ValueError(f"{_short(text)!r} holds a word that is no number; write class x y width height") from None
        if not number.is_integer() or number < 0:
            raise ValueError(f"its class is {first}; write a whole number from 0")
        if len(numbers) == 4 or (self.key_points and len(numbers) > 4):
            x, y, width, height = numbers[:4]
            corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        elif len(numbers) >= CORNERS and len(numbers) % 2 == 0:
            xs, ys = numbers[0::2], numbers[1::2]
            corners = [min(xs), min(ys), max(xs), max(ys)]
        else:
            also = "; a fifth number, such as a score, belongs to predictions" if len(numbers) == 5 else ""
            raise ValueError(
                f"{_short(text)!r} has {count(len(numbers), 'number')} after the class; write x y width height, or"
                f" three or more corners of a polygon{also}"
            )
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"{_short(text)!r} holds a number that is not finite; write shares from 0 to 1")
        name = self.own_names.get(int(number))
        if name is None:
            self.unknown[f"class {int(number)}"].append((file, where))
            return None
        if composed(name) not in self.labels:
            self.unknown[f"class {name!r}"].append((file, where))
            return None
        height, width = size
        if max(numbers) > 1 + 1 / min(size) and max(corners) > 2:
            self.in_pixels.append((file, where, text))
            return None
        x1, y1, x2, y2 = corners
        pixels = (x1 * width, y1 * height, x2 * width, y2 * height)
        return self.labels[composed(name)], self.findings.box(pixels, size, text, file, where)

    def tell(self, source: Path) -> bool:
        """Add what many lines share; True where most boxes are in pixels, so that the others are not to be trusted."""
        for stranger, uses in sorted(self.unknown.items()):
            file, where = uses[0]
            self.findings.add(
                source,
                stranger,
                f"{count(len(uses), 'object')} of this class (the first is {where} of {file}), and the classes are"
                f" {few([f'{number} {name}' for number, name in self.own_names.items()])}; correct the number, or add"
                " its name",
            )
        fix = "divide x and width by the picture's width, y and height by its height"
        if len(self.in_pixels) < 2 or 2 * len(self.in_pixels) <= self.objects:
            for file, where, text in self.in_pixels:
                self.findings.add(file, where, f"{_short(text)!r} is in pixels, where shares from 0 to 1 belong; {fix}")
            return False
        file, where, text = self.in_pixels[0]
        self.findings.add(
            source,
            "",
            f"{len(self.in_pixels)} of {self.objects} boxes are in pixels, where shares from 0 to 1 belong (the first"
            f" is {where} of {file}: {_short(text)!r}); {fix}",
        )
        return True


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"
