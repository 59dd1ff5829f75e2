"""Where the splits of a data set in YOLO's layout are, and what names its classes.

That is data.yaml. Tools that write none leave the names of the classes in classes.txt (LabelImg, Label Studio) or in
notes.json (Label Studio); their splits are folders of these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rcnnkit.data.json_files import read_json
from rcnnkit.data.records import ALL_SPLIT_NAMES, find_split
from rcnnkit.data.yolo_labels import label_file
from rcnnkit.files import check_regular
from rcnnkit.text import count

CLASSES, NOTES = "classes.txt", "notes.json"  # that tools write the names of classes to
NO_LABELS = (CLASSES, "train.txt", "val.txt", "test.txt")  # that tools put beside label files


def yolo_file(root: Path) -> Path | None:
    """The .yaml file of a folder that names splits and classes, if there is one."""
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (root / name).is_file():
            return root / name
    files = [*root.glob("*.yaml"), *root.glob("*.yml")]
    return files[0] if len(files) == 1 and _has_names(files[0]) else None


def has_labels(root: Path) -> bool:
    """Whether a folder has YOLO's label files and the names of their classes, without a data.yaml."""
    if not any(_names_file(root, folder) for folder in split_folders(root).values()):
        return False
    inside = (path for path in (root / "labels").rglob("*.txt") if path.name not in NO_LABELS)
    return any(inside) or any(map(_is_label_file, root.rglob("*.txt")))


def split_folders(root: Path) -> dict[str, Path]:
    """Split → its pictures, of a folder without data.yaml. All is "train" where no folder is called like a split."""
    bases = (root, root / "images")
    folders = {name: base / name for base in bases for name in ALL_SPLIT_NAMES if (base / name).is_dir()}
    return folders or {"train": bases[1] if bases[1].is_dir() else root}


def describe_folder(root: Path, split: str) -> tuple[Path, dict[str, Any]]:
    """What data.yaml would say of a folder without one, and the file that names the classes. Raises ValueError."""
    folders = split_folders(root)
    file = _names_file(root, folders[find_split(split, folders) or next(iter(folders))])
    if file is None:
        raise ValueError(f"{root} has no {CLASSES}; write the names of the classes there, one a line, in their order")
    places = {name: folder.relative_to(root).as_posix() for name, folder in folders.items()}
    return file, {"names": _names_in_notes(file) if file.name == NOTES else _names_in_lines(file), **places}


def read_yaml(file: Path) -> dict[str, Any]:
    """What data.yaml says. Raises ValueError."""
    check_regular(file)
    try:
        about = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is not YAML ({' '.join(str(error).split())}); correct it") from None
    if not isinstance(about, dict):
        raise ValueError(f"{file} has no keys; it needs train, val and names")
    return about


def class_names_of(about: Mapping[str, Any], file: Path) -> dict[int, str]:
    """Number → name, of what a file says. Raises ValueError."""
    names = about.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        how = "write one a line" if file.name == CLASSES else "list the classes there: names: [cat, dog]"
        raise ValueError(f"{file} has no names; {how}")
    if not all(type(number) is int and number >= 0 for number in names):
        wrong = next(number for number in names if type(number) is not int or number < 0)
        raise ValueError(f"{file}: names has the number {wrong!r}; count from 0")
    if "nc" in about and about["nc"] != len(names):
        raise ValueError(
            f"{file} says nc: {about['nc']}, and names has {count(len(names), 'name')}; correct one of them"
        )
    return {number: str(names[number]) for number in sorted(names)}


def _names_file(root: Path, folder: Path) -> Path | None:
    """The nearest file that names the classes of the pictures in a folder of a data set, if there is one."""
    labels = label_file(folder / "a.jpg").parent
    places = [labels, *labels.parents, folder, folder / "labels", *folder.parents, root / "labels"]
    files = (place / name for place in places if place.is_relative_to(root) for name in (CLASSES, NOTES))
    return next((file for file in files if file.is_file()), None)


def _names_in_lines(file: Path) -> list[str]:
    """The names in classes.txt."""
    check_regular(file)
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text ({error}); save it as UTF-8") from None
    if not all(names):
        raise ValueError(f"{file}: line {1 + names.index('')} is empty; write the name of class {names.index('')}")
    return names


def _names_in_notes(file: Path) -> dict[int, str]:
    """The names in notes.json, by their numbers."""
    content = read_json(file)
    categories = content.get("categories") if isinstance(content, dict) else None
    if not isinstance(categories, list) or not all(isinstance(each, dict) and "name" in each for each in categories):
        raise ValueError(f"{file} has no list of categories with names; write the names into {CLASSES}, one a line")
    return {each.get("id", number): each["name"] for number, each in enumerate(categories)}


def _is_label_file(file: Path) -> bool:
    """Whether the first line of a file has a class and four numbers or more."""
    if file.name in NO_LABELS or not file.is_file():
        return False
    try:
        with file.open(encoding="utf-8-sig") as lines:
            words = lines.readline(4096).split()
        return len(words) > 4 and bool([float(word) for word in words])
    except (OSError, ValueError):
        return False


def _has_names(file: Path) -> bool:
    """Whether a .yaml file has names of classes."""
    try:
        about = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return False
    return isinstance(about, dict) and "names" in about
