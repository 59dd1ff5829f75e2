"""torchvision's Faster R-CNN at the same work, with the same weights."""

from __future__ import annotations

import sys

import torch
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign

from rcnnkit.backbones.norms import norm_layer
from rcnnkit.backbones.resnet import torchvision_resnet
from rcnnkit.benchmark.measure.contenders import Contender, ReadyContender
from rcnnkit.benchmark.options import Options
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.importing.torchvision_detectors import torchvision_places
from rcnnkit.precision import DTYPES, autocast
from rcnnkit.structures import Array, Detections


def to_torchvision(detector: FasterRCNN, settings: DetectorSettings) -> TorchvisionFasterRCNN:
    """torchvision's Faster R-CNN with the weights of ours, the inverse of `importing.torchvision_detectors`.

    Raises:
        ValueError: torchvision's has no place for what this one is; says what.
    """
    model, rpn, head, input_ = settings.model, settings.rpn, settings.head, settings.input
    differs = {
        f'model.backbone = "{model.backbone}"': not model.backbone.startswith("resnet"),
        f'model.neck = "{model.neck}"': model.neck != "fpn",
        f"model.norm_eps = {model.norm_eps:g}": model.norm_eps != 1e-5,
        "model.stride_in_1x1 = true": model.stride_in_1x1,
        f'rpn.anchor_layout = "{rpn.anchor_layout}"': rpn.anchor_layout != "torchvision",
        f"head.convs = {head.convs}": bool(head.convs),
        f"head.unnamed = {head.unnamed}": bool(head.unnamed),
        f'input.resizing = "{input_.resizing}"': input_.resizing == "detectron2",
        f'model.pool = "{model.pool}"': model.pool != "roi_align",
        "model.aligned = true": model.aligned,
        f'model.fpn_norm = "{model.fpn_norm}"': model.fpn_norm == "group",
        f"rpn.hidden = {rpn.hidden}": rpn.hidden not in (0, model.fpn_channels),
        "head.class_agnostic = true": head.class_agnostic,
        "head.svms = true": head.svms,
        f"head.fc6_rank = {head.fc6_rank}, head.fc7_rank = {head.fc7_rank}": bool(head.fc6_rank or head.fc7_rank),
        "input.short_side = 0": not input_.short_side,
        "input.scales": bool(input_.scales),
    }
    if unknown := [name for name, wrong in differs.items() if wrong]:
        raise ValueError(f"torchvision's Faster R-CNN does not have {', '.join(unknown)}")
    resnet = torchvision_resnet(model.backbone, model.norm, pretrained=False)  # type: ignore[arg-type]  # has an FPN
    wide = resnet.fc.in_features
    backbone = BackboneWithFPN(
        resnet,
        {f"layer{i}": str(i - 1) for i in range(1, 5)},
        [wide // 8, wide // 4, wide // 2, wide],
        model.fpn_channels,
        norm_layer=None if model.fpn_norm == "none" else norm_layer(model.fpn_norm),
    )
    sizes = rpn.anchor_sizes or [[32], [64], [128], [256], [512]]
    anchors = AnchorGenerator(tuple(map(tuple, sizes)), (tuple(rpn.anchor_ratios),) * len(sizes))
    size, hidden = detector.pool.size, detector.head.score_layer.in_features
    twin = TorchvisionFasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(model.fpn_channels, anchors.num_anchors_per_location()[0], rpn.convs),
        rpn_pre_nms_top_n_test=detector.rpn.keep[0],
        rpn_post_nms_top_n_test=detector.rpn.keep[1],
        rpn_nms_thresh=rpn.nms_iou,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], size, model.sampling_ratio),
        box_head=TwoMLPHead(model.fpn_channels * size**2, hidden),
        box_predictor=FastRCNNPredictor(hidden, len(detector.class_names) + 1),
        box_score_thresh=head.score_threshold,
        box_nms_thresh=head.nms_iou,
        box_detections_per_img=head.max_detections or sys.maxsize,
        bbox_reg_weights=head.delta_weights,
        min_size=input_.short_side,
        max_size=input_.long_side,
        image_mean=list(input_.mean),
        image_std=list(input_.std),
        size_divisible=input_.divisor,
    )
    ours = {ours: theirs for theirs, ours in torchvision_places(settings).items()}
    state = {}
    for name, value in detector.state_dict().items():
        part = next(part for part in ours if name.startswith(part + "."))
        state[ours[part] + name[len(part) :]] = value
    predictor = "roi_heads.box_predictor"
    for kind in ("weight", "bias"):
        state[f"{predictor}.cls_score.{kind}"] = state[f"{predictor}.cls_score.{kind}"].roll(1, dims=0)
        boxes = state[f"{predictor}.bbox_pred.{kind}"]
        state[f"{predictor}.bbox_pred.{kind}"] = torch.cat([torch.zeros_like(boxes[:4]), boxes])  # background's
    twin.load_state_dict(state)
    return twin.to(detector.device).eval()


def torchvision_contender(contender: Contender, options: Options) -> ReadyContender:
    """torchvision's Faster R-CNN, to take turns with ours. Raises as `to_torchvision`."""
    detector = contender.load(options.device, options.max_proposals)
    assert isinstance(detector, FasterRCNN)
    twin, device = to_torchvision(detector, contender.settings), detector.device
    names, ids = detector.class_names, detector.category_ids  # and not the detector, which may go

    def detect(pictures: list[Array]) -> list[Detections]:
        tensors = [torch.from_numpy(picture).to(device).permute(2, 0, 1) / 255 for picture in pictures]
        with torch.inference_mode(), autocast(device, DTYPES[options.precision]):
            answers = twin(tensors)
        return [
            Detections(one["boxes"].float(), one["scores"].float(), one["labels"] - 1, names, ids) for one in answers
        ]

    return ReadyContender("torchvision", "torchvision", detect)
