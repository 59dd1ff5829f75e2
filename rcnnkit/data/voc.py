"""Pascal VOC's layout: JPEGImages/, Annotations/*.xml, ImageSets/Main/<split>.txt.

Its boxes are 1-based and inclusive: pixel columns xmin to xmax, counted from 1. In continuous 0-based
pixels that is xmin - 1 to xmax, so the reader subtracts 1 from xmin and ymin and nothing else, and the
writer adds it again.
"""

from __future__ import annotations

import codecs
import re
import shutil
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import add
from pathlib import Path

import torch

from rcnnkit.data.checks import Box, Findings, Shares, check_size, is_picture, picture_sizes
from rcnnkit.data.decimals import shortest
from rcnnkit.data.file_names import StoredNames, composed
from rcnnkit.data.flat import GrowingRecords, Records
from rcnnkit.data.records import SPLIT_NAMES, UNDIVIDED, Dataset, Record, few
from rcnnkit.defaults import CHECK_PICTURES
from rcnnkit.files import check_regular
from rcnnkit.structures import Size, Targets

CORNERS = ("xmin", "ymin", "xmax", "ymax")
NOT_XML = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2; \r reads back as \n
FLAGS = {"0": False, "false": False, "": False, "1": True, "true": True}


@dataclass(frozen=True, slots=True)
class _Object:
    """One <object> as it is written."""

    name: str
    corners: tuple[float, float, float, float]  # 1-based inclusive
    difficult: bool
    truncated: bool


def read_voc(
    root: Path, split: str, class_names: Sequence[str] | None = None, *, check_pictures: bool = CHECK_PICTURES
) -> tuple[Dataset, Findings]:
    """One split of a data set in VOC's layout, and everything that is wrong with it.

    Args:
        root: the folder with JPEGImages, Annotations and ImageSets.
        split: the name of a list in ImageSets/Main, without `.txt`. Its lines name pictures by their paths in
            JPEGImages, with or without the ending: `000005`, `cam1/000005`, `000005.jpg`.
        class_names: in the order of the labels. Left out, they are the sorted names found in all of
            Annotations, so that every split numbers its classes alike.
        check_pictures: look at each picture; otherwise only at those whose size is not in their annotation.

    Returns:
        The data set without what is bad, category ids 1…K; and the problems found, in which the objects
        of a file are counted from 0. An object that is bad is left out alone, a picture that is bad with
        all its objects.

    Raises:
        FileNotFoundError: a folder or the split's list is missing.
        ValueError: the split lists no picture, its list is not a regular file, or a class name is given twice.
    """
    root = Path(root)
    for folder in ("Annotations", "JPEGImages"):
        if not (root / folder).is_dir():
            raise FileNotFoundError(f"{root / folder} is missing; VOC's layout has its files there")
    pictures = _Pictures(root / "JPEGImages")
    stored_names = StoredNames()

    findings = Findings()
    split_list = stored_names.find(root / "ImageSets" / "Main" / f"{split}.txt")
    lines = _read_list(split_list, pictures)
    names = _once_each(lines, split_list, findings)
    files = {name: stored_names.find(_xml(root, name)) for name in names}
    parsed = {name: tree for name, file in files.items() if (tree := _parse(file, findings)) is not None}
    paths: dict[str, Path] = {}
    for name in names:
        found = _choose(pictures[name], names[name], parsed.get(name))
        if found is not None:
            paths[name] = found
        elif len(pictures[name]) > 1:
            several = ", ".join(path.name for path in pictures[name])
            findings.add(files[name], "", f"it could be of any of {several}; name one in <filename>")
        else:
            findings.add(root / "JPEGImages" / name, "", pictures.missing(name))
    known = _class_names(root / "Annotations", files, parsed, class_names)
    records = _records(paths, files, parsed, known, root / "Annotations", findings, check_pictures)
    findings.pictures = len(lines) - len(records)
    return Dataset(f"{root.resolve().name}/{split}", records, known, list(range(1, len(known) + 1))), findings


