"""CVAT's own format, "CVAT for images 1.1": one XML file with an <image> for each picture.

Boxes are xtl, ytl, xbr, ybr in continuous pixels, 0-based. A box may be turned around its centre, by `rotation` in
degrees, clockwise. Exports of a project name the split of each picture as its `subset`.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from rcnnkit.data.annotated import Annotated, Annotation, to_dataset
from rcnnkit.data.checks import Box, Findings
from rcnnkit.data.records import Dataset, few
from rcnnkit.data.shapes import around_ellipse, around_points, around_rectangle
from rcnnkit.files import check_regular
from rcnnkit.structures import Size

AREAS = ("box", "polygon", "ellipse", "mask")  # the shapes that have a box
OTHERS = ("polyline", "points", "cuboid", "skeleton", "tag")


def read_cvat(
    file: Path, subset: str | None = None, images: Path | None = None, class_names: Sequence[str] | None = None
) -> tuple[Dataset, Findings]:
    """The pictures in an XML file of CVAT (1.1, for images), and everything that is wrong with it.

    Of a polygon, an ellipse, a mask and a turned box the upright box around it counts. Other shapes, and tags, are left
    out, with one warning.

    Args:
        file: the XML file.
        subset: only the pictures of this one; left out, all.
        images: the folder of the pictures; by default they are looked for beside the file and below its folder.
        class_names: in the order of the labels; by default the labels of the task or project, as the file lists them.

    Returns:
        The data set without what is bad, with category ids 1 … K; and the problems found, in which objects are counted
        from 0 within their picture.

    Raises:
        FileNotFoundError: none of its pictures is found.
        ValueError: it is not such a file, or has no picture in this subset.
    """
    tree = _tree(file)
    findings = Findings()
    pictures: dict[str, Annotated] = {}
    entries = tree.findall("image")
    subset_folders = len(subsets_of(tree)) > 1  # each has a folder of its own in images/ then
    if subset is not None:
        entries = [entry for entry in entries if entry.get("subset") == subset]
    if not entries:
        subsets = few(subsets_of(tree))
        raise ValueError(
            f"{file} has no <image>{f' of the subset {subset!r}; its subsets are {subsets}' if subsets else ''}; export"
            ' it from CVAT as "CVAT for images 1.1"'
        )
    for index, entry in enumerate(entries):
        name = (entry.get("name") or "").replace("\\", "/")
        where = f"image {entry.get('id', index)} ({name})"
        if not name:
            findings.add(file, f"image {entry.get('id', index)}", "it has no name; give the picture's")
            findings.pictures += 1
            continue
        picture = Annotated(f"{entry.get('subset')}/{name}" if subset_folders else name, where)
        try:
            picture.size = _size(entry)
        except ValueError as error:
            findings.add(file, where, str(error))
            findings.pictures += 1
            continue
        if pictures.setdefault(picture.key(), picture) is not picture:
            findings.add(file, where, "there is an <image> of this name already; give each its own name")
            findings.pictures += 1
            continue
        _add_objects(entry, picture, file, findings)
    classes = list(class_names) if class_names is not None else _labels(tree)
    name = f"{file.resolve().parent.name}/{subset or file.stem}"
    return to_dataset(file, pictures, findings, name=name, images=images, class_names=classes), findings


def subsets_of(tree: ET.Element) -> list[str]:
    """The subsets that the pictures of a file are in, sorted."""
    return sorted({subset for entry in tree.iter("image") if (subset := entry.get("subset"))})


def read_subsets(file: Path) -> list[str]:
    """The subsets of a file; none where it cannot be read, which its reader says."""
    try:
        return subsets_of(_tree(file))
    except (OSError, ValueError):
        return []


def _tree(file: Path) -> ET.Element:
    check_regular(file)
    try:
        tree = ET.fromstring(file.read_bytes())
    except (ET.ParseError, ValueError) as error:
        raise ValueError(f"{file} is not XML ({error}); export it again") from None
    if tree.tag != "annotations":
        raise ValueError(f"{file}: the outermost element is <{tree.tag}>, expected CVAT's <annotations>")
    if tree.find("track") is not None:
        raise ValueError(
            f'{file} is of "CVAT for video"; export the task as "CVAT for images 1.1", where each frame is a picture'
        )
    return tree


def _size(entry: ET.Element) -> Size | None:
    sides = [entry.get("height"), entry.get("width")]
    if sides == [None, None]:
        return None
    if not all(side and side.isdecimal() and int(side) for side in sides):
        raise ValueError(f"its width is {sides[1]!r} and its height {sides[0]!r}, expected whole pixels; correct them")
    return int(str(sides[0])), int(str(sides[1]))


def _add_objects(entry: ET.Element, picture: Annotated, file: Path, findings: Findings) -> None:
    for index, shape in enumerate(each for each in entry if each.tag in (*AREAS, *OTHERS)):
        where = f"{picture.where}, object {index}"
        if shape.tag in OTHERS:
            message = f"a <{shape.tag}> has no box; draw a rectangle or a polygon where it is an object"
            findings.warn("a shape that is left out", file, where, message)
            continue
        label = (shape.get("label") or "").strip()
        try:
            if not label:
                raise ValueError(f"the <{shape.tag}> has no label; give it one")
            box, text = _box(shape)
        except ValueError as error:
            findings.add(file, where, str(error))
            findings.objects += 1
            continue
        picture.objects.append(Annotation(where, label, box, text))


def _box(shape: ET.Element) -> tuple[Box, str]:
    """The box in pixels, and what is written."""
    angle = math.radians(_numbers(shape, ("rotation",))[0]) if shape.get("rotation") else 0.0
    if shape.tag == "box":
        names: tuple[str, ...] = ("xtl", "ytl", "xbr", "ybr")
        x1, y1, x2, y2 = _numbers(shape, names)
        box: Box = (x1, y1, x2, y2)
        if angle:
            box = around_rectangle(box, angle, ((x1 + x2) / 2, (y1 + y2) / 2))
    elif shape.tag == "ellipse":
        names = ("cx", "cy", "rx", "ry")
        x, y, radius_x, radius_y = _numbers(shape, names)
        box = around_ellipse(x, y, radius_x, radius_y, angle)
    elif shape.tag == "mask":  # its frame is as tight as what is painted
        names = ("left", "top", "width", "height")
        left, top, width, height = _numbers(shape, names)
        box = left, top, left + width, top + height
    else:
        names = ("points",)
        box = around_points(*_points(shape.get("points") or ""))
    text = ", ".join(f"{name} {shape.get(name)}" for name in names)
    if angle:
        text += f", rotation {shape.get('rotation')}"
    return box, text if len(text) <= 80 else f"{text[:77]}..."


def _points(text: str) -> tuple[list[float], list[float]]:
    pairs = [pair.split(",") for pair in text.split(";") if pair.strip()]
    try:
        corners = [(float(x), float(y)) for x, y in pairs]
    except ValueError:
        raise ValueError(f"points is {text[:60]!r}, expected x,y;x,y;…; correct it") from None
    return [x for x, _ in corners], [y for _, y in corners]


def _numbers(shape: ET.Element, names: tuple[str, ...]) -> list[float]:
    values = []
    for name in names:
        try:
            values.append(float(shape.get(name, "")))
        except ValueError:
            raise ValueError(f"{name} is {shape.get(name)!r}, expected a number; correct it") from None
    return values


def _labels(tree: ET.Element) -> list[str]:
    """The labels of the task or project that may have boxes, in the file's order; then those that it does not list."""
    labels = []
    for label in tree.iterfind("meta//labels/label"):
        name, kind = (label.findtext("name") or "").strip(), (label.findtext("type") or "any").strip()
        if name and kind not in OTHERS and label.find("parent") is None and name not in labels:
            labels.append(name)
    used = {(shape.get("label") or "").strip() for shape in tree.iterfind("image/*") if shape.tag in AREAS}
    return labels + sorted(used - {"", *labels})
