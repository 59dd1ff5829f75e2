"""rcnnkit proposals import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import Data, DataFormat, Images, ProposalsOut, SkipBad, Split, console, split_of
from rcnnkit.defaults import FORMAT
from rcnnkit.terminal import progress
from rcnnkit.text import count


def import_(
    file: Annotated[Path, typer.Argument(help="A .mat or .pkl file of proposals that was released with a paper.")],
    data: Data,
    out: ProposalsOut,
    split: Split = None,
    images: Images = None,
    format: DataFormat = FORMAT,
    skip_bad: SkipBad = False,
) -> None:
    """Import released proposals: selective search for VOC (.mat); Fast R-CNN's, Detectron's, detectron2's (.pkl)."""
    from rcnnkit.data.proposals import import_proposals
    from rcnnkit.data.reading import read_data
    from rcnnkit.files import sha256
    from rcnnkit.proposals.released import read_released
    from rcnnkit.proposals.store import Store

    split = split_of(data, split, "train")
    released = read_released(file)
    dataset = read_data(data, split, format=format, images=images, skip_bad=skip_bad)
    store = Store.create(out, "imported", {"file": file.name, "sha256": sha256(file)[:16]})
    with progress(console) as report:
        taken = import_proposals(dataset, released, store, progress=report)
    console.print(f"{dataset.name}: proposals of {taken} of {count(len(dataset), 'picture')} in {store.folder}")
