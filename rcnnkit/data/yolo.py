"""YOLO's layout: a data.yaml that names splits and classes, pictures in images/, and a .txt for each in labels/.

Tools that write no data.yaml leave the names of the classes in classes.txt (LabelImg, Label Studio) or in notes.json
(Label Studio). Their label files may be beside the pictures.

A line of a label file is an object: its class, counted from 0, then x and y of its centre, width and height, or the
corners of a polygon around it; all in shares of the picture's width and height, 0 to 1.
"""

from __future__ import annotations

import io
import math
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from rcnnkit.archives import read_file
from rcnnkit.data.checks import Box, Findings, is_picture, picture_sizes
from rcnnkit.data.file_names import composed
from rcnnkit.data.flat import GrowingRecords
from rcnnkit.data.json_files import read_json
from rcnnkit.data.records import SPLIT_NAMES, Dataset, Record, few
from rcnnkit.decoding import open_picture, sizes
from rcnnkit.files import check_regular
from rcnnkit.structures import Size, Targets
from rcnnkit.text import count

CORNERS = 6  # numbers of a polygon, at least
CLASSES, NOTES = "classes.txt", "notes.json"  # that tools write the names of classes to
NO_LABELS = (CLASSES, "train.txt", "val.txt", "test.txt")  # that tools put beside label files


def yolo_file(root: Path) -> Path | None:
    """The .yaml file of a folder that names splits and classes, if there is one."""
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (root / name).is_file():
            return root / name
    others = [*root.glob("*.yaml"), *root.glob("*.yml")]
    return others[0] if len(others) == 1 and _has_names(others[0]) else None


def has_labels(root: Path) -> bool:
    """Whether a folder has YOLO's label files and the names of their classes, without a data.yaml."""
    if not any(_names_file(root, folder) for folder in split_folders(root).values()):
        return False
    inside = (path for path in (root / "labels").rglob("*.txt") if path.name not in NO_LABELS)
    return any(inside) or any(map(_is_label_file, root.rglob("*.txt")))


def split_folders(root: Path) -> dict[str, Path]:
    """Split → its pictures, of a folder without data.yaml. All is "train" where no folder is called like a split."""
    bases = (root, root / "images")
    names = [name for several in SPLIT_NAMES.values() for name in several]
    found = {name: base / name for base in bases for name in names if (base / name).is_dir()}
    return found or {"train": bases[1] if bases[1].is_dir() else root}


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
        root, (file, about) = place, _about(place, split)
    else:
        root, file, about = place.parent, place, _read_yaml(place)
    own_names = _class_names(about, file)
    known = list(class_names) if class_names is not None else list(own_names.values())
    for what, names in ((f"{file}: names", own_names.values()), ("class_names", known)):
        if twice := [name for name, number in Counter(names).items() if number > 1]:
            raise ValueError(f"{what} holds {twice[0]!r} twice; name each class once")
    labels = {composed(name): label for label, name in enumerate(known)}
    findings = Findings()
    paths, listed = _pictures(about, file, root, split, findings)
    labels_of = {path: _label_file(path) for path in paths}
    _check_pairs(labels_of, file, listed, findings)
    shown = dict(zip(paths, picture_sizes(paths), strict=True))
    reader = _Labels(own_names, labels, "kpt_shape" in about, findings)
    records = GrowingRecords()
    for path, size in shown.items():
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
    category_ids = [ids.get(composed(name), len(own_names) + label) for label, name in enumerate(known)]
    return Dataset(f"{root.resolve().name}/{split}", records.all(), known, category_ids), findings


