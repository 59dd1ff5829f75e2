"""The pictures that are measured, all of them readable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rcnnkit.data.checks import is_picture
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Dataset, Record
from rcnnkit.images import read_picture
from rcnnkit.structures import Targets
from rcnnkit.text import count, visible

LEAST = 10  # pictures; a median of fewer says little
SHOWN = 20  # bad files that an error lists


def read_pictures(
    source: Path,
    split: str,
    class_names: Sequence[str] | None,
    limit: int,
    images: Path | None = None,
    *,
    flag: str = "--data",
    least: int = LEAST,
) -> tuple[Dataset, bool]:
    """At most `limit` pictures, spread evenly over all; and whether they are annotated.

    Args:
        source: a folder of pictures, a Pascal VOC folder, or a COCO .json file.
        split: of a VOC folder.
        class_names: that the weights know; None takes the annotations'.
        limit: 0 takes all.
        images: the folder of a COCO file's pictures, where they are not found.
        flag: what named the source, for errors.
        least: pictures that are needed.

    Raises:
        FileNotFoundError: nothing is there, or no picture is.
        ValueError: fewer than `least` pictures, or some that cannot be read; or annotations that are bad or of other
            classes.
    """
    annotated = source.suffix == ".json" or (source / "ImageSets" / "Main").is_dir()
    if annotated:
        data = read_data(source, split, images=images, class_names=class_names, skip_bad=True)
    elif images:
        raise ValueError(f"--images {images} is for COCO's format, and {source} is a folder of pictures; leave it out")
    else:
        data = _plain(source, class_names or [], flag)
    if limit and limit < len(data):
        chosen = np.linspace(0, len(data) - 1, limit).round().astype(int)
        data = replace(data, records=[data.records[i] for i in chosen])
    records, bad = [], []
    for record in data.records:
        try:
            height, width, _ = read_picture(record.path, record.size if annotated else None).shape
            records.append(replace(record, size=(height, width)))
        except (OSError, ValueError) as error:
            bad.append(visible(str(error)))
    if bad:
        more = [f"… and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
        lines = "\n  ".join(bad[:SHOWN] + more)
        raise ValueError(f"{count(len(bad), 'picture')} of {data.name} cannot be read:\n  {lines}")
    if len(data) < least:
        raise ValueError(
            f"{data.name} has {count(len(data), 'picture')}; a benchmark needs at least {least}, give it more with"
            f" {flag} or --limit"
        )
    return replace(data, records=records), annotated


def _plain(folder: Path, class_names: Sequence[str], flag: str) -> Dataset:
    """The pictures of a folder, of which nothing else is known."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is neither a folder of pictures nor a COCO .json file")
    paths = sorted(filter(is_picture, folder.iterdir()))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no pictures; give {flag} the folder that has them")
    nothing = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    records = [Record(path.name, path, (0, 0), nothing) for path in paths]  # sizes are seen when they are decoded
    return Dataset(folder.name, records, class_names, list(range(1, len(class_names) + 1)))
