"""Which of torchvision's detectors a state dict is; that answers are the same is tested in test_convert.py and
detectors/test_same_as_torchvision.py."""

import re

import pytest
import torch
from torchvision.models.detection import FasterRCNN, fasterrcnn_mobilenet_v3_large_fpn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from rcnnkit.importing.torchvision_detectors import COCO, NO_CLASS, from_torchvision_state

State = dict[str, torch.Tensor]


def state(name: str = "resnet18", classes: int = 2, **options: object) -> State:
    with torch.device("meta"):
        return FasterRCNN(
            resnet_fpn_backbone(backbone_name=name, weights=None, norm_layer=torch.nn.BatchNorm2d),
            classes + 1,
            **options,
        ).state_dict()


def convert(given: State, names: list[str] | None = None):
    with torch.device("meta"):
        return from_torchvision_state(given, names, 1e-5, "mine.pth")


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_every_resnet(name: str) -> None:
    theirs = state(name)
    ours, settings = convert(theirs, ["cat", "dog"])
    assert (settings.model.backbone, settings.model.norm, settings.model.fpn_norm) == (name, "batch", "none")
    rows = 4 * 1024 + 4  # the box of background, which has none
    assert sum(v.numel() for v in theirs.values()) - rows == sum(v.numel() for v in ours.state_dict().values())


def test_cocos_names() -> None:
    ours, settings = convert(state(classes=90))
    assert settings.head.unnamed == COCO.count(NO_CLASS) == 10
    assert len(ours.class_names) == 80
    assert NO_CLASS not in ours.class_names
    assert ours.head.score_layer.out_features == 91
    with pytest.raises(ValueError, match=r"mine\.pth has 2 classes and does not say which; give their names"):
        convert(state())
    with pytest.raises(ValueError, match=r"mine\.pth knows 2 classes, 3 names were given"):
        convert(state(), ["a", "b", "c"])


def test_other_detectors() -> None:
    with torch.device("meta"):
        mobile = fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None).state_dict()
    with pytest.raises(ValueError, match=r"mine\.pth is not torchvision's Faster R-CNN with a ResNet and an FPN"):
        convert(mobile)
    mask = state() | {"roi_heads.mask_predictor.mask_fcn_logits.bias": torch.zeros(3)}
    with pytest.raises(ValueError, match=re.escape("1 without a place here:\n  roi_heads.mask_predictor")):
        convert(mask, ["cat", "dog"])
    six = {"rpn.head.cls_logits.weight": torch.zeros(6, 256, 1, 1), "rpn.head.bbox_pred.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"2 of another shape:\n  rpn\.head\.cls_logits\.weight \(6, 256, 1, 1\)"):
        convert(state() | six, ["cat", "dog"])
    less = {name: value for name, value in state().items() if "layer_blocks" not in name}
    with pytest.raises(ValueError, match=r"8 missing:\n  backbone\.fpn\.layer_blocks\.0\.0\.weight"):
        convert(less, ["cat", "dog"])
