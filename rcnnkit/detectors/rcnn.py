"""R-CNN: regions with CNN features (Girshick et al. 2014, arXiv:1311.2524v5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnnkit.backbones.window import Layer, WindowNetwork
from rcnnkit.boxes import clip, decode, is_large, scale
from rcnnkit.detectors.detector import Detector, Limit, ProposalMethod
from rcnnkit.heads.matching import match, sample
from rcnnkit.images import Preprocessing
from rcnnkit.ops import batched_nms, warp_regions
from rcnnkit.structures import Detections, ImageBatch, Size, Targets

MIN_SIDE = 1e-2  # pixels; a box that regression moved off the picture or shrank to nothing is none


class RCNN(Detector):
    """Every proposal is warped to one size, computed by a classifier of its own and scored by one SVM per class.

    `losses` is the fine-tuning of section 2.3 alone; the SVMs (appendix B) and the box regression (appendix C)
    are trained afterwards, on features, and live here as buffers. Their weights speak of features as the network
    gives them: what these were multiplied by for training, and the whitening of the boxes, is folded in.

    Where this leaves the paper: the released code also raises a threshold for each class as the test pictures
    arrive, so that 40 detections a picture survive on average; here a picture knows nothing of the others.

    Args:
        backbone: windows → pool5, fc6, fc7.
        proposer: asked where proposals do not come with the pictures; None: they have to.
        class_names: K of them.
        category_ids: the data set's own ids for these.
        preprocessing: what the pixels are that windows are cut from.
        size: sides of a window, pixels.
        context: pixels of a window on each side that show what is around the region (appendix A).
        square: windows keep their shape: the tightest square around the region (appendix A, B).
        layer: which features the SVMs see.
        scores: the SVMs' margins, or the probabilities of the fine-tuned classifier (appendix B).
        box_regression: regress boxes from pool5.
        foreground_iou: of a region with an object, from which on it is fine-tuned as that object's class.
        samples, foreground_share: regions in a batch of fine-tuning.
        batch: windows that the network computes at a time when detecting.
        score_threshold, nms_iou: what survives when detecting.
        max_detections: of each class, before suppression; 0: all.
        train_count, count: how many of the best proposals of a picture are used to train and to detect with.
    """

    stages = Detector.stages | {
        "proposals": ("propose",),
        "backbone": ("features", "backbone.forward"),  # windows, put together again after their chunks
        "regions": ("warp",),
        "heads": ("scores", "deltas"),  # SVMs and ridge regression
        "suppression": ("suppress",),
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
        proposer: ProposalMethod | None,
        class_names: Sequence[str],
        category_ids: Sequence[int],
        preprocessing: Preprocessing,
        *,
        size: int = 227,
        context: int = 16,
        square: bool = False,
        layer: Layer = "fc7",
        scores: Literal["svm", "softmax"] = "svm",
        box_regression: bool = True,
        foreground_iou: float = 0.5,
        samples: int = 128,
        foreground_share: float = 0.25,
        batch: int = 128,
        score_threshold: float = -1.0,
        nms_iou: float = 0.3,
        max_detections: int = 100,
        train_count: int = 2000,
        count: int = 2000,
    ) -> None:
        super().__init__()
        self.backbone, self.proposer, self.preprocessing = backbone, proposer, preprocessing
        self.class_names, self.category_ids = tuple(class_names), tuple(category_ids)
        classes, widths = len(self.class_names), backbone.widths
        self.classifier = nn.Linear(widths["fc7"], classes + 1)  # background is the last
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)
        for name, shape in {
            "svm_weight": (classes, widths[layer]),
            "svm_bias": (classes,),
            "ridge_weight": (classes, 4, widths["pool5"]),
            "ridge_bias": (classes, 4),
        }.items():
            self.register_buffer(name, torch.zeros(shape))
        self.size, self.context, self.square = size, context, square
        self.layer, self.score_kind, self.box_regression = layer, scores, box_regression
        self.foreground_iou, self.samples, self.foreground_share = foreground_iou, samples, foreground_share
        self.batch, self.score_threshold, self.nms_iou = batch, score_threshold, nms_iou
        self.max_detections, self.train_count, self.count = max_detections, train_count, count

    @property
    def scores_are_margins(self) -> bool:
        return self.score_kind == "svm"

    def limits(self, training: bool = False) -> list[Limit]:
        known = Limit("rcnn.max_detections", self.max_detections, of_class=True), Limit("proposals.count", self.count)
        return [*known, Limit("proposals.train_count", self.train_count)] if training else [*known]

    @property
    def last_layer(self) -> Layer:
        """The last one that detecting needs."""
        return "fc7" if self.score_kind == "softmax" else self.layer

    def losses(
        self, images: ImageBatch, targets: Sequence[Targets], generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Fine-tuning's loss on regions sampled from these pictures, `samples` in all.

        Args:
            images: B pictures.
            targets: the objects of each, in the frame of `images.pixels`; they are regions too.
            generator: draws the samples.
        """
        self.check_batch(images, targets)
        windows, labels = [], []
        for i, (proposal, target) in enumerate(zip(self.propose(images, [], self.train_count), targets, strict=True)):
            boxes = torch.cat([target.boxes[~target.crowd], proposal.boxes])
            matched = match(boxes, target, self.foreground_iou, self.foreground_iou)
            picked = sample(matched, self.samples // len(images), self.foreground_share, generator)
            windows.append(self.warp(picture_of(images, i), boxes[picked]))
            labels.append(self.labels(matched[picked], target))
        return self.window_losses(torch.cat(windows), torch.cat(labels))

    def window_losses(self, windows: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """`class`: log loss over K classes and background, of windows (R, 3, S, S) with labels (R,)."""
        logits = self.classifier(self.backbone(windows)["fc7"]).float()
        return {"class": F.cross_entropy(logits, labels, reduction="sum") / max(1, len(labels))}

    def labels(self, matched: Tensor, targets: Targets) -> Tensor:
        """(R,) class of each region that `match` matched to an object, K for background."""
        labels = torch.full_like(matched, len(self.class_names))
        labels[matched >= 0] = targets.labels[matched[matched >= 0]]
        return labels

    def detect(self, images: ImageBatch) -> list[Detections]:
        """What is in each image, in the pixels of the pictures as they were given."""
        found = []
        for i, proposal in enumerate(self.propose(images, [], self.count)):
            features = self.features(picture_of(images, i), proposal.boxes)
            scores = self.scores(features)
            deltas = self.deltas(features) if self.box_regression else None
            found.append(self.suppress(proposal.boxes, scores, deltas, images.sizes[i], images.original_sizes[i]))
        return found

    def sketch(self, size: Size, batch: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """As of every detector; of one picture after the other, and one chunk of windows after the other."""
        windows = torch.empty(min(self.batch, self.count), 3, self.size, self.size, device=self.device)
        layers = list(self.backbone(windows, self.last_layer).values())
        return windows, layers, [layer.new_empty(self.count, layer.shape[1]) for layer in layers]

    def warp(self, picture: Tensor, boxes: Tensor) -> Tensor:
        """(3, h, w) normalised and (R, 4) → (R, 3, S, S); what is off the picture is 0, the mean."""
        return warp_regions(picture[None], [boxes], self.size, self.context, square=self.square)

    def features(self, picture: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """{layer: (R, D) float32} of regions (R, 4) of a picture (3, h, w): all that detecting needs."""
        parts = [self.backbone(self.warp(picture, part), self.last_layer) for part in boxes.split(self.batch)]
        return {name: torch.cat([part[name].float() for part in parts]) for name in parts[0]}

    def scores(self, features: dict[str, Tensor]) -> Tensor:
        """(R, K): margins, or probabilities; in float32, as scores a little apart must not become ties."""
        with torch.autocast(self.device.type, enabled=False):
            if self.score_kind == "softmax":
                return self.classifier(features["fc7"]).softmax(dim=1)[:, :-1]
            return F.linear(features[self.layer], self.svm_weight, self.svm_bias)

    def deltas(self, features: dict[str, Tensor]) -> Tensor:
        """(R, K, 4): from each region to an object of each class."""
        with torch.autocast(self.device.type, enabled=False):
            flat = F.linear(features["pool5"], self.ridge_weight.flatten(0, 1), self.ridge_bias.flatten())
        return flat.reshape(len(flat), *self.ridge_bias.shape)

    def suppress(
        self, boxes: Tensor, scores: Tensor, deltas: Tensor | None, size: Size, original_size: Size
    ) -> Detections:
        """Detections of one picture: the best of each class, regressed, then suppressed, as in the released code.

        Args:
            boxes: (R, 4) regions.
            scores: (R, K).
            deltas: (R, K, 4), or None to leave the boxes as they are.
            size: of the picture that `boxes` speak of.
            original_size: of the picture as it was given.
        """
        best, region = scores.topk(min(self.max_detections or len(scores), len(scores)), dim=0)  # (n, K)
        good = best > self.score_threshold
        label = torch.arange(scores.shape[1], device=scores.device).expand_as(region)[good]
        region, best = region[good], best[good]
        boxes = boxes[region] if deltas is None else decode(deltas[region, label], boxes[region])
        boxes = clip(boxes, size)
        large = is_large(boxes, MIN_SIDE)
        boxes, best, label = boxes[large], best[large], label[large]
        kept = batched_nms(boxes, best, label, self.nms_iou)
        boxes = clip(scale(boxes[kept], size, original_size), original_size)
        return Detections(boxes, best[kept], label[kept], self.class_names, self.category_ids)


def picture_of(images: ImageBatch, i: int) -> Tensor:
    """(3, h, w): one picture without its padding, whose edge is the picture's for the warp."""
    height, width = images.sizes[i]
    return images.pixels[i, :, :height, :width]
