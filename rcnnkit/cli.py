"""The rcnnkit command: the one front door."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.logging import RichHandler
from rich.text import Text

from rcnnkit import cli_proposals, cli_see
from rcnnkit.terminal import Console, Formatter, escape_what_streams_lack, set_in

# Each command imports what it needs: `rcnnkit --help` should not wait for torch.

app = typer.Typer(
    help="The R-CNN family: train detectors, evaluate them, find things in pictures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_proposals.app, name="proposals")
app.add_typer(cli_see.app, name="see")
console = Console()

Weights = Annotated[Path, typer.Argument(help="A .safetensors file of rcnnkit.")]
MaxDetections = Annotated[
    int | None,
    typer.Option(
        min=0, help="Of a picture, in place of what the weights say (often 100), with proposals enough; 0: no limit."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")]


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A TOML file of settings, such as those in configs/.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SECTION.KEY=VALUE]…", help="Settings that override the file's."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; by default a new one in runs/, named after CONFIG.")
    ] = None,
) -> None:
    """Train a detector, or a classifier to start one from; weights, settings and log go into a folder of its own."""
    from rcnnkit.config_files import read_settings
    from rcnnkit.training.alternating import train_alternating
    from rcnnkit.training.classification import train_classifier
    from rcnnkit.training.loop import train as train_detector
    from rcnnkit.training.rcnn_stages import train_rcnn
    from rcnnkit.training.run_folder import checkpoint_of

    read = read_settings(config, settings or [])
    if read.train.resume:
        run = checkpoint_of(read.train.resume).parent
        if out and out.resolve() != run.resolve():
            raise ValueError(f"train.resume continues in {run}; leave --out {out} away")
    else:
        name = config.parent.name if config.name == "settings.toml" else config.stem  # another run's settings
        run = out or free_folder(Path("runs") / name)
    if read.model.detector == "rcnn":
        best = train_rcnn(read, run, console)
    elif read.model.detector == "classifier":
        best = train_classifier(read, run, console)
    else:
        best = (train_alternating if read.alternating.enabled else train_detector)(read, run, console)
    console.print(f"wrote {best}")


@app.command()
def evaluate(
    weights: Weights,
    data: Annotated[
        Path, typer.Argument(help="A Pascal VOC folder, or a COCO .json file; of a classifier, a folder of splits.")
    ],
    split: Annotated[
        str | None,
        typer.Option(
            help="Of a VOC folder: a list in ImageSets/Main; of a classifier: the folder in DATA.", show_default="test"
        ),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="The pictures of a COCO file, where they are not found.")] = None,
    proposals: Annotated[
        Path | None, typer.Option(help="R-CNN, Fast R-CNN: a folder of `rcnnkit proposals compute`.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers here.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 4,
    max_detections: MaxDetections = None,
    skip_bad: Annotated[bool, typer.Option(help="Leave bad annotations out, and say how many.")] = False,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="auto (bf16 where it is fast), float32, bf16, fp16.")] = "auto",
) -> None:
    """Average precision on annotated pictures: COCO's twelve numbers and Pascal VOC's, class by class.

    Of a classifier: its accuracy on a folder of class folders.
    """
    from rcnnkit.data.class_folders import read_class_folders
    from rcnnkit.data.reading import read_data
    from rcnnkit.detectors.faster_rcnn import FasterRCNN
    from rcnnkit.evaluation.accuracy import Accuracy, evaluate_classifier
    from rcnnkit.evaluation.report import Evaluation
    from rcnnkit.evaluation.report import evaluate as evaluate_detector
    from rcnnkit.files import check_new, whole
    from rcnnkit.precision import autocast, pick_dtype
    from rcnnkit.proposals.store import Store
    from rcnnkit.weights import load, load_classifier, read_shapes

    if json_file:
        check_new(json_file)
    split = cli_proposals.split_of(data, split, "test")
    evaluation: Evaluation | Accuracy
    if read_shapes(weights)[0].get("detector") == "classifier":
        options = {"--proposals": proposals, "--images": images, "--max-detections": max_detections}
        if given := [name for name, value in options.items() if value is not None]:
            raise ValueError(
                f"{weights} holds a classifier, which looks at whole pictures in class folders; leave {given[0]} out"
            )
        classifier = load_classifier(weights, device)
        folders = read_class_folders(data, split, classifier.class_names, skip_bad=skip_bad)
        with autocast(classifier.device, pick_dtype(precision, classifier.device)):
            evaluation = evaluate_classifier(classifier, folders, batch_size=batch, progress=True)
    else:
        store = Store.open(proposals) if proposals else None
        detector = load(weights, device, precision, max_detections)
        if store and isinstance(detector, FasterRCNN):
            raise ValueError(f"{weights} holds a Faster R-CNN, which makes its own proposals; leave --proposals away")
        dataset = read_data(data, split, images=images, class_names=detector.class_names, skip_bad=skip_bad)
        evaluation = evaluate_detector(detector, dataset, proposals=store, batch_size=batch, progress=True)
    try:
        if json_file:
            with whole(json_file) as half:
                half.write_text(json.dumps(evaluation.to_json(), indent=1), encoding="utf-8")
    finally:  # where the file cannot be written, the numbers are seen all the same
        console.print(evaluation.table())
    if json_file:
        console.print(f"wrote {json_file}")


@app.command()
def detect(
    weights: Weights,
    files: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures, with their sub-folders.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the pictures with boxes, in the same sub-folders, and detections.json.")
    ],
    min_score: Annotated[
        float | None,
        typer.Option(callback=_finite, help="Draw boxes from this score on; by default 0.5, of SVMs' margins 0."),
    ] = None,
    max_detections: MaxDetections = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 4,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="auto (bf16 where it is fast), float32, bf16, fp16.")] = "auto",
) -> None:
    """Find things: pictures with boxes, and one JSON file in COCO's results format.

    A result's image_id is the path of its picture as it was given. A picture that cannot be read,
    searched or drawn is named, the others are done, and the exit status is 1. Other files in the
    folders are counted in one line.
    """
    from rcnnkit.detecting import RESULTS, DetectedFile, detect_files
    from rcnnkit.weights import load

    detector = load(weights, device, precision, max_detections)
    least = detector.min_score if min_score is None else min_score

    def report(picture: DetectedFile) -> None:
        if picture.error:
            _complain(picture.error)
        elif picture.detections is not None:
            names = picture.detections.above(least).names
            counts = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
            as_png = "" if not picture.drawn or picture.drawn.suffix == ".jpg" else f"; drawn in {picture.drawn}"
            console.print(f"{picture.path}: {counts or f'nothing that scores {least:g}'}{as_png}")

    done = detect_files(detector, files, out, min_score=least, batch=batch, report=report)
    if found := [len(picture.detections) for picture in done if picture.detections is not None]:
        drawn = sum(picture.drawn is not None for picture in done)
        console.print(f"wrote {drawn} pictures and {sum(found)} detections in {out / RESULTS}")
    if any(picture.error for picture in done):
        raise typer.Exit(1)


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(help="torchvision's name of its weights, or a file: .pth, .pt, .ckpt, .pkl, .safetensors.")
    ],
    out: Annotated[Path, typer.Option(help="The new weights file.")],
    classes: Annotated[
        str | None,
        typer.Option(help='Where the source does not say them: "cat,dog,…", or a file with a name in each line.'),
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights; kept in the file.")] = None,
    norm_eps: Annotated[
        float | None,
        typer.Option(
            min=0, callback=_finite, help="Of batch norms: 0 for your own training from torchvision's COCO_V1."
        ),
    ] = None,
) -> None:
    """Take over weights from elsewhere, with the same answers: torchvision's and detectron2's."""
    from rcnnkit.importing.convert import import_weights

    import_weights(source, out, None if classes is None else _class_names(classes), licence, norm_eps)
    console.print(f"wrote {out}")


@app.command()
def info(
    weights: Weights, as_json: Annotated[bool, typer.Option("--json", help="Everything, as one JSON object.")] = False
) -> None:
    """Say what a weights file is: network, classes, input, training, origin and licence."""
    from rcnnkit.about import about, summary

    told = about(weights)
    if as_json:
        print(json.dumps(told, indent=1).replace("\x7f", "\\u007f"))  # ASCII, which JSON escapes but for this one
    else:
        console.print(*summary(told), sep="\n")


@app.command()
def compress(
    weights: Weights,
    ranks: Annotated[
        list[str], typer.Option("--rank", metavar="LAYER=RANK…", help="fc6=1024 fc7=256 are the paper's, for VGG16.")
    ],
    out: Annotated[Path, typer.Option(help="The new weights file.")],
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
            raise ValueError(f"--rank {layer} is given twice: {pairs[layer]} and {rank}; which one?")
        pairs[layer] = int(rank)
    before, after = compress(weights, pairs, out)
    for name, cost in (("before", before), ("after", after)):
        console.print(
            f"{name:>6}: {cost.parameters / 1e6:.1f} M weights, fc6 and fc7 of {REGIONS} regions in"
            f" {1000 * cost.seconds:.1f} ms"
        )
    console.print(f"wrote {out}")


@app.command()
def svms(
    weights: Weights,
    data: Annotated[Path, typer.Argument(help="A Pascal VOC folder, or a COCO .json file, of training pictures.")],
    proposals: Annotated[Path, typer.Option(help="A folder of `rcnnkit proposals compute`.")],
    out: Annotated[Path, typer.Option(help="The new weights file.")],
    split: cli_proposals.Split = None,
    images: Annotated[Path | None, typer.Option(help="The pictures of a COCO file, where they are not found.")] = None,
    use_difficult: Annotated[bool, typer.Option(help="VOC's difficult objects are positives too.")] = False,
    skip_bad: Annotated[bool, typer.Option(help="Leave bad annotations out, and say how many.")] = False,
    device: Device = "auto",
) -> None:
    """Train SVMs in place of a Fast R-CNN's softmax, as R-CNN has them: hard negatives, mined among the proposals."""
    from rcnnkit.data.proposals import cores
    from rcnnkit.data.reading import read_data
    from rcnnkit.proposals.store import Store
    from rcnnkit.training.fast_rcnn_svms import train_svms
    from rcnnkit.weights import read_shapes

    split = cli_proposals.split_of(data, split, "train")
    store = Store.open(proposals)
    about, _ = read_shapes(weights)
    dataset = read_data(data, split, images=images, class_names=about["class_names"], skip_bad=skip_bad)
    train_svms(
        weights,
        dataset,
        store,
        out,
        use_difficult=use_difficult,
        processes=cores(),
        device=device,
        progress=console.is_terminal,
    )
    console.print(f"wrote {out}")


