"""One door to a data set on disk, whichever format it has."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import astuple
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from rcnnkit.data.cache import Reading, load_dataset, save_dataset
from rcnnkit.data.captions import read_captions
from rcnnkit.data.checks import Findings, fixing
from rcnnkit.data.coco import read_coco
from rcnnkit.data.createml import read_createml
from rcnnkit.data.cvat import read_cvat
from rcnnkit.data.flat import Records
from rcnnkit.data.label_studio import read_label_studio
from rcnnkit.data.labelme import read_labelme
from rcnnkit.data.layout import (
    NAMED,
    SUFFIXES,
    TITLES,
    Format,
    Layout,
    check_format,
    find_formats,
    find_layout,
    several_formats,
)
from rcnnkit.data.records import BadData, Dataset, few
from rcnnkit.data.tables import read_table
from rcnnkit.data.via import read_via
from rcnnkit.data.visual_genome import read_regions
from rcnnkit.data.voc import read_voc
from rcnnkit.data.xml_folders import read_xml
from rcnnkit.data.yolo import read_yolo
from rcnnkit.data.yolo_layout import yolo_file
from rcnnkit.defaults import CHECK_PICTURES, FORMAT, WORKERS
from rcnnkit.files import check_regular
from rcnnkit.settings import Count, Section
from rcnnkit.text import count

log = logging.getLogger("rcnnkit")


class DataSettings(Section):
    """[data]: where the pictures and boxes are.

    Paths in a settings file are relative to that file, paths on the command line to the current folder.
    """

    root: Path
    """The folder of the data set: a Pascal VOC folder, a folder with YOLO's data.yaml or classes.txt, or the folder
    that annotation files (.json, .xml, .csv, .parquet) or a classifier's class folders lie under."""
    format: Format = FORMAT
    """What the annotations are written in. "auto" recognises it; name it where a folder has several. "table" is a .csv
    or .parquet file."""
    train: str | Annotated[list[str], Field(min_length=1)] = "train"
    """What is learnt from. VOC: a list in ImageSets/Main, also of a folder below root ("VOC2007/trainval"), or without
    lists a folder of XML files. YOLO: a key of data.yaml, or without one a folder of pictures. LabelMe and Create ML: a
    folder. Other formats: a file below root; "train", "val" and "test" find those with such names. A classifier: a
    folder. Several with the same classes, given as a list, are learnt from together."""
    val: str = "val"
    """What the weights are evaluated on while training, written as `train`. "": nothing."""
    val_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Where there are no pictures to evaluate on (val = ""): the share of the training pictures that is taken out of
    training for that. 0: none."""
    split_seed: Count = 0
    """Seed of the choice of pictures for `val_share`; the same seed takes the same pictures."""
    images: Path | None = None
    """The folder of the pictures, if they are not found by themselves. Not for VOC and YOLO."""
    class_names: list[str] | None = None
    """The classes, in the order of their labels. Not given: all names in the annotations."""
    use_difficult: bool = False
    """Learn from VOC's difficult objects too, as R-CNN and Fast R-CNN do; Faster R-CNN does not."""
    skip_bad: bool = False
    """Leave out bad annotations and pictures and say how many there are, instead of stopping."""
    check_pictures: bool = CHECK_PICTURES
    """Look for damage in every picture before training. Of 1,000 pictures or more, the good ones are remembered until
    they change. False, for a slow network drive: the pictures of COCO and VOC are not opened beforehand if the
    annotations give their sizes."""
    workers: Annotated[int, Field(ge=-1)] = WORKERS
    """Processes that read pictures; 0: the training reads them itself. -1: one for each core, at most 8."""

    @model_validator(mode="after")
    def _one_validation(self) -> Self:
        if self.val and self.val_share:
            raise ValueError(
                f'val_share = {self.val_share:g} takes pictures out of training to evaluate on, and val = "{self.val}"'
                ' names others; set data.val = "" or data.val_share = 0'
            )
        return self

    @property
    def splits(self) -> dict[str, str | list[str]]:
        """What is learnt from, and what is evaluated on where there is such."""
        return {"train": self.train} | ({"val": self.val} if self.val else {})