def read_xml(
    root: Path, split: str, class_names: Sequence[str] | None = None, *, check_pictures: bool = CHECK_PICTURES
) -> tuple[Dataset, Findings]:
    """Annotations in VOC's format without lists, as LabelImg leaves them: XML files beside their pictures, or apart.

    The pictures of a split are those in the folder of its name ("val" is "valid" too) and below it. Where there is no
    folder for a split, all are "train". A picture belongs to an annotation by its name, or by <filename>.

    Args, return value and errors are those of `read_voc`; a picture's id is the path of its annotation below `root`.
    """
    base = xml_folder(root, split)
    if base is None:
        tops = _split_folders(root)
        there = f"its folders of splits are {', '.join(tops)}" if tops else UNDIVIDED
        raise FileNotFoundError(f"{root} holds no annotation for the split {split!r}; {there}")
    findings = Findings()
    files = {file.relative_to(root).with_suffix("").as_posix(): file for file in sorted(base.rglob("*.xml"))}
    parsed = {name: tree for name, file in files.items() if (tree := _parse(file, findings)) is not None}
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(base.rglob("*")):
        if is_picture(path) and not path.name.startswith("."):
            by_stem[composed(path.stem)].append(path)
    paths: dict[str, Path] = {}
    for name, tree in parsed.items():
        stems = [Path(name).name, Path((tree.findtext("filename") or "").strip().replace("\\", "/")).stem]
        candidates = next((by_stem[key] for stem in stems if (key := composed(stem)) in by_stem), [])
        beside = [path for path in candidates if path.parent == files[name].parent]
        found = _choose(beside or candidates, "", tree)
        if found is not None:
            paths[name] = found
        elif candidates:
            several = ", ".join(path.relative_to(root).as_posix() for path in candidates)
            findings.add(files[name], "", f"it could be of any of {several}; name one in <filename>")
        else:
            findings.add(files[name], "", f"there is no picture {stems[0]} of any type in {base}; put it there")
    used = set(paths.values())
    for path in (path for several in by_stem.values() for path in several if path not in used):
        message = "it is left out; where it shows no object, write an annotation without one"
        findings.warn("a picture without an annotation", path, "", message)
    known = _class_names(root, files, parsed, class_names)
    records = _records(paths, files, parsed, known, root, findings, check_pictures)
    findings.pictures = len(files) - len(records)
    return Dataset(f"{root.resolve().name}/{split}", records, known, list(range(1, len(known) + 1))), findings


def xml_folder(root: Path, split: str) -> Path | None:
    """Where the annotations of a split are that have no lists; None where there are none."""
    folders = _split_folders(root)
    wanted = [name for name in SPLIT_NAMES.get(split, (split,)) if name in folders]
    base = root / wanted[0] if wanted else root if split == "train" and not folders else None
    return base if base is not None and next(base.rglob("*.xml"), None) is not None else None


def _split_folders(root: Path) -> list[str]:
    names = [name for several in SPLIT_NAMES.values() for name in several]
    return [name for name in names if (root / name).is_dir()]


def _records(
    paths: Mapping[str, Path],
    files: Mapping[str, Path],
    parsed: Mapping[str, ET.Element],
    known: Sequence[str],
    source: Path,
    findings: Findings,
    check_pictures: bool,
) -> Records:
    """The good pictures.

    Args:
        paths: of each picture, by its name.
        files: its annotation.
        parsed: that annotation, where it can be read.
        known: the classes.
        source: what is named for problems that many annotations share.
    """
    trusted = () if check_pictures else [_size_on_trust(parsed.get(name)) for name in paths]
    shown = dict(zip(paths, picture_sizes(paths.values(), trusted), strict=True))
    records = GrowingRecords()
    labels = {composed(name): label for label, name in enumerate(known)}
    shares = Shares()
    strangers: dict[str, list[tuple[str, int]]] = defaultdict(list)  # unknown class -> where it is used
    for name in paths:
        size = shown[name]
        if isinstance(size, str):
            findings.add(paths[name], "", size)
        if isinstance(size, str) or name not in parsed:
            continue
        try:
            annotated = _annotated_size(parsed[name]) or size
            _check_boxes_are_read(parsed[name])
        except ValueError as error:
            findings.add(files[name], "", str(error))
            continue
        if wrong := check_size(paths[name], annotated, size):
            if not findings.size(wrong, annotated, size, _boxes(parsed[name]), files[name], ""):
                continue
            annotated = size
        targets = _targets(parsed[name], annotated, labels, files[name], findings, strangers, shares)
        records.append(Record(id=name, path=paths[name], size=annotated, targets=targets))
    if shares.tell(source, findings):
        records = GrowingRecords()
    for stranger, uses in sorted(strangers.items()):
        findings.add_stranger(source, stranger, len(uses), f"object {uses[0][1]} of {uses[0][0]}", known)
    return records.all()


