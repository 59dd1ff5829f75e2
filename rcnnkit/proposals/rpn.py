"""Region proposal network (Faster R-CNN, arXiv:1506.01497v3, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rcnnkit import fixed_sizes
from rcnnkit.boxes import clip_each, decode, encode, is_large
from rcnnkit.matching import Generators, each_generator, match, sample
from rcnnkit.proposals.anchors import cell_anchors, grid_anchors
from rcnnkit.settings import Count, Factor, MatchSettings, NotNegative, Positive, Share
from rcnnkit.structures import ImageBatch, LossSum, Proposals, Size, Targets, means
from rcnnkit.suppression import suppress


class RPNSettings(MatchSettings):
    """[rpn]: the region proposal network of Faster R-CNN."""

    renamed: ClassVar = {"anchors": "anchor_layout"}

    anchor_sizes: list[list[Factor]] = Field(default=[])
    """For each map, the square roots of its anchors' areas, pixels of the network's input. Empty: 8 strides of each map
    of a pyramid, 32 to 512 (FPN 4.1), and all of these on a single map, as in detectron2. Faster R-CNN (3.3) has [[128,
    256, 512]]."""
    anchor_ratios: list[Factor] = Field(default=[0.5, 1.0, 2.0], min_length=1)
    """Height ÷ width of the anchors, the same for every map (Faster R-CNN 3.3)."""
    hidden: Count = 0
    """Channels of the 3×3 convolutions. 0: as many as the map has."""
    convs: Positive = 1
    """How many 3×3 convolutions; 1 in the paper (Faster R-CNN 3.1), 2 in torchvision's second version."""
    pre_nms: Positive = 1000
    """Proposals of each map before suppression, when detecting. 1000 is torchvision's; py-faster-rcnn has 6000."""
    post_nms: Positive = 1000
    """Proposals of a picture after suppression, when detecting. 1000 is torchvision's; the paper has 300."""
    train_pre_nms: Positive = 2000
    """Proposals of each map before suppression, when training. 2000 is torchvision's; py-faster-rcnn has 12,000."""
    train_post_nms: Positive = 2000
    """Proposals of a picture after suppression, when training (Faster R-CNN 3.3)."""
    nms_iou: Share = 0.7
    """A proposal is dropped if a better one of its map overlaps it by a larger IoU (Faster R-CNN 3.3)."""
    min_side: NotNegative = 1e-3
    """The shortest side of a proposal, pixels of the network's input; smaller ones are dropped. 1e-3 is torchvision's.
    py-faster-rcnn's 16 are pixels of the picture before it is resized."""
    foreground_iou: Share = 0.7
    """An anchor whose IoU with an object is at least this is an object; so is each object's best anchor (Faster R-CNN
    3.1.2)."""
    background_iou: Share = 0.3
    """An anchor whose IoU with every object is below this is background (Faster R-CNN 3.1.2)."""
    samples: Positive = 256
    """Anchors of each picture in the loss (Faster R-CNN 3.1.3)."""
    foreground_share: Share = 0.5
    """The largest share of these anchors that may be objects (Faster R-CNN 3.1.3)."""
    beta: NotNegative = 1 / 9
    """Where the smooth L1 loss of the boxes turns from square to straight, in units of the box targets. 1/9 is
    py-faster-rcnn's and torchvision's; 0 is a plain L1 loss, as in detectron2."""
    anchor_layout: Literal["torchvision", "detectron2"] = "torchvision"
    """How anchors are placed. torchvision: their corners are rounded to whole pixels, and they lie picture size ÷ map
    size apart. detectron2: corners are not rounded, and anchors lie one stride apart."""

    box_gradient: bool = False
    """The head's losses also move the proposals that it sees: exact joint training (Faster R-CNN 3.2, iii). false: the
    paper's approximate joint training. Only with `model.pool = "roi_align"`, as RoI pooling has no such gradient."""

    def sizes(self, strides: Sequence[int]) -> list[list[float]]:
        """`anchor_sizes`, or what stands for them, for maps of these strides.

        Raises:
            ValueError: `anchor_sizes` has not one list for each map, or they differ in length.
        """
        default = [[8.0 * stride] for stride in strides] if len(strides) > 1 else [[32.0, 64.0, 128.0, 256.0, 512.0]]
        sizes = self.anchor_sizes or default
        if len(sizes) != len(strides):
            raise ValueError(
                f"rpn.anchor_sizes has {len(sizes)} lists, but there are {len(strides)} maps, of strides"
                f" {list(strides)}; give one list of sizes for each"
            )
        if len({len(of_map) for of_map in sizes}) > 1:
            raise ValueError(f"every map needs equally many anchor sizes, not {list(map(len, sizes))}")
        return sizes

    def cells(self, strides: Sequence[int]) -> list[Tensor]:
        """The anchors of one cell of each map, (A, 4): see `cell_anchors`. Raises as `sizes`."""
        rounded = self.anchor_layout == "torchvision"
        return [cell_anchors(of_map, self.anchor_ratios, rounded) for of_map in self.sizes(strides)]


