"""rcnnkit proposals compute."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rcnnkit.cli.options import CheckPictures, Data, DataFormat, Images, ProposalsOut, SkipBad, Split, console, split_of
from rcnnkit.defaults import CHECK_PICTURES, DEVICE, FORMAT
from rcnnkit.terminal import Console, progress
from rcnnkit.text import count

if TYPE_CHECKING:
    from rcnnkit.proposals.methods import PictureMethod


def compute(
    data: Data,
    out: ProposalsOut,
    split: Split = None,
    images: Images = None,
    format: DataFormat = FORMAT,
    skip_bad: SkipBad = False,
    check_pictures: CheckPictures = CHECK_PICTURES,
    method: Annotated[str, typer.Option(help="selective-search, sliding-windows or rpn.")] = "selective-search",
    mode: Annotated[str | None, typer.Option(help="Selective search: single, fast (the default) or quality.")] = None,
    min_side: Annotated[
        int | None, typer.Option(min=0, help="Selective search: the shortest side, pixels; by default 20.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Selective search: the seed of the ranking; by default 0.")
    ] = None,
    max_width: Annotated[
        int | None, typer.Option(min=0, help="Selective search: shrink wider pictures to this width; by default none.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="rpn: the .safetensors file of a Faster R-CNN.")] = None,
    device: Annotated[str, typer.Option(help="rpn: auto, cpu, cuda, cuda:1, …")] = DEVICE,
    workers: Annotated[int, typer.Option(min=0, help="Threads, each with its own picture; 0: one per core.")] = 0,
) -> None:
    """Find the proposals of every picture and keep them, in one file per picture.

    Proposals that are there already are not computed again, so a run that was stopped can be continued. Under torchrun,
    on one machine or on several with a common folder, each process takes its share of the pictures.
    """
    from rcnnkit.data.proposals import compute_proposals, cores
    from rcnnkit.data.reading import read_data
    from rcnnkit.proposals.store import Store

    split = split_of(data, split, "train")
    # torchrun's; on each machine there may be several processes
    rank, world, processes_here = (
        int(os.environ.get(n, d)) for n, d in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_WORLD_SIZE", 1))
    )
    options = {"mode": mode, "min_side": min_side, "seed": seed, "max_width": max_width}
    finder = _method(method, {k: v for k, v in options.items() if v is not None}, weights, device)
    dataset = read_data(data, split, format=format, images=images, skip_bad=skip_bad, check_pictures=check_pictures)
    store = Store.create(out, finder.name, finder.settings)
    output = Console(quiet=True) if rank else console
    workers = workers or max(1, cores() // processes_here)
    began = time.perf_counter()
    with progress(output) as report:
        new = compute_proposals(dataset, finder, store, workers=workers, share=(rank, world), progress=report)
    seconds = time.perf_counter() - began
    speed = f", {seconds / new:.3f} s each" if new else ""
    output.print(f"{dataset.name}: {count(new, 'new picture')}{speed}; proposals in {store.folder}")


def _method(name: str, options: dict[str, Any], weights: Path | None, device: str) -> PictureMethod:
    """The method of that name; `options` are selective search's."""
    if (name == "rpn") != (weights is not None):
        raise ValueError("--method rpn and --weights FILE go together: the proposals are those of that Faster R-CNN")
    if options and name != "selective-search":
        given = ", ".join(f"--{option.replace('_', '-')}" for option in options)
        raise ValueError(f"--method {name} has no {given}, which only selective search knows; leave it out")
    if weights is not None:
        from rcnnkit.detectors.trained_rpn import TrainedRPN
        from rcnnkit.files import sha256
        from rcnnkit.weights import load

        return TrainedRPN(load(weights, device, for_training=True), sha256(weights)[:16])
    from rcnnkit.proposals.methods import SearchSettings, SelectiveSearch, SlidingWindows

    if name == "selective-search":
        return SelectiveSearch(SearchSettings(**options))
    if name == "sliding-windows":
        return SlidingWindows()
    raise ValueError(f"--method {name} is not one of selective-search, sliding-windows, rpn")
