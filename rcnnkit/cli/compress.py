"""rcnnkit compress."""

from __future__ import annotations

from typing import Annotated

import typer

from rcnnkit.cli.options import NewWeights, Weights, console


def compress(
    weights: Weights,
    ranks: Annotated[
        list[str],
        typer.Option("--rank", metavar="LAYER=RANK…", help="The new ranks; the paper has fc6=1024 fc7=256 for VGG16."),
    ],
    out: NewWeights,
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,  # what follows the first after --rank
) -> None:
    """Split the fully connected layers in two by truncated SVD: fewer weights, faster, nearly as accurate."""
    from rcnnkit.compression import REGIONS, compress

    pairs: dict[str, int] = {}
    for text in [*ranks, *(more or [])]:
        layer, _, rank = text.partition("=")
        if not rank.isdecimal():
            raise ValueError(f"--rank {text} is not of the form LAYER=RANK, such as fc6=1024")
        if layer in pairs:
            raise ValueError(f"--rank {layer} is given twice: {pairs[layer]} and {rank}; leave one out")
        pairs[layer] = int(rank)
    before, after = compress(weights, pairs, out)
    for name, cost in (("before", before), ("after", after)):
        console.print(
            f"{name:>6}: {cost.parameters / 1e6:.1f} M weights, fc6 and fc7 of {REGIONS} regions in"
            f" {1000 * cost.seconds:.1f} ms"
        )
    console.print(f"wrote {out}")
