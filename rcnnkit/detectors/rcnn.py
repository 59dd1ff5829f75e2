"""R-CNN: regions with CNN features (Girshick et al. 2014, arXiv:1311.2524v5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rcnnkit.backbones.window import Layer, WindowNetwork
from rcnnkit.detectors.detector import Detector, Limit
from rcnnkit.heads.svm import SVMSettings
from rcnnkit.images import Picture, Preprocessing
from rcnnkit.matching import Generators, each_generator, match, sample
from rcnnkit.ops import warp_regions
from rcnnkit.proposals.methods import ProposalSettings, proposal_method
from rcnnkit.settings import Count, Factor, Positive, Share
from rcnnkit.structures import Detections, ImageBatch, LossSum, Size, Targets
from rcnnkit.suppression import Kept, suppress

MIN_SIDE = 1e-2  # pixels; a box that regression moved off the picture or shrank to nothing is none


class RCNNSettings(SVMSettings):
    """[rcnn]: R-CNN's windows, fine-tuning, SVMs and box regression. The defaults are the paper's and its released
    code's.
    """

    renamed: ClassVar = {"scores": "scorer"}

    size: Count = 0
    """Sides of a warped window, pixels (R-CNN 2.1). 0: 227 with alexnet and caffenet, 224 with the others."""
    context: Count = 16
    """Pixels of a window, on each side, that show what is around the region (R-CNN appendix A)."""
    square: bool = False
    """Windows keep their shape: the tightest square around the region in place of a stretched region (R-CNN appendix
    A)."""
    layer: Layer = "fc7"
    """The layer whose features the SVMs see (R-CNN 3.2)."""
    scorer: Literal["svm", "softmax"] = "svm"
    """What scores a region. svm: the margins of the SVMs. softmax: the probabilities of the fine-tuned network (R-CNN
    appendix B)."""
    box_regression: bool = True
    """Move each detection's box by a ridge regression on pool5 (R-CNN appendix C)."""
    fine_tune: bool = True
    """Train the network on windows of the training pictures before the SVMs (R-CNN 2.3). false: leave it as it is."""
    samples: Positive = 128
    """Windows in a batch of fine-tuning (R-CNN 2.3); `train.batch` is not used."""
    foreground_share: Share = 0.25
    """The share of a fine-tuning batch that are objects: 32 windows of 128 (R-CNN 2.3)."""
    foreground_iou: Share = 0.5
    """A window whose IoU with an object is at least this is fine-tuned as that object's class (R-CNN 2.3)."""
    classifier_lr: Factor = 10.0
    """Learning rate of the new last layer, as a multiple of the other layers' (released code)."""
    mining: bool = True
    """Train the SVMs on hard negatives of all pictures (R-CNN 2.3). false: on the first picture's only."""
    passes: Positive = 1
    """How many times the hard negatives are searched for in all pictures (released code)."""
    near_iou: Annotated[float, Field(ge=0, lt=1)] = 0.6
    """A window whose IoU with an object is above this learns to be moved onto it (R-CNN appendix C)."""
    ridge: Factor = 1000.0
    """λ of the ridge regression: the penalty on its weights (R-CNN appendix C)."""
    batch: Positive = 128
    """Windows that go through the network at a time."""
    score_threshold: float = -1.0
    """The least score of a detection: an SVM's margin, or with scorer = "softmax" a probability. -1 is that of the
    released demo."""
    nms_iou: Share = 0.3
    """A detection is dropped if a better one of its class overlaps it by a larger IoU (released code)."""
    max_detections: Count = 100
    """The most detections of each class in a picture, before suppression (released code). 0: no limit."""


