"""rcnnkit export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rcnnkit.cli.options import Images, TestSplit, Weights, console, finite, split_of
from rcnnkit.defaults import EXACT, EXPORTED, MAX_AP_LOSS, OPSET
from rcnnkit.terminal import progress


def export(
    weights: Weights,
    out: Annotated[
        Path, typer.Option(help="A new file: .onnx, .xml for OpenVINO, or .pt2. detect.py is written beside it.")
    ],
    format: Annotated[
        Literal["onnx", "openvino", "torch", "aoti"],
        typer.Option(help="onnx, openvino, torch (torch.export), or aoti (compiled by AOTInductor for this CPU)."),
    ] = EXPORTED,
    with_preprocessing: Annotated[
        bool,
        typer.Option(
            "--with-preprocessing", help="The file resizes pictures itself; all pictures of a batch must have one size."
        ),
    ] = False,
    verify: Annotated[
        Path | None,
        typer.Option(help="Your pictures for the proof: a folder, or annotated ones in VOC's or COCO's format."),
    ] = None,
    split: TestSplit = None,
    images: Images = None,
    opset: Annotated[int, typer.Option(help="The version of ONNX's operators: 18 to 20.")] = OPSET,
    precision: Annotated[
        Literal["float32", "fp16", "bf16", "int8"],
        typer.Option(
            help="What the layers compute in. With fewer bits, the AP on --verify is measured before and after."
        ),
    ] = EXACT,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="For int8: pictures to measure activations on; by default the train split of --verify."),
    ] = None,
    max_ap_loss: Annotated[
        float, typer.Option(min=0, callback=finite, help="Layers stay in float32 until the AP falls by less than this.")
    ] = MAX_AP_LOSS,
    repository: Annotated[
        Path | None, typer.Option(help="For ONNX: Triton's folder of models, into which a copy goes.")
    ] = None,
) -> None:
    """Write a detector for another runtime: ONNX, OpenVINO or torch alone.

    The file is kept only if it answers as the detector does: boxes within 0.01 pixel, scores within 0.0001. For
    an R-CNN, the file is its window classifier.
    """
    from rcnnkit.benchmark.measure.pictures import read_pictures
    from rcnnkit.exporting.export import export as write
    from rcnnkit.exporting.lowered import CALIBRATION
    from rcnnkit.exporting.proof import DATA
    from rcnnkit.images import read_picture
    from rcnnkit.weights import load

    if calibrate and precision != "int8":
        raise ValueError(f"--calibrate {calibrate} is for --precision int8; leave it out")
    detector = load(weights, "cpu", for_training=True)
    names = detector.class_names
    data = pictures = None
    if verify:
        few = DATA if precision == EXACT else 0
        data, _ = read_pictures(verify, split_of(verify, split, "test"), names, few, images, flag="--verify", least=1)
    if precision == "int8" and (source := calibrate or verify):
        known, _ = read_pictures(source, "train", names, CALIBRATION, images, flag="--calibrate", least=1)
        pictures = [read_picture(record.path) for record in known.records]
    with progress(console, transient=True) as report:
        proof = write(
            detector,
            out,
            format,
            with_preprocessing=with_preprocessing,
            verify=data,
            opset=opset,
            precision=precision,
            calibration=pictures or (),
            max_ap_loss=max_ap_loss,
            repository=repository,
            progress=report,
        )
    console.print(f"wrote {out}, {proof}, and {proof.script}")
    if repository:
        console.print(f"wrote {repository / out.stem} for Triton, and {out.with_suffix('.yaml')} for KServe")
