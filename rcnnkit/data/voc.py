"""Pascal VOC's layout: JPEGImages/, Annotations/*.xml, ImageSets/Main/<split>.txt."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rcnnkit.data.checks import Findings, is_picture
from rcnnkit.data.file_names import StoredNames, composed
from rcnnkit.data.records import Dataset, few
from rcnnkit.data.voc_annotations import Annotations
from rcnnkit.defaults import CHECK_PICTURES
from rcnnkit.files import check_regular


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
    texts = _once_each(lines, split_list, findings)
    files = {name: stored_names.find(annotation_file(root, name)) for name in texts}
    annotations = Annotations(root / "Annotations", files, findings)
    paths: dict[str, Path] = {}
    for name, text in texts.items():
        if (path := annotations.choose(name, pictures[name], text)) is not None:
            paths[name] = path
        elif len(pictures[name]) > 1:
            names = ", ".join(path.name for path in pictures[name])
            findings.add(files[name], "", f"it could be of any of {names}; name one in <filename>")
        else:
            findings.add(root / "JPEGImages" / name, "", pictures.missing(name))
    data = annotations.dataset(f"{root.resolve().name}/{split}", paths, class_names, check_pictures)
    findings.pictures = len(lines) - len(data)
    return data, findings


def annotation_file(root: Path, name: str) -> Path:
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
        text = f"there is no picture {name} of any type in {self._root}"
        if name not in self._below:
            return f"{text}; put it there, or delete its line in the list"
        return (
            f"{text}, but {few(self._below[name])} is there; write that in the list, and name its annotation the same"
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
    entries = [(number, *_named(line.strip(), pictures)) for number, line in enumerate(lines, start=1) if line.strip()]
    if not entries:
        raise ValueError(f"{file} lists no picture; write one name a line")
    return entries


def _named(line: str, pictures: _Pictures) -> tuple[str, str]:
    """The name of the picture that a line means, and what is written of it: `a`, `cam1/a.jpg`, `JPEGImages/a.jpg`."""
    # VOC's lists per class have a second column: 1 has it, -1 has it not, 0 only difficult ones.
    for text in (line, re.sub(r"\s+(-1|0|1)$", "", line)):
        inside = text.replace("\\", "/").rpartition("JPEGImages/")[2]
        plain = inside.rpartition(".")[0] if is_picture(Path(inside)) or inside.endswith(".xml") else inside
        for name in (text, inside, plain):
            if pictures[name]:
                return name, text
    return plain or text, text


def _once_each(lines: list[tuple[int, str, str]], file: Path, findings: Findings) -> dict[str, str]:
    """Name -> what is written, of each picture once."""
    first: dict[str, int] = {}
    texts: dict[str, str] = {}
    for number, name, text in lines:
        if (line := first.setdefault(composed(name), number)) != number:
            findings.add(file, f"line {number}", f"{name} is listed in line {line} already; delete one")
        else:
            texts[name] = text
    return texts