def read_data(
    root: Path,
    split: str,
    *,
    format: str = FORMAT,
    images: Path | None = None,
    class_names: Sequence[str] | None = None,
    skip_bad: bool = False,
    check_pictures: bool = CHECK_PICTURES,
    announce: bool = True,
) -> Dataset:
    """A split of a data set, checked. What its format is, and how much was read, is logged.

    What is odd but no mistake for certain, such as an object that is annotated twice, is logged with its number.

    Args:
        root: the data set's folder, or an annotation file or YOLO's data.yaml itself.
        split: what names the part of the data that is read:
            Pascal VOC: a list in ImageSets/Main, or without lists a folder of XML files;
            YOLO: a key of data.yaml, or without one a folder of pictures;
            LabelMe and Create ML: a folder, or "train" where there are no folders of splits;
            others: a file below `root`, or "train", "val" or "test" where one file is called so; of CVAT's projects
            also a subset, "annotations.xml/Train".
            "VOC2007/trainval" is of a data set below `root`. Where `root` is an annotation file, it is not looked at.
        format: one of `layout.Format`; "auto" recognises it.
        images: the folder of the pictures, where they are not found by themselves.
        class_names: in the order of the labels, where it is not the data set's own.
        skip_bad: leave out what is bad, and log how much, instead of raising.
        check_pictures: look at every picture; False: at none of COCO's and VOC's whose size the annotations give.
        announce: log the format, and how much was read; warnings are logged in any case.

    Raises:
        FileNotFoundError: nothing is there, or it has no format that is known; the message lists what is there.
        ValueError: there are several formats, the split is empty or not a regular file, or `images` was given for VOC
            or YOLO.
        BadData: something is bad and `skip_bad` is off, or nothing good is left.
    """
    kind, data, findings = _read_split(Path(root), split, images, class_names, format, check_pictures)

    for what, (number, first) in findings.warnings.items():
        log.warning("%s: %s (%s); the first: %s", data.name, what, count(number, "time"), first)
    if findings and (not skip_bad or not data.records):
        raise BadData(data.name, findings, nothing_left=not data.records, class_names=data.class_names)
    if findings:
        log.warning(
            "%s: left out %s and %s, for %s",
            data.name,
            count(findings.objects, "object"),
            count(findings.pictures, "picture"),
            count(len(findings), "problem"),
        )
        for problem in findings:
            log.info("%s: left out: %s", data.name, problem)
    if announce:
        classes = count(len(data.class_names), "class")
        log.info("%s: read as %s: %s, %s", data.name, TITLES[kind], data.summary, classes)
    return data


def read_findings(
    root: Path,
    split: str,
    *,
    images: Path | None = None,
    class_names: Sequence[str] | None = None,
    format: str = FORMAT,
    fix: bool = False,
) -> tuple[Dataset, Findings]:
    """What `read_data` reads, without what is bad, and everything that is wrong with it; nothing is logged.

    Args, FileNotFoundError and ValueError are those of `read_data`; besides
        fix: what is bad and has one clear answer is corrected in the data set, and `Findings.fixed` says so.
    """
    with fixing() if fix else nullcontext():
        return _read_split(Path(root), split, images, class_names, format)[1:]


def _read_split(
    root: Path,
    split: str,
    images: Path | None,
    class_names: Sequence[str] | None,
    format: str,
    check_pictures: bool = CHECK_PICTURES,
) -> tuple[str, Dataset, Findings]:
    """The format, too."""
    check_format(format)
    kind, place, split = _locate(root, split, format)
    if images is not None and kind in ("voc", "yolo"):
        raise ValueError(
            f"data.images or --images, {images}, is for formats that name pictures in a file, such as COCO's format;"
            " leave it out, VOC's pictures are in JPEGImages, and YOLO's are where data.yaml says"
        )
    reading = Reading(kind, place, split, images, class_names, check_pictures)
    folder = reading.folder() if place.is_file() and kind not in NAMED else None  # those also read what lies beside it
    if folder is not None and (found := load_dataset(folder)) is not None:
        data, findings = found[0], Findings()
        findings.warnings = found[1]
        return kind, data, findings
    data, findings = _read(reading)
    if folder is not None and not findings:
        save_dataset(folder, data, findings.warnings, check_pictures=check_pictures)
    return kind, data, findings


def read_layout(layout: Layout, *, images: Path | None = None, skip_bad: bool = False) -> dict[str, Dataset]:
    """Every split of a data set, checked, all with the same classes: those of any split, in their order there.

    Raises:
        BadData: lists what is bad in any split, so that all can be corrected at once; see `read_data`.
    """
    datasets: dict[str, Dataset] = {}
    bad: list[BadData] = []
    for split, value in layout.splits.items():
        try:
            datasets[split] = read_data(layout.root, value, format=layout.format, images=images, skip_bad=skip_bad)
        except BadData as error:
            bad.append(error)
    if bad:
        problems = [problem for error in bad for problem in error.problems]
        nothing_left = any(error.nothing_left for error in bad)
        raise BadData(" and ".join(error.name for error in bad), problems, nothing_left=nothing_left)
    ids: dict[str, int] = {}
    for data in datasets.values():
        for name, key in zip(data.class_names, data.category_ids, strict=True):
            if name not in ids:
                ids[name] = key if key not in ids.values() else max(ids.values()) + 1
    return {split: data.with_classes(ids) for split, data in datasets.items()}


