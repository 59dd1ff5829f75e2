"""torchvision's classification networks as ours, with the same answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from rcnnkit.backbones.classifier import Classifier
from rcnnkit.backbones.imagenet import imagenet_normalisation
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.importing.class_names import other_number
from rcnnkit.importing.resnets import resnet_name
from rcnnkit.importing.tensors import transfer

CONVOLUTIONS = {5: "alexnet", 13: "vgg16", 16: "vgg19"}  # how many


def classifier_from_torchvision(
    state: Mapping[str, Tensor],
    class_names: Sequence[str],
    preset: Any = None,
    source: str = "it",
) -> tuple[Classifier, DetectorSettings]:
    """torchvision's AlexNet, VGG16, VGG19, GoogLeNet or ResNet as a classifier of ours.

    Args:
        state: under torchvision's names. The auxiliary classifiers of a GoogLeNet are left out.
        class_names: K of them.
        preset: torchvision's `ImageClassification` that goes with the weights; by default the one of its first
            versions: shorter side 256, of which 224. A GoogLeNet's pixels are those of torchvision's weights, which
            its `transform_input` makes.
        source: named in errors.

    Returns:
        The classifier in eval mode, and the settings it was built with, for `rcnnkit.weights.save`.

    Raises:
        ValueError: another network, or another number of classes.
    """
    state = {name: value for name, value in state.items() if not re.match(r"aux[12]\.", name)}
    backbone = _backbone(state, source)
    mean, std = imagenet_normalisation(backbone)
    settings = DetectorSettings.model_validate(
        {
            # "batch" loses nothing: detectors with frozen norms start from these too.
            "model": {"kind": "classifier", "backbone": backbone} | ({} if _plain(backbone) else {"norm": "batch"}),
            "classifier": {} if preset is None else {"resize": preset.resize_size[0], "crop": preset.crop_size[0]},
            "input": {"mean": mean, "std": std},
        }
    )
    last = "fc" if not _plain(backbone) else "classifier.6"
    if (rows := state.get(f"{last}.weight")) is not None and len(rows) != len(class_names):
        raise other_number(source, len(rows), len(class_names))
    classifier = build(settings, class_names)
    assert isinstance(classifier, Classifier)
    transfer(state, _places(backbone, state, classifier), classifier, source)
    return classifier.eval(), settings


def _plain(backbone: str) -> bool:
    """Whether it is convolutions, fc6 and fc7, without norms."""
    return backbone in CONVOLUTIONS.values()


def _convolutions(state: Mapping[str, Tensor]) -> list[str]:
    weights = [name for name, value in state.items() if value.ndim == 4]  # norms have 1
    return [name.removesuffix(".weight") for name in weights if re.fullmatch(r"features\.\d+\.weight", name)]


def _backbone(state: Mapping[str, Tensor], source: str) -> str:
    if "inception3a.branch1.conv.weight" in state:
        return "googlenet"
    normed = any(re.fullmatch(r"features\.\d+\.running_mean", name) for name in state)  # torchvision's vgg16_bn, …
    if not normed and (name := CONVOLUTIONS.get(len(_convolutions(state)))):
        return name
    if name := resnet_name(state, "layer{}", first=1):
        return name
    names = ", ".join(list(state)[:5])
    raise ValueError(
        f"{source} is no AlexNet, VGG16, VGG19, GoogLeNet or ResNet-18 to 152 of torchvision; its weights begin with"
        f" {names}"
    )


def _places(backbone: str, state: Mapping[str, Tensor], classifier: Classifier) -> dict[str, str]:
    """Of torchvision's modules in ours."""
    body = "backbone.body"
    if backbone == "googlenet":
        stages = {"conv1": 0, "conv2": 1, "conv3": 1} | {
            f"inception{stage + 1}{letter}": stage for stage in (2, 3, 4) for letter in "abcde"
        }
        return {name: f"{body}.stages.{stage}.{name}" for name, stage in stages.items()} | {"fc": "score_layer"}
    if not _plain(backbone):
        stem = {"conv1": f"{body}.stem.0", "bn1": f"{body}.stem.1", "fc": "score_layer"}
        return stem | {f"layer{i + 1}": f"{body}.stages.{i}" for i in range(4)}
    layers = classifier.get_submodule(body).named_modules()
    ours = [f"{body}.{name}" for name, layer in layers if isinstance(layer, nn.Conv2d)]
    first = 1 if backbone == "alexnet" else 0  # AlexNet's dropout comes before the layers
    fully_connected = {f"classifier.{first}": "backbone.layers.fc6", f"classifier.{first + 3}": "backbone.layers.fc7"}
    convolutions = dict(zip(_convolutions(state), ours, strict=True))
    return convolutions | fully_connected | {"classifier.6": "score_layer"}
