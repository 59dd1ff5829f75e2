"""rcnnkit export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rcnnkit.cli.options import Images, TestSplit, Weights, console, split_of
from rcnnkit.defaults import EXPORTED, OPSET
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
) -> None:
    """Write a detector for another runtime: ONNX, OpenVINO or torch alone.

    The file is kept only if it answers as the detector does: boxes within 0.01 pixel, scores within 0.0001. For
    an R-CNN, the file is its window classifier.
    """
    from rcnnkit.benchmark.measure.pictures import read_pictures
    from rcnnkit.exporting.export import SCRIPT
    from rcnnkit.exporting.export import export as write
    from rcnnkit.exporting.proof import DATA
    from rcnnkit.weights import load

    detector = load(weights, "cpu", for_training=True)
    data = None
    if verify:
        data, _ = read_pictures(verify, split_of(verify, split, "test"), detector.class_names, DATA, images)
    with progress(console, transient=True) as report:
        proof = write(
            detector, out, format, with_preprocessing=with_preprocessing, verify=data, opset=opset, progress=report
        )
    console.print(f"wrote {out}, {proof}, and {out.with_name(SCRIPT)}")
