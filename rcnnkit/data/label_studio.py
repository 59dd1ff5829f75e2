"""Label Studio's JSON and JSON_MIN exports (1.x): a list of tasks, each a picture with what was drawn on it.

Places and lengths are percents of the picture's width and height. A rectangle may be turned around its upper left
corner, by `rotation` in degrees, clockwise.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from rcnnkit.data.annotated import Annotated, Annotation, names_of, to_dataset
from rcnnkit.data.checks import Box, Findings, is_picture
from rcnnkit.data.json_files import is_number, numbers, read_json, short
from rcnnkit.data.records import Dataset
from rcnnkit.data.shapes import around_ellipse, around_points, around_rectangle
from rcnnkit.structures import Size
from rcnnkit.text import count

AREAS = ("rectangle", "polygon", "ellipse")  # each alone, or with "labels" behind
OTHERS = ("brush", "keypoint", "vector", "bitmask")
UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the names of pictures that are uploaded


def read_label_studio(
    file: Path, images: Path | None = None, class_names: Sequence[str] | None = None
) -> tuple[Dataset, Findings]:
    """The pictures in a JSON file that Label Studio exported, and everything that is wrong with it.

    Of a polygon, an ellipse and a turned rectangle the upright box around it counts. Brush strokes and key points are
    left out, with one warning. Predictions are not read. Where a picture was annotated several times, the annotation
    that is marked as ground truth counts, else the last that was not cancelled. Tasks that were skipped, or that nobody
    has annotated, are left out, with one warning for each kind: their pictures may show objects.

    Args:
        file: the JSON or JSON_MIN export.
        images: the folder of the pictures; by default they are looked for beside the file and below its folder, by the
            names that they have in Label Studio, and by those that they were uploaded with.
        class_names: in the order of the labels; by default the sorted names of this file.

    Returns:
        The data set without what is bad, with category ids 1 … K; and the problems found, in which objects are counted
        from 0 within their picture.

    Raises:
        FileNotFoundError: none of its pictures is found.
        ValueError: it is not such a file, or none of its tasks is annotated.
    """
    tasks = read_json(file)
    if not isinstance(tasks, list) or not tasks:
        raise ValueError(f"{file} holds no list of tasks; export it from Label Studio as JSON")
    findings = Findings()
    pictures: dict[str, Annotated] = {}
    for index, task in enumerate(tasks):
        where = f"task {task.get('id', index) if isinstance(task, dict) else index}"
        address = _address(task)
        if address is None:
            findings.add(file, where, "it names no picture; export pictures only, or delete the task")
            findings.pictures += 1
            continue
        if odd := _not_annotated(task):
            findings.warn(f"{odd}, so its picture is left out", file, where, "annotate it, also where nothing is in it")
            continue
        picture = Annotated(_name(address), where)
        if pictures.setdefault(picture.key(), picture) is not picture:
            message = f"its picture {picture.name} is that of {pictures[picture.key()].where} too; delete one task"
            findings.add(file, where, message)
            findings.pictures += 1
            continue
        _add_objects(_results(task, where, file, findings), picture, file, findings)
    if not pictures and not findings:
        raise ValueError(f"{file}: none of its {count(len(tasks), 'task')} is annotated; annotate some in Label Studio")
    _as_uploaded(pictures, file, images)
    classes = list(class_names) if class_names is not None else names_of(pictures)
    return to_dataset(file, pictures, findings, images=images, class_names=classes), findings


def _address(task: Any) -> str | None:
    """Where the picture of a task is: the first value of its data that names one."""
    if not isinstance(task, dict):
        return None
    data = task.get("data", task)
    values = [value for value in data.values() if isinstance(value, str)] if isinstance(data, dict) else []
    return next((value for value in values if is_picture(Path(_name(value)))), None)


def _name(address: str) -> str:
    """The path of a picture in an address: /data/upload/3/a.jpg, /data/local-files/?d=cats/a.jpg, s3://… , https://…"""
    parts = urlsplit(address.replace("\\", "/"))
    if "d" in (query := parse_qs(parts.query)):
        return query["d"][0].replace("\\", "/").lstrip("/")
    return unquote(parts.path).lstrip("/")


def _as_uploaded(pictures: dict[str, Annotated], file: Path, images: Path | None) -> None:
    """Give pictures the names that they were uploaded with, where the folder has those in place of Label Studio's."""
    folder = images or file.parent
    names = {path.name for path in folder.rglob("*") if is_picture(path)} if folder.is_dir() else set()
    uses = Counter(UPLOADED.sub("", Path(picture.name).name) for picture in pictures.values())
    for picture in pictures.values():
        plain = UPLOADED.sub("", Path(picture.name).name)
        if Path(picture.name).name not in names and plain in names and uses[plain] == 1:
            picture.name = plain


def _not_annotated(task: dict[str, Any]) -> str:
    """What is odd about a task without an annotation; "" for others. JSON_MIN has annotated ones alone."""
    annotations = task.get("annotations", task.get("completions"))
    if not isinstance(annotations, list) or any(
        isinstance(e, dict) and not e.get("was_cancelled") for e in annotations
    ):
        return ""
    return "a task that was skipped" if annotations else "a task that is not annotated"


