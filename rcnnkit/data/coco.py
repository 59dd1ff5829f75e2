"""COCO's format: one JSON file with images, annotations and categories, pictures in a folder.

Its boxes are x, y, width, height in continuous 0-based pixels. Category ids need not be consecutive
(COCO's own run from 1 to 90 for 80 classes): labels are their order, 0…K-1, and the ids are kept.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import add
from pathlib import Path
from typing import Any

import torch

from rcnnkit.data.checks import ROUNDING, Box, Findings, Shares, check_size, picture_sizes
from rcnnkit.data.decimals import shortest
from rcnnkit.data.file_names import StoredNames, composed, is_there
from rcnnkit.data.records import Dataset, Record
from rcnnkit.files import check_regular
from rcnnkit.structures import Size, Targets, coco_entry
from rcnnkit.text import count

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
        ValueError: the file lists no picture or is not a regular file, or a class name is given twice.
    """
    file = Path(file)
    check_regular(file)
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

    names, ambiguous = _categories(content["categories"], content["annotations"], file, findings)
    known = [names[i] for i in sorted(names)] if class_names is None else list(class_names)
    entries, rejected = _images(content["images"], file, findings)
    paths = _picture_paths(entries, file, images, findings)
    _leave_out_twice(paths, entries, file, findings)
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
            boxes = _boxes_of(key, content["annotations"]) if findings.fixing else []
            if not findings.size(wrong, annotated, size, boxes, file, where):
                continue
            annotated = size
        sizes[key] = annotated
    listed = set(entries) | rejected
    objects = _objects(content["annotations"], file, sizes, listed, names, known, ambiguous, findings)
    records = [
        Record(id=key, path=paths[key], size=sizes[key], targets=objects[key].targets())
        for key in entries
        if key in sizes
    ]
    findings.pictures = len(content["images"]) - len(records)
    return Dataset(_name(file), records, known, _category_ids(names, known)), findings


