"""Fast R-CNN (Girshick 2015, arXiv:1504.08083v2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rcnnkit import fixed_sizes
from rcnnkit.backbones.backbone import Backbone
from rcnnkit.boxes import area, scale
from rcnnkit.detectors.detector import Detector, Limit
from rcnnkit.heads.box_head import BoxHead
from rcnnkit.heads.region_pool import CANONICAL_SIDE, RegionPool, only, sum_in_place
from rcnnkit.images import Picture, Preprocessing
from rcnnkit.matching import Generators
from rcnnkit.ops.regions import as_rois
from rcnnkit.proposals.methods import ProposalSettings, proposal_method
from rcnnkit.structures import Detections, ImageBatch, LossSum, Proposals, Targets


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
        "regions": ("pool.forward", "pool.pool_rois"),
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

    def batches(self, pictures: Sequence[Picture], factor: float = 1.0) -> list[ImageBatch]:
        if self.preprocessing.scales:  # `pool_from_scales` resizes them
            return [self.preprocessing.unseen(pictures, self.device)]
        return super().batches(pictures, factor)

    def loss_sums(
        self, images: ImageBatch, targets: Sequence[Targets], generators: Generators = None
    ) -> dict[str, LossSum]:
        """The two losses of equation 1; the sum of their means is what the paper minimises.

        Images without proposals are searched for them.
        """
        self.check_batch(images, targets)
        features = self.backbone(images.pixels)  # of each stride (B, C, H / stride, W / stride)
        proposals = self.propose(images, features, self.train_count)  # of each image (N, 4)
        proposals, labels, goals = self.head.sample(proposals, targets, generators)  # R in all; (R,), (R, 4)
        regions = self.pool(features, proposals)  # (R, C, 7, 7)
        return self.head.loss_sums(regions, labels, goals)

    def detect(self, images: ImageBatch) -> list[Detections]:
        """What is in each image, in the pixels of the pictures as they were given."""
        if self.preprocessing.scales:
            proposals = self.propose(images, [], self.count)  # what looks at features would not know at which scale
            regions = self.pool_from_scales(images, proposals)  # (R, C, 7, 7)
        else:
            features = self.backbone(images.pixels)  # of each stride (B, C, H / stride, W / stride)
            proposals = self.propose(images, features, self.count)  # of each image (N, 4), R in all
            regions = self.pool(features, proposals)  # (R, C, 7, 7)
        kept = self.head.detect(regions, proposals, images.sizes)  # boxes (N, 4), scores (N,) and classes (N,) of each
        return self.in_pictures(kept, images)

    def score_proposals(self, images: ImageBatch) -> Tensor:
        return self.head.score(self.head.class_features(self.regions(images, images.proposals)))

    @property
    def region_width(self) -> int:
        return self.head.score_layer.in_features + self.backbone.channels[0]

    def region_features(self, images: ImageBatch) -> Tensor:
        return self.head.appearance(self.regions(images, images.proposals))

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
        framed = list(zip(proposals, images.sizes, images.original_sizes, strict=True))
        # The proposals of all images at each scale, (R, 4), and the number of the scale for each, (R,).
        boxes = [[scale(p.boxes, size, at.resized(original)) for p, size, original in framed] for at in scales]
        off = [(area(torch.cat(of_images)) - CANONICAL_SIDE**2).abs() for of_images in boxes]
        nearest = torch.stack(off).argmin(dim=0)
        maps = (self.backbone(at(images.pictures, images.pixels.device).pixels) for at in scales)
        if fixed_sizes.are_wanted(nearest):
            return sum_in_place(
                self.pool.pool_rois(features, only(as_rois(features[0], boxes[number]), nearest == number))
                for number, features in enumerate(maps)
            )
        parts, rows = [], []
        for number, features in enumerate(maps):
            rows.append(torch.where(nearest == number)[0])
            parts.append(self.pool.pool_rois(features, as_rois(features[0], boxes[number])[rows[-1]]))
        return torch.cat(parts)[torch.cat(rows).argsort()]
