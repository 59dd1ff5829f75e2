"""From settings to a detector, or to a classifier that one can start from."""

from __future__ import annotations

from collections.abc import Sequence

from rcnnkit.backbones.by_name import convolutions
from rcnnkit.backbones.classifier import Classifier
from rcnnkit.backbones.fpn import FPN
from rcnnkit.backbones.googlenet import GoogLeNet, Inception5
from rcnnkit.backbones.resnet import ResNet, ResNetC4, Stage4, set_variant
from rcnnkit.backbones.single_map import SingleMap, fill_from_imagenet
from rcnnkit.backbones.vgg import VGGMaps
from rcnnkit.backbones.window import WindowNetwork
from rcnnkit.config import DetectorSettings, ProposalSettings
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.heads.box_head import BoxHead
from rcnnkit.heads.convs_fc import ConvsFC
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
) -> Detector | Classifier:
    """A detector, or the classifier that one can start from, with fresh weights (or ImageNet's, where
    `model.pretrained`).

    Args:
        settings: its architecture; `model.detector` says which.
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
    if model.detector == "classifier":
        sizes = settings.classifier.model_dump(include={"resize", "crop", "label_smoothing"})
        return Classifier(window_network(settings), class_names, category_ids, settings.input, **sizes)
    backbone, features, width, size = _parts(settings)
    strides = backbone.strides[:4]  # P6 serves the RPN alone
    pool = RegionPool(strides, size, model.pool, model.sampling_ratio, model.aligned)
    box_head = BoxHead(
        features,
        width,
        class_names,
        category_ids,
        **head.model_dump(exclude={"hidden", "convs", "fc6_rank", "fc7_rank"}),
    )
    if model.detector == "fast_rcnn":
        method, options = proposal_method(settings.proposals), settings.proposals
        return FastRCNN(backbone, method, pool, box_head, settings.input, options.train_count, options.count)
    anchor_sizes = settings.rpn.anchor_sizes or (
        [[32], [64], [128], [256], [512]] if model.neck == "fpn" else [[32, 64, 128, 256, 512]]
    )
    if len(anchor_sizes) != len(backbone.strides):
        raise ValueError(
            f"rpn.anchor_sizes has {len(anchor_sizes)} lists, but {model.neck} has {len(backbone.strides)} maps,"
            f" of strides {backbone.strides}; give one list of sizes for each"
        )
    known = backbone.strides if model.neck == "none" or settings.rpn.anchors == "detectron2" else []
    rpn = RPN(backbone.channels[0], anchor_sizes, strides=known, **settings.rpn.model_dump(exclude={"anchor_sizes"}))
    return FasterRCNN(backbone, rpn, pool, box_head, settings.input)


def proposal_method(settings: ProposalSettings) -> PictureMethod | None:
    """What finds the regions of R-CNN and Fast R-CNN; None where they are to be given."""
    if settings.method == "precomputed":
        return None
    if settings.method == "sliding_windows":
        return SlidingWindows()
    return SelectiveSearch(settings.mode, min_side=settings.min_side, seed=settings.seed, max_width=settings.max_width)


def window_network(settings: DetectorSettings) -> WindowNetwork:
    """A whole classification network up to fc7, with fresh or ImageNet's weights."""
    body = _body(settings, whole=True)
    layers = _two_fc(body, settings, body.pool_size) if isinstance(body, SingleMap) else None
    return WindowNetwork(body, layers, layers.widths[1] if layers else body.channels[-1], settings.window_size)


def _parts(
    settings: DetectorSettings,
) -> tuple[FPN | ResNetC4 | GoogLeNet | SingleMap, TwoFC | ConvsFC | Stage4 | Inception5, int, int]:
    """The backbone; what makes one vector of a region; the length of that; the side of a pooled region."""
    model, head = settings.model, settings.head
    body = _body(settings, whole=model.neck == "fpn")
    if model.neck == "fpn":
        assert not isinstance(body, GoogLeNet)
        if isinstance(body, SingleMap) and model.pretrained:
            fill_from_imagenet(model.backbone, body, None)
        fpn = FPN(VGGMaps(body) if isinstance(body, SingleMap) else body, model.fpn_channels, model.fpn_norm)
        size, hidden = model.pool_size or 7, head.hidden or 1024
        if head.convs:
            convs = ConvsFC(model.fpn_channels, size, head.convs, hidden, model.fpn_norm)
            return fpn, convs, hidden, size
        ranks = {"fc6_rank": head.fc6_rank, "fc7_rank": head.fc7_rank}
        return fpn, TwoFC(model.fpn_channels, size, hidden, **ranks), hidden, size
    if isinstance(body, SingleMap):
        size = model.pool_size or body.pool_size
        features = _two_fc(body, settings, size)
        return body, features, features.widths[1], size
    size = model.pool_size or 14
    if isinstance(body, GoogLeNet):
        inception5 = Inception5(body.name, model.norm, model.pretrained)
        return body, inception5, inception5.channels, size
    stage4 = Stage4(body.name, model.norm, model.pretrained)
    set_variant(stage4, model.norm_eps, model.stride_in_1x1)
    return ResNetC4(body), stage4, stage4.channels, size


def _body(settings: DetectorSettings, whole: bool) -> SingleMap | GoogLeNet | ResNet:
    model = settings.model
    body = convolutions(model.backbone, model.norm, model.pretrained, model.frozen_stages, whole)
    if isinstance(body, ResNet):
        set_variant(body, model.norm_eps, model.stride_in_1x1)
    return body


def _two_fc(body: SingleMap, settings: DetectorSettings, size: int) -> TwoFC:
    """The network's own fc6 and fc7, filled with ImageNet's weights, as `body` is, where these are asked for."""
    head = settings.head
    layers = TwoFC(
        body.channels[0], size, head.hidden or body.fc, dropout=0.5, fc6_rank=head.fc6_rank, fc7_rank=head.fc7_rank
    )
    if settings.model.pretrained:
        fill_from_imagenet(settings.model.backbone, body, layers)
    return layers


def _rcnn(settings: DetectorSettings, class_names: Sequence[str], category_ids: Sequence[int]) -> RCNN:
    """R-CNN, which has whole classifiers for backbones."""
    return RCNN(
        window_network(settings),
        proposal_method(settings.proposals),
        class_names,
        category_ids,
        settings.input,
        size=settings.window_size,
        train_count=settings.proposals.train_count,
        count=settings.proposals.count,
        **settings.rcnn.model_dump(include=RCNN_OPTIONS),
    )
