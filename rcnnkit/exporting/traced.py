"""What is exported: detectors whose every tensor has a size that is known, or that follows from the input's.

Pictures of a batch have as many proposals and detections each, the last of which may be fillings. What is left out
has the score −∞, so that it never comes through a suppression.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnnkit.boxes import clip_each, decode, is_large
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.exporting.placeholders import LOWEST
from rcnnkit.exporting.resizing import resize
from rcnnkit.fixed_sizes import rows_of
from rcnnkit.images import Preprocessing

# (G, N, 4) boxes and (G, N) scores of G groups, an IoU, the most that stay of a group → (M, 2): group and box. Boxes
# with a score of −∞ are none.
Suppression = Callable[[Tensor, Tensor, float, int], Tensor]
NO_LIMIT = 10**9
OUTPUTS = ("boxes", "scores", "labels", "counts")


class Traced(nn.Module):
    """A network with the names of its inputs and outputs.

    Args:
        detector: in eval mode, on one device.
        suppression: of the format.
        inside: outputs what is inside too, by the names of `layers`.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dynamic: Mapping[str, Mapping[int, str]]  # of the inputs: the sides that are open
    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing, inside: bool) -> None:
        super().__init__()
        self.preprocessing, self.inside = preprocessing, inside
        self.layers: tuple[str, ...] = ()
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(preprocessing, name))[:, None, None])

    @property
    def all_outputs(self) -> tuple[str, ...]:
        return self.outputs + (self.layers if self.inside else ())

    def names(self) -> dict[str, list[str]]:
        """Of inputs and outputs, in their order."""
        return {"inputs": list(self.inputs), "outputs": list(self.all_outputs)}

    def normalise(self, pixels: Tensor) -> Tensor:
        return (pixels / 255 - self.mean) / self.std

    def examples(self) -> tuple[Tensor, ...]:
        """Inputs of two pictures to trace with."""
        raise NotImplementedError


class TracedWindows(Traced):
    """R-CNN's network: windows that are cut and warped already → scores, and deltas from each region to its object."""

    inputs, outputs = ("windows",), ("scores", "deltas")

    def __init__(self, detector: RCNN, suppression: Suppression, with_preprocessing: bool, inside: bool) -> None:
        super().__init__(detector.preprocessing, inside)
        self.detector = detector
        if with_preprocessing:
            raise ValueError(
                "only the window classifier of an R-CNN is exported, and no format has the warp that makes its windows;"
                " leave --with-preprocessing out"
            )
        self.layers = ("features",)
        self.dynamic = {"windows": {0: "windows"}}
        side = detector.settings.size
        self.backbone = _with_known_sizes(detector.backbone, torch.zeros(1, 3, side, side))

    def examples(self) -> tuple[Tensor, ...]:
        side = self.detector.settings.size
        return (torch.randint(256, (2, side, side, 3), dtype=torch.uint8),)

    def forward(self, windows: Tensor) -> tuple[Tensor, ...]:
        """(R, S, S, 3) uint8 → (R, K) and (R, K, 4)."""
        pixels = self.normalise(windows.permute(0, 3, 1, 2).float())
        features = self.backbone(pixels, self.detector.last_layer)
        found = self.detector.score(features), self.detector.regress(features)
        return (*found, features["pool5"]) if self.inside else found


