"""COCO's format: one JSON file with images, annotations and categories, pictures in a folder.

Its boxes are x, y, width, height in continuous 0-based pixels. Category ids need not be consecutive
(COCO's own run from 1 to 90 for 80 classes): labels are their order, 0…K-1, and the ids are kept.
"""

from __future__ import annotations

import codecs
import json
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from operator import add
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from rcnnkit.archives import is_folder, names_in
from rcnnkit.data.checks import Findings, check_size, picture_sizes
from rcnnkit.data.coco_objects import (
    Classes,
    Entry,
    boxes_by_image,
    generic,
    is_whole,
    kind_of,
    other_type,
    read_objects,
    short,
    some,
)
from rcnnkit.data.decimals import shortest
from rcnnkit.data.file_names import StoredNames, composed, is_there
from rcnnkit.data.flat import flat_records
from rcnnkit.data.records import Dataset, check_class_names
from rcnnkit.defaults import CHECK_PICTURES
from rcnnkit.files import check_regular
from rcnnkit.structures import Size, coco_entry
from rcnnkit.text import count

log = logging.getLogger("rcnnkit")
PARTS = ("images", "annotations", "categories")
TEXT_AT_A_TIME = 2**24  # bytes
Side = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class _Content(msgspec.Struct):
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[Any]


class _Image(msgspec.Struct, gc=False):
    """One entry of `images`; sides that are left out, null or 0 are taken from the picture."""

    id: int | str
    file_name: Annotated[str, msgspec.Meta(min_length=1)]
    height: Side | None = None
    width: Side | None = None

    @property
    def size(self) -> Size | None:
        return (self.height, self.width) if self.height and self.width else None


_content, _image = msgspec.json.Decoder(_Content), msgspec.json.Decoder(_Image)


