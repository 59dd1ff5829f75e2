"""Apple's Create ML format, as LabelImg and Roboflow write it: a list of pictures, each with its objects.

A box is x and y of its centre, width and height, in continuous pixels, 0-based. LabelImg writes a file for each
picture, Roboflow one for each split.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rcnnkit.data.annotated import Annotated, Annotation, to_dataset
from rcnnkit.data.checks import Findings
from rcnnkit.data.json_files import numbers, read_json, short
from rcnnkit.data.records import ALL_SPLIT_NAMES, Dataset, few, find_split

BOX = ("x", "y", "width", "height")
# Keys of a picture; the second ones are of Create ML's first versions.
IMAGE, ANNOTATIONS = ("image", "imagefilename"), ("annotations", "annotation")


def read_createml(
    place: Path, split: str, images: Path | None = None, class_names: Sequence[str] | None = None
) -> tuple[Dataset, Findings]:
    """The pictures of a split in Create ML's format, and everything that is wrong with them.

    Args:
        place: a JSON file, which is read whole; or the folder of the data set.
        split: of a folder, the folder or the file of this name in it ("val" is "valid" too); where there are none, all
            is "train".
        images: the folder of the pictures; by default they are looked for beside the files and below their folder.
        class_names: in the order of the labels; by default the sorted names in `place`, of all splits.

    Returns:
        The data set without what is bad, whose ids are the pictures' names without their endings; category ids
        1 … K; and the problems found, in which objects are counted from 0 within their picture.

    Raises:
        FileNotFoundError: there is no such split, or none of its pictures is found.
        ValueError: a file is not in this format.
    """
    files = [place] if place.is_file() else _files(place, split)
    findings = Findings()
    pictures: dict[str, Annotated] = {}
    names: set[str] = set()
    for file in files if place.is_file() else sorted(place.rglob("*.json")):
        try:
            entries = _entries(file)
        except ValueError as error:
            if file in files:
                findings.add(file, "", str(error))
            continue
        names |= {name for entry in entries for name in map(_label, _objects(entry)) if name}
        for index, entry in enumerate(entries if file in files else []):
            _add(entry, f"picture {index}", file, pictures, findings)
    classes = list(class_names) if class_names is not None else sorted(names)
    source = files[0] if len(files) == 1 else place
    name = f"{place.resolve().parent.name}/{place.stem}" if place.is_file() else f"{place.resolve().name}/{split}"
    return to_dataset(source, pictures, findings, name=name, images=images, class_names=classes), findings


def splits_of(root: Path) -> list[str]:
    """The names of the folders, or else of the files, that are called like splits; else all is "train"."""
    folders = [name for name in ALL_SPLIT_NAMES if any((root / name).rglob("*.json"))]
    return folders or [name for name in ALL_SPLIT_NAMES if (root / f"{name}.json").is_file()] or ["train"]


def _files(root: Path, split: str) -> list[Path]:
    splits = splits_of(root)
    folder = find_split(split, splits)
    if folder is None:
        raise FileNotFoundError(f"{root} has no split {split!r}; its splits are {few(splits)}")
    file = root / f"{folder}.json"
    if file.is_file() and not (root / folder).is_dir():
        return [file]
    return sorted((root / folder if (root / folder).is_dir() else root).rglob("*.json"))


def _entries(file: Path) -> list[dict[str, Any]]:
    content = read_json(file)
    entries = content if isinstance(content, list) else []
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{file} holds no list of pictures; export it from the tool as CreateML, or delete it")
    return entries


def _first(entry: dict[str, Any], keys: Sequence[str]) -> Any:
    return next((entry[key] for key in keys if key in entry), None)


def _objects(entry: dict[str, Any]) -> list[Any]:
    objects = _first(entry, ANNOTATIONS)
    return objects if isinstance(objects, list) else []


def _label(each: Any) -> str:
    label = each.get("label") if isinstance(each, dict) else None
    return label.strip() if isinstance(label, str) else ""


def _add(entry: dict[str, Any], where: str, file: Path, pictures: dict[str, Annotated], findings: Findings) -> None:
    """Add a picture and its objects to `pictures`."""
    name, objects = _first(entry, IMAGE), _first(entry, ANNOTATIONS)
    wrong = ""
    if not isinstance(name, str) or not name:
        wrong = f"its image is {short(name)}, expected the name of a file; correct it"
    elif not isinstance(objects, list):
        wrong = f"its annotations are {short(objects)}, expected a list; correct it"
    else:
        picture = Annotated(name.replace("\\", "/"), f"picture {name}", None, file)
        if (other := pictures.setdefault(picture.key(), picture)) is not picture:
            wrong = f"its image {name} is in {other.file} already; give its objects together, once"
    if wrong:
        findings.add(file, where, wrong)
        findings.pictures += 1
        return
    for index, annotation in enumerate(objects):
        object_ = f"{picture.where}, object {index}"
        try:
            if not (label := _label(annotation)):
                raise ValueError("it has no label; give it one")
            coordinates = annotation.get("coordinates")
            x, y, width, height = numbers(coordinates, BOX)
        except ValueError as error:
            findings.add(file, object_, str(error))
            findings.objects += 1
            continue
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        picture.objects.append(Annotation(object_, label, box, f"coordinates {short(coordinates)}"))
