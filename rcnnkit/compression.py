"""Truncated SVD of the fully connected layers (Fast R-CNN, arXiv:1504.08083, section 3.1)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from rcnnkit import weights
from rcnnkit.backbones.two_fc import TwoFC, truncated
from rcnnkit.files import check_new

REGIONS = 300  # that the time is measured with
TURNS = 5


@dataclass(frozen=True, slots=True)
class Cost:
    """What a detector takes."""

    parameters: int  # of all of it
    seconds: float  # of fc6 and fc7 for REGIONS regions, on this machine's CPU; the median of several turns


def compress(path: Path | str, ranks: Mapping[str, int], out: Path | str) -> tuple[Cost, Cost]:
    """Write the detector of a weights file once more, with fc6, fc7 or both split in two.

    Args:
        path: the weights file; left as it is.
        ranks: of "fc6", "fc7" or both; the paper takes 1024 and 256 for VGG16. What it costs in accuracy,
            `rcnnkit evaluate` shows.
        out: the new weights file, which must not be there yet.

    Returns:
        The cost before and after.

    Raises:
        FileExistsError: `out` is there.
        ValueError: a detector without these layers (a ResNet with C4, a GoogLeNet, head.convs), or whose layer is
            split already; a rank that the layer does not have; and as `weights.load`.
    """
    check_new(Path(out), ".safetensors")
    detector = weights.load(path, "cpu", for_training=True)
    heads = [module for module in detector.modules() if isinstance(module, TwoFC)]
    if not heads:
        raise ValueError(
            f"{path}: this detector has no fc6 and fc7, but the last stage of a ResNet or GoogLeNet, or convolutions"
        )
    (head,) = heads
    layers = {name: getattr(head, name) for name in ("fc6", "fc7")}
    before = _cost(detector, head)
    for name, rank in ranks.items():
        if name not in layers:
            raise ValueError(f"{name} = {rank}: only fc6 and fc7 can be compressed")
        layer = layers[name]
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"{path}: {name} is compressed already; start from the whole weights")
        if not 0 < rank <= min(layer.weight.shape):
            outputs, inputs = layer.weight.shape
            raise ValueError(
                f"{name} = {rank}: the layer, {inputs} → {outputs}, has ranks from 1 to {min(inputs, outputs)}"
            )
    for name, rank in ranks.items():
        setattr(head, name, truncated(layers[name], rank))
    weights.save_changed(detector, path, out, head={f"{name}_rank": rank for name, rank in ranks.items()})
    return before, _cost(detector, head)


def _cost(detector: nn.Module, head: TwoFC) -> Cost:
    first = next(layer for layer in head.fc6.modules() if isinstance(layer, nn.Linear))  # fc6, or the first of its two
    regions = torch.rand(REGIONS, first.in_features, 1, 1)
    seconds = []
    with torch.inference_mode():
        for _ in range(TURNS + 1):  # the first pays for start-up
            began = time.perf_counter()
            head(regions)
            seconds.append(time.perf_counter() - began)
    return Cost(sum(p.numel() for p in detector.parameters()), statistics.median(seconds[1:]))
