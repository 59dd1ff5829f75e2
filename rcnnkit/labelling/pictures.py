"""The pictures to label: those of a data set, or of a folder without annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from rcnnkit.data.checks import Findings, is_picture, picture_sizes, pictures_in
from rcnnkit.data.layout import find_layout
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import BadData, Dataset, Record, few
from rcnnkit.defaults import FORMAT
from rcnnkit.structures import Targets

SPLIT = "train"  # of data sets, where none is named


def read_any(
    data: Path,
    split: str | None = None,
    *,
    format: str = FORMAT,
    images: Path | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """The pictures of a data set's split; or, without classes, all in a folder that has no annotations, or one picture.

    Args are those of `rcnnkit.data.reading.read_data`. `format` is of data sets.

    Raises:
        FileNotFoundError: nothing is there, or a folder has no picture.
        ValueError: `split` or `images` was given for a folder without annotations; and as `read_data`.
        BadData: pictures are damaged and `skip_bad` is off, or none is good.
    """
    data = Path(data)
    if not data.exists():
        raise FileNotFoundError(f"{data} does not exist; name a folder of pictures, or a data set")
    if _is_data_set(data, format):
        return read_data(data, split or SPLIT, format=format, images=images, skip_bad=skip_bad)
    for flag, value in (("--split", split), ("--images", images)):
        if value is not None:
            raise ValueError(f"{flag} {value} is for data sets, and {data} has no annotations; leave it out")
    paths = pictures_in([data])
    findings, records = Findings(), []
    for path, size in zip(paths, picture_sizes(paths), strict=True):
        if isinstance(size, str):
            findings.add(path, "", size)
        else:
            records.append(Record(str(path), path, size, nothing()))
    if findings and not (skip_bad and records):
        raise BadData(str(data), findings, nothing_left=not records)
    return Dataset(str(data), records, [], [])


def nothing() -> Targets:
    return Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def with_detectors_classes(dataset: Dataset, class_names: Sequence[str], category_ids: Sequence[int]) -> Dataset:
    """The pictures, with their own classes and ids first, and then those that only the detector knows.

    Raises:
        ValueError: the data set has a class that the detector does not know: its objects would be left unlabelled.
    """
    if unknown := [name for name in dataset.class_names if name not in class_names]:
        raise ValueError(
            f"{dataset.name} has the classes {few(dataset.class_names)}, and the detector does not know {few(unknown)};"
            f" it knows {few(class_names)}. Name weights that were trained on all of them, or copy the pictures into a"
            " folder without annotations, and name that"
        )
    ids = dict(zip(dataset.class_names, dataset.category_ids, strict=True))
    for name, key in zip(class_names, category_ids, strict=True):
        if name not in ids:
            ids[name] = key if key not in ids.values() else max(ids.values()) + 1
    return dataset.with_classes(ids)


def without(dataset: Dataset, labelled: Dataset) -> Dataset:
    """The pictures that are not in `labelled` too.

    Raises:
        ValueError: none is left.
    """
    known = {Path(path).resolve() for path in labelled.flat.paths}
    rows = [i for i, path in enumerate(dataset.flat.paths) if Path(path).resolve() not in known]
    if not rows:
        raise ValueError(f"every picture of {dataset.name} is in {labelled.name} too; there is nothing left to label")
    return Dataset(dataset.name, dataset.flat[rows], dataset.class_names, dataset.category_ids)


def _is_data_set(data: Path, format: str) -> bool:
    if data.is_file() and is_picture(data):
        return False
    try:
        find_layout(data, format)
    except FileNotFoundError:
        if data.is_file() or (format != FORMAT and _is_data_set(data, FORMAT)):  # of another format
            raise
        return False
    except ValueError:  # one all the same, and its reader says what is wrong
        return True
    return True
