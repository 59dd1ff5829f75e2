"""rcnnkit convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import Data, DataFormat, Images, SkipBad, console
from rcnnkit.defaults import FORMAT


def convert(
    data: Data,
    to: Annotated[str, typer.Option(help="The new format: coco, voc or yolo.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    format: DataFormat = FORMAT,
    images: Images = None,
    link: Annotated[
        str | None, typer.Option(help="hard or symbolic: link to the pictures instead of copying them.")
    ] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Write a data set in another format, with its splits, and say what that format cannot hold."""
    from rcnnkit.data import convert
    from rcnnkit.data.layout import TITLES, find_layout
    from rcnnkit.data.reading import read_layout
    from rcnnkit.files import check_free
    from rcnnkit.text import count

    for name, value, known in (("--to", to, convert.PICTURES), ("--link", link, convert.LINKS)):
        if value is not None and value not in known:
            raise ValueError(f"{name} {value} is not one of {', '.join(known)}")
    check_free(out)
    splits = read_layout(find_layout(data, format), images=images, skip_bad=skip_bad)
    result = convert.convert(splits, to, out, link)
    for split, dataset in result.splits.items():
        console.print(f"{split}: {dataset.summary}")
    for note in result.notes:
        console.print(f"note: {note}")
    console.print(f"wrote {out} as {TITLES[to]}, with {count(len(dataset.class_names), 'class')}")
