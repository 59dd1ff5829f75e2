"""rcnnkit pack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import Data, DataFormat, Images, SkipBad, console
from rcnnkit.defaults import FORMAT
from rcnnkit.terminal import progress


def pack(
    data: Data,
    out: Annotated[Path, typer.Option(help="A new folder.")],
    format: DataFormat = FORMAT,
    images: Images = None,
    shard_mb: Annotated[int, typer.Option(min=1, help="Megabytes of a .tar file.")] = 1000,
    skip_bad: SkipBad = False,
) -> None:
    """Put the pictures of a data set into a few .tar files, from which all commands read them without unpacking."""
    from rcnnkit.data.layout import find_layout
    from rcnnkit.data.packing import pack as pack_splits
    from rcnnkit.data.reading import read_layout
    from rcnnkit.files import is_free
    from rcnnkit.text import count

    if not is_free(out):
        raise FileExistsError(f"{out} is not an empty folder; choose another --out, nothing is overwritten")
    splits = read_layout(find_layout(data, format), images=images, skip_bad=skip_bad)
    with progress(console, transient=True) as report:
        shards = pack_splits(splits, out, shard_mb * 1_000_000, report)
    for split, each in splits.items():
        console.print(f"{split}: {count(len(each), 'picture')}, {count(len(each.flat.objects), 'object')}")
    console.print(f"wrote {out} with {count(shards, '.tar file')}; train with data.root={out}")
