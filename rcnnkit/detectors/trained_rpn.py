"""The region proposal network of a trained Faster R-CNN, as a proposal method for others to learn from."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import numpy as np
import torch

from rcnnkit.boxes import scale
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.proposals.methods import PictureMethod
from rcnnkit.structures import Proposals


class TrainedRPN(PictureMethod):
    """What a Faster R-CNN's RPN proposes in a picture (Faster R-CNN, arXiv:1506.01497v3, 3.2, alternating training).

    Args:
        detector: in eval mode; its own settings say how many proposals there are and how alike they may be.
        weights: what tells these weights from others, such as a hash of their file.
    """

    name = "rpn"

    def __init__(self, detector: FasterRCNN, weights: str) -> None:
        rpn = detector.rpn
        self.detector = detector
        # Threads that read pictures take turns on a GPU, whose memory would not do for all of them at once.
        self.turn = nullcontext() if detector.device.type == "cpu" else threading.Lock()
        self.settings = {
            "weights": weights,
            "input": detector.preprocessing.model_dump(mode="json"),
            "pre_nms": rpn.keep[0],
            "post_nms": rpn.keep[1],
            "nms_iou": rpn.settings.nms_iou,
            "min_side": rpn.settings.min_side,
        }

    def find(self, picture: np.ndarray) -> Proposals:
        with self.turn, torch.no_grad():
            images = self.detector.preprocessing([picture], self.detector.device)
            (proposals,) = self.detector.rpn.propose(images, self.detector.backbone(images.pixels))
        proposals = proposals.to("cpu")
        return Proposals(scale(proposals.boxes, images.sizes[0], images.original_sizes[0]), proposals.scores)