def _results(task: dict[str, Any], where: str, file: Path, findings: Findings) -> list[Any]:
    """What was drawn on a task's picture, each with its `value`."""
    if "annotations" not in task and "completions" not in task:  # JSON_MIN has a list for each control of the page
        lists = [value for value in task.values() if isinstance(value, list)]
        regions = [
            region for several in lists for region in several if isinstance(region, dict) and "original_width" in region
        ]
        return [{"value": region, "type": _type_of(region), **region} for region in regions]
    annotations = task.get("annotations", task.get("completions"))
    annotations = [entry for entry in annotations if isinstance(entry, dict)] if isinstance(annotations, list) else []
    completed = [entry for entry in annotations if not entry.get("was_cancelled")]
    if len(completed) > 1:
        message = "one that is marked as ground truth is used, otherwise the last; delete the others"
        findings.warn("a picture that is annotated several times", file, where, message)
    annotation = next((entry for entry in completed if entry.get("ground_truth")), completed[-1] if completed else {})
    result = annotation.get("result")
    return result if isinstance(result, list) else []


def _type_of(value: dict[str, Any]) -> str:
    return next((key for key in value if key.endswith("labels") and isinstance(value[key], list)), "")


def _add_objects(results: list[Any], picture: Annotated, file: Path, findings: Findings) -> None:
    labels: dict[object, list[Any]] = {}  # of shapes whose labels stand beside them, by their ids
    for kind in ("labels", "choices"):
        for result in results:
            value = result.get("value") if isinstance(result, dict) and result.get("type") == kind else None
            if isinstance(value, dict) and isinstance(value.get(kind), list):
                labels.setdefault(result.get("id"), value[kind])
    shapes = [each for each in results if isinstance(each, dict) and _shape(each) is not None]
    for index, result in enumerate(shapes):
        where, shape = f"{picture.where}, object {index}", _shape(result)
        if shape in OTHERS:
            message = f"a {shape} has no box; draw a rectangle or a polygon where it is an object"
            findings.warn("a shape that is left out", file, where, message)
            continue
        try:
            value = result.get("value")
            if not isinstance(value, dict):
                raise ValueError(f"its value is {short(value)}, expected an object; correct it")
            names = value.get(f"{shape}labels") or labels.get(result.get("id")) or []
            if not names or not isinstance(names[0], str):
                raise ValueError(f"the {shape} has no label; give it one")
            if len(names) > 1:
                message = f"it has the labels {', '.join(map(str, names))}, of which the first is used"
                findings.warn("an object with several labels", file, where, message)
            size = _size(result)
            if size and picture.size and size != picture.size:
                raise ValueError(
                    f"its original_width and original_height, {size[1]} and {size[0]}, are not those of the objects"
                    f" before it, {picture.size[1]} and {picture.size[0]}; correct them"
                )
            picture.size = picture.size or size
            corners, text = _corners(str(shape), value, where, file, findings)
        except ValueError as error:
            findings.add(file, where, str(error))
            findings.objects += 1
            continue
        picture.objects.append(Annotation(where, names[0].strip(), corners, text))


def _shape(result: dict[str, Any]) -> str | None:
    kind = str(result.get("type", "")).removesuffix("labels")
    return kind if kind in (*AREAS, *OTHERS) else None


def _size(result: dict[str, Any]) -> Size | None:
    height, width = result.get("original_height"), result.get("original_width")
    return (height, width) if type(height) is int and type(width) is int and height > 0 and width > 0 else None


def _corners(shape: str, value: dict[str, Any], where: str, file: Path, findings: Findings) -> Any:
    """How the box of a shape follows from the picture's (height, width); and what is written."""
    rotation = value.get("rotation") or 0
    if not is_number(rotation):
        raise ValueError(f"rotation is {short(rotation)}, expected degrees; correct it")
    angle = math.radians(rotation)
    if angle:
        message = f"its rotation is {rotation:g} degrees; the upright box around it is used"
        findings.warn(f"a turned {shape}", file, where, message)
    if shape == "rectangle":
        names = ("x", "y", "width", "height")
        description = ", ".join(f"{name} {value.get(name)}" for name in names) + " (percent)"
        return partial(_rectangle, numbers(value, names), angle), description
    if shape == "ellipse":
        names = ("x", "y", "radiusX", "radiusY")
        description = ", ".join(f"{name} {value.get(name)}" for name in names) + " (percent)"
        return partial(_ellipse, numbers(value, names), angle), description
    points = value.get("points")
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 and all(map(is_number, point)) for point in points
    ):
        raise ValueError(f"points is {short(points)}, expected [[x, y], …]; correct it")
    around_points([x for x, _ in points], [y for _, y in points])  # raises now where there are too few
    return partial(_polygon, points), f"points {short(points)} (percent)"


def _rectangle(value: Sequence[float], angle: float, size: Size) -> Box:
    x, y, width, height = (one * side / 100 for one, side in zip(value, (*size[::-1], *size[::-1]), strict=True))
    return around_rectangle((x, y, x + width, y + height), angle, (x, y)) if angle else (x, y, x + width, y + height)


def _ellipse(value: Sequence[float], angle: float, size: Size) -> Box:
    x, y, radius_x, radius_y = (one * side / 100 for one, side in zip(value, (*size[::-1], *size[::-1]), strict=True))
    return around_ellipse(x, y, radius_x, radius_y, angle)


def _polygon(points: Sequence[Sequence[float]], size: Size) -> Box:
    return around_points([x * size[1] / 100 for x, _ in points], [y * size[0] / 100 for _, y in points])
