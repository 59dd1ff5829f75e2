"""A detector made ready to detect, and nothing else: the same answers, faster."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from rcnnkit.backbones.norms import FrozenNorm
from rcnnkit.cpu_layers import in_turn, is_exactly, replace_layers, served_types
from rcnnkit.detectors.detector import Detector
from rcnnkit.heads.box_head import BoxHead
from rcnnkit.precision import pick_dtype

AnyDetector = TypeVar("AnyDetector", bound=Detector)


def prepare(detector: AnyDetector, precision: str) -> AnyDetector:
    """A copy of `detector`, on its device, for detecting alone; it can neither be trained nor saved, nor moved.

    Batch norm is folded into the convolution before it where a module is known to call them in turn, feature maps lie
    channels last, and the weights of all but the last layers are kept in the type that they are multiplied in, which
    autocast would convert them to for every picture. Boxes, scores and everything after the last layers stay float32.
    On an x86 CPU the layers are `rcnnkit.cpu_layers`, in float32 and in bf16; 3×3 convolutions then hold their weights
    five times over, but not in bf16 where the CPU has AMX. It can be pickled, for other processes on the same machine.

    Args:
        precision: "float32", "bf16" or "fp16"; "auto" is bf16 where the machine multiplies in it.

    Raises:
        ValueError: a precision of another name, or a detector that was made ready before.
    """
    if detector.only_detects:
        raise ValueError(
            "this detector is made ready already; give the one that it was made from, such as"
            " rcnnkit.load(file, for_training=True)"
        )
    dtype = pick_dtype(precision, detector.device)
    ready = copy.deepcopy(detector).eval().requires_grad_(False)
    ready.zero_grad()  # gradients of a training that goes on were copied too
    heads = set()
    for name, part in [*ready.named_modules()]:
        if isinstance(part, BoxHead):
            part.adversary = None  # it only trains
            heads.add(f"{name}.layers")
    _fold_norms(ready, Counter(child for part in ready.modules() for child in part._modules.values()))
    for name, part in ready.named_modules():
        if name in {"backbone", "rpn", "head.layers", *heads}:
            if detector.device.type == "cpu" and dtype in served_types():
                replace_layers(part, dtype)
            part.to(dtype=dtype, memory_format=torch.channels_last)

    ready.get_submodule("backbone").register_forward_pre_hook(functools.partial(_convert, dtype=dtype))
    ready.only_detects = True
    return ready


def _convert(_: nn.Module, inputs: tuple[Any, ...], dtype: torch.dtype) -> tuple[Any, ...]:
    """A hook. It is a function of the module, so that the detector can be pickled and sent to another process."""
    return _channels_last(inputs[0], dtype), *inputs[1:]


def _channels_last(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """As `.to`, which takes twice as long on a CPU where the channels are few."""
    if pixels.device.type != "cpu" or pixels.shape[1] > 4 or not pixels.is_contiguous():
        return pixels.to(dtype=dtype, memory_format=torch.channels_last)
    copy = torch.empty_like(pixels, dtype=dtype, memory_format=torch.channels_last)
    for to, channel in zip(copy.unbind(1), pixels.unbind(1), strict=True):
        to.copy_(channel)
    return copy


def _fold_norms(module: nn.Module, places: Counter[nn.Module | None]) -> None:
    """Fold each batch norm that follows a convolution into it, unless that convolution has another place too."""
    before: nn.Module | None = None
    for name, child in module.named_children():
        if (
            in_turn(module)
            and isinstance(before, nn.Conv2d)
            and is_exactly(before, nn.Conv2d)
            and places[before] == 1
            and is_exactly(child, nn.BatchNorm2d, FrozenNorm)
            and child.running_mean is not None
        ):
            before.weight, before.bias = fuse_conv_bn_weights(
                before.weight,
                before.bias,
                child.running_mean,  # type: ignore[arg-type]  # a norm's
                child.running_var,  # type: ignore[arg-type]
                child.eps,  # type: ignore[arg-type]
                child.weight,  # type: ignore[arg-type]
                child.bias,  # type: ignore[arg-type]
            )
            setattr(module, name, nn.Identity())
        else:
            _fold_norms(child, places)
        before = child
