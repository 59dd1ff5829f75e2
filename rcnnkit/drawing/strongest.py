"""The strongest activations of a layer's channels in some pictures, each projected back to pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnnkit.backbones.classifier import Classifier
from rcnnkit.defaults import CHANNELS
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.rcnn import RCNN, picture_of
from rcnnkit.drawing.deconvnet import Cell, Trace, check_layer, project, trace
from rcnnkit.images import Picture, read_picture
from rcnnkit.ops import batched_nms
from rcnnkit.progress import Report, reported, silent
from rcnnkit.proposals.methods import SelectiveSearch
from rcnnkit.structures import ImageBatch

Network = Detector | Classifier

PEAKS = 100  # of a channel in a picture, of which those that overlap drop out
OVERLAP = 0.3  # IoU above which two activations see the same thing
REGIONS = 100  # proposals of a picture that R-CNN looks at


class NoActivations(ValueError):
    """A network whose layer has nothing to show."""


@dataclass(frozen=True, slots=True)
class View:
    """What the network sees at a time."""

    picture: int  # which of the pictures
    region: tuple[float, ...] | None  # R-CNN's, xyxy in the frame of the network's pixels; else the whole picture


@dataclass(frozen=True, slots=True)
class Activation:
    """A strong one, and where it was found."""

    channel: int
    value: float
    view: View
    cell: Cell


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """What an activation saw: its receptive field, moved into the view where it reaches over the edge."""

    activation: Activation
    patch: Tensor  # (3, h, w) of the network's pixels
    projection: Tensor  # (3, h, w) of the same place, by the deconvnet


def strongest_examples(
    network: Network,
    pictures: Sequence[Picture],
    layer: str,
    *,
    channels: Sequence[int] | None = None,
    count: int = CHANNELS,
    each: int = 9,
    progress: Report = silent,
) -> dict[int, list[Example]]:
    """What the channels of a layer respond to most.

    Activations are peaks of a channel's map: no cell beside them is stronger. Of peaks that see the same thing
    (receptive fields whose IoU exceeds OVERLAP) the strongest counts, as in the R-CNN paper's figure 4
    (arXiv:1311.2524v5, section 3.1).

    An R-CNN sees windows: the best REGIONS proposals of a picture, each with the strongest cell of a channel; there, it
    is the proposals that must not overlap. One that was made for precomputed proposals gets selective search's. A
    classifier sees the middle of a picture, and a detector with several `input.scales` its `input.short_side`.

    Args:
        network: a detector or classifier on a backbone that `deconvnet` takes.
        pictures: as `read_picture` takes them; those with examples are read twice.
        layer: a name of `layers(network.backbone)`.
        channels: which; by default the `count` that have the strongest activations.
        each: activations of a channel, at most.
        progress: called with what is done so far.

    Returns:
        channel → examples, strongest first; in the order of `channels`, or of strength. An activation of 0 is none: a
        channel may have fewer than `each`, and one that was asked for none.

    Raises:
        ValueError: no pictures, or what `deconvnet` refuses.
        NoActivations: a ValueError; activations are not finite, or no channels were asked for and none is active.
        FileNotFoundError, ValueError: a picture cannot be read.
    """
    if not pictures:
        raise ValueError("no pictures to look through; give at least one")
    check_layer(network.get_submodule("backbone"), layer, channels or ())
    by_channel: dict[int, list[Activation]] = {}
    for number, picture in enumerate(reported(pictures, "pictures", progress)):
        for activation in _strong(network, picture, number, layer):
            if channels is None or activation.channel in channels:
                by_channel.setdefault(activation.channel, []).append(activation)
        by_channel = {
            channel: sorted(activations, key=lambda a: -a.value)[:each] for channel, activations in by_channel.items()
        }
    if channels is None and not by_channel:
        raise NoActivations(f"no channel of {layer} is active in these pictures; try other ones, or another layer")
    if channels is None:
        channels = sorted(by_channel, key=lambda channel: (-by_channel[channel][0].value, channel))[:count]
    strongest = {channel: by_channel.get(channel, []) for channel in channels}
    by_view: dict[View, list[Activation]] = {}
    for activation in chain(*strongest.values()):
        by_view.setdefault(activation.view, []).append(activation)
    examples: dict[Activation, Example] = {}
    for view, activations in by_view.items():
        pixels = _pixels(network, _images(network, pictures[view.picture]), view)
        traced = trace(network.get_submodule("backbone"), pixels, layer)
        examples |= {activation: _example(activation, pixels, traced) for activation in activations}
    return {channel: [examples[activation] for activation in activations] for channel, activations in strongest.items()}


def _strong(network: Network, picture: Picture, number: int, layer: str) -> list[Activation]:
    """Activations of one picture that do not see the same thing, of all channels, strongest first."""
    images = _images(network, picture)
    views = _views(network, images, number)
    values, cells, boxes = [], [], []  # (C, n), (C, n) and (C, n, 4) of each view
    columns = 0
    for view in views:
        traced = trace(network.get_submodule("backbone"), _pixels(network, images, view), layer)
        maps = traced.activations.float()
        if not maps.isfinite().all():
            raise NoActivations(f"activations of {layer} are not finite; such weights come from a failed training")
        columns = maps.shape[2]
        peaks = torch.where(maps == F.max_pool2d(maps, 3, stride=1, padding=1), maps, 0).flatten(1)
        best, cell = peaks.topk(1 if view.region else min(PEAKS, peaks.shape[1]))
        values.append(best)
        cells.append(cell)
        if view.region:
            boxes.append(best.new_tensor(view.region).expand(len(best), 1, 4))
        else:
            boxes.append(_receptive_fields(traced, cell))
    if not views:
        return []
    value, cell, box = torch.cat(values, dim=1), torch.cat(cells, dim=1), torch.cat(boxes, dim=1)
    channel, place = torch.where(value > 0)
    value, cell, box = value[channel, place], cell[channel, place], box[channel, place]
    kept = batched_nms(box, value, channel, OVERLAP)
    rows = zip(channel[kept].tolist(), value[kept].tolist(), place[kept].tolist(), cell[kept].tolist(), strict=True)
    return [
        Activation(channel, value, views[place if views[0].region else 0], divmod(cell, columns))
        for channel, value, place, cell in rows
    ]


def _images(network: Network, picture: Picture) -> ImageBatch:
    """A picture alone in a batch, as the network takes it."""
    if isinstance(network, Classifier):
        crop = network.see(read_picture(picture))
        return network.preprocessing.batch([crop], [(crop.shape[1], crop.shape[2])], network.device)
    return network.preprocessing([picture], network.device)


def _views(network: Network, images: ImageBatch, number: int) -> list[View]:
    """The windows of an R-CNN; of the others the picture, whole."""
    if not isinstance(network, RCNN):
        return [View(number, None)]
    proposals = (network.proposer or SelectiveSearch()).propose(images, [])[0]
    return [View(number, tuple(box)) for box in proposals.boxes[:REGIONS].tolist()]


def _pixels(network: Network, images: ImageBatch, view: View) -> Tensor:
    """(3, H, W): what the network sees, of a batch of the view's picture alone."""
    whole = picture_of(images, 0)  # without the padding
    if view.region is None:
        return whole
    assert isinstance(network, RCNN)
    return network.warp(whole, whole.new_tensor([view.region]))[0]


def _receptive_fields(traced: Trace, cells: Tensor) -> Tensor:
    """(…, 4) xyxy of cells (…), numbered row by row."""
    top, left, bottom, right = traced.receptive_field((0, 0))
    down, across, *_ = traced.receptive_field((1, 1))
    columns = traced.activations.shape[2]
    shift = torch.stack([cells % columns * (across - left), cells // columns * (down - top)], dim=-1).repeat(1, 1, 2)
    return (shift + shift.new_tensor([left, top, right, bottom])).float()


def _example(activation: Activation, pixels: Tensor, traced: Trace) -> Example:
    projection = project(traced, activation.channel, activation.cell)
    x1, y1, x2, y2 = projection.box
    x, y = _within(x1, x2, pixels.shape[2]), _within(y1, y2, pixels.shape[1])
    return Example(activation, pixels[:, y, x].cpu(), projection.pixels[:, y, x].cpu())


def _within(start: int, stop: int, length: int) -> slice:
    """The range, moved into 0 … length, and cut where it is longer."""
    first = max(0, min(start, length - (stop - start)))
    return slice(first, min(first + stop - start, length))