def write_yolo(splits: Mapping[str, Dataset], root: Path) -> None:
    """Write data.yaml and the label files of pictures that lie in root/images/SPLIT already.

    `read_yolo` gives the same boxes and labels back. Flags, areas and ids are not kept. Boxes of pictures that are
    annotated as they are stored are turned as EXIF turns the picture.

    Args:
        splits: "train", "val", "test" → pictures, of the same classes, with different names.
        root: the data set's folder.

    Raises:
        FileExistsError: a file that would be written exists; nothing has been written then.
    """
    files = {label_file(record.path): record for data in splits.values() for record in data.records}
    about = root / "data.yaml"
    for path in (about, *files):
        if path.exists():
            raise FileExistsError(f"{path} exists and is not overwritten; choose another folder")
    for split in splits:
        (root / "labels" / split).mkdir(parents=True, exist_ok=True)
    for file, record in files.items():
        boxes, (height, width) = _as_shown(record)
        x1, y1, x2, y2 = boxes.double().unbind(dim=1)
        scale = torch.tensor([width, height, width, height], dtype=torch.float64)
        shares = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], dim=1) / scale
        lines = [
            " ".join([str(label), *(f"{share:.10g}" for share in box)])
            for label, box in zip(record.targets.labels.tolist(), shares.tolist(), strict=True)
        ]
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    names = list(next(iter(splits.values())).class_names) if splits else []
    content = {split: f"images/{split}" for split in splits} | {"nc": len(names), "names": dict(enumerate(names))}
    about.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _as_shown(record: Record) -> tuple[Tensor, Size]:
    """The boxes in the picture as it is shown, and its (height, width) there."""
    with open_picture(io.BytesIO(read_file(record.path).data)) as picture:
        stored, shown, turn = sizes(picture)
    if record.size == shown:
        return record.targets.boxes, shown
    height, width = stored
    x1, y1, x2, y2 = record.targets.boxes.unbind(dim=1)
    turned = {  # EXIF's numbers that swap the sides
        5: (y1, x1, y2, x2),
        6: (height - y2, x1, height - y1, x2),
        7: (height - y2, width - x2, height - y1, width - x1),
        8: (y1, width - x2, y2, width - x1),
    }
    return torch.stack(turned[turn], dim=1), shown


def label_file(picture: Path) -> Path:
    """Where a picture's objects are: in labels/ in place of the last images/ of its path, in a .txt of its name."""
    parts = list(picture.parts)
    for i in reversed(range(len(parts) - 1)):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _label_file(picture: Path) -> Path:
    """Likewise; where there is none, it may be beside the picture, or in a folder labels/ there."""
    usual = label_file(picture)
    others = (picture.with_suffix(".txt"), picture.parent / "labels" / f"{picture.stem}.txt")
    return next((path for path in (usual, *others) if path.is_file()), usual)


