"""rcnnkit occlude."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import Data, DataFormat, Images, SkipBad, TestSplit, console, split_of
from rcnnkit.defaults import FORMAT
from rcnnkit.terminal import progress


def occlude(
    data: Data,
    out: Annotated[Path, typer.Option(help="A new folder for the pictures and their annotations.")],
    share: Annotated[float, typer.Option(help="The part of each object's box to cover, between 0 and 1.")] = 0.3,
    split: TestSplit = None,
    images: Images = None,
    format: DataFormat = FORMAT,
    skip_bad: SkipBad = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the places and colours.")] = 0,
) -> None:
    """Copies of a data set in which a part of each object is covered.

    `rcnnkit evaluate` on the new folder, beside that on the pictures as they are, tells what a detector loses when
    objects are hidden.
    """
    from rcnnkit.data.occluded import write_occluded
    from rcnnkit.data.reading import read_data
    from rcnnkit.text import count

    split = split_of(data, split, "test")
    dataset = read_data(data, split, format=format, images=images, skip_bad=skip_bad)
    with progress(console, transient=True) as report:
        write_occluded(dataset, out, share, seed, report)
    console.print(
        f"wrote {count(len(dataset), 'picture')} and annotations in {out}; {share:.0%} of each object is covered"
    )