def write_voc(dataset: Dataset, root: Path, split: str) -> None:
    """Write annotations and the split's list; `read_voc` gives the same boxes, labels and flags back.

    Pictures that lie elsewhere are copied into JPEGImages. A crowd region is written as difficult: VOC
    knows no crowds, and its evaluation ignores difficult objects likewise. COCO's areas are not kept.

    Raises:
        FileExistsError: a file that would be written exists; nothing has been written then.
        ValueError: two pictures have the same stem, a class has a character that XML does not allow, or a box is no
            more than 1 pixel wide or high, so that VOC's inclusive corners would coincide.
    """
    root = Path(root)
    check_class_names(dataset.class_names)
    stems: dict[str, Path] = {}
    for record in dataset.records:
        if record.path.stem in stems:
            raise ValueError(
                f"{record.path} and {stems[record.path.stem]} would both be {record.path.stem} in"
                " JPEGImages; rename one"
            )
        stems[record.path.stem] = record.path
        sides = record.targets.boxes[:, 2:] - record.targets.boxes[:, :2]
        for index in torch.nonzero((sides <= 1).any(dim=1)).flatten().tolist():
            raise ValueError(
                f"{record.path}, object {index}: the box {record.targets.boxes[index].tolist()} is no more than"
                " 1 pixel wide or high, which in VOC's files is degenerate; leave it out or write COCO's format"
            )
    split_list = root / "ImageSets" / "Main" / f"{split}.txt"
    copies = {path: root / "JPEGImages" / path.name for path in stems.values()}
    copies = {path: copy for path, copy in copies.items() if path.resolve() != copy.resolve()}
    for path in [split_list, *(_xml(root, stem) for stem in stems), *copies.values()]:
        if path.exists():
            raise FileExistsError(f"{path} exists and is not overwritten; choose another folder or split")

    for folder in (root / "JPEGImages", root / "Annotations", split_list.parent):
        folder.mkdir(parents=True, exist_ok=True)
    for path, copy in copies.items():
        shutil.copyfile(path, copy)
    for record in dataset.records:
        tree = _tree(record, dataset.class_names)
        tree.write(_xml(root, record.path.stem), encoding="utf-8")
    split_list.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")


def check_class_names(class_names: Sequence[str]) -> None:
    """Raise ValueError where one has a character that XML does not allow."""
    for name in class_names:
        if (wrong := NOT_XML.search(name)) is not None:
            raise ValueError(
                f"the class {name!r} has the character {wrong[0]!r}, which XML does not allow; rename the class, or"
                " write COCO's or YOLO's format"
            )


def _xml(root: Path, name: str) -> Path:
    return root / "Annotations" / f"{name}.xml"


class _Pictures:
    """The pictures in a folder and those below it, by their names without endings: `000005`, `cam1/000005`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._paths: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(root.rglob("*")):
            if is_picture(path):
                self._paths[path.relative_to(root).with_suffix("").as_posix()].append(path)
        self._composed = {composed(name): name for name in self._paths if not name.isascii()}
        self._below: dict[str, list[str]] = defaultdict(list)  # the last part of a name -> the names
        for name in self._paths:
            if "/" in name:
                self._below[name.rpartition("/")[2]].append(name)

    def __getitem__(self, name: str) -> list[Path]:
        """Those of this name, which differ in their endings; none where there is no such picture."""
        return self._paths.get(name) or self._paths.get(self._composed.get(composed(name), ""), [])

    def missing(self, name: str) -> str:
        """What to say where there is none of this name."""
        said = f"there is no picture {name} of any type in {self._root}"
        if name not in self._below:
            return f"{said}; put it there, or delete its line in the list"
        return (
            f"{said}, but {few(self._below[name])} is there; write that in the list, and name its annotation the same"
        )


def _read_list(file: Path, pictures: _Pictures) -> list[tuple[int, str, str]]:
    """(line number, name, what is written) of every picture in a split's list."""
    check_regular(file)
    if not file.is_file():
        splits = sorted(path.stem for path in file.parent.glob("*.txt"))
        there = f"the splits there are {', '.join(splits)}" if splits else f"{file.parent} holds no split"
        raise FileNotFoundError(f"there is no {file}; {there}")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text ({error}); save it as UTF-8") from None
    named = [(number, *_named(line.strip(), pictures)) for number, line in enumerate(lines, start=1) if line.strip()]
    if not named:
        raise ValueError(f"{file} lists no picture; write one name a line")
    return named


