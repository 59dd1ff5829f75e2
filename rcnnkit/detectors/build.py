"""From settings to a detector, or to a classifier that one can start from."""

from __future__ import annotations

from collections.abc import Sequence

from rcnnkit.backbones.architecture import RegionNetwork
from rcnnkit.backbones.classifier import Classifier
from rcnnkit.backbones.fpn import FPN
from rcnnkit.backbones.names import architecture
from rcnnkit.backbones.two_fc import TwoFC
from rcnnkit.backbones.window import WindowNetwork
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.heads.box_head import BoxHead
from rcnnkit.heads.convs_fc import ConvsFC
from rcnnkit.heads.region_pool import RegionPool
from rcnnkit.proposals.rpn import RPN


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
    classes, model, pixels = (class_names, category_ids), settings.model, settings.input
    if model.detector == "rcnn":
        options = settings.rcnn.model_copy(update={"size": settings.window_size})
        return RCNN(window_network(settings), *classes, pixels, settings.proposals, options)
    if model.detector == "classifier":
        return Classifier(window_network(settings), *classes, pixels, settings.classifier)
    network = region_network(settings)
    backbone = network.backbone
    pool = RegionPool(backbone.strides[:4], network.size, model)  # P6 serves the RPN alone
    head = BoxHead(network.layers, network.width, *classes, settings.head)
    if model.detector == "fast_rcnn":
        return FastRCNN(backbone, pool, head, pixels, settings.proposals)
    rpn = RPN(backbone.channels[0], backbone.strides, settings.rpn, exact=model.neck == "none")
    return FasterRCNN(backbone, rpn, pool, head, pixels)


def window_network(settings: DetectorSettings) -> WindowNetwork:
    """A whole classification network up to fc7, with fresh or ImageNet's weights."""
    return architecture(settings.model.backbone).windows(settings.model, settings.head, settings.window_size)


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
