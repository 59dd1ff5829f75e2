"""Boxes in a table: a .csv file with a row for each object, of a tool's own or as Open Images has them.

The first line names the columns: a picture (`image`, `filename`, `path`, …), x1, y1, x2 and y2 (`xmin`, `left`, …) and
a class (`class`, `label`, `name`, …). Without names the columns are image, x1, y1, x2, y2, class. Boxes are in pixels;
those of Open Images (`ImageID`, `LabelName`, `XMin`, …) are shares of the picture's sides.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from rcnnkit.data.checks import Findings, Shares, check_box, is_picture, picture_sizes
from rcnnkit.data.file_names import composed
from rcnnkit.data.records import Dataset, Record, few
from rcnnkit.files import check_regular
from rcnnkit.structures import Size, Targets
from rcnnkit.text import count

COLUMNS = {
    "image": ("image", "filename", "file_name", "file", "path", "image_path", "imageid", "image_id", "img"),
    "x1": ("x1", "xmin", "x_min", "left"),
    "y1": ("y1", "ymin", "y_min", "top"),
    "x2": ("x2", "xmax", "x_max", "right"),
    "y2": ("y2", "ymax", "y_max", "bottom"),
    "class": ("class", "label", "labelname", "name", "category", "class_name", "label_name"),
    "crowd": ("isgroupof", "iscrowd", "crowd"),
}
PLAIN = ("image", "x1", "y1", "x2", "y2", "class")  # of a file without names
CORNERS = ("x1", "y1", "x2", "y2")
DESCRIPTIONS = "class-descriptions*.csv"  # Open Images' names of its classes


@dataclass(slots=True)
class _Row:
    number: int  # of its line
    name: str
    corners: tuple[float, float, float, float]
    crowd: bool
    written: str


@dataclass(slots=True)
class _Picture:
    name: str  # as it is written
    line: int
    rows: list[_Row] = field(default_factory=list)


def read_table(
    file: Path, images: Path | None = None, class_names: Sequence[str] | None = None
) -> tuple[Dataset, Findings]:
    """The data set in a .csv file, and everything that is wrong with it.

    A row with a picture and nothing else is a picture without objects.

    Args:
        images: the folder of the pictures; by default they are looked for beside the file and below its folder.
        class_names: in the order of the labels; by default the sorted names of this file, so give them for a second
            split that may lack some.

    Returns:
        The data set without what is bad, whose ids are the pictures' names as the file has them, without their
        endings; category ids 1 … K; and the problems found.

    Raises:
        FileNotFoundError: none of its pictures is found.
        ValueError: it has no such columns or no row, is not UTF-8, or a class name is given twice.
    """
    findings = Findings()
    pictures, shares_are_meant = _rows(file, findings)
    described = _descriptions(file) if shares_are_meant else {}
    for picture in pictures.values():
        for row in picture.rows:
            row.name = described.get(row.name, row.name)
    known = list(class_names or sorted({row.name for picture in pictures.values() for row in picture.rows}))
    if len(set(known)) < len(known):
        raise ValueError(f"class_names holds a name twice: {', '.join(known)}")
    labels = {composed(name): label for label, name in enumerate(known)}
    paths = _find(pictures, file, images, findings)
    shown = dict(zip(paths, picture_sizes(paths.values()), strict=True))
    records, shares = [], Shares()
    strangers: dict[str, list[_Row]] = defaultdict(list)
    for key, size in shown.items():
        if isinstance(size, str):
            findings.add(paths[key], "", size)
            continue
        good = [
            row
            for row in pictures[key].rows
            if _is_good(row, size, shares_are_meant, labels, strangers, shares, file, findings)
        ]
        findings.objects += len(pictures[key].rows) - len(good)
        targets = Targets(
            torch.tensor([row.corners for row in good]).reshape(-1, 4),
            torch.tensor([labels[composed(row.name)] for row in good], dtype=torch.int64),
            crowd=torch.tensor([row.crowd for row in good], dtype=torch.bool),
        )
        records.append(Record(key, paths[key], size, targets))
    if shares.tell(file, findings):
        records = []
    for name, rows in sorted(strangers.items()):
        findings.add_stranger(file, name, len(rows), f"in line {rows[0].number}", known)
    findings.pictures = len(pictures) - len(records)
    return Dataset(
        f"{file.resolve().parent.name}/{file.stem}", records, known, list(range(1, len(known) + 1))
    ), findings


def is_table(line: str) -> bool:
    """Whether the first line of a file is that of a table of boxes."""
    separator = max(",;\t", key=line.count)
    try:
        _columns(next(csv.reader([line], delimiter=separator), []), Path())
    except ValueError:
        return False
    return True


def _rows(file: Path, findings: Findings) -> tuple[dict[str, _Picture], bool]:
    """The pictures by their names without endings, and whether boxes are in shares."""
    check_regular(file)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text ({error}); save it as UTF-8") from None
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    separator = max(",;\t", key=first.count)
    place, header, shares_are_meant = _columns(next(csv.reader([first], delimiter=separator), []), file)
    pictures: dict[str, _Picture] = {}
    for number, words in enumerate(csv.reader(lines, delimiter=separator), start=1):
        if not any(word.strip() for word in words) or (header and number == 1 + lines.index(first)):
            continue
        found = {column: words[i].strip() if i < len(words) else "" for column, i in place.items()}
        if not found["image"]:
            findings.add(file, f"line {number}", "it names no picture; add one, or delete the line")
            continue
        name = found["image"].replace("\\", "/")
        key = str(Path(name).with_suffix("")) if is_picture(Path(name)) else name
        picture = pictures.setdefault(key, _Picture(name, number))
        if not any(found[column] for column in (*CORNERS, "class")):
            continue
        try:
            x1, y1, x2, y2 = (float(found[column]) for column in CORNERS)
        except ValueError:
            findings.add(
                file, f"line {number}", f"{separator.join(words)!r} has a corner that is no number; correct it"
            )
            findings.objects += 1
            continue
        if not found["class"]:
            findings.add(file, f"line {number}", "its object has no class; add one, or delete the line")
            findings.objects += 1
            continue
        written = ", ".join(f"{column} {found[column]}" for column in CORNERS)
        crowd = found.get("crowd", "") in ("1", "true", "True")
        picture.rows.append(_Row(number, found["class"], (x1, y1, x2, y2), crowd, written))
    if not pictures:
        raise ValueError(f"{file} has no row; write one for each object: {','.join(PLAIN)}")
    return pictures, shares_are_meant


def _columns(names: Sequence[str], file: Path) -> tuple[dict[str, int], bool, bool]:
    """Where each column is; whether the first line names them; and whether they are Open Images'."""
    plain = [name.strip().lower() for name in names]
    place = {
        column: plain.index(known[0])
        for column, aliases in COLUMNS.items()
        if (known := [a for a in aliases if a in plain])
    }
    missing = [column for column in PLAIN if column not in place]
    if not missing:
        return place, True, {"imageid", "labelname", "xmin"} <= set(plain)
    if len(missing) == len(PLAIN) and len(plain) >= len(PLAIN) and _are_numbers(plain[1:5]):
        return dict(zip(PLAIN, range(len(PLAIN)), strict=True)), False, False
    raise ValueError(
        f"{file} has no column for {', '.join(missing)} among {few(list(names))}; name the columns"
        f" {','.join(PLAIN)} in its first line"
    )


