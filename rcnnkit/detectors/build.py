"""From settings to a detector."""

from __future__ import annotations

from collections.abc import Sequence

from rcnnkit.backbones.alexnet import alexnet
from rcnnkit.backbones.fpn import FPN
from rcnnkit.backbones.resnet import ResNet, ResNetC4, Stage4
from rcnnkit.backbones.single_map import HIDDEN, SingleMap, fill_from_imagenet
from rcnnkit.backbones.vgg import vgg16
from rcnnkit.backbones.window import WindowNetwork
from rcnnkit.config import DetectorSettings, ProposalSettings
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.heads.box_head import BoxHead
from rcnnkit.heads.region_pool import RegionPool
from rcnnkit.heads.two_fc import TwoFC
from rcnnkit.proposals.methods import PictureMethod, SelectiveSearch, SlidingWindows
from rcnnkit.proposals.rpn import RPN

# What of [rcnn] the detector itself has to know; the rest is its training's.
RCNN_OPTIONS = {
    *("context", "square", "layer", "scores", "box_regression", "foreground_iou", "samples", "foreground_share"),
    *("batch", "score_threshold", "nms_iou", "max_detections"),
}


def build(
    settings: DetectorSettings, class_names: Sequence[str], category_ids: Sequence[int] | None = None
) -> Detector:
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
    model, head = settings.model, settings.head
    if model.detector == "rcnn":
        return _rcnn(settings, class_names, category_ids)
    backbone, features, width, size = _parts(settings)
    strides = backbone.strides[:4]  # P6 serves the RPN alone
    pool = RegionPool(strides, size, model.pool, model.sampling_ratio, model.aligned)
    box_head = BoxHead(
        features, width, class_names, category_ids, **head.model_dump(exclude={"hidden", "fc6_rank", "fc7_rank"})
    )
    if model.detector == "fast_rcnn":
        method, options = proposal_method(settings.proposals), settings.proposals
        return FastRCNN(backbone, method, pool, box_head, settings.input, options.train_count, options.count)
    sizes = settings.rpn.anchor_sizes or (
        [[32], [64], [128], [256], [512]] if model.neck == "fpn" else [[32, 64, 128, 256, 512]]
    )
    if len(sizes) != len(backbone.strides):
        raise ValueError(
            f"rpn.anchor_sizes has {len(sizes)} lists, but {model.neck} has {len(backbone.strides)} maps,"
            f" of strides {backbone.strides}; give one list of sizes for each"
        )
    rpn = RPN(backbone.channels[0], sizes, **settings.rpn.model_dump(exclude={"anchor_sizes"}))
    return FasterRCNN(backbone, rpn, pool, box_head, settings.input)


def proposal_method(settings: ProposalSettings) -> PictureMethod | None:
    """What finds the regions of R-CNN and Fast R-CNN; None where they are to be given."""
    if settings.method == "precomputed":
        return None
    if settings.method == "sliding_windows":
        return SlidingWindows()
    return SelectiveSearch(settings.mode, min_side=settings.min_side, seed=settings.seed, max_width=settings.max_width)


def _parts(settings: DetectorSettings) -> tuple[FPN | ResNetC4 | SingleMap, TwoFC | Stage4, int, int]:
    """The backbone; what makes one vector of a region; the length of that; the side of a pooled region."""
    model, head = settings.model, settings.head
    ranks = {"fc6_rank": head.fc6_rank, "fc7_rank": head.fc7_rank}
    if model.backbone == "alexnet" or model.backbone == "vgg16":
        body = alexnet(model.frozen_stages) if model.backbone == "alexnet" else vgg16(model.frozen_stages)
        size, hidden = model.pool_size or body.pool_size, head.hidden or HIDDEN
        features = TwoFC(body.channels[0], size, hidden, dropout=0.5, **ranks)
        if model.pretrained:
            fill_from_imagenet(model.backbone, body, features)
        return body, features, hidden, size
    resnet = ResNet(model.backbone, model.norm, model.pretrained, model.frozen_stages, 3 if model.neck == "c4" else 4)
    if model.neck == "c4":
        stage4 = Stage4(model.backbone, model.norm, model.pretrained)
        return ResNetC4(resnet), stage4, stage4.channels, model.pool_size or 14
    size, hidden = model.pool_size or 7, head.hidden or 1024
    fpn = FPN(resnet, model.fpn_channels, model.fpn_norm)
    return fpn, TwoFC(model.fpn_channels, size, hidden, **ranks), hidden, size


def _rcnn(settings: DetectorSettings, class_names: Sequence[str], category_ids: Sequence[int]) -> RCNN:
    """R-CNN, which has whole classifiers for backbones."""
    model, head = settings.model, settings.head
    if model.backbone == "alexnet" or model.backbone == "vgg16":
        frozen = model.frozen_stages
        body = alexnet(frozen, padded=False) if model.backbone == "alexnet" else vgg16(frozen)
        hidden = head.hidden or HIDDEN
        ranks = {"fc6_rank": head.fc6_rank, "fc7_rank": head.fc7_rank}
        layers = TwoFC(body.channels[0], body.pool_size, hidden, dropout=0.5, **ranks)
        if model.pretrained:
            fill_from_imagenet(model.backbone, body, layers)
        backbone = WindowNetwork(body, layers, hidden, settings.window_size)
    else:
        resnet = ResNet(model.backbone, model.norm, model.pretrained, model.frozen_stages)
        backbone = WindowNetwork(resnet, None, resnet.channels[-1], settings.window_size)
    return RCNN(
        backbone,
        proposal_method(settings.proposals),
        class_names,
        category_ids,
        settings.input,
        size=settings.window_size,
        train_count=settings.proposals.train_count,
        count=settings.proposals.count,
        **settings.rcnn.model_dump(include=RCNN_OPTIONS),
    )
