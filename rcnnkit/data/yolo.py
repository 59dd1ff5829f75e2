"""YOLO's layout: a data.yaml that names splits and classes, pictures in images/, and a .txt for each in labels/.

Data sets without a data.yaml are read as well, see `yolo_layout`. Their label files may be beside the pictures.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcnnkit.data.checks import Findings, is_picture, picture_sizes
from rcnnkit.data.file_names import composed
from rcnnkit.data.flat import GrowingRecords
from rcnnkit.data.records import ALL_SPLIT_NAMES, Dataset, Record, few, find_split
from rcnnkit.data.yolo_labels import Labels, find_label_file
from rcnnkit.data.yolo_layout import CLASSES, NO_LABELS, NOTES, class_names_of, describe_folder, read_yaml
from rcnnkit.files import check_regular
from rcnnkit.text import count


def read_yolo(place: Path, split: str, class_names: Sequence[str] | None = None) -> tuple[Dataset, Findings]:
    """One split of a data set in YOLO's layout, and everything that is wrong with it.

    A picture without a label file, or with an empty one, has no objects. Polygons count as the boxes around them, and
    of a line with key points the box counts. Pictures that EXIF turns are annotated as they are shown.

    Args:
        place: data.yaml. Its splits are folders of pictures or .txt lists of them, relative to its `path`, to its own
            folder, or as Roboflow writes them (../train/images). Or a folder without data.yaml: its splits are the
            folders of these names in it or in images/, and the names of the classes are in classes.txt or notes.json,
            beside the label files or above them.
        split: a key of the file, or the name of such a folder; "val" is "valid" too.
        class_names: in the order of the labels; left out, they are the file's.

    Returns:
        The data set without what is bad, whose ids are the pictures' paths below the folder, without their endings,
        and whose category ids are the file's class numbers; and the problems found, in which the lines of a file are
        counted from 1.

    Raises:
        FileNotFoundError: the split's pictures are not where the file says.
        ValueError: the file is not YAML, has no such split or no names, or a class name is given twice.
    """
    if place.is_dir():
        root, (file, about) = place, describe_folder(place, split)
    else:
        root, file, about = place.parent, place, read_yaml(place)
    own_names = class_names_of(about, file)
    classes = list(class_names) if class_names is not None else list(own_names.values())
    for what, names in ((f"{file}: names", own_names.values()), ("class_names", classes)):
        if twice := [name for name, number in Counter(names).items() if number > 1]:
            raise ValueError(f"{what} holds {twice[0]!r} twice; name each class once")
    labels = {composed(name): label for label, name in enumerate(classes)}
    findings = Findings()
    paths, from_list = _pictures(about, file, root, split, findings)
    labels_of = {path: find_label_file(path) for path in paths}
    _check_pairs(labels_of, file, from_list, findings)
    reader = Labels(own_names, labels, "kpt_shape" in about, findings)
    records = GrowingRecords()
    for path, size in zip(paths, picture_sizes(paths), strict=True):
        if isinstance(size, str):
            findings.add(path, "", size)
            continue
        targets = reader.read(labels_of[path], size)
        if targets is not None:
            records.append(Record(_id(path, root), path, size, targets))
    if reader.tell(file):
        records = GrowingRecords()
    findings.pictures = len(paths) - len(records)
    ids = {composed(name): number for number, name in own_names.items()}
    category_ids = [ids.get(composed(name), len(own_names) + label) for label, name in enumerate(classes)]
    return Dataset(f"{root.resolve().name}/{split}", records.all(), classes, category_ids), findings


def _pictures(
    about: Mapping[str, Any], file: Path, root: Path, split: str, findings: Findings
) -> tuple[list[Path], bool]:
    """The pictures of a split, each once, sorted within its folder or list; and whether a list names them."""
    key = find_split(split, [name for name, value in about.items() if value])
    if key is None:
        splits = few([name for name in about if name in ALL_SPLIT_NAMES])
        of = root if file.name in (CLASSES, NOTES) else file
        raise ValueError(f"{of} has no {split!r} split; its splits are {splits or 'none'}")
    entries = about[key] if isinstance(about[key], list) else [about[key]]
    paths: dict[str, Path] = {}
    from_list = False
    for entry in entries:
        place = _place(about, root, str(entry))
        if place.is_dir():
            pictures = sorted(path for path in place.rglob("*") if is_picture(path) and not path.name.startswith("."))
        elif place.is_file():
            check_regular(place)
            from_list = True
            lines = place.read_text(encoding="utf-8-sig").splitlines()
            pictures = [_listed(line.strip(), place) for line in lines if line.strip()]
        else:
            raise FileNotFoundError(
                f"{file} says {key}: {entry}, and there is no {place}; correct it, or put the pictures there"
            )
        for path in pictures:
            name = _id(path, root)
            if (other := paths.setdefault(name, path)) != path:
                findings.add(path, "", f"{other.name} has the same label file; rename one of the two")
    if not paths and file.name in (CLASSES, NOTES):
        raise FileNotFoundError(f"there is no picture in {place}; put those that the label files belong to there")
    if not paths:
        raise FileNotFoundError(f"{file} says {key}: {about[key]}, where there is no picture")
    return list(paths.values()), from_list


def _check_pairs(labels_of: Mapping[Path, Path], file: Path, from_list: bool, findings: Findings) -> None:
    """Whether there are label files and, unless a list names the pictures, each of them has its picture."""
    labels = dict.fromkeys(labels_of.values())
    folders = {label.parent for label in labels}
    files = {path for folder in folders if folder.is_dir() for path in folder.glob("*.txt")} - {file}
    files = {path for path in files if path.name not in NO_LABELS}
    if not any(folder.is_dir() for folder in folders):
        first, number = next(iter(labels)), count(len(labels_of), "picture")
        findings.add(file, "", f"none of its {number} has a label file; put them there, the first as {first}")
        return
    for path in (path for path, label in labels_of.items() if path.is_file() and not label.is_file()):
        message = "it counts as a picture without objects; if nobody has annotated it yet, take it out"
        findings.warn("a picture without a label file", path, "", message)
    for label in [] if from_list else sorted(files - labels.keys()):
        findings.add(label, "", "there is no picture of this name; put it there, or delete this file")


def _place(about: Mapping[str, Any], root: Path, entry: str) -> Path:
    """Where a split is. `path` may be of another computer, and Roboflow writes ../ where it means the file's folder."""
    entry = entry.replace("\\", "/")
    roots = [root / str(about["path"])] if about.get("path") else []
    places = [Path(os.path.normpath(folder / entry)) for folder in (*roots, root)]
    if entry.startswith("../"):
        places.append(root / entry.removeprefix("../"))
    return next((place for place in places if place.exists()), places[-1])


def _listed(line: str, place: Path) -> Path:
    path = Path(line.replace("\\", "/"))
    return path if path.is_absolute() else Path(os.path.normpath(place.parent / path))


def _id(path: Path, root: Path) -> str:
    """The path below the data set's folder, where it lies there, without its ending."""
    plain = path.with_suffix("")
    for folder in (root, root.resolve()):
        if plain.is_relative_to(folder):
            return plain.relative_to(folder).as_posix()
    return plain.as_posix()
