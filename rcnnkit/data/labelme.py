"""LabelMe's format (labelme 3 to 5, also X-AnyLabeling's): a JSON file for each picture, beside it or apart.

Points are continuous pixels, 0-based. A rectangle has two opposite corners, a circle its centre and a point on it, a
mask the first and the last column and row of its pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from rcnnkit.data.annotated import Annotated, Annotation, names_of, to_dataset
from rcnnkit.data.checks import Box, Findings, is_picture
from rcnnkit.data.json_files import is_number, read_json, short
from rcnnkit.data.records import Dataset, split_folder
from rcnnkit.data.shapes import around_ellipse, around_points
from rcnnkit.structures import Size
from rcnnkit.text import count

OTHERS = ("point", "points", "line", "linestrip")


def read_labelme(
    root: Path, split: str, images: Path | None = None, class_names: Sequence[str] | None = None
) -> tuple[Dataset, Findings]:
    """The pictures of a split that are annotated with LabelMe, and everything that is wrong with them.

    Of a polygon, a circle, a mask and a turned rectangle the upright box around it counts. Shapes of one picture that
    have the same label and the same group_id are parts of one object. Points and lines are left out, with one warning.
    Pictures that are stored in the JSON files alone (imageData) are not read.

    Args:
        root: the folder.
        split: the folder of this name below it ("val" is "valid" too); without such folders all is "train".
        images: the folder of the pictures; by default they are looked for beside their annotations and below `root`.
        class_names: in the order of the labels; by default the sorted names below `root`.

    Returns:
        The data set without what is bad, whose ids are the paths of the annotations below `root`, without their
        endings; category ids 1 … K; and the problems found, in which shapes are counted from 0.

    Raises:
        FileNotFoundError: the split has no annotation, or none of its pictures is found.
    """
    base = split_folder(root, split, "*.json")
    files = sorted(base.rglob("*.json"))
    findings = Findings()
    pictures: dict[str, Annotated] = {}
    for file in files:
        key = file.relative_to(root).with_suffix("").as_posix()
        if (picture := _picture(file, findings)) is not None:
            pictures[key] = picture
    classes = list(class_names) if class_names is not None else _all_names(root, files, pictures)
    name = f"{root.resolve().name}/{split}"
    data = to_dataset(base, pictures, findings, name=name, images=images, class_names=classes)
    _tell_unannotated(base, data, findings)
    return data, findings


def _picture(file: Path, findings: Findings) -> Annotated | None:
    """What a file says; None where it cannot be used, or is none of LabelMe's."""
    try:
        content = read_json(file)
        if content in ({}, []):
            raise ValueError(f"{file} holds nothing; annotate its picture anew, or delete this file")
        if not isinstance(content, dict) or "shapes" not in content:
            return None
        shapes, size = content["shapes"], _size(content)
        if not isinstance(shapes, list):
            raise ValueError(f"its shapes are {short(shapes)}, expected a list; correct it")
    except (OSError, ValueError) as error:
        findings.add(file, "", str(error))
        findings.pictures += 1
        return None
    image_path = content.get("imagePath")
    path = (
        PurePosixPath(image_path.replace("\\", "/"))
        if isinstance(image_path, str) and image_path
        else PurePosixPath(file.stem)
    )
    folder = [part for part in path.parts[:-1] if part != ".."]
    picture = Annotated("/".join([*folder, path.name]), "", size, file)
    parts: dict[tuple[str, object], Annotation] = {}
    for index, shape in enumerate(shapes):
        where = f"shape {index}"
        kind = (shape.get("shape_type") or "polygon") if isinstance(shape, dict) else None
        if kind in OTHERS:
            message = f"a {kind} has no box; draw a rectangle or a polygon where it is an object"
            findings.warn("a shape that is left out", file, where, message)
            continue
        try:
            label = shape.get("label") if isinstance(shape, dict) else None
            if not isinstance(label, str) or not label.strip():
                raise ValueError(f"its label is {short(label)}, expected a name; give it one")
            box = _box(str(kind), shape.get("points"))
        except ValueError as error:
            findings.add(file, where, str(error))
            findings.objects += 1
            continue
        object_ = Annotation(where, label.strip(), box, f"points {short(shape['points'])}")
        group = shape.get("group_id")
        if group is not None and (part_before := parts.get((label, group))):
            assert isinstance(part_before.corners, tuple)
            x1, y1, x2, y2 = part_before.corners
            part_before.corners = min(x1, box[0]), min(y1, box[1]), max(x2, box[2]), max(y2, box[3])
            continue
        if group is not None:
            parts[label, group] = object_
        picture.objects.append(object_)
    return picture


def _size(content: dict[str, Any]) -> Size | None:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if height is None and width is None:
        return None
    if type(height) is not int or type(width) is not int or height < 1 or width < 1:
        raise ValueError(
            f"imageWidth is {short(width)} and imageHeight {short(height)}, expected whole pixels; correct them"
        )
    return height, width


def _box(kind: str, points: Any) -> Box:
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 and all(map(is_number, point)) for point in points
    ):
        raise ValueError(f"points is {short(points)}, expected [[x, y], …]; correct it")
    xs, ys = [float(x) for x, _ in points], [float(y) for _, y in points]
    if kind in ("rectangle", "circle", "mask") and len(points) != 2 and not (kind == "rectangle" and len(points) == 4):
        raise ValueError(f"a {kind} with {count(len(points), 'point')}; it needs 2; draw it again, or delete it")
    if kind == "circle":
        radius = math.hypot(xs[1] - xs[0], ys[1] - ys[0])
        return around_ellipse(xs[0], ys[0], radius, radius)
    if kind == "rectangle":
        return min(xs), min(ys), max(xs), max(ys)
    if kind == "mask":
        return min(xs), min(ys), max(xs) + 1, max(ys) + 1
    if kind in ("polygon", "oriented_rectangle", "rotation"):
        return around_points(xs, ys)
    raise ValueError(f"its shape_type is {short(kind)}, expected rectangle, polygon, circle or mask; draw it again")


def _all_names(root: Path, files: Sequence[Path], pictures: dict[str, Annotated]) -> list[str]:
    """The sorted names of this split and the others, so that every split numbers its classes alike."""
    names = set(names_of(pictures))
    for file in set(root.rglob("*.json")) - set(files):
        try:
            content = read_json(file)
        except (OSError, ValueError):
            continue  # it is another split's to say
        shapes = content.get("shapes") if isinstance(content, dict) else None
        for shape in shapes if isinstance(shapes, list) else []:
            label = shape.get("label") if isinstance(shape, dict) and shape.get("shape_type") not in OTHERS else None
            if isinstance(label, str) and label.strip():
                names.add(label.strip())
    return sorted(names)


def _tell_unannotated(base: Path, data: Dataset, findings: Findings) -> None:
    used = {record.path for record in data.records}
    for path in sorted(base.rglob("*")):
        if is_picture(path) and not path.name.startswith(".") and path not in used:
            message = "it is left out; where it shows no object, save an annotation without one"
            findings.warn("a picture without an annotation", path, "", message)
