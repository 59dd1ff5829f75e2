"""What an activation saw: the deconvnet (Zeiler and Fergus 2013, arXiv:1311.2901v3, section 2.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnnkit.backbones.fpn import FPN
from rcnnkit.backbones.response_norm import WithinChannelNorm
from rcnnkit.backbones.single_map import SingleMap
from rcnnkit.backbones.vgg import VGGMaps
from rcnnkit.backbones.window import WindowNetwork
from rcnnkit.settings import closest_name

Cell = tuple[int, int]  # row, column
Window = tuple[int, int, int, int]  # top, left, bottom, right of cells or pixels; the last two are the first outside

# Normalisations of contrast: "we do not use any contrast normalization operations when in this reconstruction path".
CONTRAST = (nn.LocalResponseNorm, WithinChannelNorm)


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """One activation, projected back to pixels."""

    pixels: Tensor  # (3, H, W) float32, in the frame and the units of the network's input; 0 outside `box`
    value: float  # of the activation
    cell: Cell  # where it is in its map
    # Its receptive field, xyxy in pixels; it may reach over the image's edge. What only normalises is not counted.
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Trace:
    """The way of an image up to a layer."""

    activations: Tensor  # (C, h, w) of the layer, after its ReLU
    steps: list[Step]  # from the pixels on

    def receptive_field(self, cell: Cell) -> Window:
        """The pixels that a cell depends on; they may lie outside the image."""
        window = (*cell, cell[0] + 1, cell[1] + 1)
        for step in reversed(self.steps):
            window = _seen(step.module, window)
        return window


@dataclass(frozen=True, slots=True)
class Step:
    """A module that an image went through."""

    module: nn.Module
    size: tuple[int, int]  # of its input
    switches: Tensor | None  # of max pooling, (C, h, w): where in its input each maximum was


def deconvnet(backbone: nn.Module, image: Tensor, layer: str, channel: int, cell: Cell | None = None) -> Projection:
    """The pattern of an image that one activation responds to, projected back to its pixels.

    Everything but that activation is set to 0, and the layers are undone from the top: each pooling puts its values
    where the maxima were (the switches), each ReLU rectifies, each convolution's filters are transposed. Biases are
    left out, and normalisations of contrast are passed through, as in the paper. Where pooling windows overlap and
    share a maximum, their values add up, as in the gradient; the paper does not say.

    It is not the gradient: ReLUs look at what comes down and not at what went up. The two agree, times the activation,
    where nothing on the way is rectified either way.

    Args:
        backbone: of a detector or classifier, such as `detector.backbone`: AlexNet, CaffeNet, ZFNet, a VGG (below an
            FPN too), or any other SingleMap of convolutions, ReLUs, max pooling and normalisations of contrast.
        image: (3, H, W) as the network sees it, such as `detector.preprocessing([picture]).pixels[0]`.
        layer: whose activation, after its ReLU: a name of `layers(backbone)`.
        channel: of that layer, from 0 on.
        cell: its row and column in the map; by default where the channel is strongest, the first of several.

    Raises:
        ValueError: a backbone that is no such row, or a layer, channel or cell that it does not have; an image of
            another shape, with a number that is not finite, or too small for the layer.
    """
    check_layer(backbone, layer, [channel])
    traced = trace(backbone, image, layer)
    if cell is None:
        cell = divmod(int(traced.activations[channel].argmax()), traced.activations.shape[2])
    return project(traced, channel, cell)


def layers(backbone: nn.Module) -> dict[str, list[nn.Module]]:
    """The convolutions of a backbone by name, each with what comes before it since the last one, and with its ReLU.

    The names are the papers': conv1, conv2, … where a stage has one convolution, conv1_1, conv1_2, … where it has more.

    Raises:
        ValueError: the backbone is no row of layers that a deconvnet can undo.
    """
    body = backbone.body if isinstance(backbone, WindowNetwork | FPN) else backbone
    if not isinstance(body, SingleMap | VGGMaps):
        raise ValueError(
            "a deconvnet goes back through convolutions in a row, as AlexNet, ZFNet and VGG have them; the ways through"
            f" a {type(body).__name__} part and meet"
        )
    modules_of: dict[str, list[nn.Module]] = {}
    name = ""
    waiting: list[nn.Module] = []  # for the next convolution
    for number, stage in enumerate(body.stages, start=1):
        modules = list(_flat(stage, f"stages.{number - 1}"))
        numbered = sum(isinstance(module, nn.Conv2d) for module in modules) > 1
        count = 0
        for module in modules:
            if isinstance(module, nn.ReLU) and name and not waiting:
                modules_of[name].append(module)
                continue
            waiting.append(module)
            if isinstance(module, nn.Conv2d):
                count += 1
                name = f"conv{number}_{count}" if numbered else f"conv{number}"
                modules_of[name], waiting = waiting, []
    return modules_of


def check_layer(backbone: nn.Module, layer: str, channels: Iterable[int] = ()) -> None:
    """Raise ValueError unless the backbone can be gone back through and has this layer and these channels of it."""
    modules = layers(backbone)
    if layer not in modules:
        close = closest_name(layer, list(modules))
        hint = f"did you mean {close}? It has" if close else "it has"
        raise ValueError(f"the backbone has no layer {layer!r}; {hint} {', '.join(modules)}")
    (convolution,) = (module for module in modules[layer] if isinstance(module, nn.Conv2d))
    for channel in channels:
        if not 0 <= channel < convolution.out_channels:
            raise ValueError(f"{layer} has channels 0 to {convolution.out_channels - 1}, not {channel}")


def trace(backbone: nn.Module, image: Tensor, layer: str) -> Trace:
    """An image (3, H, W) on its way up to a layer, with the switches. Raises as `deconvnet` does."""
    check_layer(backbone, layer)
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"image has shape {tuple(image.shape)}, expected (3, H, W); of a batch pass pixels[0]")
    if not image.isfinite().all():
        raise ValueError("image holds a number that is not finite; pass pixels as the preprocessing makes them")
    x = image[None].to(next(backbone.parameters()))  # their device, and half precision where they have it
    steps = []
    with torch.no_grad():
        for name, modules in layers(backbone).items():
            for module in modules:
                size, switches = (x.shape[2], x.shape[3]), None
                if min(_cells(module, size)) < 1:
                    raise ValueError(
                        f"an image {image.shape[2]} wide and {image.shape[1]} high is too small for {layer}: nothing is"
                        f" left of it in {name}; pass a larger one"
                    )
                if isinstance(module, nn.MaxPool2d):
                    x, indices = F.max_pool2d(
                        x,
                        module.kernel_size,
                        module.stride,
                        module.padding,
                        module.dilation,
                        module.ceil_mode,
                        return_indices=True,
                    )
                    switches = indices[0]
                else:
                    x = module(x)
                steps.append(Step(module, size, switches))
            if name == layer:
                break
    return Trace(x[0], steps)


def project(traced: Trace, channel: int, cell: Cell) -> Projection:
    """One activation of a layer, back in the pixels. Raises ValueError for a cell that there is not."""
    rows, columns = traced.activations.shape[1:]
    if not (0 <= cell[0] < rows and 0 <= cell[1] < columns):
        raise ValueError(f"cell {tuple(cell)} is outside the layer's map of {rows} rows and {columns} columns")
    value = traced.activations[channel][cell]
    # Only the cells that the activation depends on are computed: the window from (top, left) on.
    top, left = cell
    x = traced.activations.new_zeros(1, len(traced.activations), 1, 1)
    x[0, channel] = value
    with torch.no_grad():
        for step in reversed(traced.steps):
            x, top, left = _undo(step, x, top, left)
    pixels = x.new_zeros(3, *traced.steps[0].size, dtype=torch.float32)
    pixels[:, top : top + x.shape[2], left : left + x.shape[3]] = x[0]
    y1, x1, y2, x2 = traced.receptive_field(cell)
    return Projection(pixels, float(value), (cell[0], cell[1]), (x1, y1, x2, y2))


def _undo(step: Step, x: Tensor, top: int, left: int) -> tuple[Tensor, int, int]:
    """From a window of a module's output, which begins at (top, left), to one of its input."""
    module = step.module
    if isinstance(module, nn.ReLU):
        return x.relu(), top, left
    if isinstance(module, CONTRAST):
        return x, top, left
    field = _seen(module, (top, left, top + x.shape[2], left + x.shape[3]))
    above, before = max(field[0], 0), max(field[1], 0)
    below, after = min(field[2], step.size[0]), min(field[3], step.size[1])  # the padding is cut off
    if isinstance(module, nn.Conv2d):
        x = F.conv_transpose2d(x, module.weight, stride=module.stride, groups=module.groups, dilation=module.dilation)
        return x[:, :, above - field[0] : below - field[0], before - field[1] : after - field[1]], above, before
    assert step.switches is not None
    switches = step.switches[:, top : top + x.shape[2], left : left + x.shape[3]].flatten(1)
    row, column = switches // step.size[1] - above, switches % step.size[1] - before
    width = after - before
    unpooled = x.new_zeros(x.shape[1], (below - above) * width)
    unpooled.scatter_add_(1, row * width + column, x[0].flatten(1))
    return unpooled.reshape(1, x.shape[1], below - above, width), above, before


