"""What travels through a detector: images, targets, proposals, detections.

The conventions of the whole project, said once:

    boxes   (N, 4) float32 xyxy in continuous pixels, 0-based; width is x2 - x1, with no + 1
    sizes   (height, width), in that order
    labels  int64 in [0, K); background exists only inside heads
    scores  higher is better; probabilities, except R-CNN's SVM margins
    deltas  (dx, dy, dw, dh)
    B images, N boxes in one image, R regions in the batch, A anchors per cell, K classes

"Nothing" is a (0, 4) tensor, never None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rcnnkit.boxes import area, check_boxes
from rcnnkit.settings import closest_name

Array = np.ndarray[Any, np.dtype[Any]]
Size = tuple[int, int]  # (height, width)
Found = tuple[str, float, tuple[float, float, float, float]]  # name, score and x1, y1, x2, y2 of one detection
Piece = TypeVar("Piece", "Targets", "Proposals", "Detections")


@dataclass(frozen=True, slots=True, eq=False)  # eq=False: tensors have no single ==
class ImageBatch:
    """Normalised pictures, padded at the right and bottom to one size."""

    pixels: Tensor  # (B, 3, H, W) float32, 0 in the padding; (B, 3, 0, 0) for detectors that resize the pictures
    sizes: Sequence[Size]  # of each picture inside `pixels`, without the padding
    original_sizes: Sequence[Size]  # of each picture as it was given
    # Where they are known; else empty.
    pictures: Sequence[np.ndarray] = ()  # each as it was given, upright: (H, W, 3) uint8 RGB
    proposals: Sequence[Proposals] = ()  # made beforehand, of each image, in the frame of `pixels`

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or not len(self.pixels) == len(self.sizes) == len(self.original_sizes):
            raise ValueError(
                f"pixels {tuple(self.pixels.shape)} do not go with {len(self.sizes)} sizes and"
                f" {len(self.original_sizes)} original sizes; expected (B, 3, H, W) and B of each"
            )
        for name in ("pictures", "proposals"):
            count = len(getattr(self, name))
            if count not in (0, len(self)):
                raise ValueError(f"{count} {name} for {len(self)} images; give one for each image, or none at all")

    def __len__(self) -> int:
        return len(self.sizes)

    def padded_to(self, size: Sequence[int]) -> ImageBatch:
        """The same pictures on a canvas of at least that height and width."""
        height, width = self.pixels.shape[2:]
        return replace(self, pixels=F.pad(self.pixels, (0, size[1] - width, 0, size[0] - height)))

    def __getitem__(self, part: slice) -> ImageBatch:
        """Some of the pictures, padded as they are."""
        return ImageBatch(
            self.pixels[part], self.sizes[part], self.original_sizes[part], self.pictures[part], self.proposals[part]
        )


@dataclass(frozen=True, slots=True, eq=False)
class LossSum:
    """A loss over samples, before it is divided by their number: those of parts of a batch add up."""

    total: Tensor  # ()
    count: Tensor | float  # of the samples; where they are weighted, the () sum of the weights

    @property
    def mean(self) -> Tensor:
        """0 where there are no samples."""
        return self.total / (self.count.clamp(min=1e-12) if isinstance(self.count, Tensor) else self.count or 1)


def means(sums: Mapping[str, LossSum]) -> dict[str, Tensor]:
    """Named losses to add up."""
    return {name: each.mean for name, each in sums.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """The objects annotated in one image."""

    boxes: Tensor  # (N, 4) float32 xyxy
    labels: Tensor  # (N,) int64 in [0, K)
    # Left out, the flags are all False and the areas are the boxes' own.
    difficult: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))  # (N,) VOC
    truncated: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))  # (N,) VOC
    crowd: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))  # (N,) COCO's iscrowd
    areas: Tensor = field(default_factory=lambda: torch.zeros(0))  # (N,) float32, COCO's (mask) area
    # (N, L) int64: the numbers of each object's words, see `rcnnkit.vocabulary`; (N, 0) where nothing is described
    phrases: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))
    # For which (height, width) and number of classes the values were found right, and the versions of boxes and labels,
    # which change in place; `replace` forgets it.
    _seen: tuple[int, int, int, int, int] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_boxes(self.boxes)
        for name in ("difficult", "truncated", "crowd"):
            if not len(getattr(self, name)):
                none = torch.zeros(len(self.boxes), dtype=torch.bool, device=self.boxes.device)
                object.__setattr__(self, name, none)
        if not len(self.areas):
            object.__setattr__(self, "areas", area(self.boxes))
        if not len(self.phrases) and len(self.boxes):
            object.__setattr__(self, "phrases", self.labels.new_zeros(len(self.boxes), 0))
        _check_lengths(self)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, keep: Tensor | slice) -> Targets:
        return _seen_too(_select(self, keep), self)

    def to(self, device: torch.device | str) -> Targets:
        return _seen_too(_move(self, device), self)

    def see(self, size: Size, classes: int) -> None:
        """Note that the boxes lie in a picture of this size, and the labels in [0, classes)."""
        object.__setattr__(self, "_seen", (*size, classes, *_versions(self)))

    def was_seen(self, size: Size, classes: int) -> bool:
        """Whether that was noted, of as many classes or fewer."""
        seen = self._seen
        return seen is not None and seen == (*size, seen[2], *_versions(self)) and seen[2] <= classes


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """Class-agnostic regions of one image, best first."""

    boxes: Tensor  # (N, 4) float32 xyxy, in the frame of the batch's pixels
    scores: Tensor  # (N,) float32, higher is better

    def __post_init__(self) -> None:
        check_boxes(self.boxes)
        _check_lengths(self)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, keep: Tensor | slice) -> Proposals:
        return _select(self, keep)

    def to(self, device: torch.device | str) -> Proposals:
        return _move(self, device)


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in one image, best score first."""

    boxes: Tensor  # (N, 4) float32 xyxy, pixels of the picture as it was given
    scores: Tensor  # (N,) float32
    labels: Tensor  # (N,) int64 in [0, K)
    class_names: Sequence[str] = ()  # K names
    category_ids: Sequence[int] = ()  # the data set's own id of each class, K of them
    phrases: Sequence[str] = ()  # of each detection, N of them, where the detector describes what it finds

    def __post_init__(self) -> None:
        check_boxes(self.boxes)
        _check_lengths(self)
        if self.phrases and len(self.phrases) != len(self.boxes):
            raise ValueError(f"{len(self.boxes)} boxes but {len(self.phrases)} phrases; each box needs one")

    def __len__(self) -> int:
        return len(self.boxes)

    @overload
    def __getitem__(self, keep: int | np.integer) -> Found: ...

    @overload
    def __getitem__(self, keep: Tensor | slice) -> Detections: ...

    def __getitem__(self, keep: int | np.integer | Tensor | slice) -> Found | Detections:
        """Those that a mask, an index tensor or a slice selects; or one, as iterating gives it.

        Raises:
            IndexError: there are not so many.
        """
        if (number := _number(keep)) is None:
            chosen = _select(replace(self, phrases=()), keep)
            if not self.phrases:
                return chosen
            rows = torch.arange(len(self))[keep.cpu() if isinstance(keep, Tensor) else keep]
            return replace(chosen, phrases=tuple(self.phrases[i] for i in rows.tolist()))
        if not -len(self) <= number < len(self):
            raise IndexError(f"there is no detection [{number}] among {len(self)}")
        first = number % len(self)
        return next(iter(self[first : first + 1]))

    def __iter__(self) -> Iterator[Found]:
        """(name, score, (x1, y1, x2, y2)) of each detection."""
        boxes = ((x1, y1, x2, y2) for x1, y1, x2, y2 in self.boxes.tolist())
        return zip(self.names, self.scores.tolist(), boxes, strict=True)

    @property
    def names(self) -> list[str]:
        """The phrase of each detection, or else its class name; its label as text where no names are known."""
        if self.phrases:
            return list(self.phrases)
        return [self.class_names[i] if self.class_names else str(i) for i in self.labels.tolist()]

    def above(self, score: float) -> Detections:
        """Those with at least this score."""
        return self[self.scores >= score]

    def of(self, *names: str) -> Detections:
        """Those of the named classes.

        Raises:
            ValueError: a name is not one of `class_names`.
        """
        for name in names:
            if name not in self.class_names:
                close = closest_name(name, self.class_names)
                hint = f"did you mean {close}? The classes are" if close else "the classes are"
                raise ValueError(f"no class is called {name!r}; {hint} {', '.join(self.class_names)}")
        wanted = torch.tensor([self.class_names[i] in names for i in self.labels.tolist()], dtype=torch.bool)
        return self[wanted.to(self.labels.device)]

    def to(self, device: torch.device | str) -> Detections:
        return _move(self, device)

    def to_coco(self, image_id: int | str) -> list[dict[str, object]]:
        """Entries of a COCO results file: x, y, width, height; the data set's own category ids; phrases as `caption`.

        Where the category ids are not known, they are labels + 1.
        """
        ids = self.category_ids or range(1, 1 + (max(self.labels.tolist(), default=0) + 1))
        return [
            coco_entry(image_id, ids[label], box, digits=3) | {"score": round(score, 6)} | described
            for box, score, label, described in zip(
                self.boxes.tolist(),
                self.scores.tolist(),
                self.labels.tolist(),
                [{"caption": phrase} for phrase in self.phrases] or [{}] * len(self),
                strict=True,
            )
        ]

    def to_supervision(self) -> Any:
        """The same as a `supervision.Detections`, for its annotators, filters, and trackers that take it.

        Its `xyxy`, `confidence` and `class_id` are boxes, scores and labels; `data["class_name"]` holds the names.

        Raises:
            ImportError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise ImportError("to_supervision needs supervision: pip install supervision") from None
        boxes, scores, labels = (each.numpy(force=True) for each in (self.boxes, self.scores, self.labels))
        names = np.array(self.names, dtype=str)
        return supervision.Detections(boxes, confidence=scores, class_id=labels, data={"class_name": names})

    def to_dataframe(self) -> Any:
        """The same as a `pandas.DataFrame`, a row each: x1, y1, x2, y2, class, score and label.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("to_dataframe needs pandas: pip install pandas") from None
        sides = dict(zip(("x1", "y1", "x2", "y2"), self.boxes.numpy(force=True).T, strict=True))
        scores, labels = self.scores.numpy(force=True), self.labels.numpy(force=True)
        return pandas.DataFrame(sides | {"class": self.names, "score": scores, "label": labels})