def _named(line: str, pictures: _Pictures) -> tuple[str, str]:
    """The name of the picture that a line means, and what is written of it: `a`, `cam1/a.jpg`, `JPEGImages/a.jpg`."""
    # VOC's lists per class have a second column: 1 has it, -1 has it not, 0 only difficult ones.
    for written in (line, re.sub(r"\s+(-1|0|1)$", "", line)):
        inside = written.replace("\\", "/").rpartition("JPEGImages/")[2]
        plain = inside.rpartition(".")[0] if is_picture(Path(inside)) or inside.endswith(".xml") else inside
        for name in (written, inside, plain):
            if pictures[name]:
                return name, written
    return plain or written, written


def _once_each(lines: list[tuple[int, str, str]], file: Path, findings: Findings) -> dict[str, str]:
    """Name -> what is written, of each picture once."""
    first: dict[str, int] = {}
    once: dict[str, str] = {}
    for number, name, written in lines:
        if (already := first.setdefault(composed(name), number)) != number:
            findings.add(file, f"line {number}", f"{name} is listed in line {already} already; delete one")
        else:
            once[name] = written
    return once


# ElementTree reads no encodings of several bytes a letter; these are read here, by their names in Python. In place of
# some a larger one is taken, as browsers do: files hold more than they declare.
SEVERAL_BYTES = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "big5": "cp950",
    "cp950": "cp950",
    "shift_jis": "cp932",
    "cp932": "cp932",
    "euc_jp": "euc_jp",
    "euc_kr": "cp949",
    "cp949": "cp949",
}
DECLARED = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")


def _read_xml(file: Path) -> ET.Element:
    """The outermost element of a file.

    Raises:
        OSError: it cannot be read.
        ET.ParseError: it is not XML.
        LookupError, UnicodeError: it has an encoding that is not known, or another than it declares.
        ValueError: it is not a regular file.
    """
    check_regular(file)
    content = file.read_bytes()
    declared = DECLARED.match(content)
    encoding = codecs.lookup(declared[1].decode()).name if declared else "utf-8"
    if encoding in SEVERAL_BYTES:
        text = content.decode(SEVERAL_BYTES[encoding])
        return ET.fromstring(text.encode(), ET.XMLParser(encoding="utf-8"))
    try:
        return ET.fromstring(content)
    except ET.ParseError:
        if encoding == "utf-8" and not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            content.decode()  # bytes that are no text of this encoding are the better reason
        raise
    except ValueError as error:  # another encoding of several bytes a letter
        raise LookupError(str(error)) from None


def _parse(file: Path, findings: Findings) -> ET.Element | None:
    try:
        tree = _read_xml(file)
    except FileNotFoundError:
        findings.add(file, "", "there is no such annotation; a picture without objects needs one as well")
    except ET.ParseError as error:
        where = f"line {error.position[0]}"
        findings.add(file, where, f"this is not XML ({error}); restore it, or annotate the picture again")
    except (LookupError, UnicodeError) as error:
        findings.add(file, "", f"its text cannot be decoded ({error}); save it as UTF-8, and declare no other encoding")
    except OSError as error:
        findings.add(file, "", f"it cannot be read ({error.strerror}); make it readable, or restore it")
    except ValueError as error:
        findings.add(file, "", str(error))
    else:
        if tree.tag == "annotation":
            return tree
        findings.add(file, "", f"the outermost element is <{tree.tag}>, expected <annotation>")
    return None


