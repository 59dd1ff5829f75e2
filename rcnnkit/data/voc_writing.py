"""Writes data sets in Pascal VOC's layout."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from functools import partial
from operator import add
from pathlib import Path

import torch

from rcnnkit.data.decimals import shortest
from rcnnkit.data.records import Dataset, Record
from rcnnkit.data.voc import annotation_file
from rcnnkit.data.voc_objects import CORNERS

NOT_XML = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2; \r reads back as \n


def write_voc(dataset: Dataset, root: Path, split: str) -> None:
    """Write annotations and the split's list; `read_voc` gives the same boxes, labels and flags back.

    Pictures that lie elsewhere are copied into JPEGImages. A crowd region is written as difficult: VOC
    knows no crowds, and its evaluation ignores difficult objects likewise. COCO's areas are not kept.

    Raises:
        FileExistsError: a file that would be written exists; nothing has been written then.
        ValueError: two pictures have the same stem, a class has a character that XML does not allow, or a box is no
            more than 1 pixel wide or high, so that VOC's inclusive corners would coincide.
    """
    root = Path(root)
    check_xml_names(dataset.class_names)
    stems: dict[str, Path] = {}
    for record in dataset.records:
        if record.path.stem in stems:
            raise ValueError(
                f"{record.path} and {stems[record.path.stem]} would both be {record.path.stem} in"
                " JPEGImages; rename one"
            )
        stems[record.path.stem] = record.path
        sides = record.targets.boxes[:, 2:] - record.targets.boxes[:, :2]
        for index in torch.nonzero((sides <= 1).any(dim=1)).flatten().tolist():
            raise ValueError(
                f"{record.path}, object {index}: the box {record.targets.boxes[index].tolist()} is no more than"
                " 1 pixel wide or high, which in VOC's files is degenerate; leave it out or write COCO's format"
            )
    split_list = root / "ImageSets" / "Main" / f"{split}.txt"
    copies = {path: root / "JPEGImages" / path.name for path in stems.values()}
    copies = {path: copy for path, copy in copies.items() if path.resolve() != copy.resolve()}
    for path in [split_list, *(annotation_file(root, stem) for stem in stems), *copies.values()]:
        if path.exists():
            raise FileExistsError(f"{path} exists and is not overwritten; choose another folder or split")

    for folder in (root / "JPEGImages", root / "Annotations", split_list.parent):
        folder.mkdir(parents=True, exist_ok=True)
    for path, copy in copies.items():
        shutil.copyfile(path, copy)
    for record in dataset.records:
        tree = _tree(record, dataset.class_names)
        tree.write(annotation_file(root, record.path.stem), encoding="utf-8")
    split_list.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")


def check_xml_names(class_names: Sequence[str]) -> None:
    """Raise ValueError where a class has a character that XML does not allow."""
    for name in class_names:
        if (wrong := NOT_XML.search(name)) is not None:
            raise ValueError(
                f"the class {name!r} has the character {wrong[0]!r}, which XML does not allow; rename the class, or"
                " write COCO's or YOLO's format"
            )


def _tree(record: Record, class_names: Sequence[str]) -> ET.ElementTree[ET.Element]:
    tree = ET.Element("annotation")
    ET.SubElement(tree, "folder").text = "JPEGImages"
    ET.SubElement(tree, "filename").text = record.path.name
    size = ET.SubElement(tree, "size")
    for name, value in zip(("width", "height", "depth"), (record.size[1], record.size[0], 3), strict=True):
        ET.SubElement(size, name).text = str(value)
    ET.SubElement(tree, "segmented").text = "0"
    targets = record.targets
    for box, label, difficult, truncated in zip(
        targets.boxes.tolist(),
        targets.labels.tolist(),
        (targets.difficult | targets.crowd).tolist(),
        targets.truncated.tolist(),
        strict=True,
    ):
        thing = ET.SubElement(tree, "object")
        ET.SubElement(thing, "name").text = class_names[label]
        ET.SubElement(thing, "pose").text = "Unspecified"
        ET.SubElement(thing, "truncated").text = str(int(truncated))
        ET.SubElement(thing, "difficult").text = str(int(difficult))
        corners = ET.SubElement(thing, "bndbox")
        for name, value in zip(CORNERS, box, strict=True):
            shift = 1 if name in ("xmin", "ymin") else 0
            number = shortest(value + shift, value, partial(add, -shift))
            ET.SubElement(corners, name).text = str(number)
    ET.indent(tree)
    return ET.ElementTree(tree)
