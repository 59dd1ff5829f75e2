"""From settings to a detector."""

from __future__ import annotations

from collections.abc import Sequence

from rcnnkit.backbones.fpn import FPN
from rcnnkit.backbones.resnet import ResNet, ResNetC4, Stage4
from rcnnkit.config import DetectorSettings
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.heads.box_head import BoxHead, TwoFC
from rcnnkit.heads.region_pool import RegionPool
from rcnnkit.proposals.rpn import RPN


def build(
    settings: DetectorSettings, class_names: Sequence[str], category_ids: Sequence[int] | None = None
) -> FasterRCNN:
    """A detector with fresh weights (or ImageNet's, where `model.pretrained`).

    Args:
        settings: its architecture.
        class_names: K of them.
        category_ids: the data set's own ids; 1 … K by default.

    Raises:
        ValueError: no classes, a class named twice, another number of ids, or anchors that do not fit the
            backbone's maps.
    """
    if not class_names or len(set(class_names)) != len(class_names):
        raise ValueError(f"a detector needs classes with distinct names, not {list(class_names)}")
    category_ids = list(category_ids or range(1, len(class_names) + 1))
    if len(category_ids) != len(class_names):
        raise ValueError(f"{len(class_names)} classes but {len(category_ids)} category ids; each class needs one")
    model = settings.model
    body = ResNet(model.backbone, model.norm, model.pretrained, model.frozen_stages, 3 if model.neck == "c4" else 4)
    backbone: FPN | ResNetC4
    features: TwoFC | Stage4
    if model.neck == "fpn":
        backbone = FPN(body, model.fpn_channels, model.fpn_norm)
        strides = backbone.strides[:-1]  # P6 serves the RPN alone
        size = model.pool_size or 7
        features, width = TwoFC(model.fpn_channels, size, settings.head.hidden), settings.head.hidden
    else:
        backbone = ResNetC4(body)
        strides = backbone.strides
        size = model.pool_size or 14
        features = Stage4(model.backbone, model.norm, model.pretrained)
        width = features.channels
    sizes = settings.rpn.anchor_sizes or (
        [[32], [64], [128], [256], [512]] if model.neck == "fpn" else [[32, 64, 128, 256, 512]]
    )
    if len(sizes) != len(backbone.strides):
        raise ValueError(
            f"rpn.anchor_sizes has {len(sizes)} lists, but {model.neck} has {len(backbone.strides)} maps,"
            f" of strides {backbone.strides}; give one list of sizes for each"
        )
    rpn = RPN(backbone.channels[0], sizes, **settings.rpn.model_dump(exclude={"anchor_sizes"}))
    pool = RegionPool(strides, size, model.pool, model.sampling_ratio, model.aligned)
    head = BoxHead(features, width, class_names, category_ids, **settings.head.model_dump(exclude={"hidden"}))
    return FasterRCNN(backbone, rpn, pool, head, settings.input)