def coco_entry(
    image_id: int | str, category_id: int, box: Sequence[float], digits: int | None = None
) -> dict[str, Any]:
    """What an annotation and a result in COCO's format have in common.

    Args:
        box: x1, y1, x2, y2.
        digits: after the decimal point; None keeps all.
    """
    x1, y1, x2, y2 = box
    bbox = [x1, y1, x2 - x1, y2 - y1]
    bbox = bbox if digits is None else [round(v, digits) for v in bbox]
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox}


def _versions(targets: Targets) -> tuple[int, int]:
    """Counts of how often the tensors were changed in place."""
    return targets.boxes._version, targets.labels._version


def _seen_too(part: Targets, whole: Targets) -> Targets:
    """A part or copy of targets whose values were found right has right ones too."""
    if whole._seen is not None and whole._seen[3:] == _versions(whole):
        height, width, classes, *_ = whole._seen
        part.see((height, width), classes)
    return part


def _tensors(piece: Piece) -> dict[str, Tensor]:
    values = {f.name: getattr(piece, f.name) for f in fields(piece)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _check_lengths(piece: Piece) -> None:
    for name, value in _tensors(piece).items():
        if len(value) != len(piece.boxes):
            raise ValueError(f"{len(piece.boxes)} boxes but {len(value)} {name}; each box needs one")


def _number(keep: object) -> int | None:
    """Where `keep` asks for a single one: a whole number, also numpy's, or one in a tensor."""
    if isinstance(keep, Tensor):
        return int(keep) if keep.ndim == 0 and keep.dtype != torch.bool else None
    return int(keep) if isinstance(keep, int | np.integer) and not isinstance(keep, bool) else None


def _select(piece: Piece, keep: int | np.integer | Tensor | slice) -> Piece:
    if (number := _number(keep)) is not None:
        raise TypeError(f"{type(piece).__name__}[{number}] would be a single one; write a slice, such as [0:1]")
    chosen: dict[str, Any] = {name: value[keep] for name, value in _tensors(piece).items()}
    return replace(piece, **chosen)


def _move(piece: Piece, device: torch.device | str) -> Piece:
    moved: dict[str, Any] = {name: value.to(device) for name, value in _tensors(piece).items()}
    return replace(piece, **moved)
