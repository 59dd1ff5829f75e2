"""Whether a batch and its targets can be learnt from: what a training loop of one's own may get wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rcnnkit.images import Preprocessing
from rcnnkit.structures import ImageBatch, Size, Targets
from rcnnkit.text import count

OUTSIDE = 1.0  # pixels beyond the picture that rounding explains
TYPES = {"boxes": torch.float32, "labels": torch.int64} | dict.fromkeys(("difficult", "truncated", "crowd"), torch.bool)


def check_batch(
    images: ImageBatch, targets: Sequence[Targets], classes: int, preprocessing: Preprocessing, device: torch.device
) -> None:
    """Raise unless the targets are of these images, and can be learnt from.

    Types, lengths and devices are looked at each time. Values make a GPU wait, so they are looked at once: targets
    remember for which size of picture and how many classes it was, on another device and in parts too.

    Args:
        images: B pictures.
        targets: the objects of each, in the frame of `images.pixels`.
        classes: how many the detector knows.
        preprocessing: that made the pixels, or should have.
        device: the detector's.

    Raises:
        TypeError: something is not an ImageBatch or not Targets.
        ValueError: anything else is wrong; names the picture of the batch and the object, both from 0.
    """
    _check_kinds(images, targets, device)
    fresh = [i for i, target in enumerate(targets) if not target.was_seen(images.sizes[i], classes)]
    if not fresh:
        return
    with torch.no_grad():  # all values in one transfer: a GPU is waited for once
        parts: list[Tensor] = [torch.stack(images.pixels.aminmax())]
        for i in fresh:
            parts += [targets[i].boxes.flatten(), targets[i].labels]
        values = torch.cat([part.double() for part in parts]).cpu().numpy()
    low, high = values[:2].tolist()
    preprocessing.check_normalised(low, high, "make the batch with detector.preprocessing(pictures, detector.device)")
    start = 2
    for i in fresh:
        objects = len(targets[i])
        boxes, labels = np.split(values[start : start + 5 * objects], [4 * objects])
        start += 5 * objects
        _check_boxes(f"targets[{i}]", i, boxes.reshape(-1, 4), images)
        for j in np.flatnonzero((labels < 0) | (labels >= classes))[:1]:
            raise ValueError(
                f"targets[{i}].labels[{j}] = {labels[j]:g}, but the detector has {count(classes, 'class')}: labels go"
                f" from 0 to {classes - 1}, and background has none"
            )
        targets[i].see(images.sizes[i], classes)


def _check_kinds(images: ImageBatch, targets: Sequence[Targets], device: torch.device) -> None:
    """What is known without a look at any value."""
    if not isinstance(images, ImageBatch):
        raise TypeError(
            f"images must be an ImageBatch, not {type(images).__name__}; make one with detector.preprocessing(pictures,"
            " detector.device)"
        )
    if isinstance(targets, Targets):
        raise TypeError("targets must be a list with one Targets for each picture, not one Targets; pass [targets]")
    if len(targets) != len(images):
        raise ValueError(f"{len(targets)} targets for {len(images)} images; give one Targets for each picture")
    if not len(images):
        raise ValueError("there are no images in the batch; give at least one picture")
    pixels = images.pixels
    if pixels.shape[1] != 3 or pixels.dtype != torch.float32:
        raise ValueError(
            f"images.pixels are {_type(pixels)} of shape {tuple(pixels.shape)}, and must be float32 of shape"
            " (B, 3, H, W); make the batch with detector.preprocessing(pictures, detector.device)"
        )
    if pixels.device != device:
        raise ValueError(
            f"images.pixels are on {pixels.device}, but the detector is on {device}; make the batch with"
            " detector.preprocessing(pictures, detector.device)"
        )
    for i, (size, target) in enumerate(zip(images.sizes, targets, strict=True)):
        if not all(1 <= side <= room for side, room in zip(size, pixels.shape[2:], strict=True)):
            raise ValueError(
                f"images.sizes[{i}] = {tuple(size)} does not fit in pixels of {tuple(pixels.shape[2:])}; give the"
                " (height, width) of the picture inside its padding"
            )
        if not isinstance(target, Targets):
            raise TypeError(
                f"targets[{i}] must be a Targets, not {type(target).__name__}; make one with"
                " rcnnkit.structures.Targets(boxes, labels)"
            )
        for name, dtype in TYPES.items():
            value = getattr(target, name)
            if value.dtype != dtype or value.ndim != (2 if name == "boxes" else 1):
                wanted = f"{str(dtype).removeprefix('torch.')} of shape {'(N, 4)' if name == 'boxes' else '(N,)'}"
                raise ValueError(
                    f"targets[{i}].{name} are {_type(value)} of shape {tuple(value.shape)}, and must be {wanted};"
                    f" {'reshape them' if value.dtype == dtype else f'convert them with .to({dtype})'}"
                )
            if value.device != pixels.device:
                raise ValueError(
                    f"targets[{i}].{name} are on {value.device}, but images.pixels are on {pixels.device}; pass"
                    f' targets[{i}].to("{pixels.device}")'
                )


def _check_boxes(name: str, i: int, boxes: np.ndarray, images: ImageBatch) -> None:
    """The boxes (N, 4) of the batch's i-th picture, which `name` has."""
    height, width = images.sizes[i]
    corners = np.array([width, height])
    flat = boxes[:, 2:] <= boxes[:, :2]
    beyond = np.concatenate([-boxes[:, :2], boxes[:, 2:] - corners], axis=1)  # left, upper, right, lower
    for wrong, text in (
        (~np.isfinite(boxes).all(axis=1), "holds a number that is not finite"),
        ((boxes[:, 2:] < boxes[:, :2]).any(axis=1), "is inverted: x2 < x1 or y2 < y1"),
        (flat[:, 0], "has no width"),
        (flat[:, 1], "has no height"),
        ((beyond > OUTSIDE).any(axis=1), ""),
    ):
        for j in np.flatnonzero(wrong)[:1]:
            box = f"{name}.boxes[{j}] = {_written(boxes[j])}"
            if text:
                raise ValueError(f"{box} {text}; boxes are x1, y1, x2, y2: correct it, or leave the object out")
            edge = int(beyond[j].argmax())
            raise ValueError(
                f"{box} reaches {beyond[j, edge]:g} pixels beyond the {('left', 'upper', 'right', 'lower')[edge]} edge"
                f" of the picture, which is {width} wide and {height} high in the batch; {_frame(i, boxes, images)}"
            )
    if len(boxes) and (boxes[:, 2:] <= 1).all() and max(height, width) > 1:
        raise ValueError(
            f"{name}.boxes all lie in the first pixel of the picture, such as boxes[0] = {_written(boxes[0])}; boxes"
            f" are in pixels, not in 0…1: multiply x by the picture's width, {width}, and y by its height, {height}"
        )


def _frame(i: int, boxes: np.ndarray, images: ImageBatch) -> str:
    """What to do about boxes that reach out of their picture."""
    original: Size = images.original_sizes[i]
    if original != images.sizes[i] and (boxes[:, 2:] <= np.array(original[::-1]) + OUTSIDE).all() and boxes.min() >= 0:
        return (
            "if it is in the pixels of the picture as it was given, pass"
            f" rcnnkit.boxes.scale(boxes, images.original_sizes[{i}], images.sizes[{i}])"
        )
    return f"cut the boxes with rcnnkit.boxes.clip(boxes, images.sizes[{i}]), and drop boxes that are empty afterwards"


def _written(box: np.ndarray) -> str:
    return f"[{', '.join(f'{v:g}' for v in box)}]"


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
