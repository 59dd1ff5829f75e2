"""Which format a data set on disk has, and which splits: what is in its folder decides.

Files are recognised by how they begin, so that large ones are not read whole; only CVAT's is, for its subsets.
"""

from __future__ import annotations

import functools
import mmap
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import yaml

from rcnnkit.data.checks import is_picture
from rcnnkit.data.createml import splits_of
from rcnnkit.data.cvat import read_subsets
from rcnnkit.data.records import ALL_SPLIT_NAMES, SPLIT_NAMES, few
from rcnnkit.data.tables import DESCRIPTIONS, is_table
from rcnnkit.data.yolo_layout import CLASSES, has_labels, split_folders, yolo_file
from rcnnkit.defaults import FORMAT
from rcnnkit.files import check_regular
from rcnnkit.text import count

Format = Literal[
    "auto",
    "voc",
    "coco",
    "yolo",
    "cvat",
    "label_studio",
    "via",
    "labelme",
    "createml",
    "visual_genome",
    "captions",
    "table",
]
TITLES = {
    "voc": "Pascal VOC",
    "coco": "COCO",
    "yolo": "YOLO",
    "cvat": "CVAT",
    "label_studio": "Label Studio",
    "via": "VIA",
    "labelme": "LabelMe",
    "createml": "Create ML",
    "visual_genome": "Visual Genome",
    "captions": "COCO's captions",
    "table": "a table",
}
LOOKED_FOR = {  # format -> what a folder of it has
    "voc": "ImageSets/Main with lists, or XML files (LabelImg)",
    "coco": "a .json file with images, annotations and categories",
    "yolo": "a data.yaml, or label files (.txt) with a classes.txt",
    "cvat": "an .xml file of CVAT",
    "label_studio": "a .json file of Label Studio",
    "via": "a .json or .csv file of VIA",
    "labelme": "a .json file of LabelMe for each picture",
    "createml": "a .json file of Create ML",
    "visual_genome": "a .json file like Visual Genome's region_descriptions.json",
    "captions": "a .json file with images, and annotations that have a caption",
    "table": "a .csv or .parquet file with the columns image, x1, y1, x2, y2, class",
}
NAMED = ("voc", "yolo", "labelme", "createml")  # their splits have names; those of the others are files
HEAD = 1 << 18  # bytes of a file that are looked at
ENOUGH = 50  # files of a kind in one folder that are looked at; the others are like them
DEEPEST = 4  # folders, counted from the data set's own
SUFFIXES = (".json", ".xml", ".csv", ".parquet")
BY_SUFFIX = {".json": "coco", ".csv": "table", ".xml": "cvat"}  # whose readers say what is wrong with other files
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Layout:
    """A data set on disk.

    `splits` maps "train", "val" and "test", as far as they are there, to what `data.train` and `data.val` take
    together with `root`. One split that has another name, or none, is "train".
    """

    root: Path
    format: str
    splits: Mapping[str, str]

    @property
    def title(self) -> str:
        """The format's name, as people write it."""
        return TITLES[self.format]


def find_layout(root: Path, format: str = FORMAT) -> Layout:
    """The format and the splits of a data set.

    Args:
        root: its folder, or the folder that has it as its only sub-folder with a data set; or an annotation file,
            which is all of "train" then.
        format: "auto", or the only format that is looked for.

    Raises:
        FileNotFoundError: nothing is there, or no format that is known; the message says what is there.
        ValueError: there are several formats, or several files for one split.
    """
    root = Path(root)
    check_format(format)
    if not root.exists():
        raise FileNotFoundError(f"the data set {root} does not exist")
    if root.is_file():
        return _layout_of_file(root, format)
    base = root
    while inner := _only_folder(base):  # as archives are unpacked
        base = inner
    below = f"{base.relative_to(root).as_posix()}/" if base != root else ""
    formats = find_formats(base, format)
    if not formats:
        folders = [path for path in sorted(base.iterdir()) if path.is_dir() and not path.name.startswith(".")]
        inside = {path.name: inner_formats for path in folders if (inner_formats := find_formats(path, format))}
        if len(inside) > 1:
            raise ValueError(
                f"{root} holds several data sets, in {few(list(inside))}; name one of these folders, or give"
                f' data.train = ["{next(iter(inside))}/train", …]'
            )
        for name, inner_formats in inside.items():
            below, formats = f"{below}{name}/", inner_formats
    if not formats:
        raise FileNotFoundError(nothing_there(base, format))
    if len(formats) > 1:
        raise ValueError(several_formats(root, formats))
    for name, splits in formats.items():
        named = name_splits(root, splits)
        return Layout(root, name, {split: f"{below}{value}" for split, value in named.items()})
    raise AssertionError


