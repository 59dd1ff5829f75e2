"""Fast R-CNN (Girshick 2015, arXiv:1504.08083v2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from rcnnkit.backbones.fpn import FPN
from rcnnkit.backbones.resnet import ResNetC4
from rcnnkit.backbones.single_map import SingleMap
from rcnnkit.detectors.detector import Detector
from rcnnkit.heads.box_head import BoxHead
from rcnnkit.heads.region_pool import RegionPool
from rcnnkit.images import Preprocessing
from rcnnkit.structures import Detections, ImageBatch, Proposals, Targets


class ProposalMethod(Protocol):
    """What finds regions: selective search, sliding windows, an RPN."""

    def propose(self, images: ImageBatch, features: Sequence[Tensor]) -> list[Proposals]: ...


class FastRCNN(Detector):
    """The whole picture through the convolutions once; its regions, found by something else, pooled from there.

    Args:
        backbone: pixels → feature maps, finest first.
        proposer: asked where proposals do not come with the pictures; None: they have to.
        pool: features and proposals → regions.
        head: regions → classes and boxes.
        preprocessing: what the network's pixels are.
        train_count, count: how many of the best proposals of a picture are used to train and to detect with.
    """

    def __init__(
        self,
        backbone: FPN | ResNetC4 | SingleMap,
        proposer: ProposalMethod | None,
        pool: RegionPool,
        head: BoxHead,
        preprocessing: Preprocessing,
        train_count: int = 2000,
        count: int = 2000,
    ) -> None:
        super().__init__()
        self.backbone, self.proposer, self.pool, self.head = backbone, proposer, pool, head
        self.preprocessing = preprocessing
        self.class_names, self.category_ids = head.class_names, head.category_ids
        self.train_count, self.count = train_count, count

    def losses(
        self, images: ImageBatch, targets: Sequence[Targets], generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The two losses of equation 1; their sum is what the paper minimises.

        Args:
            images: B pictures, with their proposals or to be searched for them.
            targets: the objects of each, in the frame of `images.pixels`.
            generator: draws the samples.
        """
        features = self.backbone(images.pixels)
        proposals = self.propose(images, features, self.train_count)
        proposals, labels, goals = self.head.sample(proposals, targets, generator)
        regions = self.pool(features, proposals)
        return self.head.losses(regions, labels, goals)

    def detect(self, images: ImageBatch) -> list[Detections]:
        """What is in each image, in the pixels of the pictures as they were given."""
        features = self.backbone(images.pixels)
        proposals = self.propose(images, features, self.count)
        regions = self.pool(features, proposals)
        return self.head.detect(regions, proposals, images)

    def propose(self, images: ImageBatch, features: Sequence[Tensor], count: int) -> list[Proposals]:
        """The best `count` regions of each image: those that came with it, or else the proposer's.

        Raises:
            ValueError: there is neither.
        """
        if images.proposals:
            return [proposals[:count] for proposals in images.proposals]
        if self.proposer is None:
            raise ValueError(
                'this detector was made for precomputed proposals (proposals.method = "precomputed"); pass them with'
                " the picture: detector(picture, proposals)"
            )
        return [proposals[:count] for proposals in self.proposer.propose(images, features)]