def _class_names(
    folder: Path, files: Mapping[str, Path], parsed: Mapping[str, ET.Element], class_names: Sequence[str] | None
) -> list[str]:
    """`class_names`, or the sorted names of all objects in the folder; files of this split are parsed already."""
    if class_names is not None:
        if len(set(class_names)) < len(class_names):
            raise ValueError(f"class_names holds a name twice: {', '.join(class_names)}")
        return list(class_names)
    trees = {files[name]: tree for name, tree in parsed.items()}
    names: set[str] = set()
    for file in folder.rglob("*.xml"):
        try:
            tree = trees[file] if file in trees else _read_xml(file)
        except (ET.ParseError, LookupError, OSError, ValueError):
            continue  # in this split it has been found already; in others it is not ours to tell
        names.update(composed((thing.findtext("name") or "").strip()) for thing in tree.findall("object"))
    return sorted(names - {""})


def _choose(pictures: list[Path], written: str, tree: ET.Element | None) -> Path | None:
    """The picture; where several differ in their endings, by its name in the list or in the annotation."""
    if len(pictures) == 1:
        return pictures[0]
    wanted = "" if tree is None else (tree.findtext("filename") or "").strip()
    for name in (written, wanted):
        for path in pictures:
            if path.name == name.replace("\\", "/").rpartition("/")[2]:
                return path
    return None


def _check_boxes_are_read(tree: ET.Element) -> None:
    """Raise ValueError where a box is not in an <object> that is directly in <annotation>, but in <objects>, say."""
    read = {*map(id, tree.findall("object/bndbox")), *map(id, tree.findall("object/part/bndbox"))}  # VOC's people
    lost = [each for each in tree.iter() if each.tag.lower() == "bndbox" and id(each) not in read]
    if not lost:
        return
    parents = {child: parent for parent in tree.iter() for child in parent}
    each, path = lost[0], f"<{lost[0].tag}>"
    while each in parents:
        each = parents[each]
        path = f"<{each.tag}>{path}"
    number = "1 box is" if len(lost) == 1 else f"{len(lost)} boxes are"
    raise ValueError(f"{number} not read: in {path}, expected in <annotation><object><bndbox>; correct the file")


def _annotated_size(tree: ET.Element) -> Size | None:
    """(height, width), or None where there is no <size> or, as some tools write, a size of 0."""
    if tree.find("size") is None:
        return None
    size = []
    for side in ("height", "width"):
        text = (tree.findtext(f"size/{side}") or "").strip()
        if not text.isdecimal():
            raise ValueError(f"<size> has {side} {text!r}, expected whole pixels; correct or delete <size>")
        size.append(int(text))
    return (size[0], size[1]) if all(size) else None


def _size_on_trust(tree: ET.Element | None) -> Size | None:
    try:
        return None if tree is None else _annotated_size(tree)
    except ValueError:  # said when the annotation is looked at
        return None


def _targets(
    tree: ET.Element,
    size: Size,
    label_of: Mapping[str, int],
    file: Path,
    findings: Findings,
    strangers: dict[str, list[tuple[str, int]]],
    shares: Shares,
) -> Targets:
    """The good objects of one annotation; bad ones go to `findings`, unknown classes to `strangers`."""
    boxes, labels, difficult, truncated = [], [], [], []
    seen: dict[tuple[object, ...], int] = {}
    for index, element in enumerate(tree.findall("object")):
        try:
            thing = _parse_object(element)
            xmin, ymin, xmax, ymax = thing.corners
            written = ", ".join(f"{name} {value:g}" for name, value in zip(CORNERS, thing.corners, strict=True))
            # By VOC's letter equal corners are one pixel wide; in practice they are a slip of the mouse.
            if findings.fixing and xmin != xmax and ymin != ymax and (wrong := _order(*thing.corners)):
                xmin, xmax, ymin, ymax = *sorted((xmin, xmax)), *sorted((ymin, ymax))
                now = f"xmin {xmin:g}, ymin {ymin:g}, xmax {xmax:g}, ymax {ymax:g}"
                findings.fix(file, f"object {index}", wrong, now)
            if wrong := _order(xmin, ymin, xmax, ymax):
                raise ValueError(wrong)
            box = findings.box((xmin - 1, ymin - 1, xmax, ymax), size, written, file, f"object {index}")
        except ValueError as error:
            findings.add(file, f"object {index}", str(error))
            findings.objects += 1
            continue
        if thing.name not in label_of:
            strangers[thing.name].append((file.name, index))
            findings.objects += 1
            continue
        where = f"object {index}"
        if shares.take(thing.corners, size, file, where, written):
            continue
        if (other := seen.setdefault((thing.name, *box), index)) != index:
            message = f"its box and class are those of object {other} too; delete one"
            findings.warn("an object that is annotated twice", file, where, message)
        boxes.append(box)
        labels.append(label_of[thing.name])
        difficult.append(thing.difficult)
        truncated.append(thing.truncated)
    return Targets(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        difficult=torch.tensor(difficult, dtype=torch.bool),
        truncated=torch.tensor(truncated, dtype=torch.bool),
    )


