"""Proposals in the files that were released with the papers and their code.

.mat  selective search for VOC, of R-CNN and Fast R-CNN: `boxes`, a cell of (N, 4) y1 x1 y2 x2, 1-based and
      inclusive, and `images`, the pictures' names
.pkl  Fast R-CNN's and py-faster-rcnn's: a list of (N, 4) x1 y1 x2 y2, or (N, 5) with a score, 0-based and
      inclusive, in the order of the split's pictures
.pkl  Detectron's: a dict of ids, boxes (as above) and scores
.pkl  detectron2's: a dict of ids, boxes (continuous like ours; bbox_mode says xyxy or xywh) and objectness_logits
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import torch

from rcnnkit.files import check_regular
from rcnnkit.mat_files import read_mat
from rcnnkit.pickles import read_pickle
from rcnnkit.structures import Proposals
from rcnnkit.text import count

XYXY, XYWH = 0, 1  # detectron2's BoxMode
INCLUSIVE = np.array([0, 0, 1, 1])  # what carries 0-based inclusive boxes to ours


@dataclass(frozen=True, slots=True, eq=False)
class Released:
    """The proposals of P pictures as a file has them, in our convention."""

    path: Path
    ids: Sequence[str] | None  # P of them; None: the pictures of the split in its order
    boxes: Sequence[np.ndarray]  # P × (N, 4) xyxy, continuous pixels
    scores: Sequence[np.ndarray] | None  # P × (N,); None: nothing tells which is better

    def __len__(self) -> int:
        return len(self.boxes)

    def proposals(self, i: int) -> Proposals:
        """Those of picture `i`, best first.

        Without scores of their own, they are put in a random order, the same one each time, and get 1, 1 - 1/N, …: the
        authors' boxes for VOC go from the top of the picture to its bottom, and the first 2000 would leave out the
        rest.
        """
        boxes = torch.from_numpy(self.boxes[i].astype(np.float32))
        if self.scores is None:
            order = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(i))
            return Proposals(boxes[order], 1 - torch.arange(len(boxes)) / max(1, len(boxes)))
        scores = torch.from_numpy(self.scores[i].astype(np.float32))
        return Proposals(boxes, scores)[scores.argsort(descending=True, stable=True)]


def read_released(path: Path | str) -> Released:
    """The proposals in a released file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no regular file, is damaged, holds something else, or is a pickle that asks for more than
            arrays.
    """
    path = Path(path)
    check_regular(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of proposals")
    readers = {".mat": _from_mat, ".pkl": _from_pickle, ".pickle": _from_pickle}
    if path.suffix not in readers:
        raise ValueError(f"{path} is neither a .mat nor a .pkl file; those were released with proposals")
    try:
        released = readers[path.suffix](path)
        for name in ("ids", "scores"):
            values = getattr(released, name)
            if values is not None and len(values) != len(released):
                raise ValueError(f"it has the boxes of {count(len(released), 'picture')}, but {len(values)} {name}")
        for i, scores in enumerate(released.scores or ()):
            if scores.shape != (len(released.boxes[i]),):
                raise ValueError(f"entry {i} has {len(released.boxes[i])} boxes, but scores of shape {scores.shape}")
    except (TypeError, ValueError) as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path} is not read: {error}") from None
    return released


def _from_mat(path: Path) -> Released:
    content = read_mat(path, "boxes", "images")
    cell, names = content.get("boxes"), content.get("images")
    if not isinstance(cell, list):
        raise ValueError("it has no cell `boxes`")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError("its `images` is no cell of names")
    boxes = [_boxes(table, i)[:, [1, 0, 3, 2]] - 1 + INCLUSIVE for i, table in enumerate(cell)]
    return Released(path, None if names is None else [_stem(name) for name in names], boxes, None)


def _from_pickle(path: Path) -> Released:
    content = read_pickle(path)
    if isinstance(content, list | tuple):
        tables = [_boxes(table, i, (4, 5)) for i, table in enumerate(content)]
        scored = any(table.shape[1] == 5 for table in tables)
        scores = [table[:, 4:].ravel() for table in tables] if scored else None
        return Released(path, None, [table[:, :4] + INCLUSIVE for table in tables], scores)
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, expected a list or a dict of boxes")
    ids = _first(content, "ids", "indexes")
    logits = _first(content, "objectness_logits", "scores")
    mode = content.get("bbox_mode", XYXY)
    if mode not in (XYXY, XYWH):
        raise ValueError(f"its bbox_mode is {mode}, and only xyxy (0) and xywh (1) in pixels are read")
    boxes = [_boxes(table, i) for i, table in enumerate(_first(content, "boxes"))]
    if mode == XYWH:
        boxes = [table + np.pad(table[:, :2], ((0, 0), (2, 0))) for table in boxes]
    elif "objectness_logits" not in content:  # Detectron's
        boxes = [table + INCLUSIVE for table in boxes]
    scores = [np.asarray(row, dtype=np.float64).reshape(-1) for row in logits]
    return Released(path, [_stem(str(name)) for name in ids], boxes, scores)


def _first(content: dict[Any, Any], *names: str) -> Any:
    for name in names:
        if name in content:
            return content[name]
    raise ValueError(f"it has no {' or '.join(names)}, only {', '.join(map(str, content)) or 'nothing'}")


def _boxes(value: Any, index: int, columns: Sequence[int] = (4,)) -> np.ndarray:
    """(N, 4) float64; (N, 5) too where `columns` has that."""
    try:
        boxes = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"entry {index} is no array of numbers, expected the (N, 4) boxes of a picture") from None
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] not in columns:
        raise ValueError(f"entry {index} has shape {boxes.shape}, expected the (N, 4) boxes of a picture")
    return boxes


def _stem(name: str) -> str:
    """The picture's id: a file's name, without folders and ending."""
    name = PureWindowsPath(name).name  # knows both kinds of slashes
    return name.rsplit(".", 1)[0] if name.lower().endswith((".jpg", ".jpeg", ".png")) else name
