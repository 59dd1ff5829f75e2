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
from rcnnkit.structures import Detections, ImageBatch, LossSum, Proposals, Targets


class DenseCap(Describer, FasterRCNN):
    """Faster R-CNN with one class, "region", and a captioner that describes each of its objects.

    Where this leaves the paper: the proposals and the head are Faster R-CNN's, so that objectness is a softmax of two;
    all losses weigh 1 unless `captions.loss_weight` says otherwise, where the released code has 1 for the words and
    0.1 for most others; boxes get no gradient unless `rpn.box_gradient`; phrases are those of the final boxes, where
    the released code describes the proposals. Beside fc7 the captioner sees the mean of the pooled map, which keeps
    colours, and with `captions.neighbours` the other regions of the picture.

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
        regions = regions[torch.cat(objects) >= 0]
        found = [proposal.boxes[which >= 0] for proposal, which in zip(proposals, objects, strict=True)]
        certain = [Proposals(boxes, boxes.new_ones(len(boxes))) for boxes in found]
        seen = self.captioner.join(self.head.class_features(regions), regions, certain)
        return losses | {"words": self.language.loss_sum(seen, _phrases_of(targets, objects))}

    def describe_regions(self, features: Sequence[Tensor], proposals: Sequence[Proposals]) -> list[tuple[str, ...]]:
        """The phrases of each image's regions.

        Args:
            features: the maps.
            proposals: of each image; the scores are the probabilities of being an object.
        """
        regions = self.pool(features, proposals)  # (R, C, 7, 7)
        phrases = self.language.say(self.captioner.join(self.head.class_features(regions), regions, proposals))
        ends = [0, *torch.tensor([len(p) for p in proposals]).cumsum(0).tolist()]
        return [tuple(phrases[start:end]) for start, end in pairwise(ends)]

    def describe(self, images: ImageBatch) -> list[tuple[str, ...]]:
        return self.describe_regions(self.backbone(images.pixels), images.proposals)

    def detect(self, images: ImageBatch) -> list[Detections]:
        features = self.backbone(images.pixels)  # of each stride (B, C, H / stride, W / stride)
        fixed = fixed_sizes.are_wanted(images.pixels)
        proposals = self.rpn.propose(images, features, fixed=fixed)  # of each image (N, 4), R in all
        kept = self.head.detect(self.pool(features, proposals), proposals, images.sizes)
        found = [Proposals(each.boxes, each.scores) for each in kept]
        phrases = self.describe_regions(features, found)
        detections = self.in_pictures(kept, images)
        return [replace(each, phrases=said) for each, said in zip(detections, phrases, strict=True)]


def _phrases_of(targets: Sequence[Targets], objects: Sequence[Tensor]) -> Tensor:
    """(F, L) the phrases of the objects that regions stand for; those of negative numbers stand for none."""
    parts = [target.phrases[which[which >= 0]] for target, which in zip(targets, objects, strict=True)]
    longest = max(part.shape[1] for part in parts)
    return torch.cat([nn.functional.pad(part, (0, longest - part.shape[1])) for part in parts])
