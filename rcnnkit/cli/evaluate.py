"""rcnnkit evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import (
    DATA_HELP,
    SPLIT_HELP,
    Batch,
    CheckPictures,
    DataFormat,
    Device,
    Images,
    InputSettings,
    JsonFile,
    MaxDetections,
    Precision,
    SkipBad,
    Weights,
    console,
    input_of,
    split_of,
)
from rcnnkit.cli.results import show
from rcnnkit.defaults import BATCH, CHECK_PICTURES, DEVICE, FORMAT, PRECISION
from rcnnkit.terminal import progress


def evaluate(
    weights: Weights,
    data: Annotated[
        Path,
        typer.Argument(
            help=f"{DATA_HELP} For a classifier, the folder of its splits. Or a run's folder, for the pictures that"
            " the run was evaluated on."
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option(
            help=f"{SPLIT_HELP} For a classifier, the folder in DATA.",
            show_default="test",
        ),
    ] = None,
    images: Images = None,
    format: DataFormat = FORMAT,
    proposals: Annotated[
        Path | None, typer.Option(help="For R-CNN and Fast R-CNN: a folder from `rcnnkit proposals compute`.")
    ] = None,
    json_file: JsonFile = None,
    report_folder: Annotated[
        Path | None,
        typer.Option("--report", help="Write a page that shows what went wrong, and its numbers, into this folder."),
    ] = None,
    worst: Annotated[
        Path | None,
        typer.Option(help="Write the pictures with most mistakes, and a CSV row for each picture, into this folder."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Write all detections here, in COCO's results format, with the ids of the data set."),
    ] = None,
    batch: Batch = BATCH,
    max_detections: MaxDetections = None,
    set_: InputSettings = None,
    skip_bad: SkipBad = False,
    check_pictures: CheckPictures = CHECK_PICTURES,
    device: Device = DEVICE,
    precision: Precision = PRECISION,
) -> None:
    """Average precision on annotated pictures: COCO's twelve numbers and Pascal VOC's, class by class.

    For a classifier, its accuracy on a folder of class folders. For an aligner, how well pictures and sentences find
    each other.
    """
    from rcnnkit.data.class_folders import read_class_folders
    from rcnnkit.data.reading import read_data
    from rcnnkit.detectors.aligner import Aligner
    from rcnnkit.detectors.describer import Describer
    from rcnnkit.evaluation.accuracy import Accuracy, evaluate_classifier
    from rcnnkit.evaluation.aligned import evaluate_aligner
    from rcnnkit.evaluation.analysis import analyse
    from rcnnkit.evaluation.described import describe_objects
    from rcnnkit.evaluation.report import Evaluation, results_of
    from rcnnkit.evaluation.report import evaluate as evaluate_detector
    from rcnnkit.evaluation.retrieval import Retrieval
    from rcnnkit.files import check_free, check_new, write_json
    from rcnnkit.proposals.store import Store
    from rcnnkit.reporting.write import write_report, write_worst
    from rcnnkit.tables import described_table, result_table
    from rcnnkit.training.detection import read_validation
    from rcnnkit.training.run_folder import is_run
    from rcnnkit.weights import load, load_aligner, load_classifier, read_shapes

    for file in filter(None, (json_file, results)):
        check_new(file)
    for folder in filter(None, (report_folder, worst)):
        check_free(folder)
    if split is not None and is_run(data):
        raise ValueError(f"--split {split} is for data sets, and {data} is a run's folder; leave it out")
    split = split_of(data, split, "test")
    result: Evaluation | Accuracy | Retrieval
    of_detectors: dict[str, object] = {"--proposals": proposals, "--max-detections": max_detections}
    of_detectors |= {"--report": report_folder, "--worst": worst, "--results": results, "--set": set_ or None}
    flags = [flag for flag, value in of_detectors.items() if value is not None]
    if (kind := read_shapes(weights)[0]["kind"]) == "classifier":
        for flag in [*flags, *(["--images"] if images else [])]:
            raise ValueError(
                f"{weights} holds a classifier, which looks at whole pictures in class folders; leave {flag} out"
            )
        classifier = load_classifier(weights, device)
        folders = read_class_folders(data, split, classifier.class_names, skip_bad=skip_bad)
        with progress(console, transient=True) as report:
            result = evaluate_classifier(classifier, folders, batch_size=batch, precision=precision, progress=report)
    elif kind == Aligner.kind:
        for flag in flags:
            raise ValueError(f"{weights} holds an aligner, which is judged by sentences; leave {flag} out")
        if is_run(data):
            sentences = read_validation(data)
        else:
            format = "captions" if format == FORMAT else format
            sentences = read_data(data, split, format=format, images=images, skip_bad=skip_bad)
        aligner = load_aligner(weights, device, precision)
        with progress(console, transient=True) as report:
            result = evaluate_aligner(aligner, sentences, batch_size=batch, progress=report)
    else:
        store = Store.open(proposals) if proposals else None
        detector = load(weights, device, precision, max_detections, input=input_of(set_))
        names = detector.class_names
        if store and not detector.takes_proposals:
            raise ValueError(f"{weights} holds a detector that makes its own proposals; leave --proposals out")
        if is_run(data):
            dataset = read_validation(data, names)
        else:
            dataset = read_data(
                data,
                split,
                format=format,
                images=images,
                class_names=names,
                skip_bad=skip_bad,
                check_pictures=check_pictures,
            )
        with progress(console, transient=True) as report:
            result = evaluate_detector(detector, dataset, proposals=store, batch_size=batch, progress=report)
    numbers, tables = result.to_json(), [result_table(result)]
    if isinstance(result, Evaluation) and dataset.words and isinstance(detector, Describer):
        with progress(console, transient=True) as report:
            described = describe_objects(detector, dataset, batch_size=batch, progress=report)
        numbers["true_boxes"] = described.to_json()
        tables.append(described_table(described))
    show(tables, numbers, json_file)
    if isinstance(result, Evaluation) and results:
        write_json(results, results_of(result, dataset))
        console.print(f"wrote {results}")
    if isinstance(result, Evaluation) and (report_folder or worst):
        margins, least = detector.scores_are_margins, detector.min_score
        with progress(console, transient=True) as report:
            analysis = analyse(result, dataset, probabilities=not margins, min_score=least, report=report)
            written = write_report(analysis, report_folder, str(weights), report) if report_folder else []
            written += write_worst(analysis, worst, report) if worst else []
        for path in written:
            console.print(f"wrote {path}")