def _are_numbers(words: Sequence[str]) -> bool:
    try:
        return bool([float(word or 0) for word in words])
    except ValueError:
        return False


def _descriptions(file: Path) -> dict[str, str]:
    """Open Images' code of a class → its name, where the table of them lies beside the file."""
    found = sorted(file.parent.glob(DESCRIPTIONS))
    if not found:
        return {}
    rows = csv.reader(found[0].read_text(encoding="utf-8-sig").splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2}


def _find(pictures: dict[str, _Picture], file: Path, images: Path | None, findings: Findings) -> dict[str, Path]:
    """The picture of each name: at that path from the file's folder, or by its name in one of the folders below."""
    folder = images or file.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; give the one of the pictures as data.images or --images")
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if is_picture(path):
            by_name[composed(path.name)].append(path)
            by_name[composed(path.stem)].append(path)
    paths = {}
    for key, picture in pictures.items():
        direct = folder / picture.name
        named = by_name.get(composed(Path(picture.name).name), [])
        if is_picture(direct) and direct.is_file():
            paths[key] = direct
        elif len(named) == 1:
            paths[key] = named[0]
        else:
            several = f"it could be any of {few([str(path) for path in named])}" if named else f"it is not in {folder}"
            findings.add(file, f"line {picture.line}", f"picture {picture.name}: {several}; correct its path")
    if not paths:
        raise FileNotFoundError(
            f"{file}: none of its {count(len(pictures), 'picture')} was found in {folder}; give their folder as"
            " data.images in settings, or --images on the command line"
        )
    return paths


def _is_good(
    row: _Row,
    size: Size,
    shares_are_meant: bool,
    labels: dict[str, int],
    strangers: dict[str, list[_Row]],
    shares: Shares,
    file: Path,
    findings: Findings,
) -> bool:
    """Whether the object can be learnt from; its corners are in pixels then. What is wrong is taken down."""
    where = f"line {row.number}"
    if composed(row.name) not in labels:
        strangers[row.name].append(row)
        return False
    if shares_are_meant:
        x1, y1, x2, y2 = row.corners
        row.corners = (x1 * size[1], y1 * size[0], x2 * size[1], y2 * size[0])
    elif shares.take(row.corners, size, file, where, row.written):
        return False
    try:
        row.corners = check_box(row.corners, size, row.written)
    except ValueError as error:
        findings.add(file, where, str(error))
        return False
    return True