def read_coco(
    file: Path,
    images: Path | None = None,
    class_names: Sequence[str] | None = None,
    *,
    check_pictures: bool = CHECK_PICTURES,
) -> tuple[Dataset, Findings]:
    """A data set in COCO's format, and everything that is wrong with it.

    Args:
        file: the JSON file.
        images: the folder of the pictures. Left out, for ROOT/annotations/instances_X.json it is the
            first of ROOT/X, ROOT/images/X, ROOT/images, ROOT and ROOT/annotations that has a picture.
        class_names: in the order of the labels. Left out, the categories in the order of their ids.
        check_pictures: look at each picture; otherwise only at those whose size the file does not say.

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
    if images is not None and not is_folder(Path(images)):
        raise FileNotFoundError(f"there is no picture folder {images}")
    check_class_names(class_names or [])
    findings = Findings()
    content = _load(file, findings)
    if content is None:
        return Dataset(_name(file), [], list(class_names or []), []), findings
    if not content["images"]:
        raise ValueError(f"{file} lists no picture: its `images` is empty")

    names, ambiguous = _categories(content["categories"], content["annotations"], file, findings)
    classes = [names[i] for i in sorted(names)] if class_names is None else list(class_names)
    entries, bad_ids = _images(content["images"], file, findings)
    paths = _picture_paths(entries, file, images, findings)
    _leave_out_twice(paths, entries, file, findings)
    trusted = () if check_pictures else [entries[key].size for key in paths]
    size_of = dict(zip(paths, picture_sizes(paths.values(), trusted), strict=True))

    boxes_of = boxes_by_image(content["annotations"]) if findings.fixing else {}
    sizes: dict[int | str, Size] = {}
    for key, path in paths.items():
        size, annotated = size_of[key], entries[key].size
        if isinstance(size, str):
            findings.add(file, f"image {key} ({entries[key].file_name})", f"{size}: {path}")
            continue
        if annotated is not None and annotated != size and (wrong := check_size(Path(path), annotated, size)):
            boxes = [*boxes_of.get(key, ()), *boxes_of.get(other_type(key), ())]
            where = f"image {key} ({entries[key].file_name})"
            if not findings.size(wrong, annotated, size, boxes, file, where):
                continue
            annotated = size
        sizes[key] = annotated or size
    keys = [key for key in entries if key in sizes]
    places = dict.fromkeys({*entries, *bad_ids}, -1) | {key: place for place, key in enumerate(keys)}
    shapes = np.array([sizes[key] for key in keys], dtype=np.int64).reshape(-1, 2)
    objects = read_objects(content["annotations"], file, places, shapes, Classes(names, classes, ambiguous), findings)
    if objects is None:
        findings.pictures = len(content["images"])
        return Dataset(_name(file), [], classes, _category_ids(names, classes)), findings
    findings.pictures = len(content["images"]) - len(keys)
    records = flat_records(*objects, shapes, keys, [paths[key] for key in keys])
    return Dataset(_name(file), records, classes, _category_ids(names, classes)), findings


def write_coco(dataset: Dataset, file: Path, scores: Sequence[Sequence[float]] | None = None) -> None:
    """Write a data set as COCO JSON; `read_coco` gives the same boxes, labels, flags and areas back.

    VOC's flags are written as `difficult` and `truncated` where they are set; few other tools read them.

    Pictures stay where they are: their names are written relative to the first folder in which
    `read_coco` looks and all of them lie; where there is none, to ROOT, as `../pictures/a.jpg`. Ids that are
    not all numbers become 1, 2, 3, …

    Args:
        scores: of the objects of each picture, where a detector found them; they are written as `score`.

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
    if dataset.words:
        log.warning("%s: its phrases are not written: COCO's annotations have no place for them", dataset.name)
    keep_ids = all(isinstance(record.id, int) for record in dataset.records)

    images: list[Entry] = []
    annotations: list[Entry] = []
    scores_of: Sequence[Sequence[float] | None] = [None] * len(dataset) if scores is None else scores
    for number, (record, path, object_scores) in enumerate(
        zip(dataset.records, paths, scores_of, strict=True), start=1
    ):
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
        if object_scores is not None:
            for entry, score in zip(annotations[len(annotations) - len(targets) :], object_scores, strict=True):
                entry["score"] = round(score, 6)
    categories = [
        {"id": key, "name": name, "supercategory": "none"}
        for key, name in zip(dataset.category_ids, dataset.class_names, strict=True)
    ]
    parts: dict[str, list[Entry]] = {"images": images, "annotations": annotations, "categories": categories}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_json(parts), encoding="utf-8")


def _root(file: Path) -> Path:
    return file.parent.parent if file.parent.name == "annotations" else file.parent


def _name(file: Path) -> str:
    return f"{_root(file.resolve()).name}/{file.stem.removeprefix('instances_')}"


def _folders(file: Path) -> list[Path]:
    """Where the pictures of a JSON file may lie, most telling first."""
    root, split = _root(file), file.stem.removeprefix("instances_")
    folders = [root / split, root / "images" / split, root / "images", root, file.parent]
    return list(dict.fromkeys(folders))


def _load(file: Path, findings: Findings) -> dict[str, list[Any]] | None:
    """The three parts, each a list; None where the file has another form.

    Images and annotations are bytes of JSON (`msgspec.Raw`), unless the file is more than strict JSON in UTF-8.
    """
    data = file.read_bytes()
    try:
        if not data.isascii():
            _check_text(data)
        content = _content.decode(data)
        return {part: getattr(content, part) for part in PARTS}
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        pass  # what is wrong, or that nothing is, is found below
    try:
        content = json.loads(data)
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
        findings.add(file, "", f"this holds {kind_of(content)}, expected an object with {', '.join(PARTS)}")
        return None
    wrong = [
        f"`{part}` is {kind_of(content[part]) if part in content else 'missing'}, expected a list"
        for part in PARTS
        if not isinstance(content.get(part), list)
    ]
    for message in wrong:
        findings.add(file, "", message)
    return None if wrong else {part: content[part] for part in PARTS}


