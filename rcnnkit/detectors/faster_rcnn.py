"""Faster R-CNN (Ren et al. 2015, arXiv:1506.01497v3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rcnnkit import fixed_sizes
from rcnnkit.backbones.backbone import Backbone
from rcnnkit.detectors.detector import Detector, Limit
from rcnnkit.heads.box_head import BoxHead
from rcnnkit.heads.region_pool import RegionPool
from rcnnkit.images import Preprocessing
from rcnnkit.matching import Generators
from rcnnkit.proposals.rpn import RPN
from rcnnkit.structures import Detections, ImageBatch, LossSum, Proposals, Targets, means


class FasterRCNN(Detector):
    """A region proposal network and Fast R-CNN on the same features, trained jointly or in turn (section 3.2).

    Args:
        backbone: pixels → feature maps, finest first.
        rpn: features → proposals.
        pool: features and proposals → regions.
        head: regions → classes and boxes.
        preprocessing: what the network's pixels are.
    """

    kind = "faster_rcnn"
    stages = Detector.stages | {
        "proposals": ("rpn.propose",),
        "backbone": ("backbone.forward",),
        "regions": ("pool.forward",),
        "heads": ("head.predict",),
        "suppression": ("head.detect", "in_pictures"),  # thresholds, boxes and NMS
    }

    def __init__(
        self,
        backbone: Backbone,
        rpn: RPN,
        pool: RegionPool,
        head: BoxHead,
        preprocessing: Preprocessing,
    ) -> None:
        super().__init__()
        self.backbone, self.rpn, self.pool, self.head = backbone, rpn, pool, head
        self.preprocessing = preprocessing
        self.class_names, self.category_ids = head.class_names, head.category_ids

    def limits(self, training: bool = False) -> list[Limit]:
        counts = {"head.max_detections": self.head.max_detections}
        # Objects of one size come from one map, so each map's number matters as that of all.
        counts |= dict(zip(("rpn.pre_nms", "rpn.post_nms"), self.rpn.keep, strict=True))
        if training:
            counts |= dict(zip(("rpn.train_pre_nms", "rpn.train_post_nms"), self.rpn.train_keep, strict=True))
        return [Limit(setting, count) for setting, count in counts.items()]

    @property
    def count(self) -> int:
        return self.rpn.keep[1]

    @count.setter
    def count(self, count: int) -> None:
        self.rpn.keep = (
            max(count, self.rpn.settings.pre_nms),
            count,
        )  # no more come out of the suppression than go into it

    def loss_sums(
        self, images: ImageBatch, targets: Sequence[Targets], generators: Generators = None
    ) -> dict[str, LossSum]:
        """The four losses of joint training; the sum of their means is what the paper minimises."""
        self.check_batch(images, targets)
        features = self.backbone(images.pixels)  # of each stride (B, C, H / stride, W / stride)
        losses, proposals = self.rpn.loss_sums(images, features, targets, generators)  # of each image (N, 4)
        proposals, labels, goals = self.head.sample(proposals, targets, generators)  # R in all; (R,), (R, 4)
        regions = self.pool(features, proposals)  # (R, C, 7, 7)
        return losses | self.head.loss_sums(regions, labels, goals)

    def rpn_losses(
        self, images: ImageBatch, targets: Sequence[Targets], generator: Generators = None
    ) -> dict[str, Tensor]:
        """The two losses of the region proposal network, to train it alone (3.1); arguments as of `losses`."""
        return means(self.rpn_loss_sums(images, targets, generator))

    def rpn_loss_sums(
        self, images: ImageBatch, targets: Sequence[Targets], generators: Generators = None
    ) -> dict[str, LossSum]:
        """What `rpn_losses` divides."""
        self.check_batch(images, targets)
        losses, _ = self.rpn.loss_sums(images, self.backbone(images.pixels), targets, generators)
        return losses

    def detect(self, images: ImageBatch) -> list[Detections]:
        """What is in each image, in the pixels of the pictures as they were given."""
        features = self.backbone(images.pixels)  # of each stride (B, C, H / stride, W / stride)
        fixed = fixed_sizes.are_wanted(images.pixels)
        proposals = self.rpn.propose(images, features, fixed=fixed)  # of each image (N, 4), R in all
        regions = self.pool(features, proposals)  # (R, C, 7, 7)
        kept = self.head.detect(regions, proposals, images.sizes)  # boxes (N, 4), scores (N,) and classes (N,) of each
        return self.in_pictures(kept, images)

    def regions(self, images: ImageBatch, proposals: Sequence[Proposals]) -> Tensor:
        """What the head sees of boxes that are known already, (R, C, s, s), in the frame of `images.pixels`."""
        return self.pool(self.backbone(images.pixels), proposals)

    def score_proposals(self, images: ImageBatch) -> Tensor:
        regions = self.regions(images, images.proposals)
        return self.head.score(self.head.class_features(regions))

    @property
    def region_width(self) -> int:
        return self.head.score_layer.in_features + self.backbone.channels[0]

    def region_features(self, images: ImageBatch) -> Tensor:
        return self.head.appearance(self.regions(images, images.proposals))
