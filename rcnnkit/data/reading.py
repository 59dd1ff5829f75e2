"""One door to a data set on disk, whichever format it has."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from rcnnkit.data.coco import read_coco
from rcnnkit.data.records import BadData, Dataset, few
from rcnnkit.data.tables import read_table
from rcnnkit.data.voc import read_voc, read_xml, xml_folder
from rcnnkit.data.yolo import read_yolo, yolo_file
from rcnnkit.files import check_regular
from rcnnkit.settings import Count, Section
from rcnnkit.text import count

log = logging.getLogger("rcnnkit")


class DataSettings(Section):
    """[data]: where the pictures and boxes are. Paths are relative to the current folder."""

    root: Path
    """A Pascal VOC folder, a folder with YOLO's data.yaml, or the folder that COCO's JSON files, tables (.csv) or a
    classifier's class folders lie under."""
    train: str | Annotated[list[str], Field(min_length=1)] = "train"
    """What is learnt from. VOC: a list in ImageSets/Main, also of a folder below root ("VOC2007/trainval"), or without
    lists a folder of XML files. COCO: a .json file below root. YOLO: a key of data.yaml. A table: a .csv file below
    root. A classifier: a folder. Several with the same classes, given as a list, are learnt from together."""
    val: str = "val"
    """What the weights are evaluated on while training, written as `train`. "": nothing."""
    val_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Where there are no pictures to evaluate on (val = ""): the share of the training pictures that is taken out of
    training for that. 0: none."""
    split_seed: Count = 0
    """Which pictures `val_share` takes: the same ones with the same seed."""
    images: Path | None = None
    """The folder of the pictures of a COCO file or a table, where they are not found by themselves."""
    class_names: list[str] | None = None
    """The classes, in the order of their labels. Not given: all names in the annotations."""
    use_difficult: bool = False
    """Learn from VOC's difficult objects too, as R-CNN and Fast R-CNN do; Faster R-CNN does not."""
    skip_bad: bool = False
    """Leave bad annotations and pictures out and say how many, in place of stopping."""
    workers: Annotated[int, Field(ge=-1)] = -1
    """Processes that read pictures; 0: the training reads them itself. -1: one for each core, at most 8."""

    @model_validator(mode="after")
    def _one_validation(self) -> Self:
        if self.val and self.val_share:
            raise ValueError(
                f'val_share = {self.val_share:g} takes pictures out of training to evaluate on, and val = "{self.val}"'
                ' names others; set data.val = "" or data.val_share = 0'
            )
        return self


def read_data(
    root: Path,
    split: str,
    *,
    images: Path | None = None,
    class_names: Sequence[str] | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """A split of a data set in COCO's, Pascal VOC's or YOLO's format, or in a table, checked.

    What is odd but no mistake for certain, such as an object that is annotated twice, is logged with its number.

    Args:
        root: the data set's folder, or COCO's JSON file or YOLO's data.yaml itself.
        split: what names the part of the data that is read, in each format
            COCO: a `.json` file below `root`;
            VOC: a list in ImageSets/Main, or without lists a folder of XML files; "VOC2007/trainval" is of a data set
            below `root`;
            YOLO: a key of data.yaml;
            tables: a `.csv` file below `root`, with or without its ending.
            Where `root` is a .json or .csv file, it is not looked at.
        images: the folder of the pictures of COCO's format and of tables, where they are not found by themselves.
        class_names: in the order of the labels, where it is not the data set's own.
        skip_bad: leave out what is bad, and log how much, instead of raising.

    Raises:
        FileNotFoundError: nothing is there, or it has no format that is known; the message lists what is there.
        ValueError: the split is empty or not a regular file, or `images` was given for VOC or YOLO.
        BadData: something is bad and `skip_bad` is off, or nothing good is left.
    """
    root = Path(root)
    if "/" in split and not split.endswith(".json") and root.is_dir():
        root, split = root / split.rpartition("/")[0], split.rpartition("/")[2]
    if not root.exists():
        raise FileNotFoundError(f"the data set {root} does not exist")
    check_regular(root)
    if root.suffix == ".json" and root.is_file():
        data, findings = read_coco(root, images, class_names)
    elif root.suffix == ".csv" and root.is_file():
        data, findings = read_table(root, images, class_names)
    elif root.suffix in (".yaml", ".yml") and root.is_file():
        data, findings = read_yolo(root, split, class_names)
    elif not root.is_dir():
        raise FileNotFoundError(
            f"{root} is neither a folder nor COCO's .json file, YOLO's data.yaml or a table's .csv file"
        )
    elif split.endswith(".json"):
        check_regular(root / split)
        if not (root / split).is_file():
            raise FileNotFoundError(f"there is no {root / split}; {_json_files(root)}")
        data, findings = read_coco(root / split, images, class_names)
    elif (table := root / (split if split.endswith(".csv") else f"{split}.csv")).is_file():
        data, findings = read_table(table, images, class_names)
    elif images is not None:
        raise ValueError(
            f"data.images or --images, {images}, is for COCO's format and tables; leave it out, VOC's pictures are in"
            " JPEGImages, and YOLO's are where data.yaml says"
        )
    elif (root / "ImageSets" / "Main").is_dir():
        data, findings = read_voc(root, split, class_names)
    elif file := yolo_file(root):
        data, findings = read_yolo(file, split, class_names)
    elif xml_folder(root, split):
        data, findings = read_xml(root, split, class_names)
    else:
        raise FileNotFoundError(
            f"{root} has no format that is known: Pascal VOC's has ImageSets/Main for the split {split!r}, or XML files"
            f" in a folder of that name; YOLO's has a data.yaml; a table is {split}.csv; and for COCO's the split is a"
            f" .json file: {_json_files(root)}"
        )

    for what, (number, first) in findings.warnings.items():
        log.warning("%s: %s (%s); the first: %s", data.name, what, count(number, "time"), first)
    if findings and (not skip_bad or not data.records):
        raise BadData(data.name, findings, skip_bad=skip_bad)
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
    return data


def join_data(parts: Sequence[Dataset]) -> Dataset:
    """Several data sets of the same classes as one; the classes' ids are those of the first.

    Raises:
        ValueError: the classes differ, two pictures have one id, or one picture is in two of them.
    """
    first, *others = parts
    for other in others:
        if list(other.class_names) != list(first.class_names):
            raise ValueError(
                f"{first.name} has the classes {few(first.class_names)}, and {other.name} has"
                f" {few(other.class_names)}; read both with the same class_names"
            )
    records = [record for part in parts for record in part.records]
    twice = [key for key, number in Counter(record.id for record in records).items() if number > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} pictures of {' and '.join(part.name for part in parts)} have the same ids, such as"
            f" {twice[0]}; give them other ids (COCO) or names (VOC) in one of the data sets, or leave one out"
        )
    if same := [path for path, number in Counter(record.path for record in records).items() if number > 1]:
        raise ValueError(
            f"{len(same)} pictures are in several of {' and '.join(part.name for part in parts)}, such as {same[0]};"
            " leave them out of all but one"
        )
    return Dataset(" + ".join(part.name for part in parts), records, first.class_names, first.category_ids)


def _json_files(root: Path) -> str:
    files = sorted({*root.glob("*.json"), *root.glob("annotations/*.json")})
    names = ", ".join(file.relative_to(root).as_posix() for file in files)
    return f"the .json files there are {names}" if names else f"{root} holds no .json file"
