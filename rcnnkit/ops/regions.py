"""What the operators on regions share: the forms in which boxes and sizes may be given."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from rcnnkit.processes import say_forked


def as_rois(input: Tensor, boxes: Tensor | Sequence[Tensor]) -> Tensor:
    """(R, 5) rows (picture, x1, y1, x2, y2) from those, or from one (N, 4) tensor for each picture.

    Raises:
        TypeError: boxes are no tensors.
        ValueError: a shape or the device is wrong, or there are not as many tensors as pictures.
    """
    say_forked()
    if input.ndim != 4:
        raise ValueError(f"input has shape {tuple(input.shape)}, expected (B, C, H, W)")
    boxes = boxes if isinstance(boxes, Tensor) else list(boxes)
    for tensor in [boxes] if isinstance(boxes, Tensor) else boxes:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"boxes are a {type(tensor).__name__}, expected tensors; torch.as_tensor makes one")
        if tensor.device != input.device:
            raise ValueError(f"boxes are on {tensor.device}, input is on {input.device}; move one to the other")
    if isinstance(boxes, Tensor):
        if boxes.ndim != 2 or boxes.shape[1] != 5:
            raise ValueError(
                f"boxes has shape {tuple(boxes.shape)}, expected (R, 5): picture, x1, y1, x2, y2;"
                " or pass a list with one (N, 4) tensor for each picture"
            )
        return boxes
    if len(boxes) != input.shape[0]:
        raise ValueError(f"boxes has {len(boxes)} tensors for {input.shape[0]} pictures; pass one for each")
    for i, tensor in enumerate(boxes):
        if tensor.ndim != 2 or tensor.shape[1] != 4:
            raise ValueError(f"boxes[{i}] has shape {tuple(tensor.shape)}, expected (N, 4) xyxy")
    if not boxes:
        return input.new_zeros(0, 5, dtype=torch.float32)
    # bfloat16 cannot count pictures beyond 256
    dtype = torch.promote_types(boxes[0].dtype, torch.float32)
    # full_like, not len(): under export and tracing the number of boxes stays open
    return torch.cat(
        [torch.cat([torch.full_like(tensor[:, :1], i, dtype=dtype), tensor], 1) for i, tensor in enumerate(boxes)]
    )


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """(rows, columns) from those, or from one number for both.

    Raises:
        ValueError: not one or two numbers, or one is not positive.
    """
    sizes = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(sizes) != 2:
        raise ValueError(f"output_size is {size}; give (rows, columns), or one number for both")
    rows, columns = (s if isinstance(s, torch.SymInt) else operator.index(s) for s in sizes)
    if rows < 1 or columns < 1:
        raise ValueError(f"output_size is {size}; both sides must be 1 or more")
    return rows, columns


def is_channels_last(input: Tensor) -> bool:
    return input.is_contiguous(memory_format=torch.channels_last) and not input.is_contiguous()


def empty_gradient(grad: Tensor, shape: Sequence[int], channels_last: bool) -> Tensor:
    """What a gradient of a (B, C, H, W) map looks like, for the backward operators' fakes."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(tuple(shape), dtype=grad.dtype, device=grad.device, memory_format=layout)


def no_second_gradient(name: str) -> Callable[..., NoReturn]:
    """What stands for the gradient of an operator's gradient; without it torch would take it for zero."""

    def refuse(ctx: Any, *grads: Any) -> NoReturn:
        raise RuntimeError(f"second gradients through {name} are not supported")

    return refuse


def with_torchvision(name: str, input: Tensor, rois: Tensor, *arguments: Any) -> Tensor:
    """What torchvision's operator of that name makes of maps of any type that ours takes.

    Its own CUDA kernels know no bfloat16, and regions as coarse as half-precision maps would be off by pixels.
    """
    from torchvision import ops

    work = input if input.dtype == torch.float64 else input.float()
    output: Tensor = getattr(ops, name)(work, rois.to(work), *arguments)
    return output.to(input.dtype)
