"""Every kind of model in one table: the detectors, and the classifier that one can start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from rcnnkit.backbones.architecture import RegionNetwork
from rcnnkit.backbones.classifier import Classifier
from rcnnkit.backbones.fpn import FPN
from rcnnkit.backbones.names import architecture
from rcnnkit.backbones.spatial_transformer import SpatialTransformer
from rcnnkit.backbones.two_fc import TwoFC
from rcnnkit.backbones.window import WindowNetwork
from rcnnkit.detectors.aligner import Aligner
from rcnnkit.detectors.densecap import DenseCap
from rcnnkit.detectors.describer import Describer
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.picture_captioner import PictureCaptioner
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.heads.alignment import Alignment
from rcnnkit.heads.box_head import BoxHead
from rcnnkit.heads.captioner import RegionCaptioner
from rcnnkit.heads.convs_fc import ConvsFC
from rcnnkit.heads.region_pool import RegionPool
from rcnnkit.model import Model
from rcnnkit.proposals.rpn import RPN

PICTURE = 3  # channels of pictures and windows
Classes = tuple[Sequence[str], Sequence[int]]  # names, and the data set's own ids for them


@dataclass(frozen=True, slots=True)
class Kind:
    """What `model.kind` names."""

    title: str
    paper: str
    model: type[Model]
    build: Callable[[DetectorSettings, Classes], Model]
    network: Literal["whole", "regions"]  # a whole network sees each window; or a backbone sees the picture once
    trainer: str = "detection.train_detector"  # in rcnnkit.training, which is above this file: imported to train one

    @property
    def has_rpn(self) -> bool:
        return issubclass(self.model, FasterRCNN)


def rcnn(settings: DetectorSettings, classes: Classes) -> RCNN:
    options = settings.rcnn.model_copy(update={"size": settings.window_size})
    detector = RCNN(window_network(settings), *classes, settings.input, settings.proposals, options)
    detector.transformer = spatial_transformer(settings, PICTURE, settings.window_size)
    return detector


def fast_rcnn(settings: DetectorSettings, classes: Classes) -> FastRCNN:
    network, pool, head = region_parts(settings, classes)
    return FastRCNN(network.backbone, pool, head, settings.input, settings.proposals)


def faster_rcnn(settings: DetectorSettings, classes: Classes) -> FasterRCNN:
    network, pool, head = region_parts(settings, classes)
    backbone = network.backbone
    rpn = RPN(backbone.channels[0], backbone.strides, settings.rpn, exact=settings.model.neck == "none")
    return FasterRCNN(backbone, rpn, pool, head, settings.input)


def densecap(settings: DetectorSettings, classes: Classes) -> DenseCap:
    detector = faster_rcnn(settings, classes)
    width, channels = detector.head.score_layer.in_features, detector.backbone.channels[0]
    captioner = RegionCaptioner(width, channels, settings.captions)
    return DenseCap(detector.backbone, detector.rpn, detector.pool, detector.head, settings.input, captioner)


def picture_captioner(settings: DetectorSettings, classes: Classes) -> PictureCaptioner:
    network = region_network(settings)
    pool = RegionPool(network.backbone.strides[:4], network.size, settings.model)
    captioner = RegionCaptioner(network.width, network.backbone.channels[0], settings.captions)
    return PictureCaptioner(network, pool, captioner, settings.input, classes)


def classifier(settings: DetectorSettings, classes: Classes) -> Classifier:
    classifier = Classifier(window_network(settings), *classes, settings.input, settings.classifier)
    classifier.transformer = spatial_transformer(settings, PICTURE, settings.window_size)
    return classifier


KINDS = {
    kind.model.kind: kind
    for kind in (
        Kind("R-CNN", "arXiv:1311.2524", RCNN, rcnn, "whole", "rcnn_stages.train_rcnn"),
        Kind("Fast R-CNN", "arXiv:1504.08083", FastRCNN, fast_rcnn, "regions"),
        Kind("Faster R-CNN", "arXiv:1506.01497", FasterRCNN, faster_rcnn, "regions"),
        Kind("DenseCap", "arXiv:1511.07571", DenseCap, densecap, "regions"),
        Kind("captioner", "arXiv:1412.2306", PictureCaptioner, picture_captioner, "regions"),
        Kind("classifier", "arXiv:1311.2524", Classifier, classifier, "whole", "classification.train_classifier"),
    )
}

# Detectors of named classes by their names in folders and options, in the order of their papers.
DETECTORS = {
    name.replace("_", "-"): kind.title
    for name, kind in KINDS.items()
    if not issubclass(kind.model, Classifier | Describer)
}


def title_of(kind: str) -> str:
    """For people; of a detector of the user's own, its `kind` itself."""
    return KINDS[kind].title if kind in KINDS else kind


def build(settings: DetectorSettings, class_names: Sequence[str], category_ids: Sequence[int] | None = None) -> Model:
    """A detector, or the classifier that one can start from, with fresh weights (or ImageNet's, where
    `model.pretrained`). With `alignment.enabled` an aligner on such a detector.

    Args:
        settings: its architecture; `model.kind` says which.
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
    model = KINDS[settings.model.kind].build(settings, (class_names, category_ids))
    if not settings.alignment.enabled:
        return model
    assert isinstance(model, Detector)  # the settings see to it
    return Aligner(model, Alignment(model.region_width, settings.alignment))


def window_network(settings: DetectorSettings) -> WindowNetwork:
    """A whole classification network up to fc7, with fresh or ImageNet's weights."""
    return architecture(settings.model.backbone).windows(settings.model, settings.head, settings.window_size)


def region_parts(settings: DetectorSettings, classes: Classes) -> tuple[RegionNetwork, RegionPool, BoxHead]:
    """What Fast and Faster R-CNN share: the backbone with what sees each region, the pooling, and the head."""
    network = region_network(settings)
    pool = RegionPool(network.backbone.strides[:4], network.size, settings.model)  # P6 serves the RPN alone
    head = BoxHead(network.layers, network.width, *classes, settings.head)
    head.transformer = spatial_transformer(settings, network.backbone.channels[0], network.size)
    return network, pool, head


def spatial_transformer(settings: DetectorSettings, channels: int, size: int) -> nn.Module:
    """Of maps (N, channels, size, size), or what leaves them as they are where there is none."""
    if settings.transformer.kind == "none":
        return nn.Identity()
    return SpatialTransformer(channels, size, settings.transformer)


def region_network(settings: DetectorSettings) -> RegionNetwork:
    """The backbone, and what sees each region, with fresh or ImageNet's weights."""
    model, head, network = settings.model, settings.head, architecture(settings.model.backbone)
    if model.neck != "fpn":
        return network.regions(model, head)
    channels, size, hidden = model.fpn_channels, model.pool_size or 7, head.hidden or 1024
    fpn = FPN(network.pyramid(model), channels, model.fpn_norm)
    layers: ConvsFC | TwoFC
    if head.convs:
        layers = ConvsFC(channels, size, head.convs, hidden, model.fpn_norm)
    else:
        layers = TwoFC(channels, size, hidden, fc6_rank=head.fc6_rank, fc7_rank=head.fc7_rank)
    return RegionNetwork(fpn, layers, hidden, size)