def check_format(format: str) -> None:
    """Raise ValueError where it is none of `Format`."""
    if format not in get_args(Format):
        raise ValueError(f"{format!r} is not a format; the formats are {', '.join(get_args(Format))}")


def several_formats(root: Path, formats: Sequence[str] | Mapping[str, object]) -> str:
    """The error for a folder of several formats."""
    names = list(formats)
    titles = " and ".join(f"{TITLES[name]} ({LOOKED_FOR[name]})" for name in names)
    return (
        f'{root} has annotations in several formats: {titles}; choose one: data.format = "{names[0]}" in settings,'
        f" --data-format {names[0]} on the command line"
    )


def nothing_there(root: Path, format: str = FORMAT) -> str:
    """The error for a folder of no format: what was looked for, and what is there."""
    if empty := [message for file in _annotation_files(root) if (message := holds_nothing(file))]:
        return f"{'. '.join(empty)}. Nothing else in {root} has annotations in a format that is known"
    if format == FORMAT:
        formats = ", ".join(list(TITLES.values())[:-1])
        missing, fix = f"holds no annotations in a format that is known ({formats} or a table)", "convert them"
    else:
        missing = f'holds no annotations of the format "{format}" ({LOOKED_FOR[format]})'
        fix = "leave the format out, so that it is recognised"
    kinds = Counter(path.suffix.lower() or "without an ending" for path in sorted(root.iterdir()) if path.is_file())
    folders = [f"{path.name}/" for path in sorted(root.iterdir()) if path.is_dir()]
    there = [f"{number} {kind}" for kind, number in kinds.most_common()] + folders
    held = f"It holds {few(there)}" if there else "It is empty"
    return f"{root} {missing}. {held}. Give the folder that has the annotations, or {fix}"


def find_formats(root: Path, format: str = FORMAT) -> dict[str, list[str]]:
    """Format -> its splits, as `data.train` takes them, in every format that a folder has at all.

    Sub-folders are looked into, unless they are data sets of their own.
    """
    files = list(_annotation_files(root))
    by_format: dict[str, list[Path]] = defaultdict(list)
    weak, empty_files = [], []
    for file in files:
        kind = recognise(file)
        if kind == "coco" and not _has_all_parts(file):
            weak.append(file)
        elif kind:
            by_format[kind].append(file)
        elif holds_nothing(file):
            empty_files.append(file)
    formats: dict[str, list[str]] = {}
    if yaml_file := yolo_file(root):
        formats["yolo"] = _yolo_splits(yaml_file)
    elif has_labels(root):
        formats["yolo"] = list(split_folders(root))
    captions, lists = by_format.pop("captions", []), root / "ImageSets" / "Main"
    if captions and (format == "captions" or not (by_format or formats or lists.is_dir())):
        by_format["captions"] = captions  # COCO's lie beside its objects, and are meant only if nothing else is there
    elif weak and not by_format and not formats:
        by_format["coco"] = weak
    if lists.is_dir():
        formats["voc"] = sorted(path.stem for path in lists.glob("*.txt"))
    elif by_format["voc"]:
        formats["voc"] = _folders_of_splits(root, by_format["voc"])
    if by_format["labelme"]:
        formats["labelme"] = _folders_of_splits(root, by_format["labelme"])
    if by_format["createml"]:
        formats["createml"] = splits_of(root)
    for kind in ("coco", "cvat", "label_studio", "via", "visual_genome", "captions", "table"):
        if by_format[kind]:
            formats[kind] = [path.relative_to(root).as_posix() for path in by_format[kind]]
    if len(formats.get("cvat", [])) == 1 and len(subsets := read_subsets(by_format["cvat"][0])) > 1:
        formats["cvat"] = [f"{formats['cvat'][0]}/{subset}" for subset in subsets]
    _check_empty(root, empty_files, [split for kind in formats if kind not in NAMED for split in formats[kind]])
    return {kind: splits for kind, splits in formats.items() if format in (FORMAT, kind) and splits}


