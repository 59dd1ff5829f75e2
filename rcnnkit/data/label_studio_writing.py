"""Writes pictures with predicted boxes as tasks for Label Studio (1.x), and the interface that shows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from rcnnkit.data.records import Dataset, Record
from rcnnkit.data.voc_writing import check_xml_names
from rcnnkit.files import whole

CONTROL, PICTURE = "label", "image"  # the names of the tags, by which a prediction finds its place


def write_label_studio(
    dataset: Dataset, scores: Sequence[Sequence[float]], tasks: Path, interface: Path, model: str
) -> None:
    """Write a task for each picture, with its objects as a prediction, in the order of the pictures.

    Args:
        dataset: its pictures lie in the folder of `tasks` or below. That folder is what Label Studio has to take for
            the root of its local files.
        scores: of the objects of each picture. A prediction's own score is the mean of those of its objects.
        tasks: the new JSON file, to import.
        interface: the new XML file, the labelling interface of the project.
        model: what made the predictions, for people.

    Raises:
        OSError: a file cannot be written.
        ValueError: a class has a character that XML does not allow.
    """
    check_xml_names(dataset.class_names)
    entries = [
        _task(record, of_picture, dataset.class_names, tasks.parent, model)
        for record, of_picture in zip(dataset.records, scores, strict=True)
    ]
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in dataset.class_names)
    view = (
        f'<View>\n  <Image name="{PICTURE}" value="${PICTURE}"/>\n'
        f'  <RectangleLabels name="{CONTROL}" toName="{PICTURE}">\n{labels}  </RectangleLabels>\n</View>\n'
    )
    for path, text in ((tasks, json.dumps(entries, indent=1)), (interface, view)):
        with whole(path) as half:
            half.write_text(text, encoding="utf-8")


def _task(
    record: Record, scores: Sequence[float], class_names: Sequence[str], root: Path, model: str
) -> dict[str, Any]:
    height, width = record.size
    targets = record.targets
    results = []
    for i, (box, label, score) in enumerate(zip(targets.boxes.tolist(), targets.labels.tolist(), scores, strict=True)):
        x1, y1, x2, y2 = box
        place = {
            "x": 100 * x1 / width,
            "y": 100 * y1 / height,
            "width": 100 * (x2 - x1) / width,
            "height": 100 * (y2 - y1) / height,
        }
        results.append(
            {
                "id": f"object-{i + 1}",
                "type": "rectanglelabels",
                "from_name": CONTROL,
                "to_name": PICTURE,
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "score": round(score, 6),
                "value": place | {"rotation": 0, "rectanglelabels": [class_names[label]]},
            }
        )
    address = f"/data/local-files/?d={quote(record.path.relative_to(root).as_posix())}"
    mean = round(sum(scores) / len(scores), 6) if scores else 0.0
    return {
        "data": {PICTURE: address},
        "predictions": [{"model_version": model, "score": mean, "result": results}],
    }
