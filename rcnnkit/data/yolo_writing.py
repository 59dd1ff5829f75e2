"""Writes data sets in YOLO's layout."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import torch
import yaml
from torch import Tensor

from rcnnkit.archives import read_file
from rcnnkit.data.records import Dataset, Record
from rcnnkit.data.yolo_labels import label_file
from rcnnkit.decoding import open_picture, sizes
from rcnnkit.structures import Size


def write_yolo(splits: Mapping[str, Dataset], root: Path) -> None:
    """Write data.yaml and the label files of pictures that lie in root/images/SPLIT already.

    `read_yolo` gives the same boxes and labels back. Flags, areas and ids are not kept. Boxes of pictures that are
    annotated as they are stored are turned as EXIF turns the picture.

    Args:
        splits: "train", "val", "test" → pictures, of the same classes, with different names.
        root: the data set's folder.

    Raises:
        FileExistsError: a file that would be written exists; nothing has been written then.
    """
    files = {label_file(record.path): record for data in splits.values() for record in data.records}
    about = root / "data.yaml"
    for path in (about, *files):
        if path.exists():
            raise FileExistsError(f"{path} exists and is not overwritten; choose another folder")
    for split in splits:
        (root / "labels" / split).mkdir(parents=True, exist_ok=True)
    for file, record in files.items():
        boxes, (height, width) = _as_shown(record)
        x1, y1, x2, y2 = boxes.double().unbind(dim=1)
        scale = torch.tensor([width, height, width, height], dtype=torch.float64)
        shares = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], dim=1) / scale
        lines = [
            " ".join([str(label), *(f"{share:.10g}" for share in box)])
            for label, box in zip(record.targets.labels.tolist(), shares.tolist(), strict=True)
        ]
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    names = list(next(iter(splits.values())).class_names) if splits else []
    content = {split: f"images/{split}" for split in splits} | {"nc": len(names), "names": dict(enumerate(names))}
    about.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _as_shown(record: Record) -> tuple[Tensor, Size]:
    """The boxes in the picture as it is shown, and its (height, width) there."""
    with open_picture(io.BytesIO(read_file(record.path).data)) as picture:
        stored_size, shown_size, turn = sizes(picture)
    if record.size == shown_size:
        return record.targets.boxes, shown_size
    height, width = stored_size
    x1, y1, x2, y2 = record.targets.boxes.unbind(dim=1)
    turned = {  # EXIF's numbers that swap the sides
        5: (y1, x1, y2, x2),
        6: (height - y2, x1, height - y1, x2),
        7: (height - y2, width - x2, height - y1, width - x1),
        8: (y1, width - x2, y2, width - x1),
    }
    return torch.stack(turned[turn], dim=1), shown_size
