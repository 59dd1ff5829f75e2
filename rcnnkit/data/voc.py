"""Pascal VOC's layout: JPEGImages/, Annotations/*.xml, ImageSets/Main/<split>.txt.

Its boxes are 1-based and inclusive: pixel columns xmin to xmax, counted from 1. In continuous 0-based
pixels that is xmin - 1 to xmax, so the reader subtracts 1 from xmin and ymin and nothing else, and the
writer adds it again.
"""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import add
from pathlib import Path

import torch

from rcnnkit.data.checks import Findings, check_box, check_size, count, is_picture, picture_sizes
from rcnnkit.data.decimals import shortest
from rcnnkit.data.records import Dataset, Record
from rcnnkit.structures import Size, Targets

CORNERS = ("xmin", "ymin", "xmax", "ymax")
FLAGS = {"0": False, "false": False, "": False, "1": True, "true": True}


@dataclass(frozen=True, slots=True)
class _Object:
    """One <object> as it is written."""

    name: str
    corners: tuple[float, float, float, float]  # 1-based inclusive
    difficult: bool
    truncated: bool


def read_voc(root: Path, split: str, class_names: Sequence[str] | None = None) -> tuple[Dataset, Findings]:
    """One split of a data set in VOC's layout, and everything that is wrong with it.

    Args:
        root: the folder with JPEGImages, Annotations and ImageSets.
        split: the name of a list in ImageSets/Main, without `.txt`.
        class_names: in the order of the labels. Left out, they are the sorted names found in all of
            Annotations, so that every split numbers its classes alike.

    Returns:
        The data set without what is bad, category ids 1…K; and the problems found, in which the objects
        of a file are counted from 0. An object that is bad is left out alone, a picture that is bad with
        all its objects.

    Raises:
        FileNotFoundError: a folder or the split's list is missing.
        ValueError: the split lists no picture, or a class name is given twice.
    """
    root = Path(root)
    for folder in ("Annotations", "JPEGImages"):
        if not (root / folder).is_dir():
            raise FileNotFoundError(f"{root / folder} is missing; VOC's layout has its files there")
    pictures: dict[str, list[Path]] = defaultdict(list)
    for path in sorted((root / "JPEGImages").iterdir()):
        if is_picture(path):
            pictures[path.stem].append(path)

    findings = Findings()
    lines = _read_list(root, split, known=pictures)
    names = _once_each(lines, root / "ImageSets" / "Main" / f"{split}.txt", findings)
    parsed = {name: tree for name in names if (tree := _parse(_xml(root, name), findings)) is not None}
    known = _class_names(root, parsed) if class_names is None else list(class_names)
    if len(set(known)) < len(known):
        raise ValueError(f"class_names holds a name twice: {', '.join(known)}")

    paths: dict[str, Path] = {}
    for name in names:
        found = _choose(pictures[name], parsed.get(name)) if name in pictures else None
        if found is not None:
            paths[name] = found
        elif len(pictures[name]) > 1:
            several = ", ".join(path.name for path in pictures[name])
            findings.add(_xml(root, name), "", f"it could be of any of {several}; name one in <filename>")
        else:
            findings.add(
                root / "JPEGImages" / name,
                "",
                f"there is no picture {name} of any type in {root / 'JPEGImages'}",
            )
    shown = dict(zip(paths, picture_sizes(paths.values()), strict=True))

    records = []
    strangers: dict[str, list[tuple[str, int]]] = defaultdict(list)  # unknown class -> where it is used
    for name in paths:
        size = shown[name]
        if isinstance(size, str):
            findings.add(paths[name], "", size)
        if isinstance(size, str) or name not in parsed:
            continue
        try:
            annotated = _annotated_size(parsed[name]) or size
        except ValueError as error:
            findings.add(_xml(root, name), "", str(error))
            continue
        if wrong := check_size(paths[name], annotated, size):
            findings.add(_xml(root, name), "", wrong)
            continue
        targets = _targets(parsed[name], annotated, known, _xml(root, name), findings, strangers)
        records.append(Record(id=name, path=paths[name], size=annotated, targets=targets))
    for stranger, uses in sorted(strangers.items()):
        findings.add(
            root / "Annotations",
            f"class {stranger!r}",
            f"{count(len(uses), 'object')} of this class (the first is object {uses[0][1]} of {uses[0][0]}),"
            f" which is not one of {', '.join(known)}; correct the name or add it to the class names",
        )
    findings.pictures = len(lines) - len(records)
    data = Dataset(f"{root.resolve().name}/{split}", records, known, list(range(1, len(known) + 1)))
    return data, findings


def write_voc(dataset: Dataset, root: Path, split: str) -> None:
    """Write annotations and the split's list; `read_voc` gives the same boxes, labels and flags back.

    Pictures that lie elsewhere are copied into JPEGImages. A crowd region is written as difficult: VOC
    knows no crowds, and its evaluation ignores difficult objects likewise. COCO's areas are not kept.

    Raises:
        FileExistsError: a file that would be written exists; nothing has been written then.
        ValueError: two pictures have the same stem, or a box is no more than 1 pixel wide or high, so
            that VOC's inclusive corners would coincide.
    """
    root = Path(root)
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
    for path in [split_list, *(_xml(root, stem) for stem in stems), *copies.values()]:
        if path.exists():
            raise FileExistsError(f"{path} exists and is not overwritten; choose another folder or split")

    for folder in (root / "JPEGImages", root / "Annotations", split_list.parent):
        folder.mkdir(parents=True, exist_ok=True)
    for path, copy in copies.items():
        shutil.copyfile(path, copy)
    for record in dataset.records:
        tree = _tree(record, dataset.class_names)
        tree.write(_xml(root, record.path.stem), encoding="utf-8")
    split_list.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")


