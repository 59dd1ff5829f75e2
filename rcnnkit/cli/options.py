"""What commands share: their console, and the arguments and options that several of them take."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rcnnkit.terminal import Console

if TYPE_CHECKING:
    from rcnnkit.backbones.classifier import Classifier
    from rcnnkit.detectors.detector import Detector

console = Console()
WRITTEN = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def finite(value: float | None) -> float | None:
    """The number that was given. Raises BadParameter where it is infinite or not a number."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


def split_of(data: Path, split: str | None, default: str) -> str:
    """`split`, or `default` where none was given. Raises ValueError where DATA is a file that is read whole."""
    if split is not None and data.is_file() and data.suffix not in (".yaml", ".yml"):
        raise ValueError(f"--split {split} is for folders, and {data} is a file that is read whole; leave it out")
    return default if split is None else split


def network_of(weights: Path, device: str) -> Detector | Classifier:
    """The network in a file as it was trained, to look into. Raises as `rcnnkit.weights.load`."""
    from rcnnkit.weights import load, load_classifier, read_shapes

    if read_shapes(weights)[0]["kind"] == "classifier":
        return load_classifier(weights, device)
    return load(weights, device, for_training=True)


def check_picture(out: Path) -> None:
    """Raise unless a new picture can be written there; before anything is computed."""
    from rcnnkit.files import check_new

    if out.suffix.lower() not in WRITTEN:
        raise ValueError(f"--out {out} does not end in one of {', '.join(WRITTEN)}")
    check_new(out)


def input_of(overrides: list[str] | None) -> dict[str, Any] | None:
    """The settings of [input] that `--set` gave, by their names. Raises ValueError where they are of other sections."""
    if not overrides:
        return None
    from rcnnkit.config_files import override

    values: dict[str, Any] = {}
    override(values, overrides, "--set")
    for section in values.keys() - {"input"}:
        raise ValueError(
            f"--set {section}.{next(iter(values[section]))}: only the settings of [input] can differ from those of the"
            " weights"
        )
    return dict(values["input"])


Weights = Annotated[Path, typer.Argument(help="A .safetensors file that rcnnkit wrote.")]
Files = Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures, with their sub-folders.")]
Sentence = Annotated[str, typer.Argument(help='In quotes, such as "a red cup on a table"; 50 words at most.')]
NewWeights = Annotated[Path, typer.Option("--out", help="A new weights file; an existing one is not overwritten.")]
NewPicture = Annotated[
    Path, typer.Option("--out", help="A new picture: .png, .jpg, …; an existing one is not overwritten.")
]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", help="Write everything into a new JSON file; an existing one is not overwritten."),
]

DATA_HELP = "The folder of a data set in any format, or an annotation file."
Data = Annotated[Path, typer.Argument(help=DATA_HELP)]
DataFormat = Annotated[
    str,
    typer.Option(
        "--data-format", help="The format of the annotations, for a folder that has several formats; see the docs."
    ),
]
SPLIT_HELP = "The split of a folder: train, val or test; or the name of a VOC list, a split in data.yaml, or a file."
Split = Annotated[str | None, typer.Option(help=SPLIT_HELP, show_default="train")]
TestSplit = Annotated[str | None, typer.Option(help=SPLIT_HELP, show_default="test")]
Images = Annotated[Path | None, typer.Option(help="The folder of the pictures, if they are not found.")]
SkipBad = Annotated[bool, typer.Option(help="Leave out bad annotations and pictures, and say how many there are.")]
CheckPictures = Annotated[
    bool, typer.Option(help="Look for damage in every picture; leave it out where a network drive is slow.")
]
ProposalsOut = Annotated[
    Path, typer.Option("--out", help="A folder; each method, with its settings, gets a folder of its own in it.")
]

MaxDetections = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Most detections per picture, in place of the weights' own limit (often 100); 0: no limit. A higher limit"
        " raises the number of proposals too.",
    ),
]
Given = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SECTION.KEY=VALUE]…", help="Settings that override those of the file, or those that would be chosen."
    ),
]
Start = Annotated[
    str | None,
    typer.Option(
        help="With a data set, the weights to start from: coco, imagenet, none or a file; by default the first of these"
        " that is available."
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        min=0.1, callback=finite, help="With a data set, how long to train; by default as long as such data need."
    ),
]
InputSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="input.KEY=VALUE",
        help="A setting of [input] in place of the weights' own, such as input.tile=640; may be given several times.",
    ),
]
Batch = Annotated[int, typer.Option(min=1, help="Pictures at a time.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="The port to listen at.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")]
Precision = Annotated[str, typer.Option(help="auto (bf16 where it is fast), float32, bf16, fp16.")]