class TracedPictures(Traced):
    """Faster R-CNN, or Fast R-CNN with its proposals: pictures → detections.

    Args:
        with_preprocessing: pictures come as they are, all of one size, and are resized here. Otherwise they come
            resized, on one canvas, with the size of each.
    """

    outputs = OUTPUTS
    score_threshold: Tensor

    def __init__(
        self, detector: FastRCNN | FasterRCNN, suppression: Suppression, with_preprocessing: bool, inside: bool
    ) -> None:
        super().__init__(detector.preprocessing, inside)
        self.detector, self.suppression, self.with_preprocessing = detector, suppression, with_preprocessing
        if detector.preprocessing.scales:
            raise ValueError(
                "input.scales: a detector that looks at several scales cannot be exported; train one with"
                " input.short_side alone"
            )
        if detector.preprocessing.resizing == "torchvision" and not with_preprocessing:
            raise ValueError(
                'input.resizing = "torchvision" resizes pixels that are normalised already, so uint8 pixels cannot come'
                " resized; add --with-preprocessing"
            )
        self.register_buffer("score_threshold", torch.tensor(float(detector.head.score_threshold)))
        self.inputs = ("pixels", *(() if with_preprocessing else ("sizes",)))
        dynamic = {"pixels": {0: "pictures", 1: "height", 2: "width"}, "sizes": {0: "pictures"}}
        if detector.takes_proposals:
            self.inputs, dynamic = (*self.inputs, "proposals"), dynamic | {"proposals": {0: "pictures", 1: "proposals"}}
        self.dynamic = {name: dynamic[name] for name in self.inputs}
        maps = [f"map of stride {stride}" for stride in detector.backbone.strides]
        self.layers = ("normalised pixels", *maps, "regions", "class scores")

    def examples(self) -> tuple[Tensor, ...]:
        # Of two pictures, and of sides that differ, as tracing might take what is equal for the same.
        pixels = torch.randint(256, (2, 150, 200, 3), dtype=torch.uint8)
        tensors = {
            "pixels": pixels,
            "sizes": torch.tensor([[150, 190], [140, 200]]),
            "proposals": torch.tensor([10.0, 20, 90, 80]).repeat(2, 7, 1) + torch.arange(7)[:, None],
        }
        return tuple(tensors[name] for name in self.inputs)

    def forward(self, pixels: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """(B, H, W, 3) uint8 RGB, and what `inputs` names → boxes (B, D, 4), scores and labels (B, D), counts (B,).

        Boxes are in the pixels of the input. Of each picture the first `counts` are detections, best first; the rest
        are zeros with the label −1.
        """
        detector, tensors = self.detector, dict(zip(self.inputs[1:], others, strict=True))
        original = pixels.shape[1:3]
        pixels = pixels.permute(0, 3, 1, 2)
        if self.with_preprocessing:
            pixels = self.normalise(resize(pixels, self.preprocessing))
            sizes = _rows(pixels, pixels.shape[2:])
            originals = _rows(pixels, original)
        else:
            sizes = originals = tensors["sizes"].to(torch.float32)
            down, across = (torch.arange(side, device=pixels.device) for side in original)
            seen = (down < sizes[:, :1])[:, None, :, None] & (across < sizes[:, 1:])[:, None, None, :]
            pixels = torch.where(seen, self.normalise(pixels.float()), 0.0)
        divisor = self.preprocessing.divisor
        more = [(side + divisor - 1) // divisor * divisor - side for side in pixels.shape[2:]]
        pixels = F.pad(pixels, (0, more[1], 0, more[0]))
        features = detector.backbone(pixels)  # of each stride (B, C, H / stride, W / stride)
        factor = torch.cat([sizes / originals] * 2, 1).flip(1)[:, None]  # (B, 1, 4), for x, y, x, y
        if isinstance(detector, FasterRCNN):
            proposals, objectness = self.propose(pixels, features, sizes)
            real = objectness > LOWEST
        else:
            proposals = tensors["proposals"]
            real = proposals[..., 2] >= proposals[..., 0]
            objectness = torch.where(real, 1.0, -torch.inf)
            proposals = proposals * factor
        proposals = torch.where(real[..., None], proposals, 0.0)  # (B, P, 4)
        scores, moved = self.predict(features, proposals, sizes)  # (B, P, K), (B, P, K, 4)
        scores = torch.where(real[..., None], scores, -torch.inf)
        boxes, best, labels, counts = self.detections(scores, moved)
        found = best > LOWEST
        boxes = torch.where(found[..., None], clip_each(boxes / factor, originals), 0.0)
        outputs = boxes, torch.where(found, best, 0.0), labels, counts
        if self.inside:
            return (*outputs, pixels, *features, torch.cat([proposals, objectness[..., None]], 2), scores)
        return outputs

    def propose(self, pixels: Tensor, features: Sequence[Tensor], sizes: Tensor) -> tuple[Tensor, Tensor]:
        """`RPN.propose`: (B, P, 4), and their scores (B, P), −∞ for fillings."""
        rpn: Any = self.detector.rpn
        (before, after), batch = rpn.keep, pixels.shape[0]
        logits, deltas = rpn(features)
        anchors = rpn.place_anchors(_Pixels(pixels), features)
        boxes, scores = [], []
        for anchor, logit, delta in zip(anchors, logits, deltas, strict=True):
            best = F.pad(logit, (0, before), value=-torch.inf).topk(before, dim=1)  # small maps have fewer
            start = F.pad(anchor, (0, 0, 0, before))[best.indices].reshape(-1, 4)
            move = rows_of(F.pad(delta, (0, 0, 0, before)), best.indices).reshape(-1, 4)
            boxes.append(clip_each(decode(move, start).reshape(batch, before, 4), sizes))
            scores.append(torch.where(best.values > LOWEST, best.values.sigmoid(), -torch.inf))
        of_maps, of_score = torch.stack(boxes, 1), torch.stack(scores, 1)  # (B, maps, N, 4), (B, maps, N)
        of_score = torch.where(is_large(of_maps, rpn.settings.min_side), of_score, -torch.inf)
        kept = self.suppress(of_maps, of_score, rpn.settings.nms_iou, after)
        best = F.pad(kept.flatten(1), (0, after), value=-torch.inf).topk(after, dim=1)
        padded = F.pad(of_maps.reshape(batch, -1, 4), (0, 0, 0, after))
        return rows_of(padded, best.indices), best.values

    def predict(self, features: Sequence[Tensor], proposals: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """What the head says of proposals (B, P, 4): scores (B, P, K), and boxes (B, P, K, 4), both before NMS."""
        head, (batch, count) = self.detector.head, proposals.shape[:2]
        picture = torch.arange(batch, device=proposals.device)[:, None, None].to(proposals.dtype)
        rois = torch.cat([picture.expand(batch, count, 1), proposals], 2).reshape(-1, 5)
        scores, deltas = head.predict(self.detector.pool.pool_rois(features, rois))
        moved = decode(deltas, rois[:, 1:], head.settings.delta_weights)
        moved = clip_each(moved.reshape(batch, -1, 4), sizes).reshape(batch, count, -1, 4)
        moved = moved.expand(batch, count, head.num_classes, 4)
        scores = scores.reshape(batch, count, head.num_classes)
        return torch.where(is_large(moved, head.min_side), scores, -torch.inf), moved

    def detections(self, scores: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`BoxHead.suppress` of all pictures: boxes (B, D, 4), scores and labels (B, D), counts (B,)."""
        head, classes = self.detector.head, scores.shape[2]
        above = torch.where(scores > self.score_threshold, scores, -torch.inf)
        of_class = boxes.transpose(1, 2), above.transpose(1, 2)  # (B, K, P, 4), (B, K, P)
        kept = self.suppress(*of_class, head.nms_iou, head.max_detections or NO_LIMIT)
        kept = kept.transpose(1, 2).flatten(1)  # (B, P·K), so that ties go as in `suppress`
        limit = head.max_detections or kept.shape[1]
        best = F.pad(kept, (0, limit), value=-torch.inf).topk(limit, dim=1)
        real = best.values > LOWEST
        labels = torch.where(real, best.indices % classes, -1)
        best_boxes = rows_of(F.pad(boxes.reshape(boxes.shape[0], -1, 4), (0, 0, 0, limit)), best.indices)
        return best_boxes, best.values, labels, real.sum(1)

    def suppress(self, boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
        """(B, G, N): the scores of those that stay, −∞ for the others; boxes (B, G, N, 4)."""
        kept = self.suppression(boxes.reshape(-1, boxes.shape[2], 4), scores.flatten(0, 1), iou, most)
        place = kept[:, 0] * scores.shape[2] + kept[:, 1]
        flat = F.pad(scores.flatten(), (0, 2 * scores.shape[2]))  # with room for two groups more
        left = torch.full_like(flat, -torch.inf).index_put((place,), flat[place])
        return left.reshape(-1, scores.shape[2])[:-2].reshape(scores.shape)


class _FixedPool(nn.Module):
    """`nn.AdaptiveAvgPool2d` or `nn.AdaptiveMaxPool2d` of maps whose size is known, by slices."""

    def __init__(self, size: Sequence[int], outputs: Sequence[int], reduce: Callable[..., Tensor]) -> None:
        super().__init__()
        self.reduce = reduce
        self.rows, self.columns = (
            [(i * side // new, -(-(i + 1) * side // new)) for i in range(new)]
            for side, new in zip(size, outputs, strict=True)
        )

    def forward(self, maps: Tensor) -> Tensor:
        maps = torch.stack([self.reduce(maps[:, :, first:last], dim=2) for first, last in self.rows], 2)
        return torch.stack([self.reduce(maps[:, :, :, first:last], dim=3) for first, last in self.columns], 3)


def _with_known_sizes(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy without adaptive pooling, which ONNX has to one cell alone; it is for inputs of the example's size."""
    network = copy.deepcopy(network)
    sizes: dict[str, Sequence[int]] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: sizes.update({name: inputs[0].shape[2:]}))
        for name, module in network.named_modules()
        if isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d)
    ]
    with torch.no_grad():
        network(example)
    for hook in hooks:
        hook.remove()
    for name, size in sizes.items():
        layer: Any = network.get_submodule(name)
        new = (layer.output_size,) * 2 if isinstance(layer.output_size, int) else layer.output_size
        if new != (1, 1):
            reduce = torch.mean if isinstance(layer, nn.AdaptiveAvgPool2d) else torch.amax
            network.set_submodule(name, nn.Identity() if tuple(size) == new else _FixedPool(size, new, reduce))
    return network


class _Pixels:
    """All that `RPN.place_anchors` looks at."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels


def traced(detector: Detector, suppression: Suppression, with_preprocessing: bool, inside: bool = False) -> Traced:
    """What is exported of a detector.

    Raises:
        ValueError: its settings have no place in an export.
    """
    if isinstance(detector, RCNN):
        return TracedWindows(detector, suppression, with_preprocessing, inside).eval()
    if isinstance(detector, FastRCNN | FasterRCNN):
        return TracedPictures(detector, suppression, with_preprocessing, inside).eval()
    raise ValueError(f"a {type(detector).__name__} cannot be exported; R-CNN, Fast R-CNN and Faster R-CNN can")


def _rows(like: Tensor, size: Sequence[Any]) -> Tensor:
    """(B, 2) float32: (height, width) for each picture."""
    sides = [torch.zeros_like(like[:, 0, 0, 0]) + side for side in size]
    return torch.stack(sides, 1)
