"""The region proposal network of a trained Faster R-CNN, as a proposal method for others to learn from."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import numpy as np
import torch

from rcnnkit.boxes import scale
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.proposals.methods import PictureMethod
from rcnnkit.structures import Proposals

ALL = 1_000_000_000


class TrainedRPN(PictureMethod):
    """What a Faster R-CNN's RPN proposes in a picture (Faster R-CNN, arXiv:1506.01497v3, 3.2, alternating training).

    Args:
        detector: in eval mode; its own settings say how many proposals there are and how alike they may be.
        weights: what tells these weights from others, such as a hash of their file.
        training: as many as joint training uses, and before suppression all, as released for alternating training.

    Raises:
        ValueError: it is another detector than a Faster R-CNN.
    """

    name = "rpn"

    def __init__(self, detector: Detector, weights: str, training: bool = False) -> None:
        if not isinstance(detector, FasterRCNN):
            raise ValueError(f"a {type(detector).__name__} has no region proposal network; give a Faster R-CNN")
        rpn = detector.rpn
        self.keep = (ALL, rpn.train_keep[1]) if training else rpn.keep
        self.detector = detector
        # Threads that read pictures take turns on a GPU, whose memory would not do for all of them at once.
        self.turn = nullcontext() if detector.device.type == "cpu" else threading.Lock()
        self.settings = {
            "weights": weights,
            "input": detector.preprocessing.model_dump(mode="json"),
            "pre_nms": self.keep[0],
            "post_nms": self.keep[1],
            "nms_iou": rpn.settings.nms_iou,
            "min_side": rpn.settings.min_side,
        }

    def find(self, picture: np.ndarray) -> Proposals:
        with self.turn, torch.no_grad():
            images = self.detector.preprocessing([picture], self.detector.device)
            features = self.detector.backbone(images.pixels)
            (proposals,) = self.detector.rpn.propose(images, features, self.keep)
        proposals = proposals.to("cpu")
        return Proposals(scale(proposals.boxes, images.sizes[0], images.original_sizes[0]), proposals.scores)
