import numpy as np
import torch

from rcnnkit.boxes import scale
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.detectors.trained_rpn import TrainedRPN


def test_the_same_boxes_as_within_the_detector(tiny):
    settings = DetectorSettings.model_validate({name: tiny[name] for name in ("model", "rpn", "head", "input")})
    torch.manual_seed(0)
    detector = build(settings, ["a", "b"]).eval()
    assert isinstance(detector, FasterRCNN)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((48, 64), (200, 100))]
    method = TrainedRPN(detector, "abc")
    assert method.name == "rpn"
    assert method.settings | {"weights": "abc", "post_nms": 50, "nms_iou": 0.7} == method.settings
    for picture in pictures:
        images = detector.preprocessing([picture])
        with torch.no_grad():
            (expected,) = detector.rpn.propose(images, detector.backbone(images.pixels))
        found = method.find(picture)
        assert 0 < len(found) == len(expected)
        torch.testing.assert_close(found.boxes, scale(expected.boxes, images.sizes[0], picture.shape[:2]))
        torch.testing.assert_close(found.scores, expected.scores)
        assert (found.boxes[:, 2:] <= torch.tensor([picture.shape[1], picture.shape[0]]) + 1e-3).all()
    assert TrainedRPN(detector, "abc").settings == method.settings
    both = method.propose(detector.preprocessing(pictures))
    images = detector.preprocessing(pictures[:1])
    torch.testing.assert_close(both[0].boxes, scale(method.find(pictures[0]).boxes, (48, 64), images.sizes[0]))
