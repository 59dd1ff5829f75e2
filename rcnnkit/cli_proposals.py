"""rcnnkit proposals …: proposals computed, taken over and evaluated."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rcnnkit.terminal import Console

if TYPE_CHECKING:
    from rcnnkit.proposals.methods import PictureMethod

app = typer.Typer(
    help="Proposals: compute and keep them, take over released ones, tell how well they cover the objects.",
    no_args_is_help=True,
)
console = Console()

Data = Annotated[Path, typer.Argument(help="A Pascal VOC folder, or a COCO .json file.")]
Split = Annotated[str | None, typer.Option(help="Of a VOC folder: a list in ImageSets/Main.", show_default="train")]
TestSplit = Annotated[str | None, typer.Option(help="Of a VOC folder: a list in ImageSets/Main.", show_default="test")]
Images = Annotated[Path | None, typer.Option(help="The pictures of a COCO file, where they are not found.")]
SkipBad = Annotated[bool, typer.Option(help="Leave bad annotations and pictures out, and say how many.")]
Out = Annotated[Path, typer.Option(help="A folder; each method and choice of settings gets its own in it.")]


def split_of(data: Path, split: str | None, default: str) -> str:
    """`split`, or `default` where none was given. Raises ValueError where DATA is a file, all of which is read."""
    if split is not None and data.is_file():
        raise ValueError(f"--split {split} is for a VOC folder, and {data} is a file that is read whole; leave it out")
    return default if split is None else split


@app.command()
def compute(
    data: Data,
    out: Out,
    split: Split = None,
    images: Images = None,
    skip_bad: SkipBad = False,
    method: Annotated[str, typer.Option(help="selective-search, sliding-windows or rpn.")] = "selective-search",
    mode: Annotated[str | None, typer.Option(help="Selective search: single, fast (the default) or quality.")] = None,
    min_side: Annotated[
        int | None, typer.Option(min=0, help="Selective search: pixels of the smaller side; by default 20.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Selective search: of the ranking; by default 0.")] = None,
    max_width: Annotated[
        int | None, typer.Option(min=0, help="Selective search: make wider pictures this wide; by default none.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="rpn: the .safetensors file of a Faster R-CNN.")] = None,
    device: Annotated[str, typer.Option(help="rpn: auto, cpu, cuda, cuda:1, …")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Pictures at a time; 0: as many as there are cores.")] = 0,
) -> None:
    """Find the proposals of every picture and keep them, one file a picture.

    What is there already is not computed again, so a run that was stopped goes on. Under torchrun, on one machine or
    several with a common folder, each process takes its share of the pictures.
    """
    from rcnnkit.data.proposals import compute_proposals, cores
    from rcnnkit.data.reading import read_data
    from rcnnkit.proposals.store import Store

    split = split_of(data, split, "train")
    # torchrun's; on each machine there may be several processes
    rank, world, here = (
        int(os.environ.get(n, d)) for n, d in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_WORLD_SIZE", 1))
    )
    options = {"mode": mode, "min_side": min_side, "seed": seed, "max_width": max_width}
    finder = _method(method, {k: v for k, v in options.items() if v is not None}, weights, device)
    dataset = read_data(data, split, images=images, skip_bad=skip_bad)
    store = Store.create(out, finder.name, finder.settings)
    shown = Console(quiet=True) if rank else console
    workers = workers or max(1, cores() // here)
    began = time.perf_counter()
    new = compute_proposals(dataset, finder, store, workers=workers, share=(rank, world), console=shown)
    seconds = time.perf_counter() - began
    speed = f", {seconds / new:.3f} s each" if new else ""
    shown.print(f"{dataset.name}: {new} pictures were new{speed}; proposals in {store.folder}")


@app.command()
def evaluate(
    data: Data,
    proposals: Annotated[Path, typer.Option(help="A folder of `rcnnkit proposals compute` or `import`.")],
    split: TestSplit = None,
    images: Images = None,
    skip_bad: SkipBad = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers here.")] = None,
) -> None:
    """How well the first 100, 500, 1000 and 2000 proposals cover the objects: recall and mean average best overlap."""
    from rcnnkit.data.proposals import check_proposals, read_proposals
    from rcnnkit.data.reading import read_data
    from rcnnkit.files import check_new, whole
    from rcnnkit.proposals.recall import coverage
    from rcnnkit.proposals.store import Store

    if json_file:
        check_new(json_file)
    split = split_of(data, split, "test")
    store = Store.open(proposals)
    dataset = read_data(data, split, images=images, skip_bad=skip_bad)
    check_proposals(dataset, store)
    targets = (record.targets for record in dataset.records)
    result = coverage(read_proposals(dataset, store), targets, dataset.class_names)
    about = {"dataset": dataset.name, "method": store.method, "settings": store.settings}
    try:
        if json_file:
            with whole(json_file) as half:
                half.write_text(json.dumps(about | result.to_json(), indent=1), encoding="utf-8")
    finally:  # where the file cannot be written, the numbers are seen all the same
        console.print(f"{dataset.name}, {len(dataset)} pictures: {store.describe()}")
        console.print(result.table())
    if json_file:
        console.print(f"wrote {json_file}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A .mat or .pkl file of proposals that was released with a paper.")],
    data: Data,
    out: Out,
    split: Split = None,
    images: Images = None,
    skip_bad: SkipBad = False,
) -> None:
    """Take over released proposals: selective search for VOC (.mat); Fast R-CNN's, Detectron's, detectron2's (.pkl)."""
    from rcnnkit.data.proposals import import_proposals
    from rcnnkit.data.reading import read_data
    from rcnnkit.files import sha256
    from rcnnkit.proposals.released import read_released
    from rcnnkit.proposals.store import Store

    split = split_of(data, split, "train")
    released = read_released(file)
    dataset = read_data(data, split, images=images, skip_bad=skip_bad)
    store = Store.create(out, "imported", {"file": file.name, "sha256": sha256(file)[:16]})
    taken = import_proposals(dataset, released, store, console=console)
    console.print(f"{dataset.name}: {taken} of {len(dataset)} pictures have proposals in {store.folder}")


def _method(name: str, options: dict[str, Any], weights: Path | None, device: str) -> PictureMethod:
    """The method of that name; `options` are selective search's."""
    if (name == "rpn") != (weights is not None):
        raise ValueError("--method rpn and --weights FILE go together: the proposals are those of that Faster R-CNN")
    if options and name != "selective-search":
        given = ", ".join(f"--{option.replace('_', '-')}" for option in options)
        raise ValueError(f"--method {name} has no {given}, which only selective search knows; leave it away")
    if weights is not None:
        from rcnnkit.detectors.faster_rcnn import FasterRCNN
        from rcnnkit.detectors.trained_rpn import TrainedRPN
        from rcnnkit.files import sha256
        from rcnnkit.weights import load

        detector = load(weights, device, for_training=True)
        if not isinstance(detector, FasterRCNN):
            raise ValueError(f"{weights} holds a detector without an RPN; --method rpn needs a Faster R-CNN")
        return TrainedRPN(detector, sha256(weights)[:16])
    from rcnnkit.proposals.methods import SearchSettings, SelectiveSearch, SlidingWindows

    if name == "selective-search":
        return SelectiveSearch(SearchSettings(**options))
    if name == "sliding-windows":
        return SlidingWindows()
    raise ValueError(f"--method {name} is not one of selective-search, sliding-windows, rpn")
