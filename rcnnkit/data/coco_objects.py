"""The annotations of a file in COCO's format, checked all together: hundreds of thousands in seconds.

They are decoded into typed structures, many at a time. One that does not fit is looked at key by key, for words that
help. Boxes are checked as arrays; those that fail are checked once more, one by one, for the same reason.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from rcnnkit.data.checks import ROUNDING, Box, Findings, Shares
from rcnnkit.data.file_names import composed
from rcnnkit.data.flat import OBJECT
from rcnnkit.structures import Array, Size
from rcnnkit.text import count

Entry = dict[str, Any]  # one entry of a part, as the file has it
HIDDEN = -1  # code of a class that is left out, and said so; those below are of strangers


class _Annotation(msgspec.Struct, gc=False):
    """What is read of an annotation."""

    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]  # x, y, width, height
    area: Annotated[float, msgspec.Meta(ge=0)] = math.nan  # NaN: not given
    iscrowd: bool | Annotated[int, msgspec.Meta(ge=0, le=1)] = 0
    difficult: Any = None
    truncated: Any = None
    id: Any = None


_annotation = msgspec.json.Decoder(_Annotation)
_annotations = msgspec.json.Decoder(list[_Annotation])
AT_A_TIME = 4096  # annotations that are held as objects while arrays are made of them

FAR = 1.1  # times the picture's side; less is an edge that was not drawn exactly
DOUBTFUL = 20  # boxes; of fewer, all may have a shape by chance
# Odd numbers without a pattern: sums of multiples, modulo 2 ** 64, tell objects apart but for chance.
MIXING = np.random.default_rng(0).integers(1, 2**62, 6) * 2 + 1


@dataclass(slots=True)
class Corners:
    """Whether the boxes of a file are x1, y1, x2, y2, where x, y, width, height belongs.

    Of one box nobody can tell; all of a file tell it together. Where the file is right, few third numbers exceed their
    first and few fourth ones their second, but for objects that fill their pictures, and no box reaches far beyond.
    """

    boxes: int = 0
    fit: int = 0  # lie in the picture if they are corners
    beyond: int = 0  # of those, reach beyond the picture by a tenth of its side if they are not
    areas: int = 0  # of those, have an area that tells one from the other …
    between: int = 0  # … and have that between the corners

    def take(self, boxes: Array, sizes: Array, areas: Array) -> None:
        """(N, 4) boxes as they are written, the (N, 2) height and width of their pictures, (N,) areas or NaN."""
        a, b, c, d = boxes.T
        height, width = sizes.T
        with np.errstate(over="ignore", invalid="ignore"):
            fit = (a >= -ROUNDING) & (a < c) & (c <= width + ROUNDING)
            fit &= (b >= -ROUNDING) & (b < d) & (d <= height + ROUNDING)
            between = (c - a) * (d - b)
            decisive = fit & (areas > 0) & ~_close(between, c * d, 0.01)
            self.boxes, self.fit = len(boxes), int(fit.sum())
            self.beyond = int((fit & ((a + c > FAR * width) | (b + d > FAR * height))).sum())
            self.areas, self.between = int(decisive.sum()), int((decisive & _close(areas, between, 0.001)).sum())

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


def _close(one: Array, other: Array, share: float) -> Array:
    """`math.isclose` of arrays."""
    return np.abs(one - other) <= share * np.maximum(np.abs(one), np.abs(other))


class Classes:
    """What the ids of categories mean.

    Args:
        names: id → name of the good ones.
        class_names: the classes, in the order of their labels.
        hidden: ids of bad ones, whose annotations go with them.
    """

    def __init__(self, names: Mapping[int, str], class_names: Sequence[str], hidden: Iterable[int]) -> None:
        self.names, self.class_names = names, class_names
        self._ids = some(map(str, sorted(names)))
        label_of = {composed(name): label for label, name in enumerate(class_names)}
        self.strangers = [key for key, name in sorted(names.items()) if name not in label_of]
        # Id → its label, or for a stranger a number below HIDDEN.
        self.codes = dict.fromkeys(hidden, HIDDEN)
        self.codes |= {key: label_of[name] for key, name in names.items() if name in label_of}
        self.codes |= {key: HIDDEN - 1 - place for place, key in enumerate(self.strangers)}

    def unknown(self, category: int) -> str:
        return f"category_id {category} is not among the categories ({self._ids}); correct it"


ROW = np.dtype(
    [
        ("index", "<i4"),  # in the file
        ("picture", "<i4"),
        ("code", "<i4"),  # of the class
        ("box", "<f8", 4),  # x, y, width, height, as they are written
        ("area", "<f8"),
        ("flags", "u1"),  # crowd 1, difficult 2, truncated 4
        ("id_kind", "u1"),  # 0: none, 1: `id` is its own, 2: `id` is a number that was given to a text
        ("id", "<i8"),
    ]
)


class _Rows:
    """The annotations of pictures that are kept, in arrays.

    Args:
        most: how many there may be.
    """

    def __init__(self, most: int) -> None:
        self._rows, self._number = np.zeros(most, ROW), 0
        self._number_of: dict[Any, int] = {}  # of ids that are not whole numbers of 64 bits

    @property
    def all(self) -> Array:
        """(N,) of ROW."""
        return self._rows[: self._number]

    def add(
        self, index: Sequence[int], picture: Sequence[int], code: Sequence[int], annotations: Sequence[_Annotation]
    ) -> None:
        """Some annotations; those whose picture is -1 are left out."""
        rows = np.zeros(len(annotations), ROW)
        rows["index"], rows["picture"], rows["code"] = index, picture, code
        rows["box"] = np.array([annotation.bbox for annotation in annotations], np.float64).reshape(-1, 4)
        rows["area"] = [annotation.area for annotation in annotations]
        for bit, values in enumerate(
            (
                [bool(annotation.iscrowd) for annotation in annotations],
                [annotation.difficult in (1, True) for annotation in annotations],
                [annotation.truncated in (1, True) for annotation in annotations],
            )
        ):
            rows["flags"] |= np.array(values, np.uint8) << bit
        ids = [annotation.id for annotation in annotations]
        try:
            if {*map(type, ids)} != {int}:
                raise TypeError
            rows["id"], rows["id_kind"] = ids, 1
        except (TypeError, OverflowError):
            for row, key in zip(rows, ids, strict=True):
                row["id_kind"], row["id"] = self._id(key)
        rows = rows[rows["picture"] >= 0]
        self._rows[self._number : self._number + len(rows)] = rows
        self._number += len(rows)

    def _id(self, key: Any) -> tuple[int, int]:
        """Its kind and number."""
        if not isinstance(key, int | str):
            return 0, 0
        if isinstance(key, int) and -(2**63) <= key < 2**63:
            return 1, key
        return 2, self._number_of.setdefault(key, len(self._number_of))


def read_objects(
    entries: Sequence[Any],
    file: Path,
    places: Mapping[int | str, int],
    sizes: Array,
    classes: Classes,
    findings: Findings,
) -> tuple[Array, Array] | None:
    """The good annotations, picture after picture; bad ones go to `findings`.

    Args:
        entries: `msgspec.Raw` or JSON values.
        places: id of an image → which picture it is, or -1 where that is left out.
        sizes: (P, 2) height and width of the pictures.

    Returns:
        (N,) of `flat.OBJECT` and (P,) how many each picture has; None where most boxes are in another form than
        COCO's, which is one problem.
    """
    rows, wrong = _gather(entries, places, classes)
    index, picture, code, area, xywh = (rows[name] for name in ("index", "picture", "code", "area", "box"))
    size = sizes[picture].reshape(-1, 2)
    corners = Corners()
    corners.take(xywh, size, area)
    if message := corners.problem():
        findings.add(file, "", message)
        return None

    def entries_of(mask: Array) -> Iterable[tuple[int, Entry, str, str]]:
        """Of rows: the row, its entry, where that is, and its box as it is written."""
        for row in np.flatnonzero(mask).tolist():
            entry = with_box(generic(entries[index[row]]))
            yield row, entry, place_of(entry, index[row]), f"bbox {short(entry['bbox'])} (x, y, width, height)"

    boxes, good = _checked(xywh, size)
    labelled = code >= 0
    doubtful = {int(index[item[0]]): item for item in entries_of(labelled & ~good)}
    for place in sorted({*wrong, *doubtful}):
        if place in doubtful:
            row, entry, where, text = doubtful[place]
            before = len(findings)
            try:
                boxes[row] = _box(entry["bbox"], tuple(size[row].tolist()), text, file, where, findings)
            except (ValueError, OverflowError) as error:  # overflow: whole numbers of hundreds of digits
                wrong[place] = where, str(error)
            else:
                good[row] = True
                if len(findings) > before:  # corrected
                    area[row] = math.nan
                continue
        findings.add(file, *wrong[place])
    good &= labelled
    findings.objects += len(wrong) + int((~labelled).sum())

    shares = Shares()
    in_shares = good & (xywh.max(axis=1, initial=-np.inf) <= 1) & (size.min(axis=1, initial=2**31) > 1)
    shares.boxes += int((good & ~in_shares).sum())
    for row, entry, where, text in entries_of(in_shares):
        shares.take(entry["bbox"], tuple(size[row].tolist()), file, where, text)
    good &= ~in_shares
    for _, _, where, text in entries_of(good & (np.abs(xywh[:, 2:]).min(axis=1, initial=np.inf) <= 1)):
        message = f"{text}; delete it unless it is meant"
        findings.warn("a box that is at most 1 pixel wide or high", file, where, message)
    _warn_of_repeats(entries, rows, np.flatnonzero(good), boxes, file, findings)
    if doubt := corners.doubt():
        findings.warn("boxes that may be corners", file, "", doubt)
    if shares.tell(file, findings):
        findings.objects = 0
        return None
    strangers, known_ones = Counter(code[code < HIDDEN].tolist()), some(classes.class_names)
    for key, number in sorted(strangers.items(), reverse=True):
        category = classes.strangers[HIDDEN - 1 - key]
        findings.add(
            file,
            f"category {category} ({classes.names[category]!r})",
            f"{count(number, 'annotation')} of this class, which is not one of {known_ones};"
            " add it to data.class_names in settings, or delete them",
        )
    order = np.flatnonzero(good)
    order = order[np.argsort(picture[order], kind="stable")]
    objects = np.zeros(len(order), OBJECT)
    objects["box"], objects["label"] = boxes[order], code[order]
    sides = objects["box"][:, 2:].astype(np.float64) - objects["box"][:, :2]
    with np.errstate(over="ignore"):
        objects["area"] = np.where(np.isnan(area[order]), sides.prod(axis=1), area[order])
    for bit, flag in enumerate(("crowd", "difficult", "truncated")):
        objects[flag] = rows["flags"][order] >> bit & 1
    return objects, np.bincount(picture[order], minlength=len(sizes))


def _gather(
    entries: Sequence[Any], places: Mapping[int | str, int], classes: Classes
) -> tuple[Array, dict[int, tuple[str, str]]]:
    """The annotations of pictures that are kept, (N,) of ROW; and by its index what is wrong with another one, and
    where that is."""
    rows, wrong = _Rows(len(entries)), dict[int, tuple[str, str]]()
    for start in range(0, len(entries), AT_A_TIME):
        part = entries[start : start + AT_A_TIME]
        annotations = _typed(part)
        pictures = [places.get(each.image_id) for each in annotations]
        codes = [classes.codes.get(each.category_id) for each in annotations]
        if len(annotations) == len(part) and None not in pictures and None not in codes:
            rows.add(range(start, start + len(part)), pictures, codes, annotations)  # type: ignore[arg-type]  # no None
        else:
            _gather_singly(part, start, places, classes, rows, wrong)
    return rows.all, wrong


def _gather_singly(
    entries: Sequence[Any],
    start: int,
    places: Mapping[int | str, int],
    classes: Classes,
    rows: _Rows,
    wrong: dict[int, tuple[str, str]],
) -> None:
    """Some annotations, of which not all are as usual: the good ones to `rows`, others to `wrong`."""
    good: list[tuple[int, int, int, _Annotation]] = []
    for index, raw in enumerate(entries, start):
        try:
            annotation = _one(raw)
            if (place := places.get(annotation.image_id)) is None:
                place = places.get(other_type(annotation.image_id))
            if place is None:
                raise ValueError(
                    f"image_id {short(annotation.image_id)} is not the id of an image; correct it or delete"
                    " the annotation"
                )
            if place < 0:
                continue  # its picture has been left out, and said so
            if (code := classes.codes.get(annotation.category_id)) is None:
                raise ValueError(classes.unknown(annotation.category_id))
        except (ValueError, OverflowError) as error:
            wrong[index] = (place_of(generic(raw), index), str(error))
            continue
        good.append((index, place, code, annotation))
    if good:
        rows.add(*zip(*good, strict=True))


def _typed(entries: Sequence[Any]) -> list[_Annotation]:
    """All of them; none where one does not fit."""
    if not isinstance(entries[0], msgspec.Raw):
        return []
    try:
        return _annotations.decode(b"[" + b",".join(entries) + b"]")
    except msgspec.ValidationError:
        return []


def _one(raw: Any) -> _Annotation:
    """An annotation. Raises ValueError or OverflowError for what is wrong with it."""
    if isinstance(raw, msgspec.Raw):
        try:
            return _annotation.decode(raw)
        except msgspec.ValidationError:
            pass
    entry = with_box(generic(raw))
    _check_keys(entry)
    x, y, width, height = map(float, entry["bbox"])
    return _Annotation(
        entry["image_id"],
        entry["category_id"],
        (x, y, width, height),
        float(entry.get("area", math.nan)),
        bool(entry.get("iscrowd", 0)),
        *(entry.get(name) for name in ("difficult", "truncated", "id")),
    )


def _checked(xywh: Array, size: Array) -> tuple[Array, Array]:
    """What `check_box` makes of all boxes, (N, 4) float32, and which of them are good for certain, (N,) bool.

    Args:
        xywh: (N, 4) x, y, width, height.
        size: (N, 2) height and width of each one's picture.
    """
    corners = xywh.copy()
    edges = size[:, ::-1].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        corners[:, 2:] += xywh[:, :2]
        boxes = corners.astype(np.float32)
        good: Array = np.asarray(np.isfinite(corners).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        good &= (boxes[:, :2] >= -ROUNDING).all(axis=1) & (boxes[:, 2:] - edges <= ROUNDING).all(axis=1)
        boxes[:, :2] = np.maximum(boxes[:, :2], 0)
        boxes[:, 2:] = np.minimum(boxes[:, 2:], edges)
        good &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        good &= (corners[:, 2:] <= FAR * edges).all(axis=1)  # a box that reaches farther may be corners
        return boxes, good


def _box(box: Sequence[float], size: Size, text: str, file: Path, where: str, findings: Findings) -> Box:
    """`Findings.box` of x, y, width, height. Raises ValueError also where they seem to be corners."""
    if hint := _are_corners(box, size):
        raise ValueError(f"{text} {hint}")
    x, y, width, height = box
    return findings.box((x, y, x + width, y + height), size, text, file, where)


def _are_corners(box: Sequence[float], size: Size) -> str:
    """What to say of a box that reaches beyond a picture of this (height, width), and would lie in it as corners."""
    a, b, c, d = box
    height, width = size
    beyond = a + c > FAR * width or b + d > FAR * height
    if not (beyond and 0 <= a < c <= width and 0 <= b < d <= height):
        return ""
    return (
        f"reaches beyond the picture, which is {width} wide and {height} high, but would lie in it as x1, y1, x2, y2;"
        " if it is that, write x2 - x1 and y2 - y1, or else correct the box"
    )


def boxes_by_image(annotations: Sequence[Any]) -> dict[int | str, list[Box]]:
    """Those that can be read, by the image id that they are written with."""
    boxes: dict[int | str, list[Box]] = defaultdict(list)
    for raw in annotations:
        try:
            annotation = _one(raw)
        except (ValueError, OverflowError):
            continue
        x, y, width, height = annotation.bbox
        boxes[annotation.image_id].append((x, y, x + width, y + height))
    return boxes


def _warn_of_repeats(
    entries: Sequence[Any], rows: Array, good_rows: Array, boxes: Array, file: Path, findings: Findings
) -> None:
    """Of ids that are used already, and of objects that are annotated twice.

    Args:
        rows: (N,) of ROW.
        good_rows: the rows that are kept.
    """
    index = rows["index"]
    kinds = rows["id_kind"][good_rows]
    same_ids = (_repeats(rows["id"][some], some) for some in (good_rows[kinds == kind] for kind in (1, 2)))
    for row, earlier_row in sorted(chain.from_iterable(same_ids)):
        key = short(generic(entries[index[row]])["id"])
        message = f"annotations[{index[earlier_row]}] has the id {key} too; give each its own"
        findings.warn("an annotation id that is used already", file, f"annotations[{index[row]}]", message)
    bits = (boxes + 0).view(np.int32)  # 0 and -0 alike
    columns = rows["picture"], rows["code"], *bits.T
    mixed = np.zeros(len(good_rows), np.int64)
    for column, factor in zip(columns, MIXING, strict=True):
        mixed += column[good_rows] * factor
    for row, earlier_row in _repeats(mixed, good_rows):
        if all(column[row] == column[earlier_row] for column in columns):
            where, first = (place_of(generic(entries[index[each]]), index[each]) for each in (row, earlier_row))
            message = f"its box and class are those of {first} too; delete one"
            findings.warn("an object that is annotated twice", file, where, message)


def _repeats(keys: Array, rows: Array) -> list[tuple[int, int]]:
    """Rows whose key an earlier one has, and the first that has it; in order of the former."""
    order = np.argsort(keys, kind="stable")
    new = np.append(True, keys[order][1:] != keys[order][:-1])[: len(keys)]
    first = order[np.maximum.accumulate(np.where(new, np.arange(len(keys)), 0))]
    return sorted(zip(rows[order[~new]].tolist(), rows[first[~new]].tolist(), strict=True))


def other_type(key: int | str) -> int | str:
    """An id as text where it is a number, and as a number where it is text: VGG's annotator (VIA) writes both."""
    if isinstance(key, int):
        return str(key)
    number = int(key) if key.isdecimal() and len(key) < 20 else 0
    return number if str(number) == key else key