def _locate(root: Path, split: str, format: str) -> tuple[str, Path, str]:
    """The format of a split; the file, or of formats in `NAMED` the folder; and the split's name there."""
    if not root.exists():
        raise FileNotFoundError(f"the data set {root} does not exist")
    check_regular(root)
    if root.is_file():
        kind = find_layout(root, format).format
        return kind, root, split if kind == "yolo" else ""
    file = root / split
    if split.lower().endswith(SUFFIXES):
        check_regular(file)
        if not file.is_file():
            raise FileNotFoundError(f"there is no {file}; {_annotation_files(root, file.suffix)}")
        return find_layout(file, format).format, file, ""
    if "/" in split:
        before, _, last = split.rpartition("/")
        if before.lower().endswith(".xml") and (root / before).is_file():  # of a file of CVAT one subset
            return find_layout(root / before, format).format, root / before, last
        return _locate(root / before, last, format)
    formats = find_formats(root, format)
    if not formats and (file := root / f"{split}.csv").is_file():
        return "table", file, split  # whose reader says what is wrong
    kinds = [kind for kind in formats if kind in NAMED]
    if len(formats) > 1 and len(kinds) != 1:
        raise ValueError(several_formats(root, formats))
    if kinds:
        return kinds[0], root, split
    layout = find_layout(root, format)
    if split not in layout.splits:
        raise FileNotFoundError(f"{root} has no split {split!r}; {_splits(layout.splits)}")
    return _locate(root, layout.splits[split], layout.format)


def _read(reading: Reading) -> tuple[Dataset, Findings]:
    kind, place, split, images, class_names, check_pictures = astuple(reading)
    if kind == "coco":
        return read_coco(place, images, class_names, check_pictures=check_pictures)
    if kind == "cvat":
        return read_cvat(place, split or None, images, class_names)
    if kind == "label_studio":
        return read_label_studio(place, images, class_names)
    if kind == "via":
        return read_via(place, images, class_names)
    if kind == "captions":
        return read_captions(place, images, class_names)
    if kind == "visual_genome":
        return read_regions(place, images, class_names)
    if kind == "table":
        return read_table(place, images, class_names)
    if kind == "labelme":
        return read_labelme(place if place.is_dir() else place.parent, split, images, class_names)
    if kind == "yolo":
        return read_yolo(place if place.is_file() else yolo_file(place) or place, split, class_names)
    if kind == "createml":
        return read_createml(place, split, images, class_names)
    if (place / "ImageSets" / "Main").is_dir():
        return read_voc(place, split, class_names, check_pictures=check_pictures)
    folder = place if place.is_dir() else place.parent
    return read_xml(folder, split, class_names, check_pictures=check_pictures)


def join_data(parts: Sequence[Dataset]) -> Dataset:
    """Several data sets of the same classes as one; the classes' ids are those of the first.

    Raises:
        ValueError: the classes differ, two pictures have one id, or one picture is in two of them.
    """
    first, *others = parts
    for part in others:
        if list(part.class_names) != list(first.class_names):
            raise ValueError(
                f"{first.name} has the classes {few(first.class_names)}, and {part.name} has"
                f" {few(part.class_names)}; read both with the same class_names"
            )
    words = list(dict.fromkeys(word for part in parts for word in part.words))
    records = Records.joined([part.with_words(words).flat for part in parts])
    twice = [key for key, number in Counter(records.ids).items() if number > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} pictures of {' and '.join(part.name for part in parts)} have the same ids, such as"
            f" {twice[0]}; give them other ids (COCO) or names (VOC) in one of the data sets, or leave one out"
        )
    if same := [path for path, number in Counter(records.paths).items() if number > 1]:
        raise ValueError(
            f"{len(same)} pictures are in several of {' and '.join(part.name for part in parts)}, such as {same[0]};"
            " leave them out of all but one"
        )
    return Dataset(" + ".join(part.name for part in parts), records, first.class_names, first.category_ids, words)


def _annotation_files(root: Path, suffix: str) -> str:
    files = sorted({*root.glob(f"*{suffix}"), *root.glob(f"*/*{suffix}")})
    names = few([file.relative_to(root).as_posix() for file in files])
    return f"the {suffix} files there are {names}" if names else f"{root} holds no {suffix} file"


def _splits(splits: Mapping[str, str]) -> str:
    return "its splits are " + few([f"{name} ({value})" for name, value in splits.items()])
