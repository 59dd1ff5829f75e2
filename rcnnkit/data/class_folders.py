"""Pictures in class folders: root/train/CLASS/*.jpg, root/val/CLASS/*.jpg. A folder's name is its pictures' class."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from rcnnkit.data.checks import Findings, is_picture, picture_sizes
from rcnnkit.data.file_names import composed
from rcnnkit.data.records import BadData, Dataset, Record, check_class_names, few
from rcnnkit.files import check_free
from rcnnkit.images import read_picture
from rcnnkit.looking import size_of
from rcnnkit.slides import Slide
from rcnnkit.structures import Array
from rcnnkit.text import count, visible

log = logging.getLogger("rcnnkit")

LONGEST_NAME = 255  # bytes, of most file systems
DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}


@dataclass(frozen=True, slots=True)
class Example:
    """One picture on disk and its class."""

    path: Path
    label: int


@dataclass(frozen=True, slots=True, eq=False)
class ClassFolders:
    """Pictures of one split, with the names of the K classes."""

    name: str  # what to call it in messages, such as "cells/train"
    records: Sequence[Example]
    class_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def category_ids(self) -> list[int]:
        return list(range(1, len(self.class_names) + 1))


def read_class_folders(
    root: Path, splits: str | Sequence[str], class_names: Sequence[str] | None = None, *, skip_bad: bool
) -> ClassFolders:
    """Splits of a folder of class folders as one data set, checked.

    Pictures may lie in folders of their class's folder too; other files, and what begins with a dot, are not looked at.

    Args:
        root: the folder that has a folder for every split.
        splits: the name of such a folder, or several.
        class_names: in the order of the labels; by default the sorted names of the folders that have pictures. A class
            without a folder is well, as a validation split need not show every class; a folder of another is bad.
        skip_bad: leave out what is bad, and log how much, instead of raising.

    Raises:
        FileNotFoundError: a split, or a class folder in it, is missing; the message lists what is there.
        ValueError: a class name is given twice.
        BadData: pictures are bad, a class has none, or is not one of `class_names`; all are listed, and `skip_bad` is
            off or nothing is left.
    """
    splits = [splits] if isinstance(splits, str) else splits
    if twice := [split for split, number in Counter(splits).items() if number > 1]:
        raise ValueError(f"the split {twice[0]} is given twice, so that its pictures would be; leave one out")
    name = " + ".join(f"{root.resolve().name}/{split}" for split in splits)
    folders = [folder for split in splits for folder in _class_folders(root, split)]
    pictures = {
        folder: sorted(path for path in folder.rglob("*") if is_picture(path) and not _hidden(path, folder))
        for folder in folders
    }
    classes = (
        sorted({composed(folder.name) for folder in folders if pictures[folder]})
        if class_names is None
        else list(class_names)
    )
    check_class_names(classes)
    label_of = {composed(name): label for label, name in enumerate(classes)}
    findings, examples = Findings(), []
    for split in splits:
        if stray := [path for path in _visible(root / split) if is_picture(path) and path.is_file()]:
            subject = f"{count(len(stray), 'picture')} outside of any class's folder, such as {stray[0].name}"
            findings.add(root / split, "", f"there {'is' if len(stray) == 1 else 'are'} {subject}; move or delete them")
    for folder in folders:
        if not pictures[folder]:
            findings.add(folder, "", "there is no picture of this class; give it some, or delete the folder")
        elif composed(folder.name) not in label_of:
            subject = f"{count(len(pictures[folder]), 'picture')} of a class that is not one of {few(classes)}"
            findings.add(folder, "", f"{subject}; rename the folder, or train with the class")
            findings.pictures += len(pictures[folder])
        else:
            label = label_of[composed(folder.name)]
            examples += [Example(path, label) for path in pictures[folder]]
    records = []
    for record, size in zip(examples, picture_sizes(record.path for record in examples), strict=True):
        if isinstance(size, str):
            findings.add(record.path, "", size)
            findings.pictures += 1
        else:
            records.append(record)
    if findings and (not skip_bad or not records):
        raise BadData(name, findings, thing="problem", nothing_left=not records)
    if findings:
        log.warning(
            "%s: left out %s, for %s", name, count(findings.pictures, "picture"), count(len(findings), "problem")
        )
        for problem in findings:
            log.info("%s: left out: %s", name, problem)
    return ClassFolders(name, records, classes)


def read_class_splits(
    root: Path,
    train: str | Sequence[str],
    val: str,
    class_names: Sequence[str] | None = None,
    *,
    skip_bad: bool,
) -> tuple[ClassFolders, ClassFolders | None]:
    """The pictures to learn from and those to validate on ("": none), checked, with the same classes.

    Raises:
        As `read_class_folders`; BadData lists what is bad in either, so that all can be fixed at once. And
        ValueError: a class has no picture to learn from.
    """
    bad: list[BadData] = []
    datasets: list[ClassFolders] = []
    parts = [train] if isinstance(train, str) else train
    for splits in [parts, [val]] if val else [parts]:
        try:
            datasets.append(read_class_folders(root, splits, class_names, skip_bad=skip_bad))
            class_names = datasets[-1].class_names
        except BadData as error:
            bad.append(error)
            if class_names is None:  # what is bad with the names in `val` is reported as well
                class_names = sorted(
                    {composed(folder.name) for split in parts for folder in _class_folders(root, split)}
                )
    if bad:
        problems = [problem for e in bad for problem in e.problems]
        raise BadData(" and ".join(e.name for e in bad), problems, nothing_left=any(e.nothing_left for e in bad))
    training, validation = datasets[0], datasets[1] if val else None
    if missing := _without_pictures(training):
        raise ValueError(
            f"{training.name} has no picture to learn {few(missing)} from; give it some, or leave"
            " these out of data.class_names and delete their folders"
        )
    if validation is not None and (missing := _without_pictures(validation)):
        log.warning("%s has no picture of %s; the accuracy says nothing about them", validation.name, few(missing))
    return training, validation


def write_class_folders(dataset: Dataset, out: Path, context: float = 0.0) -> dict[str, int]:
    """Cut the objects of annotated pictures out, each into the folder of its class: out/CLASS/PICTURE_OBJECT.png.

    Crowds and difficult objects are left out. What is cut are whole pixels, all that the box touches. The folder is
    written atomically.

    Args:
        out: a folder that does not exist or is empty, such as cells/train.
        context: how much of the picture around an object is shown on each side, as a share of its box's sides; no
            more than there is.

    Returns:
        How many objects of each class were written; a class without any has no folder.

    Raises:
        FileExistsError: `out` is not empty.
        ValueError: a negative context, a class whose name cannot be a folder's, two pictures with one stem, no object
            at all, or a picture that cannot be read.
    """
    check_free(out)
    if not (context >= 0 and math.isfinite(context)):
        raise ValueError(f"context = {context:g}; it is a share of the box's sides, 0 or more")
    check_folder_names(dataset.class_names)
    if twice := [stem for stem, n in Counter(record.path.stem for record in dataset.records).items() if n > 1]:
        raise ValueError(f"two pictures are called {twice[0]}, and so would be their objects; rename one")
    objects = [record.targets[~record.targets.difficult & ~record.targets.crowd] for record in dataset.records]
    if not any(map(len, objects)):
        raise ValueError(f"{dataset.name} has no object to cut out in any of its {count(len(dataset), 'picture')}")
    for record, targets in zip(dataset.records, objects, strict=True):
        if len(os.fsencode(_file_name(record, len(targets)))) > LONGEST_NAME:
            raise ValueError(f"the name of {record.path} is too long for those of its objects; shorten it")
    counts = dict.fromkeys(dataset.class_names, 0)
    half = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        for record, targets in zip(dataset.records, objects, strict=True):
            if not len(targets):
                continue
            picture = read_picture(record.path, record.size)
            for index, (box, label) in enumerate(zip(targets.boxes.tolist(), targets.labels.tolist(), strict=True)):
                name = dataset.class_names[label]
                (half / name).mkdir(parents=True, exist_ok=True)
                cut(picture, box, context).save(half / name / _file_name(record, index))
                counts[name] += 1
        half.replace(out)  # also of an empty folder
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return counts


def check_folder_names(class_names: Sequence[str]) -> None:
    """Raise ValueError where the name of a class cannot be that of its folder."""
    for name in class_names:
        if fault := _no_folder_name(name):
            raise ValueError(f"the class {name!r} cannot be a folder's name: {fault}; rename it in the annotations")


def _no_folder_name(name: str) -> str | None:
    """Why a class's name cannot be a folder's, here or where the folder may be copied to; None where it can."""
    if not name:
        return "it is empty"
    if visible(name) != name:
        return "it holds control characters"
    if "/" in name:
        return "it holds a /"
    if name.startswith("."):
        return "it begins with a dot"
    if name.partition(".")[0].rstrip().upper() in DEVICES:
        return "Windows has a device of that name"
    if len(name.encode()) > LONGEST_NAME:
        return f"it is longer than {LONGEST_NAME} bytes"
    return None


def _file_name(record: Record, index: int) -> str:
    return f"{record.path.stem}_{index}.png"


def cut(picture: Array | Slide, box: Sequence[float], context: float) -> Image.Image:
    """All pixels of a picture, (H, W, 3), that a box touches, and a margin of `context` times its sides."""
    height, width = size_of(picture)
    x, y = context * (box[2] - box[0]), context * (box[3] - box[1])
    left, top = max(0, math.floor(box[0] - x)), max(0, math.floor(box[1] - y))
    right, bottom = min(width, math.ceil(box[2] + x)), min(height, math.ceil(box[3] + y))
    if isinstance(picture, Slide):
        with picture:
            return Image.fromarray(picture.cut((left, top, right, bottom)))
    return Image.fromarray(picture[top:bottom, left:right])


def _class_folders(root: Path, split: str) -> list[Path]:
    """The folders of a split's classes, sorted.

    Raises:
        FileNotFoundError: the split is missing, or has none.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"the data set {root} {'is not a folder' if root.exists() else 'does not exist'}")
    if not (root / split).is_dir():
        there = ", ".join(path.name for path in _visible(root) if path.is_dir()) or "none"
        raise FileNotFoundError(f"there is no folder {root / split}; the folders in {root} are: {there}")
    folders = [path for path in _visible(root / split) if path.is_dir()]
    if not folders:
        raise FileNotFoundError(
            f"{root / split} holds no folder; it must have one for each class, with that class's pictures in it"
        )
    return folders


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _hidden(path: Path, folder: Path) -> bool:
    """Whether it, or a folder on the way to it, begins with a dot: what file managers and editors leave behind."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _without_pictures(data: ClassFolders) -> list[str]:
    seen = {record.label for record in data.records}
    return [name for label, name in enumerate(data.class_names) if label not in seen]
