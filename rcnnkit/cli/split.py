"""rcnnkit split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import Data, DataFormat, Images, SkipBad, console
from rcnnkit.defaults import FORMAT


def split(
    data: Data,
    out: Annotated[Path, typer.Option(help="A new folder, for the annotations only.")],
    val: Annotated[float, typer.Option(help="The share of the pictures for validation, such as 0.2.")],
    test: Annotated[
        float, typer.Option(help="The share of the pictures for testing; 0: the test split stays as it is.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same splits.")] = 0,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN", help="A regular expression; pictures whose names match the same text stay together."
        ),
    ] = None,
    format: DataFormat = FORMAT,
    images: Images = None,
    skip_bad: SkipBad = False,
) -> None:
    """Divide pictures into training and validation, with the classes in the same proportions.

    The pictures stay where they are. OUT gets a COCO .json file for each split. Other splits of DATA, such as its test
    pictures, are copied as they are.
    """
    from rcnnkit.data.coco import write_coco
    from rcnnkit.data.layout import find_layout
    from rcnnkit.data.reading import read_layout
    from rcnnkit.data.splitting import class_shares, groups_of, join_splits, split_dataset
    from rcnnkit.files import check_free
    from rcnnkit.text import count

    check_free(out)
    splits = read_layout(find_layout(data, format), images=images, skip_bad=skip_bad)
    test_split = {"test": splits.pop("test")} if "test" in splits and len(splits) > 1 and not test else {}
    pool = join_splits(list(splits.values()))
    new_splits = split_dataset(pool, val=val, test=test, seed=seed, group_by=group_by)
    if group_by is not None:
        console.print(f"{count(len(groups_of(pool, group_by)), 'group')} of pictures, none divided")
    for name, dataset in (new_splits | test_split).items():
        write_coco(dataset, out / "annotations" / f"instances_{name}.json")
        note = "as it was" if name in test_split else class_shares(dataset, pool)
        console.print(f"{name}: {dataset.summary} ({note})")
    console.print(f"wrote {out}; rcnnkit train and rcnnkit convert take it")
