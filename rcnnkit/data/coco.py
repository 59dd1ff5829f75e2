"""COCO's format: one JSON file with images, annotations and categories, pictures in a folder.

Its boxes are x, y, width, height in continuous 0-based pixels. Category ids need not be consecutive
(COCO's own run from 1 to 90 for 80 classes): labels are their order, 0…K-1, and the ids are kept.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import add
from pathlib import Path
from typing import Any

import torch

from rcnnkit.data.checks import Box, Findings, check_box, check_size, count, picture_sizes
from rcnnkit.data.decimals import shortest
from rcnnkit.data.records import Dataset, Record
from rcnnkit.structures import Size, Targets

PARTS = ("images", "annotations", "categories")
Entry = dict[str, Any]  # one entry of a part, as the file has it


def read_coco(
    file: Path, images: Path | None = None, class_names: Sequence[str] | None = None
) -> tuple[Dataset, Findings]:
    """A data set in COCO's format, and everything that is wrong with it.

    Args:
        file: the JSON file.
        images: the folder of the pictures. Left out, for ROOT/annotations/instances_X.json it is the
            first of ROOT/X, ROOT/images/X, ROOT/images, ROOT and ROOT/annotations that has a picture.
        class_names: in the order of the labels. Left out, the categories in the order of their ids.

    Returns:
        The data set without what is bad; and the problems found. An annotation that is bad is left out
        alone, a picture that is bad with all its annotations.

    Raises:
        FileNotFoundError: there is no such file, or `images` is not a folder.
        ValueError: the file lists no picture, or a class name is given twice.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"there is no {file}")
    if images is not None and not Path(images).is_dir():
        raise FileNotFoundError(f"there is no picture folder {images}")
    if class_names is not None and len(set(class_names)) < len(class_names):
        raise ValueError(f"class_names holds a name twice: {', '.join(class_names)}")
    findings = Findings()
    content = _load(file, findings)
    if content is None:
        return Dataset(_name(file), [], list(class_names or []), []), findings
    if not content["images"]:
        raise ValueError(f"{file} lists no picture: its `images` is empty")

    names = _categories(content["categories"], file, findings)
    known = [names[i] for i in sorted(names)] if class_names is None else list(class_names)
    entries, rejected = _images(content["images"], file, findings)
    paths = _picture_paths(entries, file, images, findings)
    shown = dict(zip(paths, picture_sizes(paths.values()), strict=True))

    sizes: dict[int | str, Size] = {}
    for key, path in paths.items():
        size = shown[key]
        where = f"image {key} ({entries[key]['file_name']})"
        if isinstance(size, str):
            findings.add(file, where, f"{size}: {path}")
            continue
        annotated = _annotated_size(entries[key]) or size
        if wrong := check_size(path, annotated, size):
            findings.add(file, where, wrong)
            continue
        sizes[key] = annotated
    objects = _objects(content["annotations"], file, sizes, set(entries) | rejected, names, known, findings)
    records = [
        Record(id=key, path=paths[key], size=sizes[key], targets=objects[key].targets())
        for key in entries
        if key in sizes
    ]
    findings.pictures = len(content["images"]) - len(records)
    return Dataset(_name(file), records, known, _category_ids(names, known)), findings


def write_coco(dataset: Dataset, file: Path) -> None:
    """Write a data set as COCO JSON; `read_coco` gives the same boxes, labels, crowds and areas back.

    Pictures stay where they are: their names are written relative to the first folder in which
    `read_coco` looks and all of them lie; where there is none, to the folder they share, which has to
    be given to `read_coco` as `images`. Ids that are not all numbers become 1, 2, 3, …

    Raises:
        FileExistsError: `file` exists; it is not overwritten.
    """
    file = Path(file)
    if file.exists():
        raise FileExistsError(f"{file} exists and is not overwritten; choose another name")
    paths = [record.path.resolve() for record in dataset.records]
    shared = Path(os.path.commonpath([path.parent for path in paths])) if paths else file.parent
    below = (folder.resolve() for folder in _folders(file))
    folder = next((folder for folder in below if shared.is_relative_to(folder)), shared)
    keep_ids = all(isinstance(record.id, int) for record in dataset.records)

    images: list[Entry] = []
    annotations: list[Entry] = []
    for number, (record, path) in enumerate(zip(dataset.records, paths, strict=True), start=1):
        key = record.id if keep_ids else number
        name = path.relative_to(folder).as_posix()
        images.append({"id": key, "file_name": name, "width": record.size[1], "height": record.size[0]})
        targets = record.targets
        for box, label, crowd, area in zip(
            targets.boxes.tolist(),
            targets.labels.tolist(),
            targets.crowd.tolist(),
            targets.areas.tolist(),
            strict=True,
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": key,
                    "category_id": dataset.category_ids[label],
                    "bbox": _to_xywh(box),
                    "area": shortest(area, area, float),
                    "iscrowd": int(crowd),
                }
            )
    categories = [
        {"id": key, "name": name, "supercategory": "none"}
        for key, name in zip(dataset.category_ids, dataset.class_names, strict=True)
    ]
    parts: dict[str, list[Entry]] = {"images": images, "annotations": annotations, "categories": categories}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_json(parts), encoding="utf-8")


