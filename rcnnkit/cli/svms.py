"""rcnnkit svms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import Data, DataFormat, Device, Images, NewWeights, SkipBad, Split, Weights, console, split_of
from rcnnkit.defaults import DEVICE, FORMAT
from rcnnkit.terminal import progress


def svms(
    weights: Weights,
    data: Data,
    proposals: Annotated[Path, typer.Option(help="A folder from `rcnnkit proposals compute`.")],
    out: NewWeights,
    split: Split = None,
    images: Images = None,
    format: DataFormat = FORMAT,
    use_difficult: Annotated[bool, typer.Option(help="Take VOC's difficult objects as positives too.")] = False,
    skip_bad: SkipBad = False,
    device: Device = DEVICE,
) -> None:
    """Train SVMs in place of a Fast R-CNN's softmax, with hard negatives from the proposals, as in R-CNN."""
    from rcnnkit.data.proposals import cores
    from rcnnkit.data.reading import read_data
    from rcnnkit.proposals.store import Store
    from rcnnkit.training.fast_rcnn_svms import train_svms
    from rcnnkit.weights import read_shapes

    split = split_of(data, split, "train")
    store = Store.open(proposals)
    about, _ = read_shapes(weights)
    dataset = read_data(data, split, format=format, images=images, class_names=about["class_names"], skip_bad=skip_bad)
    with progress(console) as report:
        train_svms(
            weights,
            dataset,
            store,
            out,
            use_difficult=use_difficult,
            processes=cores(),
            device=device,
            progress=report,
        )
    console.print(f"wrote {out}")
