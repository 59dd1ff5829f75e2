"""What a spatial transformer makes of windows (Jaderberg et al. 2015, arXiv:1506.02025v3, figure 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from rcnnkit.backbones.classifier import Classifier
from rcnnkit.backbones.spatial_transformer import SpatialTransformer, sample
from rcnnkit.detectors.detector import Detector, with_proposals
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.images import Picture, read_picture
from rcnnkit.ops import warp_regions
from rcnnkit.structures import Array, Proposals
from rcnnkit.text import scored

SIDE = 128  # pixels of a window as it is shown
SHARE = 0.7  # of its tile that a window takes, so that what reaches beyond is seen
GAP, LINE, COLUMNS = 8, 20, 4  # pixels between tiles, of a line of text; pairs of tiles in a row
EDGES, TOP = (255, 140, 0), (0, 160, 255)  # of the quadrilateral, and its edge that becomes the upper one
EMPTY = (235, 235, 235)


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A window, and what its transformer reads of it."""

    window: Tensor  # (3, S, S) in [0, 1], RGB
    theta: Tensor  # (2, 3); see `SpatialTransformer.theta`
    name: str  # the class that scores best
    score: float

    @property
    def seen(self) -> Tensor:
        """(3, S, S): what the network then sees, of the window's pixels."""
        return sample(self.window[None], self.theta[None])[0]


@torch.no_grad()
def looks(network: Detector | Classifier, picture: Picture, min_score: float | None = None) -> list[Look]:
    """The windows of a picture, best first: those of a detector's detections, or a classifier's one.

    The transformer of Fast and Faster R-CNN looks at feature maps; the pixels shown are those of its box.

    Args:
        network: with a spatial transformer, in eval mode, as of `rcnnkit.load(file, for_training=True)`.
        picture: as `read_picture` takes it.
        min_score: of detections; by default the detector's own.

    Raises:
        ValueError: it has no spatial transformer; or as `read_picture`.
    """
    transformer = transformer_of(network)
    array = read_picture(picture)
    if isinstance(network, Classifier):
        crop = network.see(array)
        pixels = network.pixels([crop])
        score, label = network.logits(pixels).softmax(dim=1)[0].max(dim=0)
        return [Look(crop.cpu() / 255, transformer.theta(pixels)[0].cpu(), network.class_names[label], float(score))]
    assert isinstance(network, Detector)
    detections = network(array).above(network.min_score if min_score is None else min_score)
    images = network.batches([array])[0]
    images = with_proposals(images, [Proposals(detections.boxes, detections.scores)])
    boxes = images.proposals[0].boxes
    if isinstance(network, RCNN):
        height, width = images.sizes[0]
        windows = network.warp(images.pixels[0, :, :height, :width], boxes)
        mean, std = (
            windows.new_tensor(v)[:, None, None] for v in (network.preprocessing.mean, network.preprocessing.std)
        )
        theta, windows = transformer.theta(windows), windows * std + mean
    else:
        assert isinstance(network, FastRCNN | FasterRCNN)
        theta = transformer.theta(network.regions(images, images.proposals))
        whole = torch.from_numpy(array.copy()).permute(2, 0, 1).float()[None] / 255
        windows = warp_regions(whole, [detections.boxes.cpu()], SIDE, context=0)
    each = zip(windows.cpu().clamp(0, 1), theta.cpu(), detections.names, detections.scores.tolist(), strict=True)
    return [Look(*parts) for parts in each]


def transformer_of(network: Detector | Classifier) -> SpatialTransformer:
    """Raises ValueError where there is none."""
    for part in network.modules():
        if isinstance(part, SpatialTransformer):
            return part
    raise ValueError(
        'there is no spatial transformer; train with transformer.kind = "rotation", "attention" or "affine"'
    )


def draw_looks(windows: Sequence[Look]) -> Image.Image:
    """Pairs of tiles: each window with the quadrilateral that is read, and what the network then sees. The blue edge
    becomes the upper one."""
    width, height = 2 * SIDE + 3 * GAP, SIDE + LINE + GAP
    rows = math.ceil(len(windows) / COLUMNS)
    sheet = Image.new("RGB", (min(len(windows), COLUMNS) * width or width, max(rows, 1) * height + GAP), "white")
    pencil, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, look in enumerate(windows):
        left, top = number % COLUMNS * width + GAP, number // COLUMNS * height + GAP
        pencil.text((left, top), scored(look.name, look.score), fill="black", font=font)
        sheet.paste(_with_quadrilateral(look), (left, top + LINE))
        sheet.paste(_picture(look.seen, SIDE), (left + SIDE + GAP, top + LINE))
    return sheet


def _with_quadrilateral(look: Look) -> Image.Image:
    tile = Image.new("RGB", (SIDE, SIDE), EMPTY)
    inner = round(SIDE * SHARE)
    margin = (SIDE - inner) // 2
    tile.paste(_picture(look.window, inner), (margin, margin))
    corners = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]]) @ look.theta.T  # in [−1, 1]
    points = [tuple(point) for point in ((corners + 1) / 2 * inner + margin).tolist()]
    pencil = ImageDraw.Draw(tile)
    for start, colour in ((1, EDGES), (2, EDGES), (3, EDGES), (0, TOP)):
        pencil.line([points[start], points[(start + 1) % 4]], fill=colour, width=3)
    return tile


def _picture(pixels: Tensor, side: int) -> Image.Image:
    array: Array = (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(array).resize((side, side), Image.Resampling.BILINEAR)
