"""Boxes in a table: a .csv or .parquet file with a row for each object, of a tool's own or as Open Images has them.

The first line names the columns: a picture (`image`, `filename`, `path`, …), x1, y1, x2 and y2 (`xmin`, `left`, …) and
a class (`class`, `label`, `name`, …). Without names the columns are image, x1, y1, x2, y2, class. Boxes are in pixels;
those of Open Images (`ImageID`, `LabelName`, `XMin`, …) are shares of the picture's sides.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from rcnnkit.data.annotated import Annotated, Annotation, names_of, to_dataset
from rcnnkit.data.checks import Box, Findings
from rcnnkit.data.records import Dataset, few
from rcnnkit.files import check_regular
from rcnnkit.structures import Size

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


def read_table(
    file: Path, images: Path | None = None, class_names: Sequence[str] | None = None
) -> tuple[Dataset, Findings]:
    """The data set in a .csv or .parquet file, and everything that is wrong with it.

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
        ValueError: it has no such columns or no row, is not UTF-8, or a class name is given twice; or pyarrow, which
            reads Parquet files, is not installed.
    """
    findings = Findings()
    if file.suffix.lower() == ".parquet":
        pictures, shares_are_meant = _parquet(file, findings)
    else:
        pictures, shares_are_meant = _csv(file, findings)
    name_of = _descriptions(file) if shares_are_meant else {}
    for picture in pictures.values():
        for row in picture.objects:
            row.name = name_of.get(row.name, row.name)
    classes = list(class_names) if class_names is not None else names_of(pictures)
    return to_dataset(file, pictures, findings, images=images, class_names=classes), findings


def is_table(line: str) -> bool:
    """Whether the first line of a file is that of a table of boxes."""
    separator = max(",;\t", key=line.count)
    try:
        _columns(next(csv.reader([line], delimiter=separator), []), Path())
    except ValueError:
        return False
    return True


def _csv(file: Path, findings: Findings) -> tuple[dict[str, Annotated], bool]:
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

    rows = []
    for number, words in enumerate(csv.reader(lines, delimiter=separator), start=1):
        if not any(word.strip() for word in words) or (header and number == 1 + lines.index(first)):
            continue
        rows.append((f"line {number}", {column: words[i] if i < len(words) else "" for column, i in place.items()}))
    if _are_decimal([row[corner].strip() for _, row in rows for corner in CORNERS]):
        for where, row in rows:
            commas = {corner: row[corner].replace(",", ".") for corner in CORNERS if "," in row[corner]}
            for corner, point in list(commas.items())[:1]:
                message = f"{corner} {row[corner].strip()} is read as {point.strip()}"
                findings.warn("decimal commas", file, where, message)
            row |= commas
    return _pictures(iter(rows), shares_are_meant, file, findings), shares_are_meant


def _are_decimal(numbers: Sequence[str]) -> bool:
    """Whether the commas in numbers are decimal points, and certainly not between thousands."""
    commas = [number for number in numbers if "," in number]
    if any("." in number for number in numbers) or not all(re.fullmatch(r"-?\d+,\d+", each) for each in commas):
        return False
    return not all(re.fullmatch(r"-?[1-9]\d{0,2},\d{3}", each) for each in commas)


def _parquet(file: Path, findings: Findings) -> tuple[dict[str, Annotated], bool]:
    """As `_csv`, of a Parquet file, whose rows are counted from 0."""
    check_regular(file)
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError(f"{file}: Parquet files are read with pyarrow; pip install 'rcnnkit[parquet]'") from None
    try:
        names = pyarrow.parquet.read_schema(file).names
    except pyarrow.ArrowException as error:
        raise ValueError(f"{file} is not a Parquet file ({str(error).splitlines()[0]}); write it again") from None
    place, _, shares_are_meant = _columns(names, file)
    name_of = {column: names[i] for column, i in place.items()}
    columns = pyarrow.parquet.read_table(file, columns=list(dict.fromkeys(name_of.values()))).to_pydict()
    rows = zip(*(columns[name] for name in name_of.values()), strict=True)
    texts = (dict(zip(name_of, ("" if _is_missing(v) else str(v) for v in row), strict=True)) for row in rows)
    numbered = ((f"row {number}", each) for number, each in enumerate(texts))
    return _pictures(numbered, shares_are_meant, file, findings), shares_are_meant


def _is_missing(value: object) -> bool:
    return value is None or value != value  # what pandas leaves empty is not a number


def _pictures(
    rows: Iterator[tuple[str, dict[str, str]]], shares_are_meant: bool, file: Path, findings: Findings
) -> dict[str, Annotated]:
    """The pictures by their names without endings, from where each row is and the text in its columns."""
    pictures: dict[str, Annotated] = {}
    for where, columns in rows:
        cells = {column: text.strip() for column, text in columns.items()}
        if not cells["image"]:
            findings.add(file, where, f"it names no picture; add one, or delete the {where.split()[0]}")
            continue
        picture = Annotated(cells["image"].replace("\\", "/"), where)
        picture = pictures.setdefault(picture.key(), picture)
        if not any(cells[column] for column in (*CORNERS, "class")):
            continue
        corner_text = ", ".join(f"{column} {cells[column]}" for column in CORNERS)
        try:
            x1, y1, x2, y2 = (float(cells[column]) for column in CORNERS)
        except ValueError:
            commas = any("," in cells[column] for column in CORNERS)
            how = "write decimals with a point, and thousands without a comma" if commas else "correct it"
            findings.add(file, where, f"{corner_text}: a corner is no number; {how}")
            findings.objects += 1
            continue
        if not cells["class"]:
            findings.add(file, where, f"its object has no class; add one, or delete the {where.split()[0]}")
            findings.objects += 1
            continue
        box: Box = (x1, y1, x2, y2)
        crowd = cells.get("crowd", "") in ("1", "1.0", "true", "True")
        corners = partial(_in_pixels, box) if shares_are_meant else box
        picture.objects.append(Annotation(where, cells["class"], corners, corner_text, crowd))
    if not pictures:
        raise ValueError(f"{file} has no row; write one for each object: {','.join(PLAIN)}")
    return pictures


def _in_pixels(shares: Box, size: Size) -> Box:
    x1, y1, x2, y2 = shares
    return x1 * size[1], y1 * size[0], x2 * size[1], y2 * size[0]


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
        return bool([float(word.replace(",", ".") or 0) for word in words])
    except ValueError:
        return False


def _descriptions(file: Path) -> dict[str, str]:
    """Open Images' code of a class → its name, where the table of them lies beside the file."""
    files = sorted(file.parent.glob(DESCRIPTIONS))
    if not files:
        return {}
    rows = csv.reader(files[0].read_text(encoding="utf-8-sig").splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2}