class RCNN(Detector):
    """Every proposal is warped to one size, computed by a classifier of its own and scored by one SVM per class.

    `losses` is the fine-tuning of section 2.3 alone; the SVMs (appendix B) and the box regression (appendix C)
    are trained afterwards, on features, and live here as buffers. Their weights speak of features as the network
    gives them: what these were multiplied by for training, and the whitening of the boxes, is folded in.

    Where this leaves the paper: the released code also raises a threshold for each class as the test pictures
    arrive, so that 40 detections a picture survive on average; here a picture knows nothing of the others.

    Args:
        backbone: windows → pool5, fc6, fc7.
        class_names: K of them.
        category_ids: the data set's own ids for these.
        preprocessing: what the pixels are that windows are cut from.
        proposals: which regions; `proposer` is asked where they do not come with the pictures.
        settings: see `RCNNSettings`; with the `size` that is 0 there.
    """

    kind = "rcnn"
    stages = Detector.stages | {
        "proposals": ("propose",),
        "backbone": ("compute_features", "backbone.forward"),  # windows, put together again after their chunks
        "regions": ("warp",),
        "heads": ("score", "regress"),  # SVMs and ridge regression
        "suppression": ("suppress", "in_pictures"),
    }
    shares_features = False
    takes_proposals = True
    backbone: WindowNetwork
    svm_weight: Tensor  # (K, D)
    svm_bias: Tensor  # (K,)
    ridge_weight: Tensor  # (K, 4, D of pool5)
    ridge_bias: Tensor  # (K, 4)

    def __init__(
        self,
        backbone: WindowNetwork,
        class_names: Sequence[str],
        category_ids: Sequence[int],
        preprocessing: Preprocessing,
        proposals: ProposalSettings,
        settings: RCNNSettings,
    ) -> None:
        super().__init__()
        self.backbone, self.settings = backbone, settings
        self.transformer: nn.Module = nn.Identity()  # or a `SpatialTransformer` of the windows
        self.preprocessing = preprocessing.model_copy(update={"divisor": 1})  # windows are cut from unpadded pictures
        self.proposer, self.train_count, self.count = proposal_method(proposals), proposals.train_count, proposals.count
        self.class_names, self.category_ids = tuple(class_names), tuple(category_ids)
        classes, widths = len(self.class_names), backbone.widths
        self.score_layer = nn.Linear(widths["fc7"], classes + 1)  # background is the last
        nn.init.normal_(self.score_layer.weight, std=0.01)
        nn.init.zeros_(self.score_layer.bias)
        for name, shape in {
            "svm_weight": (classes, widths[settings.layer]),
            "svm_bias": (classes,),
            "ridge_weight": (classes, 4, widths["pool5"]),
            "ridge_bias": (classes, 4),
        }.items():
            self.register_buffer(name, torch.zeros(shape))
        self.score_threshold, self.nms_iou = settings.score_threshold, settings.nms_iou
        self.max_detections = settings.max_detections

    @property
    def scores_are_margins(self) -> bool:
        return self.settings.scorer == "svm"

    def limits(self, training: bool = False) -> list[Limit]:
        known = Limit("rcnn.max_detections", self.max_detections, of_class=True), Limit("proposals.count", self.count)
        return [*known, Limit("proposals.train_count", self.train_count)] if training else [*known]

    @property
    def last_layer(self) -> Layer:
        """The last one that detecting needs."""
        return "fc7" if self.settings.scorer == "softmax" else self.settings.layer

    def batches(self, pictures: Sequence[Picture], factor: float = 1.0) -> list[ImageBatch]:
        return self.preprocessing.one_by_one(pictures, self.device, factor)

    def loss_sums(
        self, images: ImageBatch, targets: Sequence[Targets], generators: Generators = None
    ) -> dict[str, LossSum]:
        """Fine-tuning's loss on regions sampled from these pictures, `samples` in all; the objects are regions too."""
        self.check_batch(images, targets)
        windows, labels = [], []
        each = each_generator(generators, len(targets))
        found = zip(self.propose(images, [], self.train_count), targets, each, strict=True)
        for i, (proposal, target, generator) in enumerate(found):
            boxes = torch.cat([target.boxes[~target.crowd], proposal.boxes])  # (N, 4)
            matched = match(boxes, target, self.settings.foreground_iou, self.settings.foreground_iou)  # (N,)
            rows = sample(matched, self.settings.samples // len(images), self.settings.foreground_share, generator)
            windows.append(self.warp(picture_of(images, i), boxes[rows]))  # (R, 3, S, S)
            labels.append(self.label(matched[rows], target))  # (R,)
        return self.window_loss_sums(torch.cat(windows), torch.cat(labels))

    def window_loss_sums(self, windows: Tensor, labels: Tensor) -> dict[str, LossSum]:
        """`class`: log loss over K classes and background, of windows (R, 3, S, S) with labels (R,)."""
        logits = self.score_layer(self.backbone(self.transformer(windows))["fc7"]).float()
        return {"class": LossSum(F.cross_entropy(logits, labels, reduction="sum"), len(labels))}

    def label(self, matched: Tensor, targets: Targets) -> Tensor:
        """(R,) class of each region that `match` matched to an object, K for background."""
        labels = torch.full_like(matched, len(self.class_names))
        labels[matched >= 0] = targets.labels[matched[matched >= 0]]
        return labels

    def detect(self, images: ImageBatch) -> list[Detections]:
        """What is in each image, in the pixels of the pictures as they were given."""
        outputs = []
        for i, proposal in enumerate(self.propose(images, [], self.count)):  # of each image (R, 4)
            features = self.compute_features(picture_of(images, i), proposal.boxes)  # of each layer (R, D)
            scores = self.score(features)  # (R, K)
            deltas = self.regress(features) if self.settings.box_regression else None  # (R, K, 4)
            outputs.append(self.suppress(proposal.boxes, scores, deltas, images.sizes[i]))  # (N, 4), (N,), (N,)
        return self.in_pictures(outputs, images)

    def score_proposals(self, images: ImageBatch) -> Tensor:
        boxes = [proposals.boxes for proposals in images.proposals]
        features = [self.compute_features(picture_of(images, i), one) for i, one in enumerate(boxes)]
        return torch.cat([self.score(each) for each in features])

    @property
    def region_width(self) -> int:
        return self.backbone.widths[self.last_layer]

    def region_features(self, images: ImageBatch) -> Tensor:
        boxes = [proposals.boxes for proposals in images.proposals]
        features = [self.compute_features(picture_of(images, i), one) for i, one in enumerate(boxes)]
        return torch.cat([each[self.last_layer] for each in features])

    def sketch(self, size: Size, batch: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """As of every detector; of one picture after the other, and one chunk of windows after the other."""
        side = self.settings.size
        windows = torch.empty(min(self.settings.batch, self.count), 3, side, side, device=self.device)
        layers = list(self.backbone(windows, self.last_layer).values())
        return windows, layers, [layer.new_empty(self.count, layer.shape[1]) for layer in layers]

    def warp(self, picture: Tensor, boxes: Tensor) -> Tensor:
        """(3, h, w) normalised and (R, 4) → (R, 3, S, S); what is off the picture is 0, the mean."""
        return warp_regions(
            picture[None], [boxes], self.settings.size, self.settings.context, square=self.settings.square
        )

    def compute_features(self, picture: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """{layer: (R, D) float32} of regions (R, 4) of a picture (3, h, w): all that detecting needs.

        With a spatial transformer, pool5 is of the windows as they were cut: boxes are regressed from it, and stay in
        their frame.
        """
        parts = []
        for part in boxes.split(self.settings.batch):
            windows = self.warp(picture, part)
            features = self.backbone(self.transformer(windows), self.last_layer)
            if not isinstance(self.transformer, nn.Identity) and self.settings.box_regression:
                features |= {"pool5": self.backbone(windows, "pool5")["pool5"]}
            parts.append(features)
        return {name: torch.cat([part[name].float() for part in parts]) for name in parts[0]}

    def score(self, features: dict[str, Tensor]) -> Tensor:
        """(R, K): margins, or probabilities; in float32, as scores a little apart must not become ties."""
        with torch.autocast(self.device.type, enabled=False):
            if self.settings.scorer == "softmax":
                return self.score_layer(features["fc7"]).softmax(dim=1)[:, :-1]
            return F.linear(features[self.settings.layer], self.svm_weight, self.svm_bias)

    def regress(self, features: dict[str, Tensor]) -> Tensor:
        """(R, K, 4): from each region to an object of each class."""
        with torch.autocast(self.device.type, enabled=False):
            flat = F.linear(features["pool5"], self.ridge_weight.flatten(0, 1), self.ridge_bias.flatten())
        return flat.reshape(flat.shape[0], *self.ridge_bias.shape)

    def suppress(self, boxes: Tensor, scores: Tensor, deltas: Tensor | None, size: Size) -> Kept:
        """The detections of one picture: the best of each class, regressed, then suppressed, as in the released code.

        Args:
            boxes: (R, 4) regions.
            scores: (R, K).
            deltas: (R, K, 4), or None to leave the boxes as they are.
            size: of the picture that `boxes` speak of.
        """
        best, region = scores.topk(min(self.max_detections or len(scores), len(scores)), dim=0)  # (n, K)
        label = torch.arange(scores.shape[1], device=scores.device)
        boxes, deltas = boxes[region], None if deltas is None else deltas[region, label]  # (n, K, 4)
        threshold, nms_iou = self.score_threshold, self.nms_iou
        return suppress(boxes, deltas, best, label, size, min_side=MIN_SIDE, nms_iou=nms_iou, threshold=threshold)


def picture_of(images: ImageBatch, i: int) -> Tensor:
    """(3, h, w): one picture without its padding, whose edge is the picture's for the warp."""
    height, width = images.sizes[i]
    return images.pixels[i, :, :height, :width]