class RPN(nn.Module):
    """A small network slid over every feature map: objectness and a box for each anchor.

    Where this leaves the paper: one sigmoid per anchor in place of a softmax over two scores; anchors
    that cross the border are trained on (as the FPN paper does); both losses are divided by the number of
    sampled anchors and weigh the same, with the smooth L1 loss turning at 1/9 (py-faster-rcnn's σ = 3).

    Args:
        channels: of every feature map.
        strides: of each map.
        settings: see `RPNSettings`.
        exact: cells are `strides` apart. Otherwise they are as far apart as the sizes of picture and map say, which
            torchvision does and `settings.anchor_layout` may ask for: see `grid_anchors`.

    Raises:
        ValueError: `settings.anchor_sizes` has not one list for each map, or they differ in length.
    """

    def __init__(self, channels: int, strides: Sequence[int], settings: RPNSettings, exact: bool = False) -> None:
        super().__init__()
        self.cells = settings.cells(strides)
        measured = settings.anchor_layout == "torchvision" and not exact
        self.strides: Sequence[int | None] = [None] * len(self.cells) if measured else list(strides)
        count = len(self.cells[0])
        hidden = settings.hidden or channels
        inputs = [channels] + [hidden] * (settings.convs - 1)
        self.convs = nn.Sequential(
            *(m for c in inputs for m in (nn.Conv2d(c, hidden, 3, padding=1), nn.ReLU(inplace=True)))
        )
        self.objectness_layer = nn.Conv2d(hidden, count, 1)
        self.delta_layer = nn.Conv2d(hidden, 4 * count, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # these have one
        self.keep = (settings.pre_nms, settings.post_nms)
        self.train_keep = (settings.train_pre_nms, settings.train_post_nms)
        self.settings = settings

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness logits (B, h·w·A) and deltas (B, h·w·A, 4) of each map, float32."""
        logits, deltas = [], []
        for feature in features:
            hidden = self.convs(feature)
            logits.append(self.objectness_layer(hidden).permute(0, 2, 3, 1).flatten(1).float())
            deltas.append(self.delta_layer(hidden).permute(0, 2, 3, 1).reshape(feature.shape[0], -1, 4).float())
        return logits, deltas

    def place_anchors(self, images: ImageBatch, features: Sequence[Tensor]) -> list[Tensor]:
        """(h·w·A, 4) xyxy for each map, in the frame of the batch's pixels."""
        height, width = images.pixels.shape[2:]
        return [
            grid_anchors(
                cells.to(feature.device, non_blocking=True),
                (feature.shape[2], feature.shape[3]),
                (height, width),
                stride,
            )
            for cells, feature, stride in zip(self.cells, features, self.strides, strict=True)
        ]

    def propose(
        self,
        images: ImageBatch,
        features: Sequence[Tensor],
        keep: tuple[int, int] | None = None,
        *,
        fixed: bool = False,
    ) -> list[Proposals]:
        """The best regions of each image; scores are probabilities.

        Args:
            keep: how many of each map before suppression, and of the image after it; by default as the settings say.
            fixed: of every image as many, the last of which may be fillings: NaN, with a score of −∞. See
                `rcnnkit.fixed_sizes`.
        """
        logits, deltas = self(features)
        with torch.no_grad():
            anchors = self.place_anchors(images, features)
            return self._proposals(anchors, logits, deltas, images.sizes, keep or self.keep, fixed)

    def losses(
        self,
        images: ImageBatch,
        features: Sequence[Tensor],
        targets: Sequence[Targets],
        generators: Generators = None,
    ) -> tuple[dict[str, Tensor], list[Proposals]]:
        """The losses `rpn_objectness` and `rpn_box`, and the proposals to train the next stage with.

        Proposals carry a gradient with `settings.box_gradient` alone: exact joint training (3.2, iii). Which ones they
        are counts as fixed, and so does what the next stage is to make of them. Otherwise training is the paper's
        approximate one.
        """
        sums, proposals = self.loss_sums(images, features, targets, generators)
        return means(sums), proposals

    def loss_sums(
        self,
        images: ImageBatch,
        features: Sequence[Tensor],
        targets: Sequence[Targets],
        generators: Generators = None,
    ) -> tuple[dict[str, LossSum], list[Proposals]]:
        """What `losses` divides by the number of sampled anchors, and the same proposals."""
        logits, deltas = self(features)
        anchors = self.place_anchors(images, features)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.settings.box_gradient):
            fixed = [logit.detach() for logit in logits]
            proposals = self._proposals(anchors, fixed, deltas, images.sizes, self.train_keep)

        boxes = torch.cat(anchors)  # (N, 4), of all maps
        sampled_logits, labels, sampled_deltas, goals = [], [], [], []
        image_generators = each_generator(generators, len(targets))
        outputs = zip(targets, torch.cat(logits, 1), torch.cat(deltas, 1), image_generators, strict=True)
        for target, logit, delta, generator in outputs:
            matched = match(boxes, target, self.settings.foreground_iou, self.settings.background_iou, best_too=True)
            rows = sample(matched, self.settings.samples, self.settings.foreground_share, generator)
            foreground = rows[matched[rows] >= 0]
            sampled_logits.append(logit[rows])
            labels.append((matched[rows] >= 0).float())
            sampled_deltas.append(delta[foreground])
            goals.append(encode(target.boxes[matched[foreground]], boxes[foreground]))
        count = sum(map(len, labels))  # 0 where all anchors are ignored: a loss of 0
        objectness = F.binary_cross_entropy_with_logits(torch.cat(sampled_logits), torch.cat(labels), reduction="sum")
        box = F.smooth_l1_loss(torch.cat(sampled_deltas), torch.cat(goals), beta=self.settings.beta, reduction="sum")
        return {"rpn_objectness": LossSum(objectness, count), "rpn_box": LossSum(box, count)}, proposals

    def _proposals(
        self,
        anchors: Sequence[Tensor],
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        sizes: Sequence[Size],
        keep: tuple[int, int],
        fixed: bool = False,
    ) -> list[Proposals]:
        pre_nms, post_nms = keep
        top = [logit.topk(min(pre_nms, logit.shape[1]), dim=1) for logit in logits]  # (B, n) of each map
        scores = torch.cat([best.values for best in top], 1).sigmoid()  # (B, N)
        starts = torch.cat([a[b.indices] for a, b in zip(anchors, top, strict=True)], 1)  # (B, N, 4)
        moves = torch.cat([d.take_along_dim(b.indices[:, :, None], 1) for d, b in zip(deltas, top, strict=True)], 1)
        if fixed:
            return self._fixed_proposals(starts, moves, scores, [b.values.shape[1] for b in top], sizes, post_nms)
        maps = torch.cat([torch.full_like(best.indices[0], i) for i, best in enumerate(top)])  # (N,)
        proposals = []
        for start, move, score, size in zip(starts, moves, scores, sizes, strict=True):
            min_side, nms_iou = self.settings.min_side, self.settings.nms_iou
            kept = suppress(start, move, score, maps, size, min_side=min_side, nms_iou=nms_iou, most=post_nms)
            proposals.append(Proposals(kept.boxes, kept.scores))
        return proposals

    def _fixed_proposals(
        self,
        starts: Tensor,
        moves: Tensor,
        scores: Tensor,
        counts: Sequence[int],
        sizes: Sequence[Size],
        post_nms: int,
    ) -> list[Proposals]:
        """The same of all images (B, N) together, where each map has so many of N."""
        boxes = decode(moves.flatten(0, 1), starts.flatten(0, 1)).reshape(moves.shape)
        boxes = clip_each(boxes, torch.tensor(sizes, dtype=boxes.dtype).to(boxes.device, non_blocking=True))
        scores = torch.where(is_large(boxes, self.settings.min_side), scores, fixed_sizes.NOTHING)
        # Of each map (n, B), so that the rows of maps have one length: (maps, n, B) → (B, maps, n).
        of_maps = fixed_sizes.fill(scores.T.split(counts), fixed_sizes.NOTHING).permute(2, 0, 1)
        rivals = fixed_sizes.fill(boxes.transpose(0, 1).split(counts)).permute(2, 0, 1, 3)
        left = fixed_sizes.suppress(rivals, of_maps, self.settings.nms_iou)
        best, places = fixed_sizes.best(left.flatten(1), post_nms)  # (B, post_nms)
        chosen = fixed_sizes.rows_of(rivals.flatten(1, 2), places)
        chosen = torch.where(best[:, :, None] != fixed_sizes.NOTHING, chosen, torch.nan)
        return [Proposals(box, score) for box, score in zip(chosen, best, strict=True)]
