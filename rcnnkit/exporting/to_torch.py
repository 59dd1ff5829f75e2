"""torch.export's programs (.pt2), and AOTInductor's packages, which hold a program compiled for this machine.

They need torch and torchvision, whose nms, roi_align and roi_pool take the places of rcnnkit's.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from rcnnkit.detectors.detector import Detector
from rcnnkit.exporting.placeholders import LOWEST
from rcnnkit.exporting.traced import Traced, traced

APART = 1e5  # pixels between two groups, more than a picture has


def to_torch(
    detector: Detector, path: Path, about: Mapping[str, Any], *, with_preprocessing: bool, inside: bool = False
) -> None:
    """Write a program of torch.export.

    Args:
        detector: on the CPU, float32, in eval mode.
        about: what the file says of itself, in JSON in its extra file "rcnnkit".
        inside: with outputs from inside, by the names of `Traced.layers`.

    Raises:
        ValueError: the detector has no place in the format.
    """
    module = traced(detector, suppress, with_preprocessing, inside)
    program = _program(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path, extra_files={"rcnnkit": json.dumps(dict(about) | module.names())})


def program_with_threshold(file: Path, path: Path, threshold: float) -> None:
    """Write a program of torch.export once more, with another score threshold."""
    metadata = {"rcnnkit": ""}
    program = torch.export.load(file, extra_files=metadata)
    program.state_dict["score_threshold"].fill_(threshold)
    torch.export.save(program, path, extra_files=metadata)


def to_aoti(
    detector: Detector, path: Path, about: Mapping[str, Any], *, with_preprocessing: bool, inside: bool = False
) -> None:
    """Write a package of AOTInductor, compiled for CPUs such as this machine's. It needs a C++ compiler.

    Arguments and errors are those of `to_torch`; `about` is in the package's metadata under "rcnnkit".
    """
    module = traced(detector, suppress, with_preprocessing, inside)
    program = _program(module)
    metadata = {"rcnnkit": json.dumps(dict(about) | module.names())}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(path), inductor_configs={"aot_inductor.metadata": metadata}
        )


def suppress(boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
    """`rcnnkit.exporting.traced.Suppression` by torchvision's NMS.

    Groups are moved apart in float64, where the boxes keep all their digits.
    """
    # torch.export takes it that there are two at least; so there are, in two groups more, which are dropped later.
    more = torch.full_like(scores[:1], -torch.inf).repeat(2, 1)
    more[:, :1] = 0
    boxes, scores = F.pad(boxes, (0, 0, 0, 0, 0, 2)), torch.cat([scores, more])
    group, row = torch.where(scores > LOWEST)
    apart = boxes[group, row].double() + APART * group[:, None]
    kept = torchvision.ops.nms(apart, scores[group, row].double(), iou)
    return torch.stack([group[kept], row[kept]], 1)


def _program(module: Traced) -> torch.export.ExportedProgram:
    given = {name: dict.fromkeys(module.dynamic[name], torch.export.Dim.DYNAMIC) for name in module.inputs}
    first, *others = module.inputs
    shapes: Any = (given[first], *((tuple(given[name] for name in others),) if others else ()))
    log = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with torch.no_grad():
            program = torch.export.export(module, module.examples(), dynamic_shapes=shapes)
    finally:
        log.setLevel(level)
    for node in program.graph.nodes:
        if node.target is torch.ops.rcnnkit.roi_align.default:
            node.target = torch.ops.torchvision.roi_align.default
        elif node.target is torch.ops.rcnnkit.roi_pool.default:
            node.target, node.args = torch.ops.torchvision.roi_pool.default, node.args[:5]
    program.graph_module.recompile()
    own = {str(node.target) for node in program.graph.nodes if str(node.target).startswith("rcnnkit")}
    if own:
        raise ValueError(f"the file would need operators of rcnnkit: {', '.join(sorted(own))}")
    return program
