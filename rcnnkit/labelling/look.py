"""What a detector finds in pictures, and what they look like to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnnkit.data.records import Dataset
from rcnnkit.detectors.detector import Detector
from rcnnkit.images import read_picture
from rcnnkit.progress import Report, reported, silent
from rcnnkit.structures import Array, Detections


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """What a detector says of P pictures."""

    detections: Sequence[Detections]  # of each, on the CPU, in the pixels that its record speaks of
    descriptors: Array  # (P, D) float32, of length 1: what each picture looks like to the backbone


def look(detector: Detector, dataset: Dataset, report: Report = silent) -> Looked:
    """Detections and a descriptor of every picture, one picture at a time, so that none is padded as another needs it.

    A descriptor is the mean of each feature map over its cells, each mean brought to length 1, one after the other. Of
    R-CNN, which has no maps of the picture, it is the mean of the last layer's features over its windows.

    Args:
        detector: as `rcnnkit.load` gives it.
        dataset: its objects are not looked at.
        report: is called with what is done so far.

    Raises:
        FileNotFoundError, ValueError: a picture cannot be read; or the detector needs proposals that do not come with
            the pictures.
    """
    if detector.takes_proposals and detector.proposer is None:
        raise ValueError(
            "this detector was trained on precomputed proposals, which do not come with new pictures; train one with"
            ' another proposals.method, such as "selective_search"'
        )
    detections, descriptors = [], []
    for record in reported(dataset.records, f"{dataset.name}: looked at", report):
        with _watched(detector) as rows:
            detections.append(detector(read_picture(record.path, record.size)).to("cpu"))
        descriptors.append(_normalised(torch.cat(rows).mean(dim=0)).cpu().numpy())
    return Looked(detections, np.stack(descriptors) if descriptors else np.zeros((0, 0), np.float32))


@contextmanager
def _watched(detector: Detector) -> Iterator[list[Tensor]]:
    """While inside, each call of the backbone adds (N, D): the pooled features of its N pictures or windows."""
    rows: list[Tensor] = []

    def note(_: nn.Module, __: Any, output: Sequence[Tensor] | Mapping[str, Tensor]) -> None:
        maps = [*output.values()][-1:] if isinstance(output, Mapping) else output
        means = [each.detach().float().flatten(2).mean(2) if each.ndim > 2 else each.detach().float() for each in maps]
        rows.append(torch.cat([_normalised(mean) for mean in means], dim=1))

    hook = detector.get_submodule("backbone").register_forward_hook(note)
    try:
        yield rows
    finally:
        hook.remove()


def _normalised(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=-1)
