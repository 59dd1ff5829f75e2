"""detectron2's Faster and Fast R-CNN of its model zoo, on ResNets with C4 or an FPN, as ours.

What its weights do not say is what its configurations for COCO have: `COCO-Detection/faster_rcnn_R_*_{C4,FPN}_*` and
`fast_rcnn_R_50_FPN_1x`. Where answers may still differ: an empty box that is found takes the place of another among the
best 100 there, and is dropped before here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rcnnkit.backbones.fpn import FPN
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.importing.class_names import other_number
from rcnnkit.importing.resnets import resnet_name
from rcnnkit.importing.tensors import Tensors, transfer
from rcnnkit.proposals.anchors import cell_anchors

PIXEL_MEAN = (103.53, 116.28, 123.675)  # BGR, 0 to 255; these are subtracted, and nothing is divided
SIZES, RATIOS = [32.0, 64.0, 128.0, 256.0, 512.0], [0.5, 1.0, 2.0]
NO_WIDTH = 1e-9  # pixels: empty boxes alone are dropped


def from_detectron2(
    state: Mapping[str, Tensor], class_names: Sequence[str], category_ids: Sequence[int], source: str = "it"
) -> tuple[FasterRCNN | FastRCNN, DetectorSettings]:
    """A state dict of detectron2's as a detector of ours.

    Its networks see BGR from 0 to 255 and have their strides in the first 1×1 of a bottleneck, as Caffe's. Channels of
    the first convolution are turned round here, so that pixels are RGB as everywhere.

    Args:
        state: under detectron2's names. Without a region proposal network it is a Fast R-CNN.
        class_names: in their order; background is last in both.
        category_ids: of these.
        source: named in errors.

    Returns:
        The detector in eval mode, and the settings it was built with, for `rcnnkit.weights.save`.

    Raises:
        ValueError: another network; another number of classes; other pixels or anchors than the model zoo's.
    """
    state = dict(state)
    pyramid = "backbone.fpn_lateral2.weight" in state
    bottom = "backbone.bottom_up" if pyramid else "backbone"
    _check_pixels(state, source)
    cells = [state.pop(name) for name in sorted(state) if ".anchor_generator.cell_anchors." in name]
    settings = _settings(state, pyramid, bottom, len(class_names), source)
    detector = build(settings, class_names, category_ids)
    assert isinstance(detector, FasterRCNN | FastRCNN)
    if cells:
        _check_anchors(cells, pyramid, source)

    # detectron2 counts the anchors of a cell by size first, and we by ratio.
    sizes = 1 if pyramid else len(SIZES)
    order = torch.arange(sizes * len(RATIOS)).reshape(sizes, len(RATIOS)).T.flatten()

    def change(state: Tensors) -> None:
        if (conv1 := "backbone.body.stem.0.weight") in state:
            state[conv1] = state[conv1].flip(1)  # BGR → RGB
        for kind in ("weight", "bias"):
            if (place := f"rpn.objectness_layer.{kind}") in state and len(state[place]) == len(order):
                state[place] = state[place][order]
            if (place := f"rpn.delta_layer.{kind}") in state and len(state[place]) == 4 * len(order):
                state[place] = state[place].unflatten(0, (-1, 4))[order].flatten(0, 1)

    transfer(state, _places(detector, bottom), detector, source, change)
    return detector.eval(), settings


def class_count(state: Mapping[str, Tensor]) -> int:
    """K of a state dict of detectron2's; 0 where it has no classes."""
    scores = state.get("roi_heads.box_predictor.cls_score.weight")
    return 0 if scores is None else len(scores) - 1