def write_coco(dataset: Dataset, file: Path) -> None:
    """Write a data set as COCO JSON; `read_coco` gives the same boxes, labels, flags and areas back.

    VOC's flags are written as `difficult` and `truncated` where they are set; few other tools read them.

    Pictures stay where they are: their names are written relative to the first folder in which
    `read_coco` looks and all of them lie; where there is none, to ROOT, as `../pictures/a.jpg`. Ids that are
    not all numbers become 1, 2, 3, …

    Raises:
        FileExistsError: `file` exists; it is not overwritten.
    """
    file = Path(file)
    if file.exists():
        raise FileExistsError(f"{file} exists and is not overwritten; choose another name")
    paths = [record.path.resolve() for record in dataset.records]
    shared = Path(os.path.commonpath([path.parent for path in paths])) if paths else file.parent
    below = (folder.resolve() for folder in _folders(file))
    folder = next((folder for folder in below if shared.is_relative_to(folder)), _root(file.resolve()))
    keep_ids = all(isinstance(record.id, int) for record in dataset.records)

    images: list[Entry] = []
    annotations: list[Entry] = []
    for number, (record, path) in enumerate(zip(dataset.records, paths, strict=True), start=1):
        key = record.id if keep_ids else number
        name = Path(os.path.relpath(path, folder)).as_posix()
        images.append({"id": key, "file_name": name, "width": record.size[1], "height": record.size[0]})
        targets = record.targets
        for box, label, crowd, area, difficult, truncated in zip(
            targets.boxes.tolist(),
            targets.labels.tolist(),
            targets.crowd.tolist(),
            targets.areas.tolist(),
            targets.difficult.tolist(),
            targets.truncated.tolist(),
            strict=True,
        ):
            entry = coco_entry(key, dataset.category_ids[label], box) | {"bbox": _to_xywh(box)}
            area = shortest(area, area, float)
            flags = {name: 1 for name, flag in (("difficult", difficult), ("truncated", truncated)) if flag}
            annotations.append({"id": len(annotations) + 1, **entry, "area": area, "iscrowd": int(crowd), **flags})
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
    difficult: list[bool] = field(default_factory=list)
    truncated: list[bool] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)

    def targets(self) -> Targets:
        return Targets(
            boxes=torch.tensor(self.boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor(self.labels, dtype=torch.int64),
            crowd=torch.tensor(self.crowd, dtype=torch.bool),
            difficult=torch.tensor(self.difficult, dtype=torch.bool),
            truncated=torch.tensor(self.truncated, dtype=torch.bool),
            areas=torch.tensor(self.areas, dtype=torch.float32),
        )


DOUBTFUL = 20  # boxes; of fewer, all may have a shape by chance


@dataclass(slots=True)
class _Corners:
    """Whether the boxes of a file are x1, y1, x2, y2, where x, y, width, height belongs.

    Of one box nobody can tell; all of a file tell it together. Where the file is right, few third numbers exceed their
    first and few fourth ones their second, but for objects that fill their pictures, and no box reaches far beyond.
    """

    boxes: int = 0
    fit: int = 0  # lie in the picture if they are corners
    beyond: int = 0  # of those, reach beyond the picture by a tenth of its side if they are not
    areas: int = 0  # of those, have an area that tells one from the other …
    between: int = 0  # … and have that between the corners

    def take(self, box: Sequence[float], size: Size, area: float | None) -> None:
        """A box as it is written, the (height, width) of its picture, and its `area`."""
        a, b, c, d = box
        self.boxes += 1
        if not (-ROUNDING <= a < c <= size[1] + ROUNDING and -ROUNDING <= b < d <= size[0] + ROUNDING):
            return
        self.fit += 1
        self.beyond += a + c > 1.1 * size[1] or b + d > 1.1 * size[0]
        between = (c - a) * (d - b)
        if area and not math.isclose(between, c * d, rel_tol=0.01):
            self.areas += 1
            self.between += math.isclose(area, between, rel_tol=0.001)

    def problem(self) -> str | None:
        """What is wrong with all boxes, or None."""
        if self.fit < 0.95 * self.boxes:  # some may be bad besides
            return None
        if self.beyond and self.beyond >= 0.1 * self.boxes:
            reason = f"{self.beyond} of its {count(self.boxes, 'annotation')} would reach far beyond their pictures"
        elif self.between and self.between >= 0.9 * self.areas:
            reason = f"`area` is (x2 - x1) (y2 - y1) in {self.between} of its {count(self.boxes, 'annotation')}"
        else:
            return None
        return f"`bbox` seems to be x1, y1, x2, y2, expected x, y, width, height: {reason}; write x2 - x1 and y2 - y1"

    def doubt(self) -> str | None:
        """What the shapes of the boxes alone speak for, or None; objects that fill their pictures look the same."""
        if self.boxes < DOUBTFUL or self.fit < 0.95 * self.boxes or self.areas:
            return None
        return (
            f"`bbox` may be x1, y1, x2, y2, expected x, y, width, height: in {self.fit} of its {self.boxes} annotations"
            " the third number is greater than the first and the fourth than the second; look at some of the boxes"
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
    except UnicodeDecodeError as error:  # UTF-16 and UTF-32 are seen by their zeros
        findings.add(file, "", f"this is not UTF-8 text ({error}); save it as UTF-8")
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


def _categories(
    entries: list[Any], annotations: list[Any], file: Path, findings: Findings
) -> tuple[dict[int, str], set[int]]:
    """Id -> name of the good ones; and the ids of bad ones, whose annotations go with them unmentioned."""
    named: dict[int, dict[str, None]] = defaultdict(dict)  # id -> its names in their order
    bad: set[int] = set()
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not _whole(entry.get("id")) or not isinstance(entry.get("name"), str):
            findings.add(file, f"categories[{index}]", f"{_short(entry)} needs a whole number `id` and a text `name`")
            if isinstance(entry, dict) and _whole(entry.get("id")):
                bad.add(entry["id"])
        else:
            named[entry["id"]][composed(entry["name"])] = None
    ids: dict[str, list[int]] = defaultdict(list)
    for key, names in named.items():
        if len(names) > 1:
            several = _some(repr(name) for name in names)
            findings.add(file, f"category {key}", f"{several} have the id {key}; give each its own")
            bad.add(key)
        elif key not in bad:
            ids[next(iter(names))].append(key)
    good = {keys[0]: name for name, keys in ids.items() if len(keys) == 1}
    if len(good) < len(ids):
        used = Counter(e["category_id"] for e in annotations if isinstance(e, dict) and _whole(e.get("category_id")))
    for name, keys in ids.items():
        if len(keys) == 1:
            continue
        # A supercategory may have the name of its only class, as in Roboflow's exports. Nothing is annotated with it.
        real = [key for key in keys if used[key]]
        if len(real) < 2:
            good[real[0] if real else keys[-1]] = name
            continue
        uses = _some(f"{count(used[key], 'annotation')} of category {key}" for key in real)
        findings.add(
            file,
            f"categories {_some(map(str, real))}",
            f"they have one name, {name!r}, for {uses}; rename all but one, or give these annotations one category_id",
        )
        bad |= set(real)
    return good, bad


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
    for side in ("width", "height"):  # left out, null or 0, they are taken from the picture
        if entry.get(side) and not (_whole(entry[side]) and entry[side] > 0):
            return f"`{side}` is {_short(entry[side])}, expected whole pixels above 0"
    return None


def _annotated_size(entry: Entry) -> Size | None:
    return (entry["height"], entry["width"]) if entry.get("height") and entry.get("width") else None


def _picture_paths(
    entries: dict[int | str, Entry], file: Path, images: Path | None, findings: Findings
) -> dict[int | str, Path]:
    """Where each picture should be. Nothing, and one problem, where no folder has any of them."""
    folders = [Path(images)] if images is not None else _folders(file)
    stored = StoredNames()
    # The first picture decides; the next ones only where it is nowhere, since it may be the one missing.
    for entry in entries.values():
        for cut in range(-1, len(_parts(entry["file_name"]))):
            for folder in folders:
                if is_there(stored.find(folder / _cut(entry["file_name"], cut))):
                    return {key: stored.find(folder / _cut(e["file_name"], cut)) for key, e in entries.items()}
    if entries:
        first = next(iter(entries.values()))["file_name"]
        places = ", ".join(str(folder) for folder in folders)
        findings.add(
            file,
            "",
            f"none of its {count(len(entries), 'picture')} was found ({first} is the first); looked in {places}; give"
            " the folder that has them as data.images in settings, --images on the command line",
        )
    return {}


def _parts(name: str) -> list[str]:
    return re.split(r"[/\\]+", name)


def _cut(name: str, cut: int) -> str:
    """A picture's name: as it is (-1), with the slashes of Windows turned (0), without its first folders (1, 2, …).

    Names may begin in another folder than that of the pictures, or with a disk that is elsewhere.
    """
    parts = _parts(name)
    return name if cut < 0 else "/".join(parts[min(cut, len(parts) - 1) :])


def _leave_out_twice(
    paths: dict[int | str, Path], entries: dict[int | str, Entry], file: Path, findings: Findings
) -> None:
    """Take the pictures that several entries name out of `paths`: each entry may have some of the objects only."""
    keys: dict[str, list[int | str]] = defaultdict(list)
    for key, path in paths.items():
        keys[os.path.normpath(path)].append(key)
    for same in keys.values():
        if len(same) == 1:
            continue
        findings.add(
            file,
            f"image {same[0]} ({entries[same[0]]['file_name']})",
            f"{len(same)} images are this picture (ids {_some(map(str, same))}); give all their annotations one"
            " image_id, and delete the other images",
        )
        for key in same:
            del paths[key]


def _objects(
    entries: list[Any],
    file: Path,
    sizes: dict[int | str, Size],
    listed: set[int | str],
    names: dict[int, str],
    known: Sequence[str],
    ambiguous: set[int],
    findings: Findings,
) -> defaultdict[int | str, _Objects]:
    """The good annotations of the pictures in `sizes`; bad ones go to `findings`.

    Where most boxes are in another form than COCO's there is one problem, and no picture is left in `sizes`.
    """
    label_of = {composed(name): label for label, name in enumerate(known)}
    labels = {key: label_of[name] for key, name in names.items() if name in label_of}
    ids = _some(map(str, sorted(names)))
    objects: defaultdict[int | str, _Objects] = defaultdict(_Objects)
    strangers: Counter[int] = Counter()
    corners, shares, told = _Corners(), Shares(), len(findings)
    first_of_id: dict[int | str, int] = {}
    first_of_box: dict[tuple[object, ...], int] = {}
    for index, entry in enumerate(entries):
        entry = _with_box(entry)
        before = len(findings)
        try:
            _check_keys(entry)
            key, category = entry["image_id"], entry["category_id"]
            if key not in listed:
                key = _other_type(key)
            if key not in listed:
                raise ValueError(
                    f"image_id {_short(entry['image_id'])} is not the id of an image; correct it or delete the"
                    " annotation"
                )
            if key not in sizes:
                continue  # its picture has been left out, and said so
            corners.take(entry["bbox"], sizes[key], entry.get("area"))
            if category in ambiguous:
                findings.objects += 1
                continue  # and so has its category
            if category not in names:
                raise ValueError(f"category_id {category} is not among the categories ({ids}); correct it")
            if category not in labels:
                strangers[category] += 1
                findings.objects += 1
                continue
            x, y, width, height = entry["bbox"]
            written = f"bbox {_short(entry['bbox'])} (x, y, width, height)"
            if hint := _are_corners(entry["bbox"], sizes[key]):
                raise ValueError(f"{written} {hint}")
            box = findings.box((x, y, x + width, y + height), sizes[key], written, file, _where(entry, index))
        except (ValueError, OverflowError) as error:  # overflow: whole numbers of hundreds of digits
            findings.add(file, _where(entry, index), str(error))
            findings.objects += 1
            continue
        where = _where(entry, index)
        if shares.take(entry["bbox"], sizes[key], file, where, written):
            continue
        if min(abs(width), abs(height)) <= 1:
            findings.warn(
                "a box that is at most 1 pixel wide or high", file, where, f"{written}; delete it unless it is meant"
            )
        own = entry.get("id")
        if isinstance(own, int | str) and (other := first_of_id.setdefault(own, index)) != index:
            message = f"annotations[{other}] has the id {_short(own)} too; give each its own"
            findings.warn("an annotation id that is used already", file, f"annotations[{index}]", message)
        if (other := first_of_box.setdefault((key, category, *box), index)) != index:
            message = f"its box and class are those of {_where(entries[other], other)} too; delete one"
            findings.warn("an object that is annotated twice", file, where, message)
        found = objects[key]
        found.boxes.append(box)
        found.labels.append(labels[category])
        found.crowd.append(bool(entry.get("iscrowd", 0)))
        found.difficult.append(entry.get("difficult") in (1, True))
        found.truncated.append(entry.get("truncated") in (1, True))
        own_area = (box[2] - box[0]) * (box[3] - box[1])
        found.areas.append(own_area if len(findings) > before else float(entry.get("area", own_area)))
    if wrong := corners.problem():
        del findings[told:]  # all for the same reason
        findings.add(file, "", wrong)
    elif doubt := corners.doubt():
        findings.warn("boxes that may be corners", file, "", doubt)
    if wrong or shares.tell(file, findings):
        sizes.clear()
        findings.objects = 0
        return objects
    classes = _some(known)
    for category, number in sorted(strangers.items()):
        findings.add(
            file,
            f"category {category} ({names[category]!r})",
            f"{count(number, 'annotation')} of this class, which is not one of {classes};"
            " add it to data.class_names in settings, or delete them",
        )
    return objects


def _are_corners(box: Sequence[float], size: Size) -> str:
    """What to say of a box that reaches beyond a picture of this (height, width), and would lie in it as corners."""
    a, b, c, d = box
    height, width = size
    beyond = a + c > 1.1 * width or b + d > 1.1 * height  # less is an edge that was not drawn exactly
    if not (beyond and 0 <= a < c <= width and 0 <= b < d <= height):
        return ""
    return (
        f"reaches beyond the picture, which is {width} wide and {height} high, but would lie in it as x1, y1, x2, y2;"
        " if it is that, write x2 - x1 and y2 - y1, or else correct the box"
    )


def _boxes_of(key: int | str, annotations: list[Any]) -> list[Box]:
    """The boxes of a picture that can be read."""
    boxes: list[Box] = []
    for entry in map(_with_box, annotations):
        try:
            _check_keys(entry)
        except ValueError:
            continue
        if entry["image_id"] in (key, _other_type(key)):
            x, y, width, height = map(float, entry["bbox"])
            boxes.append((x, y, x + width, y + height))
    return boxes


def _other_type(key: int | str) -> int | str:
    """An id as text where it is a number, and as a number where it is text: VGG's annotator (VIA) writes both."""
    if isinstance(key, int):
        return str(key)
    number = int(key) if key.isdecimal() and len(key) < 20 else 0
    return number if str(number) == key else key


def _with_box(entry: Any) -> Any:
    """The annotation; where it has a polygon and no box, with the box around that, as tools leave out what follows."""
    polygons = entry.get("segmentation") if isinstance(entry, dict) and not entry.get("bbox") else None
    if not isinstance(polygons, list) or not polygons or not all(isinstance(one, list) for one in polygons):
        return entry
    numbers = [one for polygon in polygons for one in polygon]
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons) or not all(map(_number, numbers)):
        return entry  # `_check_keys` says so
    xs = [x for polygon in polygons for x in polygon[0::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    return entry | {"bbox": [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]}


def _check_keys(entry: Any) -> None:
    """Raises ValueError where an annotation lacks a key or has a value of another type."""
    if not isinstance(entry, dict):
        raise ValueError(f"this is {_kind(entry)}, expected an object with image_id, category_id and bbox")
    if not entry.get("bbox") and isinstance(entry.get("segmentation"), list) and entry["segmentation"]:
        raise ValueError(
            f"`bbox` is missing, and `segmentation` is {_short(entry['segmentation'])}, where a polygon needs three"
            " corners or more: [[x, y, x, y, x, y, …], …]; correct it or delete the annotation"
        )
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
