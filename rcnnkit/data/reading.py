"""One door to a data set on disk, whichever of the two formats it has."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from rcnnkit.data.coco import read_coco
from rcnnkit.data.records import BadData, Dataset, few
from rcnnkit.data.voc import read_voc
from rcnnkit.files import check_regular
from rcnnkit.settings import Section
from rcnnkit.text import count

log = logging.getLogger("rcnnkit")


class DataSettings(Section):
    """[data]: where the pictures and boxes are. Paths are relative to the current folder."""

    root: Path
    """A Pascal VOC folder, or the folder that COCO's JSON files or a classifier's class folders lie under."""
    train: str | Annotated[list[str], Field(min_length=1)] = "train"
    """What is learnt from. VOC: a list in ImageSets/Main, also of a folder below root ("VOC2007/trainval"). COCO: a
    .json file below root. A classifier: a folder. Several with the same classes, given as a list, are learnt from
    together."""
    val: str = "val"
    """What the weights are evaluated on while training, written as `train`. "": nothing."""
    images: Path | None = None
    """The folder of a COCO file's pictures, where they are not found by themselves."""
    class_names: list[str] | None = None
    """The classes, in the order of their labels. Not given: all names in the annotations."""
    use_difficult: bool = False
    """Learn from VOC's difficult objects too, as R-CNN and Fast R-CNN do; Faster R-CNN does not."""
    skip_bad: bool = False
    """Leave bad annotations and pictures out and say how many, in place of stopping."""
    workers: Annotated[int, Field(ge=-1)] = -1
    """Processes that read pictures; 0: the training reads them itself. -1: one for each core, at most 8."""


def read_data(
    root: Path,
    split: str,
    *,
    images: Path | None = None,
    class_names: Sequence[str] | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """A split of a data set in COCO's or Pascal VOC's format, checked.

    What is odd but no mistake for certain, such as an object that is annotated twice, is logged with its number.

    Args:
        root: the data set's folder, or COCO's JSON file itself.
        split: a `.json` file below `root` (COCO), or the name of a list in ImageSets/Main (VOC), behind the name
            of a folder where the data set lies below `root`: "VOC2007/trainval". Not looked at where `root` is a
            JSON file.
        images: COCO only: the folder of the pictures, where they are not in a usual place.
        class_names: in the order of the labels, where it is not the data set's own.
        skip_bad: leave out what is bad, and log how much, instead of raising.

    Raises:
        FileNotFoundError: nothing is there, or it has neither format; the message lists what is there.
        ValueError: the split is empty or not a regular file, or `images` was given for VOC.
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
    elif not root.is_dir():
        raise FileNotFoundError(f"{root} is neither a folder nor a COCO .json file")
    elif split.endswith(".json"):
        check_regular(root / split)
        if not (root / split).is_file():
            raise FileNotFoundError(f"there is no {root / split}; {_json_files(root)}")
        data, findings = read_coco(root / split, images, class_names)
    elif not (root / "ImageSets" / "Main").is_dir():
        raise FileNotFoundError(
            f"{root} is not in Pascal VOC's layout: it has no ImageSets/Main for the split {split!r};"
            f" for COCO's format the split is a .json file: {_json_files(root)}"
        )
    elif images is not None:
        raise ValueError(
            f"data.images or --images, {images}, is for COCO's format; leave it out, VOC's pictures are in JPEGImages"
        )
    else:
        data, findings = read_voc(root, split, class_names)

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