class _Labels:
    """Reads label files. Mistakes that most lines share are one problem.

    Args:
        own_names: number → name, as data.yaml has them.
        labels: name → label in the data set that is made.
        key_points: lines go on with key points after the box.
        findings: takes what is wrong.
    """

    def __init__(
        self, own_names: Mapping[int, str], labels: Mapping[str, int], key_points: bool, findings: Findings
    ) -> None:
        self.own_names, self.labels, self.key_points, self.findings = own_names, labels, key_points, findings
        self.objects = 0
        self.in_pixels: list[tuple[Path, str, str]] = []
        self.unknown: dict[str, list[tuple[Path, str]]] = defaultdict(list)

    def read(self, file: Path, size: Size) -> Targets | None:
        """The objects of a picture of this (height, width); None where the file cannot be read."""
        try:
            check_regular(file)
            lines = file.read_text(encoding="utf-8-sig").splitlines() if file.is_file() else []
        except (OSError, ValueError) as error:
            self.findings.add(file, "", f"it cannot be read ({error}); write it again, as UTF-8 text")
            return None
        boxes: list[Box] = []
        classes: list[int] = []
        seen: dict[str, int] = {}
        for number, line in enumerate(lines, start=1):
            if not (written := " ".join(line.split())):
                continue
            self.objects += 1
            where = f"line {number}"
            try:
                found = self._object(written, size, file, where)
            except ValueError as error:
                self.findings.add(file, where, str(error))
                found = None
            if found is None:
                self.findings.objects += 1
                continue
            if (first := seen.setdefault(written, number)) != number:
                message = f"it repeats line {first}; delete one of them"
                self.findings.warn("an object that is annotated twice", file, where, message)
            classes.append(found[0])
            boxes.append(found[1])
        return Targets(torch.tensor(boxes).reshape(-1, 4), torch.tensor(classes, dtype=torch.int64))

    def _object(self, written: str, size: Size, file: Path, where: str) -> tuple[int, Box] | None:
        """The label and box of a line; None where `tell` will say what is wrong. Raises ValueError."""
        first, *rest = written.split()
        try:
            number, numbers = float(first), [float(word) for word in rest]
        except ValueError:
            raise ValueError(
                f"{_short(written)!r} holds a word that is no number; write class x y width height"
            ) from None
        if not number.is_integer() or number < 0:
            raise ValueError(f"its class is {first}; write a whole number from 0")
        if len(numbers) == 4 or (self.key_points and len(numbers) > 4):
            x, y, width, height = numbers[:4]
            corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        elif len(numbers) >= CORNERS and len(numbers) % 2 == 0:
            xs, ys = numbers[0::2], numbers[1::2]
            corners = [min(xs), min(ys), max(xs), max(ys)]
        else:
            also = "; a fifth number, such as a score, belongs to predictions" if len(numbers) == 5 else ""
            raise ValueError(
                f"{_short(written)!r} has {count(len(numbers), 'number')} after the class; write x y width height, or"
                f" three or more corners of a polygon{also}"
            )
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"{_short(written)!r} holds a number that is not finite; write shares from 0 to 1")
        name = self.own_names.get(int(number))
        if name is None:
            self.unknown[f"class {int(number)}"].append((file, where))
            return None
        if composed(name) not in self.labels:
            self.unknown[f"class {name!r}"].append((file, where))
            return None
        height, width = size
        if max(numbers) > 1 + 1 / min(size) and max(corners) > 2:
            self.in_pixels.append((file, where, written))
            return None
        x1, y1, x2, y2 = corners
        pixels = (x1 * width, y1 * height, x2 * width, y2 * height)
        return self.labels[composed(name)], self.findings.box(pixels, size, written, file, where)

    def tell(self, source: Path) -> bool:
        """Add what many lines share; True where most boxes are in pixels, so that the others are not to be trusted."""
        for stranger, uses in sorted(self.unknown.items()):
            file, where = uses[0]
            self.findings.add(
                source,
                stranger,
                f"{count(len(uses), 'object')} of this class (the first is {where} of {file}), and the classes are"
                f" {few([f'{number} {name}' for number, name in self.own_names.items()])}; correct the number, or add"
                " its name",
            )
        fix = "divide x and width by the picture's width, y and height by its height"
        if len(self.in_pixels) < 2 or 2 * len(self.in_pixels) <= self.objects:
            for file, where, written in self.in_pixels:
                self.findings.add(
                    file, where, f"{_short(written)!r} is in pixels, where shares from 0 to 1 belong; {fix}"
                )
            return False
        file, where, written = self.in_pixels[0]
        self.findings.add(
            source,
            "",
            f"{len(self.in_pixels)} of {self.objects} boxes are in pixels, where shares from 0 to 1 belong (the first"
            f" is {where} of {file}: {_short(written)!r}); {fix}",
        )
        return True


def _read_yaml(file: Path) -> dict[str, Any]:
    check_regular(file)
    try:
        about = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is not YAML ({' '.join(str(error).split())}); correct it") from None
    if not isinstance(about, dict):
        raise ValueError(f"{file} has no keys; it needs train, val and names")
    return about


def _about(root: Path, split: str) -> tuple[Path, dict[str, Any]]:
    """What data.yaml would say of a folder without one, and the file that names the classes. Raises ValueError."""
    folders = split_folders(root)
    wanted = next((name for name in SPLIT_NAMES.get(split, (split,)) if name in folders), None)
    file = _names_file(root, folders[wanted or next(iter(folders))])
    if file is None:
        raise ValueError(f"{root} has no {CLASSES}; write the names of the classes there, one a line, in their order")
    places = {name: folder.relative_to(root).as_posix() for name, folder in folders.items()}
    return file, {"names": _notes(file) if file.name == NOTES else _lines(file), **places}


