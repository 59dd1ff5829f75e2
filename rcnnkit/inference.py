"""A detector made ready to detect, and nothing else: the same answers, sooner."""

from __future__ import annotations

import copy
import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from rcnnkit.backbones.resnet import FrozenNorm
from rcnnkit.detectors.detector import Detector
from rcnnkit.ops.conv3x3 import LANES, conv3x3, winograd_weights
from rcnnkit.precision import pick_dtype

LEAST_USED = 0.5  # the share of its tiles that a map has to fill; below, the fewer products cost more

AnyDetector = TypeVar("AnyDetector", bound=Detector)


def prepare(detector: AnyDetector, precision: str = "auto") -> AnyDetector:
    """A copy of `detector`, on its device, for detecting alone; it can neither be trained nor saved.

    Batch norm is folded into the convolutions before it, feature maps lie channels last, and the weights of all
    but the last layers are kept in the type that they are multiplied in, which autocast would convert them to for
    every picture. Boxes, scores and everything after the last layers stay float32. On a CPU the 3×3 convolutions
    are `rcnnkit.ops.conv3x3`, except in bf16 where the CPU has AMX, whose products are cheaper than their fewer ones.

    Args:
        precision: "float32", "bf16" or "fp16"; "auto" is bf16 where the machine multiplies in it.

    Raises:
        ValueError: a precision of another name.
    """
    dtype = pick_dtype(precision, detector.device)
    ready = copy.deepcopy(detector).eval().requires_grad_(False)
    ready.zero_grad()  # gradients of a training that goes on were copied too
    _fold_norms(ready)
    for name, part in ready.named_modules():
        if name in ("backbone", "rpn", "head.features"):
            if detector.device.type == "cpu" and dtype in conv3x3_types():
                _replace_convolutions(part, dtype)
            part.to(dtype=dtype, memory_format=torch.channels_last)

    def convert(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return given[0].to(dtype=dtype, memory_format=torch.channels_last), *given[1:]

    ready.get_submodule("backbone").register_forward_pre_hook(convert)
    ready.only_detects = True
    return ready


class Conv3x3(nn.Module):
    """A 3×3 convolution of stride 1, and the ReLU after it, by `rcnnkit.ops.conv3x3`, for maps of one type.

    Small maps leave most of their tiles of 4 × 4 outputs empty; these go through the layer itself.
    """

    def __init__(self, layer: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer = layer
        self.weight = winograd_weights(layer.weight, dtype)
        self.bias = layer.weight.new_zeros(layer.out_channels) if layer.bias is None else layer.bias.detach()
        self.relu = False

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        tiles = math.ceil(height / 4) * math.ceil(width / 4)
        if x.dtype != self.weight.dtype or height * width < LEAST_USED * 16 * tiles:
            plain: Tensor = self.layer(x)
            return plain.relu_() if self.relu else plain
        return conv3x3(x, self.weight, self.bias, self.relu)


def conv3x3_types() -> set[torch.dtype]:
    """The types in which `Conv3x3` is faster than torch's own convolutions on this CPU."""
    return {torch.float32} if torch.cpu._is_amx_tile_supported() else {torch.float32, torch.bfloat16}


def _replace_convolutions(module: nn.Module, dtype: torch.dtype) -> None:
    before: nn.Module | None = None
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and _fits(child):
            child = Conv3x3(child, dtype)
            setattr(module, name, child)
        elif isinstance(module, nn.Sequential) and isinstance(before, Conv3x3) and isinstance(child, nn.ReLU):
            before.relu = True
            setattr(module, name, nn.Identity())
        else:
            _replace_convolutions(child, dtype)
        before = child


def _fits(layer: nn.Conv2d) -> bool:
    shape = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
    channels = (layer.in_channels % LANES, layer.out_channels % LANES)
    return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and channels == (0, 0) and layer.padding_mode == "zeros"


def _fold_norms(module: nn.Module) -> None:
    """Fold each batch norm that follows a convolution among a module's children into that convolution."""
    before: nn.Module | None = None
    for name, child in module.named_children():
        if isinstance(before, nn.Conv2d) and isinstance(child, nn.BatchNorm2d | FrozenNorm):
            before.weight, before.bias = fuse_conv_bn_weights(
                before.weight,
                before.bias,
                child.running_mean,  # type: ignore[arg-type]  # they track their statistics
                child.running_var,  # type: ignore[arg-type]
                child.eps,
                child.weight,
                child.bias,
            )
            setattr(module, name, nn.Identity())
        else:
            _fold_norms(child)
        before = child
