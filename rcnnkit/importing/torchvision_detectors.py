"""torchvision's Faster R-CNN with a ResNet and an FPN, both versions, as ours, with the same answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.images import Preprocessing
from rcnnkit.importing.class_names import names_needed, other_number
from rcnnkit.importing.resnets import resnet_name
from rcnnkit.importing.tensors import Tensors, transfer, unwrapped

if TYPE_CHECKING:
    from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN

COCO = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]  # 1 … 90; ten of these ids have no class
NO_CLASS = "N/A"


def from_torchvision(
    model: TorchvisionFasterRCNN, class_names: Sequence[str], category_ids: Sequence[int] | None = None
) -> tuple[FasterRCNN, DetectorSettings]:
    """torchvision's `fasterrcnn_resnet*_fpn` or `fasterrcnn_resnet50_fpn_v2` as ours, with the same answers.

    torchvision's class 0 is background. Classes called "N/A", ten with its COCO weights, take their share of the
    softmax and are not found; the others are our labels, in their order, and keep their numbers as category ids.

    Args:
        model: a `FasterRCNN` on `resnet_fpn_backbone`; `torch.compile` may be around it.
        class_names: without background.
        category_ids: of these; 1, 2, … by default.

    Returns:
        The detector in eval mode, and the settings it was built with, for `rcnnkit.weights.save`.

    Raises:
        ValueError: a model of another architecture, or another number of classes.
    """
    try:
        settings = _settings_of_model(model)
    except (AttributeError, KeyError) as error:
        raise ValueError(f"not torchvision's Faster R-CNN with a ResNet and an FPN: {error!r}") from None
    return _filled(unwrapped(model.state_dict()), settings, class_names, category_ids, type(model).__name__)


def from_torchvision_state(
    state: Mapping[str, Tensor], class_names: Sequence[str] | None, norm_eps: float, source: str = "it"
) -> tuple[FasterRCNN, DetectorSettings]:
    """The same from the state dict alone; what that does not tell is as torchvision's functions have it by default.

    Args:
        state: of `fasterrcnn_resnet*_fpn` or `fasterrcnn_resnet50_fpn_v2`, under its names of any version.
        class_names: without background; COCO's where there are as many classes as torchvision's weights know.
        norm_eps: of its batch norms.
        source: named in errors.

    Raises:
        ValueError: no such state dict; no names where they are needed.
    """
    names = {
        # before torchvision 0.13
        re.sub(r"^(backbone\.fpn\.\w+_blocks\.\d|rpn\.head\.conv)\.(weight|bias)$", _nested, name): value
        for name, value in unwrapped(state).items()
    }
    values = _settings_of_state(names, source)
    values["model"]["norm_eps"] = norm_eps
    classes = len(names["roi_heads.box_predictor.cls_score.weight"]) - 1
    if class_names is None:
        if classes != len(COCO):
            raise names_needed(source, classes)
        class_names = COCO
    return _filled(names, DetectorSettings.model_validate(values), class_names, None, source)


def _nested(match: re.Match[str]) -> str:
    module, kind = match.groups()
    return f"{module}.0.{kind}" if module.startswith("backbone") else f"{module}.0.0.{kind}"


def _filled(
    state: Mapping[str, Tensor],
    settings: DetectorSettings,
    class_names: Sequence[str],
    category_ids: Sequence[int] | None,
    source: str,
) -> tuple[FasterRCNN, DetectorSettings]:
    scores = state.get("roi_heads.box_predictor.cls_score.weight")
    if scores is not None and len(scores) != len(class_names) + 1:
        raise other_number(source, len(scores) - 1, len(class_names))
    ids = category_ids or range(1, len(class_names) + 1)
    indices = [i for i, name in enumerate(class_names) if name != NO_CLASS]
    unnamed = [i for i, name in enumerate(class_names) if name == NO_CLASS]
    settings = settings.model_copy(update={"head": settings.head.model_copy(update={"unnamed": len(unnamed)})})
    detector = build(settings, [class_names[i] for i in indices], [ids[i] for i in indices])
    assert isinstance(detector, FasterRCNN)

    def order(state: Tensors) -> None:
        """Background: first → after the classes. It has no box; those without a name get none."""
        for kind in ("weight", "bias"):
            if (place := f"head.score_layer.{kind}") in state:
                state[place] = state[place][[*(i + 1 for i in indices), 0, *(i + 1 for i in unnamed)]]
            if (place := f"head.delta_layer.{kind}") in state and len(state[place]) == 4 * (len(class_names) + 1):
                state[place] = state[place].unflatten(0, (-1, 4))[[i + 1 for i in indices]].flatten(0, 1)

    transfer(state, torchvision_places(settings), detector, source, order)
    return detector.eval(), settings


def torchvision_places(settings: DetectorSettings) -> dict[str, str]:
    """Where each of torchvision's modules is in a detector of ours with these settings."""
    stages = {"conv1": "stem.0", "bn1": "stem.1"} | {f"layer{i + 1}": f"stages.{i}" for i in range(4)}
    places = {f"backbone.body.{theirs}": f"backbone.body.{ours}" for theirs, ours in stages.items()}
    for i in range(4):
        places[f"backbone.fpn.inner_blocks.{i}"] = f"backbone.lateral.{i}"
        places[f"backbone.fpn.layer_blocks.{i}"] = f"backbone.output.{i}"
    places |= {"rpn.head.cls_logits": "rpn.objectness_layer", "rpn.head.bbox_pred": "rpn.delta_layer"}
    places |= {f"rpn.head.conv.{i}.0": f"rpn.convs.{2 * i}" for i in range(settings.rpn.convs)}
    if convs := settings.head.convs:
        places |= {f"roi_heads.box_head.{i}": f"head.layers.convs.{i}" for i in range(convs)}
        places[f"roi_heads.box_head.{convs + 1}"] = "head.layers.fc6"  # after the one that flattens
    else:
        places |= {f"roi_heads.box_head.{fc}": f"head.layers.{fc}" for fc in ("fc6", "fc7")}
    predictor = {"cls_score": "head.score_layer", "bbox_pred": "head.delta_layer"}
    return places | {f"roi_heads.box_predictor.{theirs}": ours for theirs, ours in predictor.items()}


