"""VIA's (VGG Image Annotator, version 2) annotations: a project's JSON, or what it exports as JSON or CSV.

Shapes are in continuous pixels, 0-based: rect (x, y, width, height), circle (cx, cy, r), ellipse (cx, cy, rx, ry and
theta in radians), polygon and polyline (all_points_x, all_points_y). A region's class is one of its attributes.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcnnkit.data.annotated import Annotated, Annotation, to_dataset
from rcnnkit.data.checks import Box, Findings
from rcnnkit.data.json_files import is_number, numbers, read_json, short
from rcnnkit.data.records import Dataset, few
from rcnnkit.data.shapes import around_ellipse, around_points
from rcnnkit.files import check_regular

CLASS_ATTRIBUTES = ("class", "label", "name", "type", "category", "object", "class_name")
ONLY_CLASS = "object"  # of files whose regions have no attributes
OTHERS = ("point", "polyline")


@dataclass(slots=True)
class _Region:
    where: str
    shape: Any
    attributes: dict[str, Any]


def read_via(
    file: Path, images: Path | None = None, class_names: Sequence[str] | None = None
) -> tuple[Dataset, Findings]:
    """The pictures in a file of VIA 2, and everything that is wrong with it.

    Of a circle, an ellipse and a polygon the box around it counts. Points and polylines are left out, with one warning.
    The class is the only attribute that regions have, or one that is called class, label, name, type, category or
    object. Where no region has any, all are of the class "object".

    Args:
        file: a project (.json), or annotations exported as .json or .csv.
        images: the folder of the pictures; by default they are looked for beside the file and below its folder.
        class_names: in the order of the labels; by default the options of the attribute in a project, then the sorted
            names that it does not list.

    Returns:
        The data set without what is bad, with category ids 1 … K; and the problems found, in which regions are counted
        from 0 within their picture.

    Raises:
        FileNotFoundError: none of its pictures is found.
        ValueError: it is not such a file, or several attributes could be the class.
    """
    findings = Findings()
    options: dict[str, Any] = {}
    regions: dict[str, list[_Region]] = {}
    pictures: dict[str, Annotated] = {}
    if file.suffix.lower() == ".csv":
        entries = _csv_entries(file, findings)
    else:
        content = read_json(file)
        if not isinstance(content, dict):
            raise ValueError(f"{file} holds no object; export the annotations of VIA 2 as JSON")
        entries = _json_entries(content, file, findings)
        listed = content.get("_via_attributes")
        options = listed.get("region", {}) if isinstance(listed, dict) else {}
    for where, name, picture_regions in entries:
        picture = Annotated(name.replace("\\", "/"), where)
        if pictures.setdefault(picture.key(), picture) is not picture:
            findings.add(file, where, f"picture {name} is there already; give its regions together, once")
            findings.pictures += 1
            continue
        regions[picture.key()] = picture_regions
    attribute = _class_attribute(
        [each for picture_regions in regions.values() for each in picture_regions], options, file
    )
    for key, picture_regions in regions.items():
        for region in picture_regions:
            try:
                kind = region.shape.get("name") if isinstance(region.shape, dict) else None
                if kind in OTHERS:
                    message = f"a {kind} has no box; draw a rectangle or a polygon where it is an object"
                    findings.warn("a shape that is left out", file, region.where, message)
                    continue
                box = _box(region.shape)
                label = _label(region.attributes, attribute)
            except ValueError as error:
                findings.add(file, region.where, str(error))
                findings.objects += 1
                continue
            written = ", ".join(f"{name} {short(value)}" for name, value in region.shape.items() if name != "name")
            pictures[key].objects.append(
                Annotation(region.where, label, box, f"{kind} {written if len(written) < 80 else written[:77] + '...'}")
            )
    classes = list(class_names) if class_names is not None else _known(pictures, options.get(attribute or ""))
    return to_dataset(file, pictures, findings, images=images, class_names=classes), findings


_Entry = tuple[str, str, list[_Region]]  # where, the picture's name, its regions


def _json_entries(content: dict[str, Any], file: Path, findings: Findings) -> list[_Entry]:
    pictures = content.get("_via_img_metadata", content)
    entries: list[_Entry] = []
    for key, entry in pictures.items() if isinstance(pictures, dict) else ():
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            findings.add(file, f"entry {key}", "it has no filename; give the picture's")
            findings.pictures += 1
            continue
        where = f"picture {name}"
        regions = entry.get("regions", [])
        shapes = list(regions.values()) if isinstance(regions, dict) else regions  # version 1 has numbers for keys
        if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
            findings.add(file, where, f"its regions are {short(regions)}, expected a list; correct it")
            findings.pictures += 1
            continue
        picture_regions = [
            _Region(f"{where}, region {number}", shape.get("shape_attributes"), _attributes(shape))
            for number, shape in enumerate(shapes)
        ]
        entries.append((where, name, picture_regions))
    if not entries and not findings:
        raise ValueError(f"{file} has no picture; export the annotations of VIA 2 as JSON")
    return entries


def _attributes(region: dict[str, Any]) -> dict[str, Any]:
    attributes = region.get("region_attributes")
    return attributes if isinstance(attributes, dict) else {}


def _csv_entries(file: Path, findings: Findings) -> list[_Entry]:
    check_regular(file)
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text ({error}); save it as UTF-8") from None
    lines = [line for line in lines if line.strip()]
    reader = csv.DictReader([line.lstrip("#") if number == 0 else line for number, line in enumerate(lines)])
    needed = {"filename", "region_shape_attributes", "region_attributes"}
    if missing := sorted(needed - set(reader.fieldnames or [])):
        raise ValueError(f"{file} has no column {few(missing)}; export the annotations of VIA 2 as CSV")
    entries: dict[str, _Entry] = {}
    for number, row in enumerate(reader, start=2):
        name = row["filename"] or ""
        if not name:
            findings.add(file, f"line {number}", "it names no picture; add one, or delete the line")
            continue
        _, _, regions = entries.setdefault(name, (f"line {number}", name, []))
        try:
            shape = json.loads(row["region_shape_attributes"] or "{}")
            attributes = json.loads(row["region_attributes"] or "{}")
        except ValueError as error:
            findings.add(file, f"line {number}", f"its attributes are not JSON ({error}); export it again")
            findings.objects += 1
            continue
        if shape:  # pictures without regions have a line too
            regions.append(_Region(f"line {number}", shape, attributes if isinstance(attributes, dict) else {}))
    if not entries:
        raise ValueError(f"{file} has no picture; export the annotations of VIA 2 as CSV")
    return list(entries.values())


def _class_attribute(regions: Sequence[_Region], options: dict[str, Any], file: Path) -> str | None:
    """The attribute that is the class; None where no region has any."""
    uses = Counter(name for region in regions for name, value in region.attributes.items() if value not in ("", {}))
    names = list(uses) or list(options)
    if len(names) <= 1:
        return names[0] if uses else None
    for known in CLASS_ATTRIBUTES:
        if called := [name for name in names if name.lower().strip() == known]:
            return called[0]
    raise ValueError(
        f"{file}: regions have the attributes {few(names)}, and none is called class; rename the one that is the class"
    )


def _label(attributes: dict[str, Any], attribute: str | None) -> str:
    if attribute is None:
        return ONLY_CLASS
    value = attributes.get(attribute)
    if isinstance(value, dict):  # check boxes: those that are ticked
        ticked = [name for name, on in value.items() if on]
        if len(ticked) > 1:
            raise ValueError(f"its {attribute} is {' and '.join(ticked)}; choose one")
        value = ticked[0] if ticked else None
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"it has no {attribute}; give it one")
    return value.strip()


def _box(shape: Any) -> Box:
    kind = shape.get("name") if isinstance(shape, dict) else None
    if kind == "rect":
        x, y, width, height = numbers(shape, ("x", "y", "width", "height"))
        return x, y, x + width, y + height
    if kind == "circle":
        x, y, radius = numbers(shape, ("cx", "cy", "r"))
        return around_ellipse(x, y, radius, radius)
    if kind == "ellipse":
        x, y, radius_x, radius_y = numbers(shape, ("cx", "cy", "rx", "ry"))
        return around_ellipse(x, y, radius_x, radius_y, numbers(shape, ("theta",))[0] if "theta" in shape else 0.0)
    if kind == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        for name, values in (("all_points_x", xs), ("all_points_y", ys)):
            if not isinstance(values, list) or not all(map(is_number, values)):
                raise ValueError(f"{name} is {short(values)}, expected numbers; correct it")
        return around_points(xs, ys)
    raise ValueError(f"its shape is {short(kind)}, expected rect, circle, ellipse or polygon; draw it again")


def _known(pictures: dict[str, Annotated], attribute: Any) -> list[str]:
    options = attribute.get("options") if isinstance(attribute, dict) else None
    listed = list(options) if isinstance(options, dict) else []
    used = {each.name for picture in pictures.values() for each in picture.objects}
    return listed + sorted(used - set(listed))
