"""Files with fewer bits than float32, and what that costs: AP before and after, on annotated pictures."""

from __future__ import annotations

import copy
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rcnnkit.boxes import clip, iou, scale
from rcnnkit.data.records import Dataset, Record
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.evaluation.coco import MAXIMUM, area_matches
from rcnnkit.evaluation.intervals import Interval, drawn, middle
from rcnnkit.evaluation.matches import Hits, known_mean
from rcnnkit.exporting.int8 import layers_of, sensitive_first, to_int8
from rcnnkit.exporting.proof import read_record
from rcnnkit.exporting.runtimes import RUNTIMES, Arrays, Exported
from rcnnkit.progress import Report, reported, silent
from rcnnkit.structures import Array, Detections, Proposals
from rcnnkit.text import count

TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
PARTS = ("backbone", "rpn", "head.layers")  # that are computed in half precision
SHARES = (0.0, 0.05, 0.1, 0.2, 0.4)  # of the layers, that are left out one try after the other
CALIBRATION = 64  # pictures
SENSED = 8  # of these, on which each layer is tried

# Writes a file in a format, of a detector; and of an ONNX file.
Write = Callable[[Detector, Path], None]
Convert = Callable[[Path, Path], object]


class TooMuchLost(ValueError):
    """No file with fewer bits keeps enough of the AP."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """What fewer bits cost."""

    precision: str
    pictures: int
    before: float  # AP of the detector in float32
    after: float  # of the file
    interval: Interval  # that holds the loss, as other pictures would have it
    left_out: tuple[str, ...]  # layers that stay in float32
    layers: int  # in all
    script: Path | None = None  # that was written beside the file

    def __str__(self) -> str:
        told = (
            f"{self.precision}: AP {self.before:.4f} before and {self.after:.4f} after, on"
            f" {count(self.pictures, 'picture')}; {_loss(self.before - self.after, self.interval)}"
        )
        if self.left_out:
            told += f"; {len(self.left_out):,} of {count(self.layers, 'layer')} left in float32"
        return told


def _loss(loss: float, interval: Interval) -> str:
    return f"a loss of {loss:.4f} ({interval[0]:.4f} to {interval[1]:.4f} with 95 % confidence)"


def check_lowered(detector: Detector, data: Dataset | None, precision: str) -> None:
    """Raise ValueError unless the AP can be measured that fewer bits cost."""
    if not isinstance(detector, FastRCNN | FasterRCNN):
        raise ValueError(f"of an R-CNN the classifier of windows is exported, which has no AP; leave {precision} out")
    if detector.takes_proposals and detector.proposer is None:
        raise ValueError(f"{precision} needs the AP, and this detector the proposals of each picture; leave it out")
    if data is None or not any(len(record.targets) for record in data.records):
        raise ValueError(f"{precision} needs annotated pictures, for the AP before and after; give --verify DATA")


def half_files(
    detector: Detector, path: Path, write: Write, precision: str
) -> Iterator[tuple[tuple[str, ...], int, Exported]]:
    """Files in half precision, the first with all parts of `PARTS` in it, then with fewer."""
    parts = [name for name in PARTS if _has(detector, name)]
    for stay in range(len(parts)):
        changed, left = parts[: len(parts) - stay], parts[len(parts) - stay :]
        write(halved(detector, TYPES[precision], changed), path)
        yield tuple(left), len(parts), _opened(path, precision)


def int8_files(
    detector: Detector,
    path: Path,
    write: Write,
    convert: Convert,
    pictures: Sequence[Array],
    progress: Report = silent,
) -> Iterator[tuple[tuple[str, ...], int, Exported]]:
    """Files in int8, the first with all layers in it, then without those whose rounding changes detections most.

    Args:
        write: writes an ONNX file in float32.
        convert: makes the file of such an ONNX file.
        pictures: to calibrate with.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        exact, small, ranges = (Path(folder) / name for name in ("exact.onnx", "small.onnx", "ranges.json"))
        write(detector, exact)
        feeds = _feeds(Exported(exact), detector, pictures)
        layers = layers_of(exact)
        order: list[str] = []
        for share in SHARES:
            if share and not order:
                order = sensitive_first(exact, feeds[:SENSED], ranges, _outputs, _error, progress)
            left_out = tuple(order[: math.ceil(share * len(layers))])
            small.unlink(missing_ok=True)
            to_int8(exact, small, feeds, left_out, ranges)
            path.unlink(missing_ok=True)
            convert(small, path)
            yield left_out, len(layers), _opened(path, "int8")


def _outputs(file: Path, feeds: Sequence[Arrays]) -> list[Arrays]:
    exported = Exported(file)
    return [exported.run(feed) for feed in feeds]