def _check_text(data: bytes) -> None:
    """Raise UnicodeDecodeError unless it is UTF-8; part by part, as the whole as text takes up to four times as many
    bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), TEXT_AT_A_TIME):
        decoder.decode(data[start : start + TEXT_AT_A_TIME])
    decoder.decode(b"", final=True)


def _categories(
    entries: list[Any], annotations: list[Any], file: Path, findings: Findings
) -> tuple[dict[int, str], set[int]]:
    """Id -> name of the good ones; and the ids of bad ones, whose annotations go with them unmentioned."""
    names_of: dict[int, dict[str, None]] = defaultdict(dict)  # id -> its names in their order
    bad: set[int] = set()
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not is_whole(entry.get("id")) or not isinstance(entry.get("name"), str):
            findings.add(file, f"categories[{index}]", f"{short(entry)} needs a whole number `id` and a text `name`")
            if isinstance(entry, dict) and is_whole(entry.get("id")):
                bad.add(entry["id"])
        else:
            names_of[entry["id"]][composed(entry["name"])] = None
    ids: dict[str, list[int]] = defaultdict(list)
    for key, names in names_of.items():
        if len(names) > 1:
            several = some(repr(name) for name in names)
            findings.add(file, f"category {key}", f"{several} have the id {key}; give each its own")
            bad.add(key)
        elif key not in bad:
            ids[next(iter(names))].append(key)
    good = {keys[0]: name for name, keys in ids.items() if len(keys) == 1}
    if len(good) < len(ids):
        all_entries = map(generic, annotations)
        uses_of = Counter(
            e["category_id"] for e in all_entries if isinstance(e, dict) and is_whole(e.get("category_id"))
        )
    for name, keys in ids.items():
        if len(keys) == 1:
            continue
        # A supercategory may have the name of its only class, as in Roboflow's exports. Nothing is annotated with it.
        real = [key for key in keys if uses_of[key]]
        if len(real) < 2:
            good[real[0] if real else keys[-1]] = name
            continue
        uses = some(f"{count(uses_of[key], 'annotation')} of category {key}" for key in real)
        findings.add(
            file,
            f"categories {some(map(str, real))}",
            f"they have one name, {name!r}, for {uses}; rename all but one, or give these annotations one category_id",
        )
        bad |= set(real)
    return good, bad


def _category_ids(names: dict[int, str], classes: Sequence[str]) -> list[int]:
    """The id of each class; a class that this file lacks gets one that no category has."""
    ids = {name: key for key, name in names.items()}
    free = max(names, default=0) + 1
    for name in classes:
        if name not in ids:
            ids[name] = free
            free += 1
    return [ids[name] for name in classes]


def _images(entries: list[Any], file: Path, findings: Findings) -> tuple[dict[int | str, _Image], set[int | str]]:
    """The good entries by id, and the ids of bad ones, whose annotations go with them unmentioned."""
    good: dict[int | str, _Image] = {}
    bad_ids: set[int | str] = set()
    results = [_one_image(entry) for entry in entries]
    uses = Counter(key for _, key, _ in results if key is not None)
    for index, (image, key, wrong) in enumerate(results):
        where = f"images[{index}]"
        if image is not None and uses[image.id] > 1:
            where = f"image {image.id} ({image.file_name})"
            wrong = f"{uses[image.id]} images have the id {image.id}; give each its own"
        if wrong:
            findings.add(file, where, wrong)
            if key is not None:
                bad_ids.add(key)
        elif image is not None:
            good[image.id] = image
    return good, bad_ids


def _one_image(raw: Any) -> tuple[_Image | None, int | str | None, str]:
    """An entry of `images`; or its id, if it has one, and what is wrong."""
    if isinstance(raw, msgspec.Raw):
        try:
            image = _image.decode(raw)
            return image, image.id, ""
        except msgspec.ValidationError:
            pass
    entry = generic(raw)
    key = entry.get("id") if isinstance(entry, dict) else None
    key = key if isinstance(key, int | str) else None
    if wrong := _image_problem(entry):
        return None, key, wrong
    return _Image(entry["id"], entry["file_name"], entry.get("height") or 0, entry.get("width") or 0), key, ""


def _image_problem(entry: object) -> str | None:
    if not isinstance(entry, dict):
        return f"this is {kind_of(entry)}, expected an object with id, file_name, width and height"
    if not is_whole(entry.get("id")) and not isinstance(entry.get("id"), str):
        return f"{short(entry)} needs an `id`, a whole number or text"
    if not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
        return f"{short(entry)} needs a `file_name`"
    for side in ("width", "height"):  # left out, null or 0, they are taken from the picture
        if entry.get(side) and not (is_whole(entry[side]) and 0 < entry[side] < 2**31):
            return f"`{side}` is {short(entry[side])}, expected whole pixels above 0"
    return None


def _picture_paths(
    entries: Mapping[int | str, _Image], file: Path, images: Path | None, findings: Findings
) -> dict[int | str, str]:
    """Where each picture should be. Nothing, and one problem, where no folder has any of them."""
    folders = [Path(images)] if images is not None else _folders(file)
    stored_names = StoredNames()
    # The first picture decides; the next ones only where it is nowhere, since it may be the one missing.
    for entry in entries.values():
        for depth in range(-1, len(_parts(entry.file_name))):
            for folder in folders:
                if is_there(stored_names.find(folder / _cut(entry.file_name, depth))):
                    at = os.fspath(folder)  # text, as `Path` is slow for a hundred thousand
                    joined = {key: os.path.join(at, _cut(e.file_name, depth)) for key, e in entries.items()}  # noqa: PTH118
                    return {key: stored_names.find_text(path) for key, path in joined.items()}
    for folder in folders:
        if inside := _in_shards(folder, entries):
            return inside
    if entries:
        first = next(iter(entries.values())).file_name
        places = ", ".join(str(folder) for folder in folders)
        findings.add(
            file,
            "",
            f"none of its {count(len(entries), 'picture')} was found ({first} is the first); looked in {places}; give"
            " the folder that has them as data.images in settings, --images on the command line",
        )
    return {}


def _in_shards(folder: Path, entries: Mapping[int | str, _Image]) -> dict[int | str, str]:
    """Where each picture is that lies in one of a folder's .tar files, by its name; nothing where none does."""
    shards = sorted(folder.glob("*.tar")) if folder.is_dir() else []
    shard_of = {name.rpartition("/")[2]: shard / name for shard in shards for name in names_in(shard)}
    names = {key: _parts(entry.file_name)[-1] for key, entry in entries.items()}
    if not any(name in shard_of for name in names.values()):
        return {}
    return {key: str(shard_of.get(name) or folder / name) for key, name in names.items()}


def _parts(name: str) -> list[str]:
    return re.split(r"[/\\]+", name)


def _cut(name: str, depth: int) -> str:
    """A picture's name: as it is (-1), with the slashes of Windows turned (0), without its first folders (1, 2, …).

    Names may begin in another folder than that of the pictures, or with a disk that is elsewhere.
    """
    if depth < 0:
        return name
    parts = _parts(name)
    return "/".join(parts[min(depth, len(parts) - 1) :])


def _leave_out_twice(
    paths: dict[int | str, str], entries: Mapping[int | str, _Image], file: Path, findings: Findings
) -> None:
    """Take the pictures that several entries name out of `paths`: each entry may have some of the objects only."""
    keys: dict[str, list[int | str]] = defaultdict(list)
    for key, path in paths.items():
        keys[os.path.normpath(path)].append(key)
    for ids in keys.values():
        if len(ids) == 1:
            continue
        findings.add(
            file,
            f"image {ids[0]} ({entries[ids[0]].file_name})",
            f"{len(ids)} images are this picture (ids {some(map(str, ids))}); give all their annotations one"
            " image_id, and delete the other images",
        )
        for key in ids:
            del paths[key]


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
