"""Pictures labelled by a detector, those that teach most first, and written as a data set."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rcnnkit.data.convert import convert
from rcnnkit.data.label_studio_writing import write_label_studio
from rcnnkit.data.records import Dataset
from rcnnkit.detectors.detector import Detector
from rcnnkit.files import check_free, whole, write_json
from rcnnkit.labelling.choice import choose, uncertainty
from rcnnkit.labelling.look import look
from rcnnkit.labelling.pictures import with_detectors_classes, without
from rcnnkit.progress import Report, silent
from rcnnkit.structures import Targets
from rcnnkit.text import count

FORMATS = {"coco": "COCO", "voc": "Pascal VOC", "yolo": "YOLO", "label_studio": "Label Studio"}
ORDER = "order"  # .csv and .json
TASKS, INTERFACE = "tasks.json", "label_config.xml"  # for Label Studio


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Pictures in the order in which a person should look at them."""

    dataset: Dataset  # their objects are what the detector found
    scores: Sequence[Tensor]  # (N,) of the objects of each
    uncertainties: Sequence[float]
    distances: Sequence[float]  # to the nearest picture that was labelled or comes before; infinite where there is none
    min_score: float  # of the objects

    @property
    def objects(self) -> int:
        return sum(map(len, self.scores))


def label(
    detector: Detector,
    pictures: Dataset,
    labelled: Dataset | None = None,
    *,
    first: int | None = None,
    min_score: float | None = None,
    report: Report = silent,
) -> Labelled:
    """Label pictures by what a detector finds, and put those first that would teach it most.

    Args:
        detector: as `rcnnkit.load` gives it.
        pictures: as `read_any` gives them; their own objects are not looked at.
        labelled: what was labelled before: these pictures are left out, and those that are like them come late.
        first: so many pictures are kept, and by default all.
        min_score: detections from this score on become labels, and near it they are uncertain; by default
            `detector.min_score`.
        report: is called with what is done so far.

    Raises:
        ValueError: the detector does not know a class of the pictures, needs proposals, or no picture is left.
        FileNotFoundError: a picture is not there any more.
    """
    least = detector.min_score if min_score is None else min_score
    ids = detector.category_ids or range(1, len(detector.class_names) + 1)
    pictures = with_detectors_classes(pictures, detector.class_names, ids)
    if labelled is not None:
        pictures = without(pictures, labelled)
    answers = look(detector, pictures, report)
    known_descriptors = (
        look(detector, labelled, report).descriptors if labelled is not None else answers.descriptors[:0]
    )
    margins = detector.scores_are_margins
    unsure = [uncertainty(each.scores.numpy(), least, margins=margins) for each in answers.detections]
    order, distances = choose(unsure, answers.descriptors, known_descriptors, len(pictures) if first is None else first)
    new_labels = torch.tensor([list(pictures.class_names).index(name) for name in detector.class_names])
    records, scores = [], []
    for i in order:
        detections = answers.detections[i].above(least)
        records.append(replace(pictures.records[i], targets=Targets(detections.boxes, new_labels[detections.labels])))
        scores.append(detections.scores)
    return Labelled(replace(pictures, records=records), scores, [unsure[i] for i in order], distances, least)


def write_labelled(labelled: Labelled, to: str, out: Path, *, weights: str, link: str | None = None) -> list[str]:
    """Write pictures and their labels as a data set into a new folder, with order.csv and order.json beside.

    The pictures have their order in the files of COCO, VOC and Label Studio, and in order.csv. Scores are in
    order.json, and in the annotations of COCO and Label Studio; VOC and YOLO have no place for them.

    Args:
        to: one of FORMATS. Label Studio's tasks.json and label_config.xml are written beside COCO's annotations.
        weights: what made the labels, for people.
        link: as of `rcnnkit.data.convert.convert`.

    Returns:
        What the format could not hold, in words.

    Raises:
        FileExistsError: `out` holds something already.
        OSError: a file cannot be written, or a picture not copied.
        ValueError: a class has a character that XML does not allow.
    """
    check_free(out)
    dataset = labelled.dataset
    layout = "coco" if to == "label_studio" else to
    if layout == "coco" and not all(isinstance(key, int) for key in dataset.flat.ids):
        dataset = replace(dataset, records=dataset.flat.with_ids(range(1, len(dataset) + 1)))
    scores = [each.tolist() for each in labelled.scores]
    converted = convert({"train": dataset}, layout, out, link, scores={"train": scores})
    output = converted.splits["train"]
    if to == "label_studio":
        write_label_studio(output, scores, out / TASKS, out / INTERFACE, weights)
    files = [record.path.relative_to(out).as_posix() for record in output.records]
    rows = _rows(labelled, files)
    with (
        whole(out / f"{ORDER}.csv") as half,
        half.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
    about = {"weights": weights, "min_score": labelled.min_score, "pictures": _with_objects(labelled, rows, scores)}
    write_json(out / f"{ORDER}.json", about)
    notes = converted.notes
    if to in ("voc", "yolo") and labelled.objects:
        many = count(labelled.objects, "object")
        notes = [f"the scores of {many} are in {ORDER}.json alone: {FORMATS[to]} has no place for them", *notes]
    return notes


def _rows(labelled: Labelled, files: Sequence[str]) -> list[dict[str, Any]]:
    """A row a picture; the distance is None where nothing was known before it."""
    measured = zip(labelled.uncertainties, labelled.distances, labelled.scores, strict=True)
    return [
        {
            "rank": rank,
            "file": file,
            "source": str(record.path),
            "uncertainty": round(unsure, 4),
            "distance": None if distance == float("inf") else round(distance, 4),
            "objects": len(scores),
        }
        for rank, (record, file, (unsure, distance, scores)) in enumerate(
            zip(labelled.dataset.records, files, measured, strict=True), 1
        )
    ]


def _with_objects(
    labelled: Labelled, rows: Sequence[dict[str, Any]], scores: Sequence[Sequence[float]]
) -> list[dict[str, Any]]:
    names = labelled.dataset.class_names
    entries = []
    for row, record, of_picture in zip(rows, labelled.dataset.records, scores, strict=True):
        found = zip(record.targets.labels.tolist(), of_picture, record.targets.boxes.tolist(), strict=True)
        objects = [{"name": names[label], "score": round(score, 6), "box": box} for label, score, box in found]
        entries.append({**row, "objects": objects})
    return entries