def _error(wanted: Arrays, found: Arrays) -> float:
    """How far detections of one picture are from those wanted: what they lack in IoU and in score, by their scores."""
    own, other = (
        {name: torch.from_numpy(values[name][0, : values["counts"][0]]) for name in ("boxes", "scores", "labels")}
        for values in (wanted, found)
    )
    if not len(own["scores"]) or not len(other["scores"]):
        return float(own["scores"].abs().sum() + other["scores"].abs().sum())
    overlaps = iou(own["boxes"], other["boxes"]) * (own["labels"][:, None] == other["labels"])
    best = overlaps.max(dim=1)
    off = (own["scores"] - other["scores"][best.indices]).abs()
    return float((own["scores"].abs() * (1 - best.values) + torch.where(best.values > 0, off, 0)).sum())


def _opened(path: Path, precision: str) -> Exported:
    try:
        return Exported(path)
    except ValueError as error:
        reason = re.sub(r"^.*? as an exported file \((.*)\); export it again$", r"\1", str(error))
        raise ValueError(
            f"{RUNTIMES[path.suffix]} does not take this detector in {precision} ({reason}); choose another --precision"
            " or --format"
        ) from None


def keep_enough(
    detector: Detector,
    files: Iterator[tuple[tuple[str, ...], int, Exported]],
    data: Dataset,
    precision: str,
    max_loss: float,
    progress: Report = silent,
) -> Lowered:
    """Take files one after the other until one loses at most `max_loss` of the AP.

    Raises:
        TooMuchLost: none does.
    """
    pictures: list[tuple[Record, list[Proposals] | None]] = []
    own: Hits | None = None
    before, attempts = math.nan, list[tuple[Hits, str]]()
    for left_out, layers, exported in files:
        if own is None:  # only now, as a format may not take the precision at all
            pictures = list(_shown(detector, data))
            own = _hits(detector, pictures, data, "float32", progress)
            before = known_mean(own.ap(MAXIMUM))
        hits = _hits(exported, pictures, data, precision, progress)
        after = known_mean(hits.ap(MAXIMUM))
        if before - after <= max_loss:
            return Lowered(precision, len(data), before, after, _interval(own, hits, len(data)), left_out, layers)
        attempts.append((hits, f"with {len(left_out)} of {layers} left in float32"))
    assert own is not None
    told, unsure = [], False
    for hits, left in attempts:
        interval = _interval(own, hits, len(data))
        told.append(f"{_loss(before - known_mean(hits.ap(MAXIMUM)), interval)} {left}")
        unsure |= interval[0] <= max_loss
    advice = "allow more with --max-ap-loss, or leave --precision out"
    if unsure:
        advice = f"on {count(len(data), 'picture')} that may be chance, so give more with --verify, or {advice}"
    raise TooMuchLost(
        f"{precision} loses more than {max_loss:g} of the AP of {before:.4f}: {'; '.join(told)}; {advice}"
    )


def _interval(own: Hits, other: Hits, pictures: int) -> Interval:
    """Of the loss of AP, over data sets drawn from the pictures (the paired bootstrap)."""
    losses = [known_mean(own.ap(MAXIMUM, often)) - known_mean(other.ap(MAXIMUM, often)) for often in drawn(pictures)]
    return middle(np.array(losses))


def halved(detector: Detector, dtype: torch.dtype, parts: Sequence[str]) -> Detector:
    """A copy whose parts compute in another type; what goes in and out of them is float32."""
    half = copy.deepcopy(detector)
    for name in parts:
        part = half.get_submodule(name).to(dtype)
        part.register_forward_pre_hook(lambda _, given: _cast(given, dtype))
        part.register_forward_hook(lambda _, given, found: _cast(found, torch.float32))
    return half


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, list | tuple):
        return type(value)(_cast(each, dtype) for each in value)
    return value


def _has(detector: nn.Module, name: str) -> bool:
    try:
        part = detector.get_submodule(name)
    except AttributeError:
        return False
    return any(True for _ in part.parameters())


def _feeds(exported: Exported, detector: Detector, pictures: Sequence[Array]) -> list[Arrays]:
    """The inputs of a file for each picture."""
    return [exported.feed([picture], _regions(detector, picture))[0] for picture in pictures]


def _regions(detector: Detector, picture: Array) -> list[Proposals] | None:
    """What the detector's own method proposes, in the pixels of the picture; None where the network proposes."""
    if not detector.takes_proposals:
        return None
    images = detector.preprocessing([picture])
    (found,) = detector.propose(images, [], detector.count)
    boxes = clip(scale(found.boxes, images.sizes[0], images.original_sizes[0]), images.original_sizes[0])
    return [Proposals(boxes, found.scores)]


def _shown(detector: Detector, data: Dataset) -> Iterator[tuple[Record, list[Proposals] | None]]:
    for record in data.records:
        yield record, _regions(detector, read_record(record)) if detector.takes_proposals else None


def _call(find: Any, record: Record, regions: list[Proposals] | None) -> Detections:
    picture = read_record(record)
    (found,) = find([picture]) if regions is None else find([picture], regions)
    assert isinstance(found, Detections)
    return found


def _hits(
    find: Any,
    pictures: Sequence[tuple[Record, list[Proposals] | None]],
    data: Dataset,
    title: str,
    progress: Report,
) -> Hits:
    found = [_call(find, *each) for each in reported(pictures, f"AP in {title}", progress)]
    return area_matches(found, data).hits()