def _names_file(root: Path, folder: Path) -> Path | None:
    """The nearest file that names the classes of the pictures in a folder of a data set, if there is one."""
    labels = label_file(folder / "a.jpg").parent
    places = [labels, *labels.parents, folder, folder / "labels", *folder.parents, root / "labels"]
    files = (place / name for place in places if place.is_relative_to(root) for name in (CLASSES, NOTES))
    return next((file for file in files if file.is_file()), None)


def _lines(file: Path) -> list[str]:
    """The names in classes.txt."""
    check_regular(file)
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text ({error}); save it as UTF-8") from None
    if not all(names):
        raise ValueError(f"{file}: line {1 + names.index('')} is empty; write the name of class {names.index('')}")
    return names


def _notes(file: Path) -> dict[int, str]:
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
        with file.open(encoding="utf-8-sig") as opened:
            words = opened.readline(4096).split()
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


def _class_names(about: Mapping[str, Any], file: Path) -> dict[int, str]:
    """Number → name."""
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


def _pictures(
    about: Mapping[str, Any], file: Path, root: Path, split: str, findings: Findings
) -> tuple[list[Path], bool]:
    """The pictures of a split, each once, sorted within its folder or list; and whether a list names them."""
    key = next((name for name in SPLIT_NAMES.get(split, (split,)) if about.get(name)), None)
    if key is None:
        known = few([name for name in about if name in {each for names in SPLIT_NAMES.values() for each in names}])
        of = root if file.name in (CLASSES, NOTES) else file
        raise ValueError(f"{of} has no {split!r} split; its splits are {known or 'none'}")
    entries = about[key] if isinstance(about[key], list) else [about[key]]
    paths: dict[str, Path] = {}
    listed = False
    for entry in entries:
        place = _place(about, root, str(entry))
        if place.is_dir():
            found = sorted(path for path in place.rglob("*") if is_picture(path) and not path.name.startswith("."))
        elif place.is_file():
            check_regular(place)
            listed = True
            lines = place.read_text(encoding="utf-8-sig").splitlines()
            found = [_listed(line.strip(), place) for line in lines if line.strip()]
        else:
            raise FileNotFoundError(
                f"{file} says {key}: {entry}, and there is no {place}; correct it, or put the pictures there"
            )
        for path in found:
            name = _id(path, root)
            if (other := paths.setdefault(name, path)) != path:
                findings.add(path, "", f"{other.name} has the same label file; rename one of the two")
    if not paths and file.name in (CLASSES, NOTES):
        raise FileNotFoundError(f"there is no picture in {place}; put those that the label files belong to there")
    if not paths:
        raise FileNotFoundError(f"{file} says {key}: {about[key]}, where there is no picture")
    return list(paths.values()), listed


def _check_pairs(labels_of: Mapping[Path, Path], file: Path, listed: bool, findings: Findings) -> None:
    """Whether there are label files and, unless pictures are `listed` one by one, each of them has its picture."""
    labels = dict.fromkeys(labels_of.values())
    folders = {label.parent for label in labels}
    there = {path for folder in folders if folder.is_dir() for path in folder.glob("*.txt")} - {file}
    there = {path for path in there if path.name not in NO_LABELS}
    if not any(folder.is_dir() for folder in folders):
        first, number = next(iter(labels)), count(len(labels_of), "picture")
        findings.add(file, "", f"none of its {number} has a label file; put them there, the first as {first}")
        return
    for path in (path for path, label in labels_of.items() if path.is_file() and not label.is_file()):
        message = "it counts as a picture without objects; if nobody has annotated it yet, take it out"
        findings.warn("a picture without a label file", path, "", message)
    for alone in [] if listed else sorted(there - labels.keys()):
        findings.add(alone, "", "there is no picture of this name; put it there, or delete this file")


def _place(about: Mapping[str, Any], root: Path, entry: str) -> Path:
    """Where a split is. `path` may be of another computer, and Roboflow writes ../ where it means the file's folder."""
    entry = entry.replace("\\", "/")
    roots = [root / str(about["path"])] if about.get("path") else []
    places = [Path(os.path.normpath(each / entry)) for each in (*roots, root)]
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


def _short(written: str) -> str:
    return written if len(written) <= 60 else f"{written[:57]}…"