def holds_nothing(file: Path) -> str:
    """What to say of a file without any annotation, not even an empty list of its format; "" for others."""
    if file.suffix.lower() not in SUFFIXES or not file.is_file() or (size := file.stat().st_size) > 16:
        return ""
    content = file.read_text(encoding="utf-8-sig", errors="replace").strip()
    if content not in ("", "[]", "{}"):
        return ""
    return f"{file} is empty ({count(size, 'byte')}); export the annotations again, or delete the file"


def _check_empty(root: Path, files: Sequence[Path], splits: Sequence[str]) -> None:
    """Raise ValueError for empty files that are called like a split, where other splits are files of their kind."""
    suffixes = {PurePosixPath(split).suffix.lower() for split in splits}
    names = {split_named(split) for split in splits}
    for file in files:
        named = split_named(file.relative_to(root).as_posix())
        if named and named not in names and file.suffix.lower() in suffixes:
            raise ValueError(holds_nothing(file))


def recognise(file: Path) -> str | None:
    """The format of an annotation file, or None where it has none that is known."""
    suffix = file.suffix.lower()
    check_regular(file)
    if suffix == ".parquet":
        return "table"
    try:
        with file.open("rb") as opened:
            head = opened.read(HEAD).decode("utf-8-sig", errors="replace")
    except OSError:
        return None
    if suffix == ".json":
        kind = _json_format(head)
        return "captions" if kind == "coco" and _has_captions(file) else kind
    if suffix == ".xml":
        first = re.search(r"<(?![?!])\s*([\w.:-]+)", re.sub(r"<!--.*?-->", "", head, flags=re.DOTALL))
        # A file that is no XML at all lies among VOC's, whose reader says what is wrong with it.
        return {"annotation": "voc", "annotations": "cvat"}.get(first[1]) if first else "voc"
    if suffix == ".csv":
        line = next((line for line in head.splitlines() if line.strip()), "")
        if "region_shape_attributes" in line:
            return "via"
        return "table" if not PurePosixPath(file.name).match(DESCRIPTIONS) and is_table(line) else None
    return None


def name_splits(root: Path, splits: Sequence[str]) -> dict[str, str]:
    """ "train", "val" and "test" -> which of `splits` it is, by the names of files and folders.

    Raises:
        ValueError: there are several for one.
    """
    by_name: dict[str, list[str]] = defaultdict(list)
    unnamed: list[str] = []
    for split in splits:
        name = split_named(split)
        (by_name[name] if name else unnamed).append(split)
    if not by_name["train"]:
        trainval = [split for split in unnamed if "trainval" in _words(PurePosixPath(split).stem)]
        by_name["train"] = trainval or (unnamed if len(unnamed) == 1 else [])
    if not any(by_name.values()):
        raise ValueError(
            f"{root} has {count(len(splits), 'split')} and none is called train: {few(list(splits))}; give what is"
            " learnt from as data.train"
        )
    choice = {}
    for name in SPLIT_NAMES:
        candidates = by_name[name]
        exact = [split for split in candidates if split in SPLIT_NAMES[name]]
        instances = [split for split in candidates if PurePosixPath(split).name.startswith("instances_")]
        if len(candidates) > 1 and len(exact or instances) != 1:
            key = "data.train" if name == "train" else "data.val"
            raise ValueError(f"{root} has several splits for {name}: {few(candidates)}; give one, or a list, as {key}")
        if candidates:
            choice[name] = candidates[0] if len(candidates) == 1 else (exact or instances)[0]
    return choice


def split_named(split: str) -> str | None:
    """The split that the name of a file, or of a folder that it is in, says: "train", "val", "test" or None."""
    path = PurePosixPath(split)
    for part in (path.stem, *reversed(path.parts[:-1])):  # of CVAT's file/subset the subset
        words = _words(part)
        for name, aliases in SPLIT_NAMES.items():
            if any(alias in words for alias in aliases):
                return name
    return None


def _words(name: str) -> list[str]:
    return re.findall("[a-z]+", name.lower())


def _layout_of_file(file: Path, format: str) -> Layout:
    check_regular(file)
    if said := holds_nothing(file):
        raise ValueError(said)
    if file.suffix.lower() in (".yaml", ".yml"):
        kind: str | None = "yolo"
    else:
        kind = recognise(file) or (BY_SUFFIX.get(file.suffix.lower()) if format == FORMAT else format)
    if kind is None or format not in (FORMAT, kind):
        raise FileNotFoundError(
            f"{file} is not an annotation file of {TITLES.get(format, 'a format that is known')}; name one, or a folder"
        )
    if kind in ("voc", "labelme"):
        raise ValueError(f"{file} is the annotation of one picture; name its folder")
    if kind == "yolo":
        return Layout(file, kind, name_splits(file, _yolo_splits(file)))
    return Layout(file.parent, kind, {"train": file.name})


