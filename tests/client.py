"""What a user's own program may look like; test_typing.py has mypy look at it."""

from pathlib import Path
from typing import assert_type

import numpy as np
import torch
from PIL import Image

import rcnnkit
from rcnnkit.structures import Proposals, Targets


def detect(weights: Path) -> list[tuple[str, float]]:
    detector = rcnnkit.load(weights, precision="bf16", max_detections=20)
    assert_type(detector("street.jpg"), rcnnkit.Detections)
    assert_type(detector(Path("street.jpg")), rcnnkit.Detections)
    assert_type(detector(Path("street.jpg").read_bytes()), rcnnkit.Detections)
    assert_type(detector(Image.new("RGB", (64, 48))), rcnnkit.Detections)
    assert_type(detector(torch.zeros(3, 48, 64)), rcnnkit.Detections)
    assert_type(detector(np.zeros((48, 64, 3), np.uint8)), rcnnkit.Detections)
    assert_type(detector(["a.jpg", Path("b.jpg")]), list[rcnnkit.Detections])
    assert_type(detector(path for path in Path("pictures").iterdir()), list[rcnnkit.Detections])
    regions = Proposals(torch.zeros(0, 4), torch.zeros(0))
    assert_type(detector(["a.jpg"], [regions]), list[rcnnkit.Detections])
    detector(Path("a.jpg"), [regions])  # type: ignore[call-overload]  # a list for one picture
    detector(3)  # type: ignore[call-overload]  # not a picture
    rcnnkit.load(weights, precison="bf16")  # type: ignore[call-overload]  # misspelt
    rcnnkit.draw("a.jpg", detector("a.jpg"), min_score=0.3).save("found.png")
    assert_type(detector((Path("a.jpg") for _ in range(3)), batch=2), list[rcnnkit.Detections])
    for frame in rcnnkit.detect_each(detector, ["clip.mp4", "https://a.org/b.jpg"], frames=10):
        print(frame.name, frame.frame and frame.frame.seconds, frame.detections and len(frame.detections))
    for picture in rcnnkit.detect_files(detector, ["a.jpg", Path("pictures")], out="found"):
        if picture.detections is None:
            print(picture.name, picture.error)
    return [(name, score) for name, score, (x1, _, x2, _) in detector("a.jpg") if x2 - x1 > 10]


def train(weights: Path, own: rcnnkit.FasterRCNN) -> torch.Tensor:
    detector = rcnnkit.load(weights, for_training=True, into=own).train()
    assert_type(detector, rcnnkit.FasterRCNN)
    images = detector.preprocessing(["a.jpg"], detector.device)
    losses = detector.losses(images, [Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))])
    rcnnkit.save(detector, None, weights, {"iterations": 1})
    return torch.stack(list(losses.values())).sum()