def _settings(state: Mapping[str, Tensor], pyramid: bool, bottom: str, classes: int, source: str) -> DetectorSettings:
    if pyramid:
        backbone = resnet_name(state, bottom + ".res{}", first=2)
    else:  # its last stage is the head's
        stage4 = {name.replace("roi_heads.res5.", "backbone.res5."): value for name, value in state.items()}
        backbone = resnet_name(stage4, bottom + ".res{}", first=2)
    if backbone is None or (not pyramid and not any(name.startswith("roi_heads.res5.") for name in state)):
        raise ValueError(f"{source} is no Faster or Fast R-CNN of detectron2 with a ResNet and an FPN or C4")
    if class_count(state) not in (0, classes):
        raise other_number(source, class_count(state), classes)
    deltas = state.get("roi_heads.box_predictor.bbox_pred.weight")
    fast = not any(name.startswith("proposal_generator.") for name in state)
    sides = {"min_side": NO_WIDTH, "beta": 0.0}
    counts = {"pre_nms": 1000, "train_pre_nms": 2000, "train_post_nms": 1000}
    return DetectorSettings.model_validate(
        {
            "model": {
                "kind": "fast_rcnn" if fast else "faster_rcnn",
                "backbone": backbone,
                "neck": "fpn" if pyramid else "c4",
                "stride_in_1x1": True,
                "frozen_stages": 2,
                "sampling_ratio": 0,
                "aligned": True,
            },
            "proposals": {"method": "precomputed", "count": 1000} if fast else {},
            "rpn": {"anchor_layout": "detectron2", "anchor_sizes": [[size] for size in SIZES] if pyramid else [SIZES]}
            | sides
            | (counts if pyramid else {"pre_nms": 6000, "train_pre_nms": 12000}),
            "head": {"class_agnostic": deltas is not None and len(deltas) == 4 and classes > 1} | sides,
            "input": {
                "mean": [value / 255 for value in reversed(PIXEL_MEAN)],
                "std": [1 / 255] * 3,
                "divisor": 32 if pyramid else 1,
                "resizing": "detectron2",
            },
        }
    )


def _check_pixels(state: dict[str, Any], source: str) -> None:
    """Take the pixels' normalisation out of `state`, where it is. Raises ValueError if it is not the zoo's."""
    expected = {"pixel_mean": PIXEL_MEAN, "pixel_std": (1.0, 1.0, 1.0)}
    for name, values in expected.items():
        tensor = state.pop(name, None)
        if tensor is not None and not torch.allclose(tensor.flatten().float(), torch.tensor(values), atol=1e-3):
            raise ValueError(
                f"{source} has {name} = {tensor.flatten().tolist()}, and the model zoo's networks have {list(values)};"
                " too little is known of others to give the same answers"
            )


def _check_anchors(cells: Sequence[Tensor], pyramid: bool, source: str) -> None:
    """Raise ValueError unless these are the zoo's anchors of a cell, (A, 4) for each map."""
    expected = [cell_anchors([size], RATIOS, whole=False) for size in SIZES]
    expected = expected if pyramid else [torch.cat(expected)]
    if len(cells) != len(expected) or not all(
        a.shape == b.shape and torch.allclose(a.float(), b, atol=1e-2) for a, b in zip(cells, expected, strict=True)
    ):
        raise ValueError(f"{source} has other anchors than detectron2's model zoo; such networks are not taken")


def _places(detector: FasterRCNN | FastRCNN, bottom: str) -> dict[str, str]:
    """Of detectron2's modules in ours."""
    places = {f"{bottom}.stem.conv1": "backbone.body.stem.0", f"{bottom}.stem.conv1.norm": "backbone.body.stem.1"}
    stages = {f"{bottom}.res{i + 2}": f"backbone.body.stages.{i}" for i in range(4)}
    if isinstance(detector.backbone, FPN):
        for i in range(4):
            places[f"backbone.fpn_lateral{i + 2}"] = f"backbone.lateral.{i}.0"
            places[f"backbone.fpn_output{i + 2}"] = f"backbone.output.{i}.0"
        places |= {f"roi_heads.box_head.fc{i}": f"head.layers.fc{i + 5}" for i in (1, 2)}
    else:
        del stages[f"{bottom}.res5"]
        stages["roi_heads.res5"] = "head.layers.0"
    for theirs, ours in stages.items():
        stage = detector.get_submodule(ours)
        assert isinstance(stage, nn.Sequential)
        for i in range(len(stage)):
            for conv in (1, 2, 3):
                places[f"{theirs}.{i}.conv{conv}"] = f"{ours}.{i}.conv{conv}"
                places[f"{theirs}.{i}.conv{conv}.norm"] = f"{ours}.{i}.bn{conv}"
        places[f"{theirs}.0.shortcut"] = f"{ours}.0.downsample.0"
        places[f"{theirs}.0.shortcut.norm"] = f"{ours}.0.downsample.1"
    rpn = {"conv": "convs.0", "objectness_logits": "objectness_layer", "anchor_deltas": "delta_layer"}
    places |= {f"proposal_generator.rpn_head.{theirs}": f"rpn.{ours}" for theirs, ours in rpn.items()}
    predictor = {"cls_score": "head.score_layer", "bbox_pred": "head.delta_layer"}
    return places | {f"roi_heads.box_predictor.{theirs}": ours for theirs, ours in predictor.items()}