@app.command()
def crop(
    data: Annotated[Path, typer.Argument(help="A Pascal VOC folder, or a COCO .json file.")],
    out: Annotated[Path, typer.Option(help="A new folder; the objects go into OUT/SPLIT/CLASS.")],
    split: cli_proposals.Split = None,
    images: Annotated[Path | None, typer.Option(help="The pictures of a COCO file, where they are not found.")] = None,
    context: Annotated[
        float, typer.Option(min=0, help="Shown around an object on each side, in sides of its box.")
    ] = 0,
    skip_bad: Annotated[bool, typer.Option(help="Leave bad annotations out, and say how many.")] = False,
) -> None:
    """Cut annotated objects out of their pictures into class folders, to train a classifier on."""
    from rcnnkit.data.class_folders import write_class_folders
    from rcnnkit.data.reading import read_data

    split = cli_proposals.split_of(data, split, "train")
    dataset = read_data(data, split, images=images, skip_bad=skip_bad)
    file = data if data.is_file() else data / split
    # Roboflow's files have one name in every split's folder.
    name = file.resolve().parent.name if file.name == "_annotations.coco.json" else file.name
    folder = out / name.removesuffix(".json")
    written = write_class_folders(dataset, folder, context)
    console.print(f"wrote {', '.join(f'{number} {name}' for name, number in written.items())} in {folder}")


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="A new folder; by default rcnnkit-demo in this one.")] = None,
    only: Annotated[
        str | None, typer.Option(help="One detector: rcnn, fast-rcnn or faster-rcnn; by default all three.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Make pictures of handwritten digits, train the three detectors on them, and compare what they find."""
    from rcnnkit.demo import run_demo

    run_demo(out or free_folder(Path("rcnnkit-demo")), device, console, only)


@app.command()
def benchmark(
    out: Annotated[Path | None, typer.Option(help="A new folder; by default rcnnkit-benchmark in this one.")] = None,
    demo: Annotated[
        Path,
        typer.Option(help="The demo's folder, whose detectors and pictures are taken; trained if it is not there."),
    ] = Path("rcnnkit-demo"),
    weights: Annotated[
        list[Path] | None, typer.Option(help="Other detectors: one file of each kind, for each an option.")
    ] = None,
    random: Annotated[bool, typer.Option("--random", help="Untrained detectors: times without accuracy.")] = False,
    backbone: Annotated[str, typer.Option(help="Of --random: resnet18 (the default), resnet50, vgg16, …")] = "",
    images: Annotated[
        Path | None, typer.Option(help="Other pictures: a folder, or annotated ones in VOC's or COCO's (.json) format.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of a VOC folder.", show_default="test")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Pictures at most, evenly from all; 0: all.")] = 64,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 1,
    proposals: Annotated[int, typer.Option(min=0, help="Of a picture, at most; 0: each detector's own number.")] = 0,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bf16, fp16, auto (bf16 where it is fast).")] = "float32",
    threads: Annotated[int, typer.Option(min=0, help="0: as many as torch takes by itself.")] = 0,
    growth: Annotated[
        bool, typer.Option("--growth", help="Also how times grow with proposals, classes, sizes, batches, threads.")
    ] = False,
) -> None:
    """Seconds a picture of R-CNN, Fast R-CNN and Faster R-CNN, stage by stage, on the same pictures.

    Writes results.json, report.md, report.html and plots. Ctrl-C ends it with a report of what was measured.
    """
    from rcnnkit.benchmark.results import Options
    from rcnnkit.benchmark.run import run_benchmark

    options = Options(
        demo=demo,
        random=random,
        backbone=backbone,
        images=images,
        split=cli_proposals.split_of(images or Path(), split, "test"),
        weights=tuple(weights or ()),
        device=device,
        dtype=dtype,
        proposals=proposals,
        batch=batch,
        threads=threads,
        limit=limit,
        growth=growth,
    )
    run_benchmark(options, out or free_folder(Path("rcnnkit-benchmark")), console)


def _class_names(classes: str) -> list[str]:
    """Names between commas, or those in a file's lines."""
    try:
        is_file = Path(classes).is_file()
    except OSError:  # many names are longer than a path can be
        is_file = False
    if is_file:
        try:
            lines = Path(classes).read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"--classes {classes} is not UTF-8 ({error}); save it as that") from None
        return [line.strip() for line in lines if line.strip()]
    if "," not in classes and re.search(r"[/\\]|\.\w+$", classes):
        raise FileNotFoundError(f"--classes {classes}: no such file; give a file with a name in each line, or a,b,…")
    names = [name.strip() for name in classes.split(",")]
    if "" in names:
        raise ValueError(f'--classes "{classes}" has an empty name; give one between every two commas')
    return names


def free_folder(wanted: Path) -> Path:
    """`wanted`, or `wanted`-2, -3, …: the first that holds nothing yet."""
    number = 1
    folder = wanted
    while folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


def _complain(error: BaseException | str) -> None:
    if isinstance(error, OSError) and error.filename and error.strerror:  # the system's, in the words of the others
        error = f"{error.filename}: {error.strerror[:1].lower()}{error.strerror[1:]}"
    if "RCNNKIT_TRACEBACK" in os.environ:
        traceback.print_exc()
    Console(stderr=True).print(Text.assemble(("error:", "bold red"), f" {set_in(str(error))}"))


def main() -> None:
    """Run the command; what the user can mend is told in words, without a stack trace."""
    escape_what_streams_lack()
    handler: logging.Handler
    if sys.stderr.isatty():
        handler = RichHandler(console=Console(stderr=True), show_time=False, show_path=False)
        handler.setFormatter(Formatter())
    else:  # a file or a pipe gets a message in one line
        handler = logging.StreamHandler()
        handler.setFormatter(Formatter("%(levelname)s %(message)s"))
    log = logging.getLogger("rcnnkit")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        (app if "RCNNKIT_TRACEBACK" in os.environ else _run)()
    finally:
        log.removeHandler(handler)


def _run() -> None:
    warnings.filterwarnings("ignore", module="torch")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        from rcnnkit.training.loop import Interrupted, NonFiniteLoss

        if isinstance(error, Interrupted):
            console.print(str(error))
            sys.exit(128 + error.signal)
        if not isinstance(error, (ValueError, OSError, NonFiniteLoss)):
            raise
        _complain(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
