"""DenseCap (Johnson, Karpathy and Fei-Fei 2016, arXiv:1511.07571): a Faster R-CNN whose class is a phrase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from rcnnkit import fixed_sizes
from rcnnkit.backbones.backbone import Backbone
from rcnnkit.detectors.describer import Describer
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.heads.box_head import BoxHead
from rcnnkit.heads.captioner import RegionCaptioner
from rcnnkit.heads.region_pool import RegionPool
from rcnnkit.images import Preprocessing
from rcnnkit.matching import Generators
from rcnnkit.proposals.rpn import RPN
from rcnnkit.structures import Detections, ImageBatch, LossSum, Proposals, Size, Targets


class DenseCap(Describer, FasterRCNN):
    """Faster R-CNN with one class, "region", and a captioner that describes each of its objects.

    Where this leaves the paper: the proposals and the head are Faster R-CNN's, so that objectness is a softmax of two;
    all losses weigh 1 unless `captions.loss_weight` says otherwise, where the released code has 1 for the words and
    0.1 for most others; boxes get no gradient unless `rpn.box_gradient`; phrases are those of the final boxes, where
    the released code describes the proposals. Beside fc7 the captioner sees the mean of the pooled map, which keeps
    colours, and with `captions.context` what lies around the box.

    Args:
        backbone, rpn, pool, head, preprocessing: as of `FasterRCNN`; the head with one class.
        captioner: what describes the regions.
    """

    kind = "densecap"
    stages = FasterRCNN.stages | {"phrases": ("describe_regions",)}

    def __init__(
        self,
        backbone: Backbone,
        rpn: RPN,
        pool: RegionPool,
        head: BoxHead,
        preprocessing: Preprocessing,
        captioner: RegionCaptioner,
    ) -> None:
        super().__init__(backbone, rpn, pool, head, preprocessing)
        self.captioner = captioner

    def loss_sums(
        self, images: ImageBatch, targets: Sequence[Targets], generators: Generators = None
    ) -> dict[str, LossSum]:
        """Faster R-CNN's four losses, and `words`, of the regions that are foreground."""
        self.check_batch(images, targets)
        features = self.backbone(images.pixels)  # of each stride (B, C, H / stride, W / stride)
        losses, proposals = self.rpn.loss_sums(images, features, targets, generators)  # of each image (N, 4)
        proposals, objects, labels, goals = self.head.sample_objects(proposals, targets, generators)
        regions = self.pool(features, proposals)  # (R, C, 7, 7)
        losses |= self.head.loss_sums(regions, labels, goals)
        found = [proposal[which >= 0] for proposal, which in zip(proposals, objects, strict=True)]
        seen = self.see(features, regions[torch.cat(objects) >= 0], found, images.sizes)
        return losses | {"words": self.language.loss_sum(seen, _phrases_of(targets, objects))}

    def see(
        self, features: Sequence[Tensor], regions: Tensor, proposals: Sequence[Proposals], sizes: Sequence[Size]
    ) -> Tensor:
        """(R, width) float32: what the captioner sees of each region.

        Args:
            features: the maps.
            regions: (R, C, s, s), pooled from them.
            proposals: of each image, R in all.
            sizes: (height, width) of each image.
        """
        wider = None
        if (factor := self.language.settings.context) > 1:
            boxes = [widened(p.boxes, factor) for p in proposals]
            wider = self.pool(features, [replace(p, boxes=each) for p, each in zip(proposals, boxes, strict=True)])
            inside = [cells_inside(each, self.pool.size, size) for each, size in zip(boxes, sizes, strict=True)]
            wider = wider * torch.cat(inside)[:, None]
        return self.captioner.join(self.head.class_features(regions), regions, wider)

    def describe_regions(
        self, features: Sequence[Tensor], proposals: Sequence[Proposals], sizes: Sequence[Size]
    ) -> list[tuple[str, ...]]:
        """The phrases of each image's regions; arguments as of `see`."""
        seen = self.see(features, self.pool(features, proposals), proposals, sizes)
        phrases = self.language.say(seen)
        ends = [0, *torch.tensor([len(p) for p in proposals]).cumsum(0).tolist()]
        return [tuple(phrases[start:end]) for start, end in pairwise(ends)]

    def describe(self, images: ImageBatch) -> list[tuple[str, ...]]:
        return self.describe_regions(self.backbone(images.pixels), images.proposals, images.sizes)

    def detect(self, images: ImageBatch) -> list[Detections]:
        features = self.backbone(images.pixels)  # of each stride (B, C, H / stride, W / stride)
        fixed = fixed_sizes.are_wanted(images.pixels)
        proposals = self.rpn.propose(images, features, fixed=fixed)  # of each image (N, 4), R in all
        kept = self.head.detect(self.pool(features, proposals), proposals, images.sizes)
        found = [Proposals(each.boxes, each.scores) for each in kept]
        phrases = self.describe_regions(features, found, images.sizes)
        detections = self.in_pictures(kept, images)
        return [replace(each, phrases=said) for each, said in zip(detections, phrases, strict=True)]


def widened(boxes: Tensor, factor: float) -> Tensor:
    """(N, 4) boxes with their sides multiplied about their centres, which stay in the middle: also beyond a picture."""
    centres, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) * (factor / 2)
    return torch.cat([centres - half, centres + half], dim=1)


def cells_inside(boxes: Tensor, cells: int, size: Size) -> Tensor:
    """(N, cells, cells) bool: which cells of (N, 4) boxes have their centres in a picture (height, width), and not in
    what a batch pads it with."""
    places = (torch.arange(cells, device=boxes.device) + 0.5) / cells
    x, y = (boxes[:, axis, None] + places * (boxes[:, axis + 2] - boxes[:, axis])[:, None] for axis in (0, 1))
    height, width = size
    return ((y > 0) & (y < height))[:, :, None] & ((x > 0) & (x < width))[:, None, :]


def _phrases_of(targets: Sequence[Targets], objects: Sequence[Tensor]) -> Tensor:
    """(F, L) the phrases of the objects that regions stand for; those of negative numbers stand for none."""
    parts = [target.phrases[which[which >= 0]] for target, which in zip(targets, objects, strict=True)]
    longest = max(part.shape[1] for part in parts)
    return torch.cat([nn.functional.pad(part, (0, longest - part.shape[1])) for part in parts])