def _parse_object(element: ET.Element) -> _Object:
    """Raises ValueError, saying what is missing, there twice, or not a number."""
    name = composed((element.findtext("name") or "").strip())
    if not name:
        raise ValueError("there is no <name>; give the object its class")
    if element.find("bndbox") is None:
        raise ValueError("there is no <bndbox>; give one with xmin, ymin, xmax and ymax")
    for tag in ("name", "bndbox", *(f"bndbox/{corner}" for corner in CORNERS)):
        if (number := len(element.findall(tag))) > 1:
            raise ValueError(f"there are {number} <{tag.rpartition('/')[2]}>; give each box an <object> of its own")
    corners = []
    for corner in CORNERS:
        text = (element.findtext(f"bndbox/{corner}") or "").strip()
        try:
            corners.append(float(text))
        except ValueError:
            raise ValueError(f"{corner} is {text!r}, expected a number; correct it") from None
    flags = {}
    for flag in ("difficult", "truncated"):
        text = (element.findtext(flag) or "").strip()
        if text.lower() not in FLAGS:
            raise ValueError(f"{flag} is {text!r}, expected 0 or 1; correct it")
        flags[flag] = FLAGS[text.lower()]
    xmin, ymin, xmax, ymax = corners
    return _Object(name, (xmin, ymin, xmax, ymax), **flags)


def _order(xmin: float, ymin: float, xmax: float, ymax: float) -> str:
    """What is wrong with the order of a box's corners, or nothing."""
    for low_name, low, high_name, high, side in (
        ("xmin", xmin, "xmax", xmax, "width"),
        ("ymin", ymin, "ymax", ymax, "height"),
    ):
        if high <= low:
            equal = "=" if high == low else ">"
            return (
                f"{low_name} {low:g} {equal} {high_name} {high:g}: the box has no {side}; correct it or delete the"
                " object"
            )
    return ""


def _boxes(tree: ET.Element) -> list[Box]:
    """The boxes of an annotation that can be read, in 0-based pixels."""
    boxes = []
    for element in tree.findall("object"):
        try:
            xmin, ymin, xmax, ymax = _parse_object(element).corners
        except ValueError:
            continue
        boxes.append((xmin - 1, ymin - 1, xmax, ymax))
    return boxes


def _tree(record: Record, class_names: Sequence[str]) -> ET.ElementTree[ET.Element]:
    tree = ET.Element("annotation")
    ET.SubElement(tree, "folder").text = "JPEGImages"
    ET.SubElement(tree, "filename").text = record.path.name
    size = ET.SubElement(tree, "size")
    for name, value in zip(("width", "height", "depth"), (record.size[1], record.size[0], 3), strict=True):
        ET.SubElement(size, name).text = str(value)
    ET.SubElement(tree, "segmented").text = "0"
    targets = record.targets
    for box, label, difficult, truncated in zip(
        targets.boxes.tolist(),
        targets.labels.tolist(),
        (targets.difficult | targets.crowd).tolist(),
        targets.truncated.tolist(),
        strict=True,
    ):
        thing = ET.SubElement(tree, "object")
        ET.SubElement(thing, "name").text = class_names[label]
        ET.SubElement(thing, "pose").text = "Unspecified"
        ET.SubElement(thing, "truncated").text = str(int(truncated))
        ET.SubElement(thing, "difficult").text = str(int(difficult))
        corners = ET.SubElement(thing, "bndbox")
        for name, value in zip(CORNERS, box, strict=True):
            shift = 1 if name in ("xmin", "ymin") else 0
            number = shortest(value + shift, value, partial(add, -shift))
            ET.SubElement(corners, name).text = str(number)
    ET.indent(tree)
    return ET.ElementTree(tree)
