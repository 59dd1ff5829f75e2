"""What an attack may ask of a detector: how its answers to one picture change with the picture's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnnkit.boxes import scale
from rcnnkit.detectors.describer import Describer
from rcnnkit.detectors.detector import Detector, with_proposals
from rcnnkit.structures import Array, ImageBatch, Proposals, Targets

LEVELS = 255  # the largest grey level of 8 bits


def check_victim(detector: Detector) -> None:
    """Raise ValueError unless a gradient leads from what the detector answers to its pictures."""
    if detector.only_detects:
        raise ValueError("this detector only detects; attack the one of rcnnkit.load(file, for_training=True)")
    if isinstance(detector, Describer):
        raise ValueError(
            f"the losses of a {type(detector).__name__} need phrases, which attacks do not read; attack a Faster R-CNN"
        )
    if detector.scores_are_margins:
        raise ValueError(
            "this detector's scores are margins of SVMs, which its losses know nothing of; attack a Faster R-CNN, a"
            ' Fast R-CNN without SVMs, or an R-CNN trained with rcnn.scorer = "softmax"'
        )


class Victim:
    """A detector before one picture, whose pixels may change by `eps` grey levels each.

    Pixels are (3, H, W) float32 grey levels, 0 to 255, on the detector's device. They are resized as floats, which has
    a gradient; the 8-bit resize of detecting may differ by rounding.

    A detector that takes proposals keeps those of the clean picture: searching for them has no gradient.

    Args:
        detector: in eval mode; `check_victim` has let it pass.
        picture: (H, W, 3) uint8.
        targets: its objects.
        eps: grey levels, from 1 on.
        generator: draws all that is drawn; of the CPU.
    """

    def __init__(
        self, detector: Detector, picture: Array, targets: Targets, eps: int, generator: torch.Generator
    ) -> None:
        self.detector, self.targets, self.eps, self.generator = detector, targets, eps, generator
        self.clean = torch.from_numpy(picture.copy()).permute(2, 0, 1).to(detector.device).float()
        self.low, self.high = (self.clean - eps).clamp(min=0), (self.clean + eps).clamp(max=LEVELS)
        self.proposals: Sequence[Proposals] = ()
        if detector.takes_proposals:
            images = replace(self.images(self.clean), pictures=[picture])
            size, original = images.sizes[0], images.original_sizes[0]
            found = detector.propose(images, [], detector.count)
            self.proposals = [Proposals(scale(each.boxes, size, original), each.scores) for each in found]

    def images(self, pixels: Tensor) -> ImageBatch:
        """The picture as the network takes it; with the gradient of its pixels."""
        image = self.detector.preprocessing.resize(pixels / LEVELS)  # (3, h, w), normalised
        size = (image.shape[1], image.shape[2])
        height, width = self.detector.preprocessing.canvas([size])
        canvas = F.pad(image, (0, width - size[1], 0, height - size[0]))[None]
        images = ImageBatch(canvas, [size], [(pixels.shape[1], pixels.shape[2])])
        return with_proposals(images, self.proposals) if self.proposals else images

    def in_frame(self, images: ImageBatch) -> Targets:
        """The objects that are learnt from, in the frame of the network's pixels."""
        targets = self.targets[~self.targets.difficult].to(images.pixels.device)
        boxes = scale(targets.boxes, images.original_sizes[0], images.sizes[0])
        return replace(targets, boxes=boxes, areas=torch.zeros(0))

    def loss_gradient(self, pixels: Tensor) -> Tensor:
        """(3, H, W): the gradient of the sum of all losses of training."""
        pixels = pixels.clone().requires_grad_()
        with torch.enable_grad():
            images = self.images(pixels)
            losses = self.detector.losses(images, [self.in_frame(images)], self.generator)
            (gradient,) = torch.autograd.grad(torch.stack(list(losses.values())).sum(), pixels)
        return gradient

    def project(self, pixels: Tensor) -> Tensor:
        """The nearest pixels that lie within `eps` of the clean ones, and from 0 to 255."""
        return pixels.clamp(self.low, self.high)

    def rounded(self, pixels: Tensor) -> Array:
        """(H, W, 3) uint8 of projected pixels. The bounds are whole, so that rounding stays within them."""
        return self.project(pixels).round().byte().permute(1, 2, 0).cpu().numpy()

    def draw(self) -> Tensor:
        """(3, H, W) uniform in [−1, 1]."""
        return (torch.rand(self.clean.shape, generator=self.generator) * 2 - 1).to(self.clean)
