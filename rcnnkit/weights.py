"""Weights on disk: one .safetensors file that says itself what it is. Loading never unpickles."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rcnnkit.backbones.classifier import Classifier
from rcnnkit.config import DetectorSettings
from rcnnkit.detectors.build import build
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.images import Preprocessing
from rcnnkit.inference import prepare

if TYPE_CHECKING:
    from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN

FORMAT = 2
RENAMED = {"head.features.1.": "head.features.fc6.", "head.features.3.": "head.features.fc7."}  # since format 1
TRAINING = "training/"  # tensors under this name continue a run; `load` leaves them alone


def save(
    detector: Detector | Classifier,
    settings: DetectorSettings,
    path: Path | str,
    training: Mapping[str, Any] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a detector or classifier, whole or not at all.

    Args:
        settings: that the detector was built with.
        path: of the .safetensors file; replaced if it is there.
        training: how it was trained, anything that JSON can hold.
        state: tensors that continue the training.

    Raises:
        ValueError: the detector only detects.
        OSError: the file cannot be written.
    """
    if isinstance(detector, Detector) and detector.only_detects:
        raise ValueError("what rcnnkit.inference.prepare made cannot be saved; save the detector that it was made from")
    kept = {name: getattr(settings, name).model_dump(mode="json") for name in DetectorSettings.model_fields}
    kept["proposals"]["folder"] = None  # of the machine it was trained on
    about = {
        "format": FORMAT,
        "detector": settings.model.detector,
        "settings": kept,
        "class_names": list(detector.class_names),
        "category_ids": list(detector.category_ids),
        "training": dict(training or {}),
    }
    tensors = dict(detector.state_dict()) | {TRAINING + name: value for name, value in (state or {}).items()}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.touch()  # with the user's own permissions; safetensors would let nobody else read it
        # One memory order: a file should not tell on which machine it was made.
        save_file(
            {n: t.detach().cpu().contiguous() for n, t in tensors.items()},
            half,
            {"rcnnkit": json.dumps(about)},
        )
        half.replace(path)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written ({error}); is the disk full?") from None
    finally:
        half.unlink(missing_ok=True)


def load(path: Path | str, device: torch.device | str = "auto", precision: str | None = None) -> Detector:
    """The detector in a weights file, ready to detect.

    Args:
        path: a .safetensors file that rcnnkit wrote.
        device: "auto" takes a GPU where there is one.
        precision: None leaves the detector as it was trained, in float32, to train or save it again. "auto", "float32",
            "bf16" and "fp16" make it faster for detecting alone; see `rcnnkit.inference.prepare`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file cut in half, of another kind, or of a later format; no such device or precision.
    """
    about, tensors = read(path)
    if about.get("detector") == "classifier":
        raise ValueError(
            f"{path} holds a classifier; read it with rcnnkit.weights.load_classifier, or train a detector from it with"
            f" train.init={path}"
        )
    detector = _filled(about, tensors, path)
    assert isinstance(detector, Detector)
    detector = detector.to(pick_device(device)).eval()
    return detector if precision is None else prepare(detector, precision)


def load_classifier(path: Path | str, device: torch.device | str = "auto") -> Classifier:
    """The classifier in a weights file, ready to classify. Raises as `load` does."""
    about, tensors = read(path)
    if about.get("detector") != "classifier":
        raise ValueError(f"{path} holds a detector; read it with rcnnkit.load")
    classifier = _filled(about, tensors, path)
    assert isinstance(classifier, Classifier)
    return classifier.to(pick_device(device)).eval()


def _filled(about: dict[str, Any], tensors: dict[str, Tensor], path: Path | str) -> Detector | Classifier:
    try:
        # Every weight is in the file, so nothing is to be fetched.
        about["settings"]["model"]["pretrained"] = False
        settings = DetectorSettings.model_validate(about["settings"])
        detector = build(settings, about["class_names"], about["category_ids"])
        detector.load_state_dict({n: t for n, t in tensors.items() if not n.startswith(TRAINING)})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold the detector it describes ({error}); save it again") from None
    return detector


def read(path: Path | str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a weights file says of itself, and all its tensors. Raises as `load` does."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole .safetensors file ({error}); copy it again."
            " Pickled weights (.pt, .pth) are not read: they can run code"
        ) from None
    try:
        about = json.loads(metadata["rcnnkit"])
        if about["format"] > FORMAT:
            raise ValueError(f"{path} has format {about['format']}, this rcnnkit reads up to {FORMAT}; upgrade rcnnkit")
    except (KeyError, TypeError, json.JSONDecodeError):
        raise ValueError(f"{path} was not written by rcnnkit: its metadata describes no detector") from None
    if about["format"] == 1:
        for old, new in RENAMED.items():
            tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    return about, tensors


