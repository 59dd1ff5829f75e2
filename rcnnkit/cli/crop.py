"""rcnnkit crop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import Data, DataFormat, Images, SkipBad, Split, console, split_of
from rcnnkit.defaults import FORMAT


def crop(
    data: Data,
    out: Annotated[Path, typer.Option(help="A new folder; the objects go into OUT/SPLIT/CLASS.")],
    split: Split = None,
    images: Images = None,
    format: DataFormat = FORMAT,
    context: Annotated[
        float, typer.Option(min=0, help="Margin around an object on each side, as a multiple of the box's side.")
    ] = 0,
    skip_bad: SkipBad = False,
) -> None:
    """Cut annotated objects out of their pictures into class folders, to train a classifier on."""
    from rcnnkit.data.class_folders import write_class_folders
    from rcnnkit.data.reading import read_data

    split = split_of(data, split, "train")
    dataset = read_data(data, split, format=format, images=images, skip_bad=skip_bad)
    file = data if data.is_file() else data / split
    # Roboflow's files have one name in every split's folder.
    name = file.resolve().parent.name if file.name == "_annotations.coco.json" else file.name
    folder = out / name.removesuffix(".json")
    written = write_class_folders(dataset, folder, context)
    console.print(f"wrote {', '.join(f'{number} {name}' for name, number in written.items())} in {folder}")