@dataclass(slots=True)
class _Objects:
    """The good annotations of one picture."""

    boxes: list[Box] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)

    def targets(self) -> Targets:
        return Targets(
            boxes=torch.tensor(self.boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor(self.labels, dtype=torch.int64),
            crowd=torch.tensor(self.crowd, dtype=torch.bool),
            areas=torch.tensor(self.areas, dtype=torch.float32),
        )


def _root(file: Path) -> Path:
    return file.parent.parent if file.parent.name == "annotations" else file.parent


def _name(file: Path) -> str:
    return f"{_root(file.resolve()).name}/{file.stem.removeprefix('instances_')}"


def _folders(file: Path) -> list[Path]:
    """Where the pictures of a JSON file may lie, most telling first."""
    root, split = _root(file), file.stem.removeprefix("instances_")
    folders = [root / split, root / "images" / split, root / "images", root, file.parent]
    return list(dict.fromkeys(folders))


def _load(file: Path, findings: Findings) -> dict[str, list[Entry]] | None:
    """The three parts, each a list; None where the file has another form."""
    try:
        content = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        findings.add(file, f"line {error.lineno}", f"this is not JSON ({error}); restore the file")
        return None
    except (ValueError, RecursionError) as error:  # its text, a number of thousands of digits, lists within lists
        findings.add(file, "", f"this is not JSON ({error}); restore the file")
        return None
    if not isinstance(content, dict):
        findings.add(file, "", f"this holds {_kind(content)}, expected an object with {', '.join(PARTS)}")
        return None
    wrong = [
        f"`{part}` is {_kind(content[part]) if part in content else 'missing'}, expected a list"
        for part in PARTS
        if not isinstance(content.get(part), list)
    ]
    for message in wrong:
        findings.add(file, "", message)
    return None if wrong else {part: content[part] for part in PARTS}


def _kind(value: object) -> str:
    """A JSON value in words, for messages."""
    kinds: dict[type, str] = {dict: "an object", list: "a list", type(None): "null"}
    return kinds.get(type(value), repr(value))


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _categories(entries: list[Any], file: Path, findings: Findings) -> dict[int, str]:
    """Id -> name."""
    names: dict[int, str] = {}
    for index, entry in enumerate(entries):
        where = f"categories[{index}]"
        if not isinstance(entry, dict) or not _whole(entry.get("id")) or not isinstance(entry.get("name"), str):
            findings.add(file, where, f"{_short(entry)} needs a whole number `id` and a text `name`")
        elif entry["id"] in names:
            findings.add(file, where, f"id {entry['id']} is {names[entry['id']]!r} already; give each its own")
        elif entry["name"] in names.values():
            findings.add(file, where, f"the name {entry['name']!r} is used already; give each its own")
        else:
            names[entry["id"]] = entry["name"]
    return names


def _category_ids(names: dict[int, str], known: Sequence[str]) -> list[int]:
    """The id of each class; a class that this file lacks gets one that no category has."""
    ids = {name: key for key, name in names.items()}
    free = max(names, default=0) + 1
    for name in known:
        if name not in ids:
            ids[name] = free
            free += 1
    return [ids[name] for name in known]


def _images(entries: list[Any], file: Path, findings: Findings) -> tuple[dict[int | str, Entry], set[int | str]]:
    """The good entries by id, and the ids of bad ones, whose annotations go with them unmentioned."""
    good: dict[int | str, Entry] = {}
    rejected: set[int | str] = set()
    used = Counter(e["id"] for e in entries if isinstance(e, dict) and isinstance(e.get("id"), int | str))
    for index, entry in enumerate(entries):
        wrong = _image_problem(entry)
        where = f"images[{index}]"
        if not wrong and used[entry["id"]] > 1:
            where = f"image {entry['id']} ({entry['file_name']})"
            wrong = f"{used[entry['id']]} images have the id {entry['id']}; give each its own"
        if wrong:
            findings.add(file, where, wrong)
            if isinstance(entry, dict) and isinstance(entry.get("id"), int | str):
                rejected.add(entry["id"])
        else:
            good[entry["id"]] = entry
    return good, rejected


def _image_problem(entry: object) -> str | None:
    if not isinstance(entry, dict):
        return f"this is {_kind(entry)}, expected an object with id, file_name, width and height"
    if not _whole(entry.get("id")) and not isinstance(entry.get("id"), str):
        return f"{_short(entry)} needs an `id`, a whole number or text"
    if not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
        return f"{_short(entry)} needs a `file_name`"
    for side in ("width", "height"):  # left out, they are taken from the picture
        if side in entry and not (_whole(entry[side]) and entry[side] > 0):
            return f"`{side}` is {_short(entry[side])}, expected whole pixels above 0"
    return None


def _annotated_size(entry: Entry) -> Size | None:
    return (entry["height"], entry["width"]) if "height" in entry and "width" in entry else None


def _picture_paths(
    entries: dict[int | str, Entry], file: Path, images: Path | None, findings: Findings
) -> dict[int | str, Path]:
    """Where each picture should be. Nothing, and one problem, where no folder has any of them."""
    folders = [Path(images)] if images is not None else _folders(file)
    # The first picture decides; the next ones only where it is nowhere, since it may be the one missing.
    for entry in entries.values():
        for folder in folders:
            if (folder / entry["file_name"]).is_file():
                return {key: folder / entry["file_name"] for key, entry in entries.items()}
    if entries:
        first = next(iter(entries.values()))["file_name"]
        places = ", ".join(str(folder) for folder in folders)
        findings.add(
            file,
            "",
            f"none of its {count(len(entries), 'picture')} was found ({first} is the first);"
            f" looked in {places}; give the folder as `images`",
        )
    return {}


def _objects(
    entries: list[Any],
    file: Path,
    sizes: dict[int | str, Size],
    listed: set[int | str],
    names: dict[int, str],
    known: Sequence[str],
    findings: Findings,
) -> defaultdict[int | str, _Objects]:
    """The good annotations of the pictures in `sizes`; bad ones go to `findings`."""
    labels = {key: known.index(name) for key, name in names.items() if name in known}
    objects: defaultdict[int | str, _Objects] = defaultdict(_Objects)
    strangers: Counter[int] = Counter()
    for index, entry in enumerate(entries):
        try:
            _check_keys(entry)
            key, category = entry["image_id"], entry["category_id"]
            if key not in listed:
                raise ValueError(f"image_id {key} is not the id of an image; correct it or delete the annotation")
            if key not in sizes:
                continue  # its picture has been left out, and said so
            if category not in names:
                ids = _some(str(i) for i in sorted(names))
                raise ValueError(f"category_id {category} is not among the categories ({ids}); correct it")
            if category not in labels:
                strangers[category] += 1
                findings.objects += 1
                continue
            x, y, width, height = entry["bbox"]
            written = f"bbox {_short(entry['bbox'])} (x, y, width, height)"
            box = check_box((x, y, x + width, y + height), sizes[key], written)
        except (ValueError, OverflowError) as error:  # overflow: whole numbers of hundreds of digits
            findings.add(file, _where(entry, index), str(error))
            findings.objects += 1
            continue
        found = objects[key]
        found.boxes.append(box)
        found.labels.append(labels[category])
        found.crowd.append(bool(entry.get("iscrowd", 0)))
        found.areas.append(float(entry.get("area", (box[2] - box[0]) * (box[3] - box[1]))))
    for category, number in sorted(strangers.items()):
        findings.add(
            file,
            f"category {category} ({names[category]!r})",
            f"{count(number, 'annotation')} of this class, which is not one of {_some(known)};"
            " add it to the class names or delete them",
        )
    return objects


def _check_keys(entry: Any) -> None:
    """Raises ValueError where an annotation lacks a key or has a value of another type."""
    if not isinstance(entry, dict):
        raise ValueError(f"this is {_kind(entry)}, expected an object with image_id, category_id and bbox")
    for key in ("image_id", "category_id", "bbox"):
        if key not in entry:
            raise ValueError(f"`{key}` is missing; add it or delete the annotation")
    if not _whole(entry["image_id"]) and not isinstance(entry["image_id"], str):
        raise ValueError(f"`image_id` is {_short(entry['image_id'])}, expected an image's id")
    if not _whole(entry["category_id"]):
        raise ValueError(f"`category_id` is {_short(entry['category_id'])}, expected a category's id")
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(_number(v) for v in box):
        raise ValueError(f"`bbox` is {_short(box)}, expected four numbers: x, y, width, height")
    if entry.get("iscrowd", 0) not in (0, 1):
        raise ValueError(f"`iscrowd` is {_short(entry['iscrowd'])}, expected 0 or 1")
    area = entry.get("area", 0)
    if not _number(area) or not math.isfinite(area) or area < 0:
        raise ValueError(f"`area` is {_short(area)}, expected square pixels, 0 or more")


def _where(entry: Any, index: int) -> str:
    if not isinstance(entry, dict) or "id" not in entry:
        return f"annotations[{index}]"
    return f"annotation {entry['id']} (image {entry.get('image_id', 'unknown')})"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def _some(words: Any, shown: int = 20) -> str:
    """The words, and how many more there are."""
    words = list(words)
    return ", ".join(words[:shown]) + (f" and {len(words) - shown} more" if len(words) > shown else "")


def _to_xywh(box: Sequence[float]) -> list[float]:
    """x, y, width, height with few decimals, from which the reader gets the very same corners."""
    sides: list[float] = []
    starts: list[float] = []
    for low, high in ((box[0], box[2]), (box[1], box[3])):
        start = shortest(low, low, float)
        starts.append(start)
        sides.append(shortest(high - start, high, partial(add, start)))
    return starts + sides


def _json(parts: dict[str, list[Entry]]) -> str:
    """One entry a line: people diff these files."""
    blocks = []
    for part, entries in parts.items():
        lines = ",\n".join("  " + json.dumps(entry, ensure_ascii=False) for entry in entries)
        blocks.append(f'"{part}": [\n{lines}\n]' if lines else f'"{part}": []')
    return "{\n" + ",\n".join(blocks) + "\n}\n"