def _settings_of_state(state: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    """What the names and shapes tell; the rest is torchvision's default, and ours but for `input`."""
    backbone = resnet_name(state, "backbone.body.layer{}", first=1)
    needed = ["backbone.fpn.inner_blocks.0.0.weight", "roi_heads.box_predictor.cls_score.weight"]
    if backbone is None or any(name not in state for name in needed):
        raise ValueError(f"{source} is not torchvision's Faster R-CNN with a ResNet and an FPN")
    convs = sum(bool(re.fullmatch(r"roi_heads\.box_head\.\d\.0\.weight", name)) for name in state)
    hidden = state.get(f"roi_heads.box_head.{convs + 1}.weight" if convs else "roi_heads.box_head.fc6.weight")
    return {
        "model": {
            "backbone": backbone,
            "norm": "batch" if "backbone.body.bn1.num_batches_tracked" in state else "frozen",
            "fpn_channels": len(state["backbone.fpn.inner_blocks.0.0.weight"]),
            "fpn_norm": "batch" if "backbone.fpn.inner_blocks.0.1.weight" in state else "none",
        },
        "rpn": {"convs": sum(bool(re.fullmatch(r"rpn\.head\.conv\.\d\.0\.weight", name)) for name in state) or 1},
        "head": {"convs": convs, "hidden": 0 if hidden is None else len(hidden)},
        "input": {"divisor": 32, "resizing": "torchvision"},
    }


def _settings_of_model(model: TorchvisionFasterRCNN) -> DetectorSettings:
    values = _settings_of_state(unwrapped(model.state_dict()), "the model")
    body, rpn, heads, transform = model.backbone.body, model.rpn, model.roi_heads, model.transform
    values["model"] |= {
        "norm_eps": body["bn1"].eps,
        "pool_size": heads.box_roi_pool.output_size[0],
        "sampling_ratio": heads.box_roi_pool.sampling_ratio,
    }
    values["rpn"] = {
        "anchor_sizes": [list(sizes) for sizes in rpn.anchor_generator.sizes],
        "anchor_ratios": list(rpn.anchor_generator.aspect_ratios[0]),
        "convs": sum(isinstance(m, nn.Conv2d) for m in rpn.head.conv.modules()),
        "pre_nms": rpn._pre_nms_top_n["testing"],
        "post_nms": rpn._post_nms_top_n["testing"],
        "train_pre_nms": rpn._pre_nms_top_n["training"],
        "train_post_nms": rpn._post_nms_top_n["training"],
        "nms_iou": rpn.nms_thresh,
        "min_side": rpn.min_size,
        "foreground_iou": rpn.proposal_matcher.high_threshold,
        "background_iou": rpn.proposal_matcher.low_threshold,
        "samples": rpn.fg_bg_sampler.batch_size_per_image,
        "foreground_share": rpn.fg_bg_sampler.positive_fraction,
    }
    values["head"] |= {
        "foreground_iou": heads.proposal_matcher.high_threshold,
        "background_iou": heads.proposal_matcher.low_threshold,
        "samples": heads.fg_bg_sampler.batch_size_per_image,
        "foreground_share": heads.fg_bg_sampler.positive_fraction,
        "delta_weights": heads.box_coder.weights,
        "score_threshold": heads.score_thresh,
        "nms_iou": heads.nms_thresh,
        "max_detections": heads.detections_per_img,
    }
    values["input"] = Preprocessing(
        short_side=transform.min_size[-1],
        long_side=transform.max_size,
        mean=tuple(transform.image_mean),
        std=tuple(transform.image_std),
        divisor=transform.size_divisible,
        resizing="torchvision",
    )
    return DetectorSettings.model_validate(values)
