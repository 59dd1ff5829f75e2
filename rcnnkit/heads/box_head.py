"""Classes and boxes of regions (Fast R-CNN, arXiv:1504.08083, sections 2.1 to 2.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnnkit.boxes import clip, decode, encode, is_large, scale
from rcnnkit.heads.matching import match, sample
from rcnnkit.ops import batched_nms
from rcnnkit.structures import Detections, ImageBatch, Proposals, Targets


class TwoFC(nn.Sequential):
    """fc6 and fc7 with ReLU: (R, C, s, s) → (R, hidden)."""

    def __init__(self, channels: int, size: int, hidden: int) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(channels * size**2, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
        )


class BoxHead(nn.Module):
    """Two sibling layers over the features of a region: K + 1 class scores and box deltas.

    Background is the last score. Boxes are class-specific, (R, K, 4), or class-agnostic, (R, 1, 4).

    Where this leaves the paper: box targets are normalised by fixed weights in place of measured means and
    deviations (py-faster-rcnn); detections below `score_threshold` are dropped and the best `max_detections`
    of all classes kept, where the paper keeps 100 of each class.

    Args:
        features: (R, C, s, s) → (R, channels): fc6 and fc7, or a ResNet's stage 4.
        channels: what `features` gives.
        class_names: K of them.
        category_ids: the data set's own ids for these.
        class_agnostic: one box per region in place of one per class.
        foreground_iou, background_iou: regions below `background_iou` with every object are background.
        samples, foreground_share: regions per image in the loss.
        delta_weights: of (dx, dy, dw, dh): 1 / their standard deviations.
        beta: where the smooth L1 loss turns.
        score_threshold, nms_iou, max_detections: what survives when detecting.
        min_side: pixels of the network's input; smaller detections are dropped.
    """

    def __init__(
        self,
        features: nn.Module,
        channels: int,
        class_names: Sequence[str],
        category_ids: Sequence[int],
        *,
        class_agnostic: bool = False,
        foreground_iou: float = 0.5,
        background_iou: float = 0.5,
        samples: int = 512,
        foreground_share: float = 0.25,
        delta_weights: Sequence[float] = (10, 10, 5, 5),
        beta: float = 1 / 9,
        score_threshold: float = 0.05,
        nms_iou: float = 0.5,
        max_detections: int = 100,
        min_side: float = 1e-2,
    ) -> None:
        super().__init__()
        self.features = features
        self.class_names, self.category_ids = tuple(class_names), tuple(category_ids)
        self.scores = nn.Linear(channels, self.num_classes + 1)
        self.deltas = nn.Linear(channels, 4 * (1 if class_agnostic else self.num_classes))
        for layer, std in ((self.scores, 0.01), (self.deltas, 0.001)):  # Fast R-CNN 2.3
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        self.foreground_iou, self.background_iou = foreground_iou, background_iou
        self.samples, self.foreground_share = samples, foreground_share
        self.delta_weights, self.beta = tuple(delta_weights), beta
        self.score_threshold, self.nms_iou = score_threshold, nms_iou
        self.max_detections, self.min_side = max_detections, min_side

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (R, K + 1) and deltas (R, K or 1, 4), float32, of regions (R, C, s, s)."""
        hidden = self.features(regions)
        deltas = self.deltas(hidden).float().reshape(len(regions), self.deltas.out_features // 4, 4)
        return self.scores(hidden).float(), deltas

    @torch.no_grad()
    def sample(
        self,
        proposals: Sequence[Proposals],
        targets: Sequence[Targets],
        generator: torch.Generator | None = None,
    ) -> tuple[list[Proposals], Tensor, Tensor]:
        """The regions to learn from: proposals and the objects themselves, sampled.

        Returns:
            The sampled proposals of each image; labels (R,) int64, K for background;
            goals (R, 4), the deltas to the matched object, 0 for background.
        """
        chosen, labels, goals = [], [], []
        for proposal, target in zip(proposals, targets, strict=True):
            real = target.boxes[~target.crowd]
            proposal = Proposals(
                torch.cat([proposal.boxes, real]),
                torch.cat([proposal.scores, proposal.scores.new_ones(len(real))]),
            )
            matched = match(proposal.boxes, target, self.foreground_iou, self.background_iou)
            picked = sample(matched, self.samples, self.foreground_share, generator)
            proposal, matched = proposal[picked], matched[picked]
            foreground = matched >= 0
            label = torch.full_like(matched, self.num_classes)
            label[foreground] = target.labels[matched[foreground]]
            goal = torch.zeros_like(proposal.boxes)
            goal[foreground] = encode(target.boxes[matched[foreground]], proposal.boxes[foreground], self.delta_weights)
            chosen.append(proposal)
            labels.append(label)
            goals.append(goal)
        return chosen, torch.cat(labels), torch.cat(goals)

    def losses(self, regions: Tensor, labels: Tensor, goals: Tensor) -> dict[str, Tensor]:
        """`class` (log loss) and `box` (smooth L1), both divided by the number of regions (equation 1, λ = 1)."""
        logits, deltas = self(regions)
        count = max(1, len(labels))
        foreground = torch.where(labels < self.num_classes)[0]
        column = labels[foreground] if deltas.shape[1] > 1 else torch.zeros_like(foreground)
        box = F.smooth_l1_loss(deltas[foreground, column], goals[foreground], beta=self.beta, reduction="sum")
        return {"class": F.cross_entropy(logits, labels, reduction="sum") / count, "box": box / count}

    def detect(self, regions: Tensor, proposals: Sequence[Proposals], images: ImageBatch) -> list[Detections]:
        """Detections of each image, in the pixels of the pictures as they were given."""
        logits, deltas = self(regions)
        probabilities = logits.softmax(dim=1)[:, :-1]
        found = []
        start = 0
        for proposal, size, original_size in zip(proposals, images.sizes, images.original_sizes, strict=True):
            here = slice(start, start := start + len(proposal))
            region, label = torch.where(probabilities[here] > self.score_threshold)
            column = label if deltas.shape[1] > 1 else torch.zeros_like(label)
            boxes = decode(deltas[here][region, column], proposal.boxes[region], self.delta_weights)
            boxes, scores = clip(boxes, size), probabilities[here][region, label]
            large = is_large(boxes, self.min_side)
            boxes, scores, label = boxes[large], scores[large], label[large]
            kept = batched_nms(boxes, scores, label, self.nms_iou)[: self.max_detections]
            boxes = clip(scale(boxes[kept], size, original_size), original_size)
            found.append(Detections(boxes, scores[kept], label[kept], self.class_names, self.category_ids))
        return found
