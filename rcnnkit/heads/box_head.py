"""Classes and boxes of regions (Fast R-CNN, arXiv:1504.08083, sections 2.1 to 2.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from rcnnkit import fixed_sizes
from rcnnkit.backbones.two_fc import RegionSettings
from rcnnkit.boxes import clip, clip_each, decode, encode, is_large
from rcnnkit.heads.adversary import Adversary
from rcnnkit.matching import Generators, each_generator, match, sample
from rcnnkit.settings import Count, Factor, MatchSettings, NotNegative, Positive, Share
from rcnnkit.structures import LossSum, Proposals, Size, Targets, means
from rcnnkit.suppression import Kept, suppress


class HeadSettings(RegionSettings, MatchSettings):
    """[head]: classes and boxes of the regions of Fast and Faster R-CNN, and which of them are kept."""

    class_agnostic: bool = False
    """One box for each region, in place of one for each class."""
    unnamed: Count = 0
    """Scores after background's that belong to no class. Weights from elsewhere may know classes without a name
    (torchvision's "N/A" on COCO); they take their share of the softmax, and are never found."""
    foreground_iou: Share = 0.5
    """A region whose IoU with an object is at least this learns to be that object (Fast R-CNN 2.3)."""
    background_iou: Share = 0.5
    """A region whose IoU with every object is below this learns to be background (Fast R-CNN 2.3)."""
    background_low: Share = 0.0
    """A region whose IoU with every object is below this is not learnt from. Fast R-CNN (2.3) has 0.1, Faster R-CNN's
    Python code 0."""
    samples: Positive = 512
    """Regions of each picture in the loss. 512 is torchvision's and detectron2's; the papers have 64 (Fast R-CNN 2.3)
    and 128 (Faster R-CNN's code)."""
    foreground_share: Share = 0.25
    """The largest share of these regions that may be objects (Fast R-CNN 2.3)."""
    delta_weights: tuple[Factor, Factor, Factor, Factor] = (10, 10, 5, 5)
    """What the targets dx, dy, dw, dh of a box are multiplied by: 1 ÷ their usual deviations, as in py-faster-rcnn,
    torchvision and detectron2."""
    measured_targets: bool = False
    """Normalise what `delta_weights` leaves by its mean and deviation, measured for each class on the training boxes
    (Fast R-CNN 2.3). Only with model.kind = "fast_rcnn"."""
    svms: bool = False
    """Score by the margins of SVMs in place of the softmax (Fast R-CNN 5.4). `rcnnkit svms` sets it; training does
    not."""
    beta: NotNegative = 1 / 9
    """Where the smooth L1 loss of the boxes turns from square to straight, in units of the weighted targets. 1/9 is
    torchvision's and 1 the papers'; 0 is a plain L1 loss, as in detectron2."""
    score_threshold: float = 0.05
    """The least score of a detection. 0.05 is py-faster-rcnn's; a probability, or with `svms` a margin."""
    nms_iou: Share = 0.5
    """A detection is dropped if a better one of its class overlaps it by a larger IoU. 0.5 is torchvision's and
    detectron2's, the papers' code has 0.3."""
    max_detections: Count = 100
    """The most detections in a picture, of all classes together; 100 is COCO's. 0: no limit."""
    min_side: NotNegative = 1e-2
    """The shortest side of a detection, pixels of the network's input; smaller ones are dropped, as in torchvision."""

    @model_validator(mode="after")
    def _background_is_a_range(self) -> Self:
        if self.background_low and self.background_low >= self.background_iou:
            raise ValueError(
                f"background_low = {self.background_low} leaves nothing below background_iou = {self.background_iou}"
            )
        return self


class BoxHead(nn.Module):
    """Two sibling layers over the features of a region: K + 1 class scores and box deltas.

    Background is the last score but for `unnamed` ones. Boxes are class-specific, (R, K, 4), or class-agnostic,
    (R, 1, 4).

    Where this leaves the paper: box targets are normalised by fixed weights (py-faster-rcnn) unless
    `measured_targets`; detections below `score_threshold` are dropped and the best `max_detections` of all classes
    kept (py-faster-rcnn), where the paper keeps 100 of each class. `beta` is 1 in the paper.

    Args:
        layers: (R, C, s, s) → (R, width): fc6 and fc7, or a ResNet's or GoogLeNet's last stage.
        width: what `layers` gives.
        class_names: K of them.
        category_ids: the data set's own ids for these.
        settings: see `HeadSettings`.
    """

    target_mean: Tensor  # (K or 1, 4), of the weighted deltas; only where `measured_targets`, as is …
    target_std: Tensor

    def __init__(
        self,
        layers: nn.Module,
        width: int,
        class_names: Sequence[str],
        category_ids: Sequence[int],
        settings: HeadSettings,
    ) -> None:
        super().__init__()
        self.layers = layers
        self.transformer: nn.Module = nn.Identity()  # or a `SpatialTransformer` of what classes are scored from
        self.class_names, self.category_ids = tuple(class_names), tuple(category_ids)
        self.score_layer = nn.Linear(width, self.num_classes + 1 + settings.unnamed)
        self.delta_layer = nn.Linear(width, 4 * (1 if settings.class_agnostic else self.num_classes))
        self.svm_layer = nn.Linear(width, self.num_classes) if settings.svms else None
        for layer, std in ((self.score_layer, 0.01), (self.delta_layer, 0.001)):  # Fast R-CNN 2.3
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        if settings.measured_targets:
            # They travel with the weights. The paper's code folds them into the last layer, which a resumed run would
            # have to undo.
            columns = self.delta_layer.out_features // 4
            self.register_buffer("target_mean", torch.zeros(columns, 4))
            self.register_buffer("target_std", torch.ones(columns, 4))
        self.settings = settings
        self.score_threshold, self.nms_iou = settings.score_threshold, settings.nms_iou
        self.max_detections, self.min_side = settings.max_detections, settings.min_side
        self.class_weights: Tensor | None = None  # (K + 1 + unnamed,) of the log loss; training may set it …
        self.adversary: Adversary | None = None  # … and what changes the regions of objects in training

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (R, K + 1 + unnamed) and deltas (R, K or 1, 4), float32, of regions (R, C, s, s)."""
        of_classes, of_boxes = self._features(regions)
        return self.score_layer(of_classes).float(), self._regress(of_boxes)

    def class_features(self, regions: Tensor) -> Tensor:
        """(R, width) float32: what classes are scored from."""
        return self.layers(self.transformer(regions)).float()

    def appearance(self, regions: Tensor) -> Tensor:
        """(R, width + C) float32 of regions (R, C, s, s): what classes are scored from, and the mean of the region,
        which keeps colours."""
        return torch.cat([self.class_features(regions), regions.float().mean(dim=(2, 3))], dim=1)

    def _features(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """What classes and what boxes are computed from: the same, unless a transformer turns what classes see. A box
        computed from that would be in another frame."""
        of_boxes = self.layers(regions).float()
        same = isinstance(self.transformer, nn.Identity)
        return (of_boxes if same else self.class_features(regions)), of_boxes

    def _regress(self, hidden: Tensor) -> Tensor:
        return self.delta_layer(hidden).float().unflatten(1, (-1, 4))

    def score(self, hidden: Tensor) -> Tensor:
        """(R, K) float32 of what `layers` gives: probabilities, or the margins of SVMs."""
        if self.svm_layer:
            return self.svm_layer(hidden).float()
        return self.score_layer(hidden).float().softmax(dim=1)[:, : self.num_classes]

    @torch.no_grad()
    def use_svms(self, weight: Tensor, bias: Tensor) -> None:
        """Score regions by weight (K, channels) · features + bias (K,) from now on; the softmax serves `losses` alone.

        Margins have no bounds: `score_threshold` is to suit them.
        """
        self.svm_layer = nn.Linear(weight.shape[1], weight.shape[0]).to(self.score_layer.weight.device)
        self.svm_layer.weight.copy_(weight)
        self.svm_layer.bias.copy_(bias)

    def _column(self, labels: Tensor) -> Tensor:
        """Where the boxes of these classes are among K, or the only one."""
        return labels if self.delta_layer.out_features > 4 else torch.zeros_like(labels)

    @torch.no_grad()
    def measure_targets(self, pictures: Iterable[tuple[Proposals, Targets]]) -> None:
        """Set `target_mean` and `target_std` from all boxes that are foreground (Fast R-CNN 2.3, "normalize").

        Args:
            pictures: the proposals and the objects of each, in one frame. The objects themselves count as boxes
                too, as they are learnt from. A class with fewer than two boxes keeps mean 0 and deviation 1.
        """
        count = torch.zeros(len(self.target_mean), 1, dtype=torch.float64)
        total, squares = torch.zeros(2, len(self.target_mean), 4, dtype=torch.float64)
        for proposals, targets in pictures:
            boxes = torch.cat([proposals.boxes, targets.boxes[~targets.crowd]])
            matched = match(boxes, targets, self.settings.foreground_iou, self.settings.background_iou)
            boxes, matched = boxes[matched >= 0], matched[matched >= 0]
            goals = encode(targets.boxes[matched], boxes, self.settings.delta_weights).double()
            column = self._column(targets.labels[matched])
            count.index_add_(0, column, goals.new_ones(len(goals), 1))
            total.index_add_(0, column, goals)
            squares.index_add_(0, column, goals**2)
        mean = total / count
        std = (squares / count - mean**2).clamp(min=0).sqrt()
        known = (count > 1) & (std > 0)
        self.target_mean.copy_(torch.where(known, mean, 0))
        self.target_std.copy_(torch.where(known, std, 1))

    def sample(
        self,
        proposals: Sequence[Proposals],
        targets: Sequence[Targets],
        generators: Generators = None,
    ) -> tuple[list[Proposals], Tensor, Tensor]:
        """The regions to learn from: proposals and the objects themselves, sampled.

        Returns:
            The sampled proposals of each image, with the gradient that they came with; labels (R,) int64, K for
            background; goals (R, 4), the normalised deltas to the matched object, 0 for background.
        """
        sampled, _, labels, goals = self.sample_objects(proposals, targets, generators)
        return sampled, labels, goals

    def sample_objects(
        self,
        proposals: Sequence[Proposals],
        targets: Sequence[Targets],
        generators: Generators = None,
    ) -> tuple[list[Proposals], list[Tensor], Tensor, Tensor]:
        """The same, and of each image which of its objects a region stands for, (r,) int64; a negative number for
        background. It comes second."""
        sampled, objects, labels, goals = [], [], [], []
        each = each_generator(generators, len(targets))
        for proposal, target, generator in zip(proposals, targets, each, strict=True):
            own = target.boxes[~target.crowd]
            proposal = Proposals(
                torch.cat([proposal.boxes, own]),
                torch.cat([proposal.scores, proposal.scores.new_ones(len(own))]),
            )
            with torch.no_grad():  # a target that came with a gradient would run after its box
                rows, matched, label, goal = self._assign(proposal.boxes, target, generator)
            sampled.append(proposal[rows])
            objects.append(matched)
            labels.append(label)
            goals.append(goal)
        return sampled, objects, torch.cat(labels), torch.cat(goals)

    def _assign(
        self, boxes: Tensor, targets: Targets, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Which of (N, 4) boxes of one image are learnt from, (R,), with their objects (R,), labels (R,) and goals
        (R, 4)."""
        matched = match(
            boxes,
            targets,
            self.settings.foreground_iou,
            self.settings.background_iou,
            background_low=self.settings.background_low,
        )
        rows = sample(matched, self.settings.samples, self.settings.foreground_share, generator)
        boxes, matched = boxes[rows], matched[rows]
        foreground = matched >= 0
        label = torch.full_like(matched, self.num_classes)
        label[foreground] = targets.labels[matched[foreground]]
        goal = torch.zeros_like(boxes)
        deltas = encode(targets.boxes[matched[foreground]], boxes[foreground], self.settings.delta_weights)
        if self.settings.measured_targets:
            column = self._column(label[foreground])
            deltas = (deltas - self.target_mean[column]) / self.target_std[column]
        goal[foreground] = deltas
        return rows, matched, label, goal

    def losses(self, regions: Tensor, labels: Tensor, goals: Tensor) -> dict[str, Tensor]:
        """`class` (log loss) and `box` (smooth L1), both divided by the number of regions (equation 1, λ = 1)."""
        return means(self.loss_sums(regions, labels, goals))

    def loss_sums(self, regions: Tensor, labels: Tensor, goals: Tensor) -> dict[str, LossSum]:
        """What `losses` divides. With `class_weights` the log loss is divided by the sum of its weights. With an
        `adversary` that learns by a loss, there is that of it too."""
        regions, of_adversary = self._made_harder(regions, labels)
        logits, deltas = self(regions)
        weights = self.class_weights
        foreground = torch.where(labels < self.num_classes)[0]
        deltas = deltas[foreground, self._column(labels[foreground])]
        box = F.smooth_l1_loss(deltas, goals[foreground], beta=self.settings.beta, reduction="sum")
        log_loss = F.cross_entropy(logits, labels, weights, reduction="sum")
        return {
            "class": LossSum(log_loss, len(labels) if weights is None else weights[labels].sum()),
            "box": LossSum(box, len(labels)),
            **of_adversary,
        }

    def _made_harder(self, regions: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, LossSum]]:
        """The regions with those of objects as the adversary leaves them, and its loss; only in training."""
        if self.adversary is None or not self.training:
            return regions, {}
        rows = torch.where(labels < self.num_classes)[0]
        objects = regions[rows]
        changed, losses = self.adversary(objects, lambda seen: self._probability(seen, labels[rows]))
        return (regions if changed is objects else regions.index_copy(0, rows, changed)), losses

    @torch.no_grad()
    def _probability(self, regions: Tensor, labels: Tensor) -> Tensor:
        """(R,) float32: that of each region's class, as in detecting: without dropout, and norms stay as they are."""
        modes = {part: part.training for part in self.modules()}
        device = regions.device.type
        try:
            self.eval()
            # Weights that autocast converts here have no gradient; it must not keep them for the losses.
            with torch.autocast(device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device), False):
                scores = self.score_layer(self.class_features(regions)).float().softmax(dim=1)
        finally:
            for part, mode in modes.items():
                part.training = mode
        return scores.gather(1, labels[:, None])[:, 0]

    def predict(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (R, K) and deltas (R, K or 1, 4) of regions (R, C, s, s), float32, as `suppress` takes them."""
        of_classes, of_boxes = self._features(regions)
        deltas = self._regress(of_boxes)
        if self.settings.measured_targets:
            deltas = deltas * self.target_std + self.target_mean
        return self.score(of_classes), deltas

    def detect(self, regions: Tensor, proposals: Sequence[Proposals], sizes: Sequence[Size]) -> list[Kept]:
        """What is found in each image, in the frame of the network's pixels.

        Args:
            regions: (R, C, s, s) of all proposals, image after image.
            sizes: (height, width) of each image.
        """
        scores, deltas = self.predict(regions)
        if proposals and fixed_sizes.are_wanted(scores):
            return self._detect_in_fixed_sizes(proposals, scores, deltas, sizes)
        counts = [len(p) for p in proposals]
        parts = zip(proposals, scores.split(counts), deltas.split(counts), sizes, strict=True)
        return [self.suppress(p.boxes, score, delta, size) for p, score, delta, size in parts]

    def _detect_in_fixed_sizes(
        self, proposals: Sequence[Proposals], scores: Tensor, deltas: Tensor, sizes: Sequence[Size]
    ) -> list[Kept]:
        """The same of all images together; the device is waited for once, at the end."""
        counts = [len(p) for p in proposals]
        boxes = fixed_sizes.fill([p.boxes for p in proposals], torch.nan)  # (B, P, 4), whose fillings are not large
        scores = fixed_sizes.fill(scores.split(counts))  # (B, P, K)
        deltas = fixed_sizes.fill(deltas.split(counts))  # (B, P, K or 1, 4)
        moved = decode(deltas.flatten(0, 1), boxes.flatten(0, 1), self.settings.delta_weights).reshape(deltas.shape)
        moved = clip_each(moved, torch.tensor(sizes, dtype=moved.dtype).to(moved.device, non_blocking=True))
        candidates = (scores > self.score_threshold) & is_large(moved, self.min_side)
        scores = torch.where(candidates, scores, fixed_sizes.NOTHING)
        moved = moved.expand(*scores.shape, 4)
        left = fixed_sizes.suppress(moved.transpose(1, 2), scores.transpose(1, 2), self.nms_iou)  # (B, K, P)
        best, places = fixed_sizes.best(left.transpose(1, 2).flatten(1), self.max_detections)
        chosen, labels = fixed_sizes.rows_of(moved.flatten(1, 2), places), places % self.num_classes
        found = (best != fixed_sizes.NOTHING).sum(1).tolist()  # here the device is waited for
        return [Kept(chosen[i, :n], best[i, :n], labels[i, :n]) for i, n in enumerate(found)]

    def suppress(self, boxes: Tensor, scores: Tensor, deltas: Tensor, size: Size) -> Kept:
        """The detections among the regions (R, 4) of one image with what `predict` says of them."""
        return suppress(
            boxes[:, None],
            deltas,
            scores,
            torch.arange(self.num_classes, device=scores.device),
            size,
            min_side=self.min_side,
            nms_iou=self.nms_iou,
            weights=self.settings.delta_weights,
            threshold=self.score_threshold,
            most=self.max_detections,
        )

    @torch.no_grad()
    def refine(self, regions: Tensor, proposals: Sequence[Proposals], sizes: Sequence[Size]) -> list[Proposals]:
        """Each proposal moved onto its object and cut to its image, to go on with in another head or a tracker.

        Where there is a box for each class, the class that scores best moves it; background does not count.

        Args:
            regions, proposals, sizes: as of `detect`.

        Returns:
            As many as came, in their order, in the same frame. Scores are those of the best class.
        """
        scores, deltas = self.predict(regions)
        best, label = scores.max(dim=1)
        deltas = deltas.take_along_dim(self._column(label)[:, None, None], dim=1)[:, 0]
        boxes = decode(deltas, torch.cat([p.boxes for p in proposals]), self.settings.delta_weights)
        counts = [len(p) for p in proposals]
        parts = zip(boxes.split(counts), best.split(counts), sizes, strict=True)
        return [Proposals(clip(box, size), score) for box, score, size in parts]
