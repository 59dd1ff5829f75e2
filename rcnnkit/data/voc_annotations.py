"""Annotations in VOC's format: an XML file for each picture."""

from __future__ import annotations

import codecs
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path

from rcnnkit.data.checks import Findings, check_size, picture_sizes
from rcnnkit.data.file_names import composed
from rcnnkit.data.flat import GrowingRecords
from rcnnkit.data.records import Dataset, Record, check_class_names
from rcnnkit.data.voc_objects import Objects, boxes_of
from rcnnkit.files import check_regular
from rcnnkit.structures import Size

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


class Annotations:
    """The annotations of a split's pictures.

    Args:
        folder: all annotations of the data set are in it and below.
        files: the file of each picture, by its name.
        findings: takes what is wrong.
    """

    def __init__(self, folder: Path, files: Mapping[str, Path], findings: Findings) -> None:
        self.folder, self.files, self.findings = folder, files, findings
        trees = {name: _parse(file, findings) for name, file in files.items()}
        self.trees = {name: tree for name, tree in trees.items() if tree is not None}  # of those that can be read

    def choose(self, name: str, pictures: list[Path], text: str = "") -> Path | None:
        """The picture; where several differ in their endings, by its name in the list or in the annotation."""
        if len(pictures) == 1:
            return pictures[0]
        tree = self.trees.get(name)
        for file_name in (text, "" if tree is None else (tree.findtext("filename") or "").strip()):
            for path in pictures:
                if path.name == file_name.replace("\\", "/").rpartition("/")[2]:
                    return path
        return None

    def dataset(
        self, name: str, paths: Mapping[str, Path], class_names: Sequence[str] | None, check_pictures: bool
    ) -> Dataset:
        """The good pictures and objects, of all classes in the folder where no `class_names` are given.

        Args:
            name: the data set's.
            paths: the pictures, by their names.
            class_names: in the order of the labels.
            check_pictures: look at each picture; otherwise only at those whose size is not in their annotation.

        Raises:
            ValueError: a class name is given twice.
        """
        classes = self._class_names() if class_names is None else list(class_names)
        check_class_names(classes)
        trusted = () if check_pictures else [_size_on_trust(self.trees.get(key)) for key in paths]
        sizes = picture_sizes(paths.values(), trusted)
        objects = Objects(classes, self.findings)
        records = GrowingRecords()
        for (key, path), size in zip(paths.items(), sizes, strict=True):
            if isinstance(size, str):
                self.findings.add(path, "", size)
            elif key in self.trees and (record := self._record(key, path, size, objects)) is not None:
                records.append(record)
        if objects.tell(self.folder):
            records = GrowingRecords()
        return Dataset(name, records.all(), classes, list(range(1, len(classes) + 1)))

    def _record(self, key: str, path: Path, size: Size, objects: Objects) -> Record | None:
        """A picture of this size with its objects; None where its annotation cannot be used."""
        tree, file = self.trees[key], self.files[key]
        try:
            annotated = _annotated_size(tree) or size
            _check_boxes_are_read(tree)
        except ValueError as error:
            self.findings.add(file, "", str(error))
            return None
        if wrong := check_size(path, annotated, size):
            if not self.findings.size(wrong, annotated, size, boxes_of(tree), file, ""):
                return None
            annotated = size
        return Record(id=key, path=path, size=annotated, targets=objects.read(tree, annotated, file))

    def _class_names(self) -> list[str]:
        """The sorted names of all objects in the folder; files of this split have been read already."""
        trees = {self.files[name]: tree for name, tree in self.trees.items()}
        names: set[str] = set()
        for file in self.folder.rglob("*.xml"):
            try:
                tree = trees[file] if file in trees else _read_xml(file)
            except (ET.ParseError, LookupError, OSError, ValueError):
                continue  # in this split it has been found already; in others it is not ours to tell
            names.update(composed((thing.findtext("name") or "").strip()) for thing in tree.findall("object"))
        return sorted(names - {""})


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


def _check_boxes_are_read(tree: ET.Element) -> None:
    """Raise ValueError where a box is not in an <object> that is directly in <annotation>, but in <objects>, say."""
    read = {*map(id, tree.findall("object/bndbox")), *map(id, tree.findall("object/part/bndbox"))}  # VOC's people
    boxes = [each for each in tree.iter() if each.tag.lower() == "bndbox" and id(each) not in read]
    if not boxes:
        return
    parents = {child: parent for parent in tree.iter() for child in parent}
    element, path = boxes[0], f"<{boxes[0].tag}>"
    while element in parents:
        element = parents[element]
        path = f"<{element.tag}>{path}"
    number = "1 box is" if len(boxes) == 1 else f"{len(boxes)} boxes are"
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