def _annotation_files(root: Path) -> Iterator[Path]:
    """The files of a data set that may hold annotations: of many in one folder some, as they are alike."""
    for folder, folders, names in os.walk(root):
        place = Path(folder)
        deep = len(place.relative_to(root).parts)
        folders[:] = sorted(each for each in folders if not _is_apart(place / each)) if deep < DEEPEST else []
        for suffix in SUFFIXES:
            alike = sorted(name for name in names if name.lower().endswith(suffix) and not name.startswith("."))
            yield from (place / name for name in alike[:ENOUGH] if (place / name).is_file())


def _only_folder(root: Path) -> Path | None:
    """The only thing that a folder holds beside texts, where that is a folder that is not a split."""
    things = [path for path in root.iterdir() if not path.name.startswith(".")]
    folders = [path for path in things if path.is_dir()]
    suffixes = (*SUFFIXES, ".yaml", ".yml")
    others = [path for path in things if path.suffix.lower() in suffixes or path.name == CLASSES or is_picture(path)]
    if len(folders) != 1 or others or folders[0].name == "ImageSets" or split_named(folders[0].name):
        return None
    return folders[0]


def _is_apart(folder: Path) -> bool:
    """Whether a sub-folder is hidden, or a data set of its own."""
    if folder.name.startswith("."):
        return True
    own = (folder / "ImageSets").is_dir() or (folder / "data.yaml").is_file() or (folder / "annotations").is_dir()
    return own and split_named(folder.name) is None


def _folders_of_splits(root: Path, files: Sequence[Path]) -> list[str]:
    """The folders that are named after splits, where there are any; else all is "train"."""
    tops = {file.relative_to(root).parts[0] for file in files if file.parent != root}
    return [name for name in ALL_SPLIT_NAMES if name in tops] or ["train"]


def _yolo_splits(file: Path) -> list[str]:
    try:
        about = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return ["train"]  # its reader says what is wrong
    return [name for name in ALL_SPLIT_NAMES if isinstance(about, dict) and about.get(name)] or ["train"]


def _json_format(head: str) -> str | None:
    outer, inner = _keys(head)
    if not head.lstrip().startswith("["):
        if any(key.startswith("_via_") for key in outer) or {"filename", "regions"} <= inner:
            return "via"
        if "shapes" in outer:
            return "labelme"
        return "coco" if outer & {"images", "annotations", "categories"} else None
    if {"annotations", "annotation"} & inner and {"image", "imagefilename"} & inner and "data" not in inner:
        return "createml"
    if "regions" in inner and {"id", "image_id"} & inner:
        return "visual_genome"
    minimal = {"annotation_id", "annotator"} & inner and {"label", "id"} & inner
    return "label_studio" if minimal or ({"annotations", "completions"} & inner and "data" in head) else None


def _keys(head: str) -> tuple[set[str], set[str]]:
    """The keys of the outermost objects in the first part of a JSON text, and of those directly within them.

    Within a list, the objects are within.
    """
    depth, last = 0, ""
    keys: dict[int, set[str]] = {1: set(), 2: set()}
    for found in TOKEN.finditer(head):
        token = found[0]
        if token in "{[":
            depth += 1
        elif token in "}]":
            depth -= 1
        elif token == ":":
            if depth in keys:
                keys[depth].add(last)
        else:
            last = token[1:-1]
    return keys[1], keys[2]


def _has_captions(file: Path) -> bool:
    """Whether a file of COCO's kind has sentences in place of objects."""
    return _names(file, "caption") and not _names(file, "categories")


def _has_all_parts(file: Path) -> bool:
    """Whether a file has all parts of COCO's format."""
    parts = all(_names(file, part) for part in ("images", "annotations", "categories"))
    return parts and not _names(file, "segments_info")


def _names(file: Path, key: str) -> bool:
    """Whether a key is anywhere in a JSON file, which is not read into memory for that; looked for once."""
    status = file.stat()
    return _names_now(file.absolute(), key, status.st_size, status.st_mtime_ns)


@functools.lru_cache(1000)
def _names_now(file: Path, key: str, size: int, time: int) -> bool:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(f'"{key}"'.encode()) >= 0
