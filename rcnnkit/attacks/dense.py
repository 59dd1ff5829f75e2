"""Dense Adversary Generation (Xie et al. 2017, arXiv:1703.08603): every region is to be called something else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rcnnkit.attacks.victim import Victim
from rcnnkit.boxes import iou
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.proposals.rpn import RPN
from rcnnkit.structures import ImageBatch, Proposals

STEP = 0.5  # grey levels that the pixel with the largest gradient changes in an iteration (γ)
PROPOSALS, NMS_IOU = 3000, 0.9  # dense: with few, those that were left out come through when detecting (section 3.3)
OVERLAP, PROBABILITY = 0.1, 0.1  # with an object and of its class, from which a proposal is a target (section 3.3)


def dense_adversary(victim: Victim, steps: int) -> Tensor:
    """Moves the pixels until no target is called by its class, at most `steps` times; (3, H, W) pixels.

    Targets are dense proposals on objects that the detector knows. Each is pushed from its own class's score to that of
    a wrong one: the classes are permuted at random, none onto itself. Where there is a single class, the wrong one is
    background.

    Where this leaves the paper: the change stays within `eps`, and pixels within 0 to 255.

    Raises:
        ValueError: it is for detectors with a box head.
    """
    detector: Any = victim.detector
    if not isinstance(detector, FastRCNN | FasterRCNN):
        raise ValueError("dag attacks the regions of a Fast or Faster R-CNN; take fgsm or pgd")
    pixels = victim.clean
    targets = _targets(victim, victim.images(pixels))
    if targets is None:
        return pixels
    boxes, labels, wrong = targets
    for _ in range(steps):
        leaf = pixels.clone().requires_grad_()
        with torch.enable_grad():
            logits = _logits(detector, victim.images(leaf), boxes)
            active = torch.where(logits.argmax(dim=1) == labels)[0]
            if not len(active):
                break
            push = logits[active, wrong[active]] - logits[active, labels[active]]
            (gradient,) = torch.autograd.grad(push.sum(), leaf)
        largest = gradient.abs().max()
        if not largest > 0:
            break
        pixels = victim.project(pixels + STEP * gradient / largest)
    return pixels


def _logits(detector: FastRCNN | FasterRCNN, images: ImageBatch, boxes: Tensor) -> Tensor:
    """(R, K + 1 + unnamed) of regions (R, 4)."""
    regions = detector.pool(detector.backbone(images.pixels), [Proposals(boxes, boxes[:, 0])])
    logits: Tensor = detector.head(regions)[0]
    return logits


@torch.no_grad()
def _targets(victim: Victim, images: ImageBatch) -> tuple[Tensor, Tensor, Tensor] | None:
    """Boxes (R, 4) in the network's frame, their classes and the wrong ones, (R,) each; None where there are none."""
    detector: Any = victim.detector
    objects = victim.in_frame(images)
    objects = objects[~objects.crowd]
    if not len(objects):
        return None
    features = detector.backbone(images.pixels)
    if isinstance(detector, FasterRCNN):
        with _dense(detector.rpn):
            boxes = detector.rpn.propose(images, features, (PROPOSALS, PROPOSALS))[0].boxes
    else:
        boxes = detector.propose(images, features, detector.count)[0].boxes
    overlap, nearest = iou(boxes, objects.boxes).max(dim=1)
    labels = objects.labels[nearest]
    probabilities = _logits(detector, images, boxes).softmax(dim=1)
    rows = (overlap > OVERLAP) & (probabilities.gather(1, labels[:, None])[:, 0] > PROBABILITY)
    order = torch.randperm(len(detector.class_names), generator=victim.generator).to(labels.device)
    follower = torch.empty_like(order)
    follower[order] = order.roll(1)
    if len(order) == 1:
        follower += 1  # background
    return (boxes[rows], labels[rows], follower[labels[rows]]) if rows.any() else None


@contextmanager
def _dense(rpn: RPN) -> Iterator[None]:
    settings = rpn.settings
    rpn.settings = settings.model_copy(update={"nms_iou": NMS_IOU})
    try:
        yield
    finally:
        rpn.settings = settings