def pick_device(device: torch.device | str = "auto") -> torch.device:
    """The device of that name; "auto" is a GPU where there is one.

    Raises:
        ValueError: there is no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
        torch.empty(0, device=picked)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f'device "{device}" cannot be used ({str(error).splitlines()[0]}); try "auto" or "cpu"'
        ) from None
    return picked


def from_torchvision(model: TorchvisionFasterRCNN, class_names: list[str]) -> tuple[FasterRCNN, DetectorSettings]:
    """torchvision's `fasterrcnn_resnet*_fpn` (first version) as ours, with the same answers.

    torchvision's class 0 is background and stands last here; its class c is our label c - 1.

    Args:
        model: a `FasterRCNN` on `resnet_fpn_backbone`, with TwoMLPHead and FastRCNNPredictor.
        class_names: without background; repeated ones get a number.

    Returns:
        The detector in eval mode, and the settings it was built with, for `save`.

    Raises:
        ValueError: a model of another architecture, or another number of classes.
    """
    settings = _torchvision_settings(model)
    # torchvision's COCO weights call ten unused ids "N/A"
    class_names = [
        name if class_names.count(name) == 1 else f"{name} {i}" for i, name in enumerate(class_names, start=1)
    ]
    head = model.roi_heads.box_predictor
    if head.cls_score.out_features != len(class_names) + 1:
        raise ValueError(
            f"the model knows {head.cls_score.out_features - 1} classes, {len(class_names)} names were given"
        )
    detector = build(settings, class_names)
    source = model.state_dict()
    parts = torchvision_parts(len(model.rpn.head.conv))
    state = {}
    for name, value in source.items():
        theirs = next((part for part in parts if name.startswith(part + ".")), None)
        if theirs is None:
            raise ValueError(f"{name} has no place in a Faster R-CNN with a ResNet and an FPN")
        state[parts[theirs] + name[len(theirs) :]] = value
    for kind in ("weight", "bias"):
        state[f"head.scores.{kind}"] = state[f"head.scores.{kind}"].roll(-1, dims=0)  # background: first → last
        state[f"head.deltas.{kind}"] = state[f"head.deltas.{kind}"][4:]  # background has no box
    detector.load_state_dict(state)
    assert isinstance(detector, FasterRCNN)
    return detector.eval(), settings


def torchvision_parts(convs: int) -> dict[str, str]:
    """torchvision's name of each part of a Faster R-CNN with a ResNet and an FPN → ours.

    Args:
        convs: 3×3 convolutions of the RPN.
    """
    stages = {"conv1": "stem.0", "bn1": "stem.1"} | {f"layer{i + 1}": f"stages.{i}" for i in range(4)}
    parts = {f"backbone.body.{theirs}": f"backbone.body.{ours}" for theirs, ours in stages.items()}
    for i in range(4):
        parts[f"backbone.fpn.inner_blocks.{i}"] = f"backbone.lateral.{i}"
        parts[f"backbone.fpn.layer_blocks.{i}"] = f"backbone.output.{i}"
    parts |= {"rpn.head.cls_logits": "rpn.objectness", "rpn.head.bbox_pred": "rpn.deltas"}
    parts |= {f"rpn.head.conv.{i}.0": f"rpn.convs.{2 * i}" for i in range(convs)}
    parts |= {"roi_heads.box_head.fc6": "head.features.fc6", "roi_heads.box_head.fc7": "head.features.fc7"}
    parts |= {
        "roi_heads.box_predictor.cls_score": "head.scores",
        "roi_heads.box_predictor.bbox_pred": "head.deltas",
    }
    return parts


def _torchvision_settings(model: TorchvisionFasterRCNN) -> DetectorSettings:
    blocks: dict[tuple[int, ...], str] = {
        (2, 2, 2, 2): "resnet18",
        (3, 4, 6, 3): "resnet34",
        (3, 4, 23, 3): "resnet101",
    }
    try:
        body, rpn, heads, transform = model.backbone.body, model.rpn, model.roi_heads, model.transform
        depth = tuple(len(body[f"layer{i}"]) for i in range(1, 5))
        bottleneck = hasattr(body["layer1"][0], "conv3")
        name = "resnet50" if depth == (3, 4, 6, 3) and bottleneck else blocks[depth]
        frozen = type(body["bn1"]).__name__ == "FrozenBatchNorm2d"
        convs = sum(isinstance(m, nn.Conv2d) for m in rpn.head.conv.modules())
        return DetectorSettings.model_validate(
            {
                "model": {
                    "backbone": name,
                    "norm": "frozen" if frozen else "batch",
                    "fpn_channels": model.backbone.out_channels,
                    "pool_size": heads.box_roi_pool.output_size[0],
                    "sampling_ratio": heads.box_roi_pool.sampling_ratio,
                },
                "rpn": {
                    "anchor_sizes": [list(sizes) for sizes in rpn.anchor_generator.sizes],
                    "anchor_ratios": list(rpn.anchor_generator.aspect_ratios[0]),
                    "convs": convs,
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
                },
                "head": {
                    "hidden": heads.box_head.fc6.out_features,
                    "foreground_iou": heads.proposal_matcher.high_threshold,
                    "background_iou": heads.proposal_matcher.low_threshold,
                    "samples": heads.fg_bg_sampler.batch_size_per_image,
                    "foreground_share": heads.fg_bg_sampler.positive_fraction,
                    "delta_weights": heads.box_coder.weights,
                    "score_threshold": heads.score_thresh,
                    "nms_iou": heads.nms_thresh,
                    "max_detections": heads.detections_per_img,
                },
                "input": Preprocessing(
                    short_side=transform.min_size[-1],
                    long_side=transform.max_size,
                    mean=tuple(transform.image_mean),
                    std=tuple(transform.image_std),
                    divisor=transform.size_divisible,
                ),
            }
        )
    except (AttributeError, KeyError) as error:
        raise ValueError(f"not torchvision's Faster R-CNN with a ResNet and an FPN: {error!r}") from None