def with_box(entry: Any) -> Any:
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
        raise ValueError(f"this is {kind_of(entry)}, expected an object with image_id, category_id and bbox")
    if not entry.get("bbox") and isinstance(entry.get("segmentation"), list) and entry["segmentation"]:
        raise ValueError(
            f"`bbox` is missing, and `segmentation` is {short(entry['segmentation'])}, where a polygon needs three"
            " corners or more: [[x, y, x, y, x, y, …], …]; correct it or delete the annotation"
        )
    for key in ("image_id", "category_id", "bbox"):
        if key not in entry:
            raise ValueError(f"`{key}` is missing; add it or delete the annotation")
    if not is_whole(entry["image_id"]) and not isinstance(entry["image_id"], str):
        raise ValueError(f"`image_id` is {short(entry['image_id'])}, expected an image's id")
    if not is_whole(entry["category_id"]):
        raise ValueError(f"`category_id` is {short(entry['category_id'])}, expected a category's id")
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(_number(v) for v in box):
        raise ValueError(f"`bbox` is {short(box)}, expected four numbers: x, y, width, height")
    if entry.get("iscrowd", 0) not in (0, 1):
        raise ValueError(f"`iscrowd` is {short(entry['iscrowd'])}, expected 0 or 1")
    area = entry.get("area", 0)
    if not _number(area) or not math.isfinite(area) or area < 0:
        raise ValueError(f"`area` is {short(area)}, expected square pixels, 0 or more")


def place_of(entry: Any, index: int) -> str:
    """Where an annotation is, in words."""
    if not isinstance(entry, dict) or "id" not in entry:
        return f"annotations[{index}]"
    return f"annotation {entry['id']} (image {entry.get('image_id', 'unknown')})"


def generic(raw: Any) -> Any:
    """An entry as JSON has it."""
    return json.loads(bytes(raw)) if isinstance(raw, msgspec.Raw) else raw


def kind_of(value: object) -> str:
    """A JSON value in words, for messages."""
    kinds: dict[type, str] = {dict: "an object", list: "a list", type(None): "null"}
    return kinds.get(type(value), repr(value))


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def some(words: Any, limit: int = 20) -> str:
    """The words, and how many more there are."""
    words = list(words)
    return ", ".join(words[:limit]) + (f" and {len(words) - limit} more" if len(words) > limit else "")
