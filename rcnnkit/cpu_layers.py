"""Layers for detecting on a CPU, by `rcnnkit.ops`, in place of torch's."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from rcnnkit.backbones.fpn import Lateral
from rcnnkit.backbones.two_fc import TwoFC
from rcnnkit.heads.convs_fc import ConvsFC
from rcnnkit.ops.conv2d import LANES, conv2d, conv2d_weights, multiplies_in_tiles, padded
from rcnnkit.ops.conv3x3 import conv3x3, winograd_weights
from rcnnkit.ops.max_pool2d import max_pool2d

LEAST_USED = 0.5  # the share of its tiles that a map has to fill; below, Winograd's fewer products cost more


def served_types() -> set[torch.dtype]:
    """The types in which these layers are faster than torch's on this CPU, as far as that was measured."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return set()
    refused = torch.cpu._is_amx_tile_supported() and not multiplies_in_tiles()  # to this process, or by its user
    return {torch.float32} if refused else {torch.float32, torch.bfloat16}


class Convolution(nn.Module):
    """A convolution, what is added to it and the ReLU after it, for maps of one type.

    Where `conv3x3` serves, it does, unless the map is so small that most of its tiles of 4 × 4 outputs would be empty;
    so weights are kept for both. In bfloat16 on a CPU with AMX all are `conv2d`. A fully connected layer is one of 1×1,
    of rows (…, C) in place of maps.

    Args:
        layer: where the weights come from.
        dtype: float32 or bfloat16; maps of another type are converted.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        weight, bias = layer.weight.detach(), layer.bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        if isinstance(layer, nn.Conv2d):
            self.stride, self.padding, self.rows = layer.stride[0], int(layer.padding[0]), False
        else:
            self.rows = True
            weight, self.stride, self.padding = weight[:, :, None, None], 1, 0
        self.outputs, _, *size = weight.shape
        self.size = (size[0], size[1])
        weight = padded(weight, -4, LANES)
        self.weight, self.bias = conv2d_weights(weight, dtype), padded(bias.float(), -1, LANES)
        small = (self.size, self.stride, self.padding, weight.shape[1] % LANES) == ((3, 3), 1, 1, 0)
        fast = dtype == torch.bfloat16 and multiplies_in_tiles()  # four times the products cost less than transforming
        self.coefficients = winograd_weights(weight, dtype) if small and not fast else None
        self.relu = False

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if self.rows:
            maps = self.maps(x.flatten(0, -2)[:, :, None, None], None)
            return maps.reshape(*x.shape[:-1], self.outputs)
        return self.maps(x, residual)

    def maps(self, x: Tensor, residual: Tensor | None) -> Tensor:
        x = x.to(self.weight.dtype)
        if residual is not None:
            residual = residual.to(x.dtype)
            if more := len(self.bias) - self.outputs:
                residual = F.pad(residual, (0, 0, 0, 0, 0, more))
        height, width = x.shape[2:]
        tiles = math.ceil(height / 4) * math.ceil(width / 4)
        if self.coefficients is not None and height * width >= LEAST_USED * 16 * tiles:
            maps = conv3x3(x, self.coefficients, self.bias, self.relu, residual)
        else:
            maps = conv2d(x, self.weight, self.bias, self.size, self.stride, self.padding, self.relu, residual)
        return maps[:, : self.outputs]


class MaxPool(nn.Module):
    """Max pooling without indices, except of maps whose channels fill no vectors, or of another type."""

    def __init__(self, layer: nn.MaxPool2d) -> None:
        super().__init__()
        self.layer = layer
        self.size, self.stride, self.padding = _sides(layer)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] % LANES or x.dtype not in (torch.float32, torch.bfloat16):
            plain: Tensor = self.layer(x)
            return plain
        return max_pool2d(x, self.size, self.stride, self.padding, self.layer.ceil_mode)


class ResidualBlock(nn.Module):
    """A block of a ResNet, its addition and ReLUs within the convolutions.

    Args:
        block: its convolutions are `Convolution`s already, and its norms folded into them.
    """

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        *first, last = _parts(block, "conv")
        self.first, self.last, self.downsample = nn.Sequential(*first), last, block.downsample
        for convolution in (*first, last):
            assert isinstance(convolution, Convolution)
            convolution.relu = True

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        maps: Tensor = self.last(self.first(x), residual)
        return maps


def in_turn(module: nn.Module) -> bool:
    """Whether a module is known to call its convolutions and norms one after the other, in the order of its children.

    Others may call them in another order than they name them, or use a result twice.
    """
    return type(module).forward is nn.Sequential.forward or type(module) in (Lateral, BasicBlock, Bottleneck)


def is_exactly(layer: nn.Module | None, *kinds: type[nn.Module]) -> bool:
    """Whether a layer is one of these. Subclasses may do more, as timm's norms that end in a ReLU; so may hooks."""
    return type(layer) in kinds and layer is not None and not (layer._forward_hooks or layer._forward_pre_hooks)


def replace_layers(module: nn.Module, dtype: torch.dtype) -> None:
    """Put these in the place of a module's layers, and within them what follows: ReLUs, additions."""
    one_by_one = type(module).forward is nn.Sequential.forward
    rows = one_by_one or isinstance(module, TwoFC | ConvsFC)  # elsewhere a fully connected layer may see maps
    before: nn.Module | None = None
    for name, child in list(module._modules.items()):  # named_children leaves out what comes twice
        if isinstance(child, nn.Linear | nn.Conv2d) and ((rows and is_exactly(child, nn.Linear)) or _is_plain(child)):
            child = Convolution(child, dtype)
            setattr(module, name, child)
        elif isinstance(child, nn.MaxPool2d) and is_exactly(child, nn.MaxPool2d) and len(_sides(child)) == 3:
            child = MaxPool(child)
            setattr(module, name, child)
        elif one_by_one and isinstance(before, Convolution) and is_exactly(child, nn.ReLU):
            before.relu = True
            setattr(module, name, nn.Identity())
        elif child is not None and not isinstance(child, Convolution | MaxPool | ResidualBlock):
            replace_layers(child, dtype)
            if isinstance(child, Lateral) and _is_all([*child][:1], [*child][1:]):
                setattr(module, name, child[0])
            if isinstance(child, BasicBlock | Bottleneck) and _is_all(_parts(child, "conv"), _parts(child, "bn")):
                setattr(module, name, ResidualBlock(child))
        if not isinstance(child, nn.Identity):
            before = child


def _parts(block: nn.Module, name: str) -> list[nn.Module]:
    return [part for key, part in block.named_children() if key.startswith(name)]


def _is_all(convolutions: Iterable[nn.Module], norms: Iterable[nn.Module]) -> bool:
    """Whether nothing else is left: the norms are folded into the convolutions."""
    return all(isinstance(c, Convolution) for c in convolutions) and all(isinstance(n, nn.Identity) for n in norms)


def _sides(layer: nn.MaxPool2d) -> list[int]:
    """Size, stride and padding of windows that are square and whole; of others, less."""
    plain = layer.dilation == 1 and not layer.return_indices
    return [side for side in (layer.kernel_size, layer.stride, layer.padding) if plain and isinstance(side, int)]


def _is_plain(layer: nn.Module) -> bool:
    if not isinstance(layer, nn.Conv2d) or not is_exactly(layer, nn.Conv2d):
        return False
    square = len({*layer.stride}) == 1 and len({*layer.padding}) == 1 and not isinstance(layer.padding, str)
    return square and (layer.dilation, layer.groups, layer.padding_mode) == ((1, 1), 1, "zeros")
