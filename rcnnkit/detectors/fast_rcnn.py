"""Fast R-CNN (Girshick 2015, arXiv:1504.08083v2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rcnnkit.backbones.backbone import Backbone
from rcnnkit.boxes import area, scale
from rcnnkit.detectors.detector import Detector, Limit
from rcnnkit.heads.box_head import BoxHead
from rcnnkit.heads.region_pool import CANONICAL_SIDE, RegionPool
from rcnnkit.images import Preprocessing
from rcnnkit.proposals.methods import ProposalSettings, proposal_method
from rcnnkit.structures import Detections, ImageBatch, Proposals, Targets


class FastRCNN(Detector):
    """The whole picture through the convolutions once; its regions, found by something else, pooled from there.

    Args:
        backbone: pixels → feature maps, finest first.
        pool: features and proposals → regions.
        head: regions → classes and boxes.
        preprocessing: what the network's pixels are.
        proposals: which regions; `proposer` is asked where they do not come with the pictures.
    """

    kind = "fast_rcnn"
    stages = Detector.stages | {
        "resize": ("forward", "pool_from_scales"),
        "proposals": ("propose",),
        "backbone": ("backbone.forward",),
        "regions": ("pool.forward",),
        "heads": ("head.predict",),
        "suppression": ("head.detect", "in_pictures"),  # thresholds, boxes and NMS
    }
    takes_proposals = True

    def __init__(
        self,
        backbone: Backbone,
        pool: RegionPool,
        head: BoxHead,
        preprocessing: Preprocessing,
        proposals: ProposalSettings,
    ) -> None:
        super().__init__()
        self.backbone, self.pool, self.head, self.preprocessing = backbone, pool, head, preprocessing
        self.proposer, self.train_count, self.count = proposal_method(proposals), proposals.train_count, proposals.count
        self.class_names, self.category_ids = head.class_names, head.category_ids

    @property
    def scores_are_margins(self) -> bool:
        return self.head.svm_layer is not None

    def limits(self, training: bool = False) -> list[Limit]:
        known = Limit("head.max_detections", self.head.max_detections), Limit("proposals.count", self.count)
        return [*known, Limit("proposals.train_count", self.train_count)] if training else [*known]

    @property
    def short_sides(self) -> Sequence[int]:
        return self.preprocessing.scales or super().short_sides

    def losses(
        self, images: ImageBatch, targets: Sequence[Targets], generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The two losses of equation 1; their sum is what the paper minimises.

        Args:
            images: B pictures, with their proposals or to be searched for them.
            targets: the objects of each, in the frame of `images.pixels`.
            generator: draws the samples.
        """
        self.check_batch(images, targets)
        features = self.backbone(images.pixels)
        proposals = self.propose(images, features, self.train_count)
        proposals, labels, goals = self.head.sample(proposals, targets, generator)
        regions = self.pool(features, proposals)
        return self.head.losses(regions, labels, goals)

    def detect(self, images: ImageBatch) -> list[Detections]:
        """What is in each image, in the pixels of the pictures as they were given."""
        if self.preprocessing.scales:
            proposals = self.propose(images, [], self.count)  # what looks at features would not know at which scale
            regions = self.pool_from_scales(images, proposals)
        else:
            features = self.backbone(images.pixels)
            proposals = self.propose(images, features, self.count)
            regions = self.pool(features, proposals)
        return self.in_pictures(self.head.detect(regions, proposals, images.sizes), images)

    def score_proposals(self, images: ImageBatch) -> Tensor:
        return self.head.score(self.head.layers(self.regions(images, images.proposals)).float())

    def regions(self, images: ImageBatch, proposals: Sequence[Proposals]) -> Tensor:
        """What `detect` sees of proposals that are known already, in the frame of `images.pixels`."""
        if self.preprocessing.scales:
            return self.pool_from_scales(images, proposals)
        return self.pool(self.backbone(images.pixels), proposals)

    def pool_from_scales(self, images: ImageBatch, proposals: Sequence[Proposals]) -> Tensor:
        """Regions as of `pool`, each from the scale where its area is nearest 224² pixels (sections 2.4 and 5.2).

        Args:
            images: with their pictures, which are resized to every one of `preprocessing.scales`.
            proposals: of each, in the frame of `images.pixels`.

        Raises:
            ValueError: the batch came without its pictures.
        """
        if len(images.pictures) != len(images):
            raise ValueError("input.scales needs the pictures as they were given, and this batch came without them")
        scales = [self.preprocessing.at(side) for side in self.short_sides]
        # The proposals of all images at each scale, and the scale of each.
        moved = [
            torch.cat(
                [
                    scale(each.boxes, size, one.resized(original))
                    for each, size, original in zip(proposals, images.sizes, images.original_sizes, strict=True)
                ]
            )
            for one in scales
        ]
        nearest = torch.stack([(area(boxes) - CANONICAL_SIDE**2).abs() for boxes in moved]).argmin(dim=0)
        counts = [len(each) for each in proposals]
        regions, order = [], []
        for number, (one, boxes) in enumerate(zip(scales, moved, strict=True)):
            here = nearest == number
            features = self.backbone(one(images.pictures, images.pixels.device).pixels)
            chosen = [
                Proposals(box[mask], box.new_ones(int(mask.sum())))
                for box, mask in zip(boxes.split(counts), here.split(counts), strict=True)
            ]
            regions.append(self.pool(features, chosen))
            order.append(torch.where(here)[0])
        return torch.cat(regions)[torch.cat(order).argsort()]