def _xml(root: Path, name: str) -> Path:
    return root / "Annotations" / f"{name}.xml"


def _read_list(root: Path, split: str, known: dict[str, list[Path]]) -> list[tuple[int, str]]:
    """(line number, name) of every picture in a split's list."""
    file = root / "ImageSets" / "Main" / f"{split}.txt"
    if not file.is_file():
        splits = sorted(path.stem for path in file.parent.glob("*.txt"))
        there = f"the splits there are {', '.join(splits)}" if splits else f"{file.parent} holds no split"
        raise FileNotFoundError(f"there is no {file}; {there}")
    names = []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text ({error}); save it as UTF-8") from None
    for number, line in enumerate(lines, start=1):
        # VOC's lists per class have a second column: 1 has it, -1 has it not, 0 only difficult ones.
        name = line.strip() if line.strip() in known else re.sub(r"\s+(-1|0|1)$", "", line.strip())
        if name:
            names.append((number, name))
    if not names:
        raise ValueError(f"{file} lists no picture; write one name a line")
    return names


def _once_each(lines: list[tuple[int, str]], file: Path, findings: Findings) -> list[str]:
    first: dict[str, int] = {}
    for number, name in lines:
        if name in first:
            findings.add(file, f"line {number}", f"{name} is listed in line {first[name]} already; delete one")
        first.setdefault(name, number)
    return list(first)


# Of an encoding that Python lacks ElementTree raises the last two.
UNREADABLE = (ET.ParseError, OSError, ValueError, LookupError)


def _parse(file: Path, findings: Findings) -> ET.Element | None:
    try:
        tree = ET.parse(file).getroot()
    except FileNotFoundError:
        findings.add(file, "", "there is no such annotation; a picture without objects needs one as well")
        return None
    except UNREADABLE as error:
        line = f"line {error.position[0]}" if isinstance(error, ET.ParseError) else ""
        findings.add(file, line, f"this is not XML ({error}); restore or annotate the picture anew")
        return None
    if tree.tag != "annotation":
        findings.add(file, "", f"the outermost element is <{tree.tag}>, expected <annotation>")
        return None
    return tree


def _class_names(root: Path, parsed: dict[str, ET.Element]) -> list[str]:
    """The sorted names of all objects in Annotations; files of this split are parsed already."""
    names: set[str] = set()
    for file in (root / "Annotations").glob("*.xml"):
        try:
            tree = parsed[file.stem] if file.stem in parsed else ET.parse(file).getroot()
        except UNREADABLE:
            continue  # in this split it has been found already; in others it is not ours to tell
        names.update((thing.findtext("name") or "").strip() for thing in tree.findall("object"))
    return sorted(names - {""})


def _choose(pictures: list[Path], tree: ET.Element | None) -> Path | None:
    """The picture, by its name in the annotation where several have the same stem."""
    if len(pictures) == 1:
        return pictures[0]
    wanted = "" if tree is None else (tree.findtext("filename") or "").strip()
    return next((path for path in pictures if path.name == wanted), None)


def _annotated_size(tree: ET.Element) -> Size | None:
    """(height, width), or None where there is no <size> or, as some tools write, a size of 0."""
    if tree.find("size") is None:
        return None
    size = []
    for side in ("height", "width"):
        text = (tree.findtext(f"size/{side}") or "").strip()
        if not text.isdecimal():
            raise ValueError(f"<size> has {side} {text!r}, expected whole pixels; correct or delete <size>")
        size.append(int(text))
    return (size[0], size[1]) if all(size) else None


def _targets(
    tree: ET.Element,
    size: Size,
    class_names: Sequence[str],
    file: Path,
    findings: Findings,
    strangers: dict[str, list[tuple[str, int]]],
) -> Targets:
    """The good objects of one annotation; bad ones go to `findings`, unknown classes to `strangers`."""
    boxes, labels, difficult, truncated = [], [], [], []
    for index, element in enumerate(tree.findall("object")):
        try:
            thing = _parse_object(element)
            xmin, ymin, xmax, ymax = thing.corners
            written = ", ".join(f"{name} {value:g}" for name, value in zip(CORNERS, thing.corners, strict=True))
            # By VOC's letter equal corners are one pixel wide; in practice they are a slip of the mouse.
            _check_order("xmin", xmin, "xmax", xmax)
            _check_order("ymin", ymin, "ymax", ymax)
            box = check_box((xmin - 1, ymin - 1, xmax, ymax), size, written)
        except ValueError as error:
            findings.add(file, f"object {index}", str(error))
            findings.objects += 1
            continue
        if thing.name not in class_names:
            strangers[thing.name].append((file.name, index))
            findings.objects += 1
            continue
        boxes.append(box)
        labels.append(class_names.index(thing.name))
        difficult.append(thing.difficult)
        truncated.append(thing.truncated)
    return Targets(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        difficult=torch.tensor(difficult, dtype=torch.bool),
        truncated=torch.tensor(truncated, dtype=torch.bool),
    )


def _parse_object(element: ET.Element) -> _Object:
    """Raises ValueError, saying what is missing or not a number."""
    name = (element.findtext("name") or "").strip()
    if not name:
        raise ValueError("there is no <name>; give the object its class")
    if element.find("bndbox") is None:
        raise ValueError("there is no <bndbox>; give one with xmin, ymin, xmax and ymax")
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


def _check_order(low_name: str, low: float, high_name: str, high: float) -> None:
    if high <= low:
        raise ValueError(
            f"{low_name} {low:g} {'=' if high == low else '>'} {high_name} {high:g}: the box has no"
            f" {'width' if low_name == 'xmin' else 'height'}; correct it or delete the object"
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
