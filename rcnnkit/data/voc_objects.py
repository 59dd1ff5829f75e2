"""The objects of VOC's annotations.

Their boxes are 1-based and inclusive: pixel columns xmin to xmax, counted from 1. In continuous 0-based pixels that is
xmin - 1 to xmax, so the reader subtracts 1 from xmin and ymin and nothing else, and the writer adds it again.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rcnnkit.data.checks import Box, Findings, Shares
from rcnnkit.data.file_names import composed
from rcnnkit.structures import Size, Targets

CORNERS = ("xmin", "ymin", "xmax", "ymax")
FLAGS = {"0": False, "false": False, "": False, "1": True, "true": True}

Corners = tuple[float, float, float, float]  # 1-based inclusive


@dataclass(frozen=True, slots=True)
class _Object:
    """One <object> as it is written."""

    name: str
    corners: Corners  # 1-based inclusive
    difficult: bool
    truncated: bool


class Objects:
    """Reads the objects of annotations. Mistakes that most boxes or objects share are one problem.

    Args:
        class_names: in the order of the labels.
        findings: takes what is wrong.
    """

    def __init__(self, class_names: Sequence[str], findings: Findings) -> None:
        self.class_names, self.findings = class_names, findings
        self._label_of = {composed(name): label for label, name in enumerate(class_names)}
        self._shares = Shares()
        self._strangers: dict[str, list[str]] = defaultdict(list)  # unknown class -> where it is used

    def read(self, tree: ET.Element, size: Size, file: Path) -> Targets:
        """The good objects of an annotation, for a picture of this (height, width)."""
        boxes, labels, difficult, truncated = [], [], [], []
        numbers: dict[tuple[object, ...], int] = {}  # class and box -> the first object that has them
        findings = self.findings
        for index, element in enumerate(tree.findall("object")):
            where = f"object {index}"
            try:
                thing = _parse(element)
                text = ", ".join(f"{name} {value:g}" for name, value in zip(CORNERS, thing.corners, strict=True))
                xmin, ymin, xmax, ymax = self._in_order(thing.corners, file, where)
                box = findings.box((xmin - 1, ymin - 1, xmax, ymax), size, text, file, where)
            except ValueError as error:
                findings.add(file, where, str(error))
                findings.objects += 1
                continue
            if thing.name not in self._label_of:
                self._strangers[thing.name].append(f"{where} of {file.name}")
                findings.objects += 1
                continue
            if self._shares.take(thing.corners, size, file, where, text):
                continue
            if (first := numbers.setdefault((thing.name, *box), index)) != index:
                message = f"its box and class are those of object {first} too; delete one"
                findings.warn("an object that is annotated twice", file, where, message)
            boxes.append(box)
            labels.append(self._label_of[thing.name])
            difficult.append(thing.difficult)
            truncated.append(thing.truncated)
        return Targets(
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor(labels, dtype=torch.int64),
            difficult=torch.tensor(difficult, dtype=torch.bool),
            truncated=torch.tensor(truncated, dtype=torch.bool),
        )

    def tell(self, source: Path) -> bool:
        """Add what many objects share; True where most boxes are in shares of the picture's sides, so that the others
        are not to be trusted either."""
        in_shares = self._shares.tell(source, self.findings)
        for name, places in sorted(self._strangers.items()):
            self.findings.add_stranger(source, name, len(places), places[0], self.class_names)
        return in_shares

    def _in_order(self, corners: Corners, file: Path, where: str) -> Corners:
        """The corners; within `fixing`, swapped ones in their order. Raises ValueError for any other fault of these."""
        xmin, ymin, xmax, ymax = corners
        # By VOC's letter equal corners are one pixel wide; in practice they are a slip of the mouse.
        if self.findings.fixing and xmin != xmax and ymin != ymax and (wrong := _order(corners)):
            xmin, xmax, ymin, ymax = *sorted((xmin, xmax)), *sorted((ymin, ymax))
            text = f"xmin {xmin:g}, ymin {ymin:g}, xmax {xmax:g}, ymax {ymax:g}"
            self.findings.fix(file, where, wrong, text)
        if wrong := _order((xmin, ymin, xmax, ymax)):
            raise ValueError(wrong)
        return xmin, ymin, xmax, ymax


def _parse(element: ET.Element) -> _Object:
    """Raises ValueError, saying what is missing, there twice, or not a number."""
    name = composed((element.findtext("name") or "").strip())
    if not name:
        raise ValueError("there is no <name>; give the object its class")
    if element.find("bndbox") is None:
        raise ValueError("there is no <bndbox>; give one with xmin, ymin, xmax and ymax")
    for tag in ("name", "bndbox", *(f"bndbox/{corner}" for corner in CORNERS)):
        if (number := len(element.findall(tag))) > 1:
            raise ValueError(f"there are {number} <{tag.rpartition('/')[2]}>; give each box an <object> of its own")
    corners = []
    for corner in CORNERS:
        text = (element.findtext(f"bndbox/{corner}") or "").strip()
        try:
            corners.append(float(text))
        except ValueError:
            raise ValueError(f"{corner} is {text!r}, expected a number; correct it") from None
    flags = {}
    for flag in ("difficult", "truncated"):
        text = (element.findtext(flag) or "").strip()
        if text.lower() not in FLAGS:
            raise ValueError(f"{flag} is {text!r}, expected 0 or 1; correct it")
        flags[flag] = FLAGS[text.lower()]
    xmin, ymin, xmax, ymax = corners
    return _Object(name, (xmin, ymin, xmax, ymax), **flags)


def _order(corners: Corners) -> str:
    """What is wrong with the order of a box's corners, or nothing."""
    xmin, ymin, xmax, ymax = corners
    for low_name, low, high_name, high, side in (
        ("xmin", xmin, "xmax", xmax, "width"),
        ("ymin", ymin, "ymax", ymax, "height"),
    ):
        if high <= low:
            equal = "=" if high == low else ">"
            return (
                f"{low_name} {low:g} {equal} {high_name} {high:g}: the box has no {side}; correct it or delete the"
                " object"
            )
    return ""


def boxes_of(tree: ET.Element) -> list[Box]:
    """The boxes of an annotation that can be read, in 0-based pixels."""
    boxes: list[Box] = []
    for element in tree.findall("object"):
        try:
            xmin, ymin, xmax, ymax = _parse(element).corners
        except ValueError:
            continue
        boxes.append((xmin - 1, ymin - 1, xmax, ymax))
    return boxes