def _seen(module: nn.Module, window: Window) -> Window:
    """The window of a module's input that one of its output depends on, where it has padding too."""
    if not isinstance(module, (nn.Conv2d, nn.MaxPool2d)):
        return window
    extent, stride, padding = _geometry(module)
    top, left = (at * s - p for at, s, p in zip(window[:2], stride, padding, strict=True))
    bottom, right = ((at - 1) * s - p + e for at, s, p, e in zip(window[2:], stride, padding, extent, strict=True))
    return top, left, bottom, right


def _cells(module: nn.Module, size: tuple[int, int]) -> tuple[int, ...]:
    """Rows and columns of what a module makes of an input of `size`; those that ceil_mode adds are not counted."""
    if not isinstance(module, (nn.Conv2d, nn.MaxPool2d)):
        return size
    return tuple((n + 2 * p - e) // s + 1 for n, e, s, p in zip(size, *_geometry(module), strict=True))


def _geometry(module: nn.Conv2d | nn.MaxPool2d) -> tuple[Cell, Cell, Cell]:
    """Extent (of the kernel, with what dilation adds), stride and padding, each of rows and columns."""
    assert not isinstance(module.padding, str)  # "same" and "valid", which `_flat` refuses
    kernel, stride, padding, dilation = (
        (value, value) if isinstance(value, int) else (value[0], value[1])
        for value in (module.kernel_size, module.stride, module.padding, module.dilation)
    )
    return (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1), stride, padding


def _flat(module: nn.Module, name: str) -> Iterator[nn.Module]:
    """The modules of nested nn.Sequential in a row. Raises ValueError for one that cannot be undone."""
    if isinstance(module, nn.Sequential):
        for child, part in module.named_children():
            yield from _flat(part, f"{name}.{child}")
        return
    known = isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.ReLU, *CONTRAST))
    if not known or (
        isinstance(module, nn.Conv2d) and (module.padding_mode != "zeros" or isinstance(module.padding, str))
    ):
        raise ValueError(
            f"a deconvnet cannot undo {name}, {module}; it knows convolutions padded with zeros, max pooling, ReLU and"
            " local response normalisation, as a detector of rcnnkit.load(file, for_training=True) has them"
        )
    yield module
