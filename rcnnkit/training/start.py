"""What a training begins with: fresh weights, ImageNet's, or another run's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rcnnkit import weights
from rcnnkit.backbones.imagenet import imagenet_origin
from rcnnkit.config import Settings
from rcnnkit.data.class_folders import ClassFolders
from rcnnkit.data.records import Dataset, few
from rcnnkit.detectors.aligner import Aligner
from rcnnkit.detectors.describer import Describer
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.heads.adversary import Adversary
from rcnnkit.model import Model
from rcnnkit.proposals.store import Store
from rcnnkit.training.run import Run
from rcnnkit.training.schedule import TrainSettings

log = logging.getLogger("rcnnkit")

OF_WORDS = ("captioner.language.embed.", "captioner.language.score_layer.")
OF_CLASSES = (
    *("head.score_layer.", "head.delta_layer.", "head.svm_layer.", "head.target_"),
    *("score_layer.", "svm_", "ridge_"),
)
AnyModel = TypeVar("AnyModel", bound=Model)
STARTED = "trained from "  # before the source of weights that a training began with

# What a whole network, R-CNN's or a classifier's, calls layers that another detector has elsewhere: stage 4 of a C4 and
# GoogLeNet's last inceptions, fc6 and fc7 in its head, the others of a single map right in its backbone.
WHOLE_NETWORKS = {
    "backbone.body.stages.3.": "head.layers.0.",
    "backbone.body.stages.4.": "head.layers.",
    "backbone.layers.": "head.layers.",
    "backbone.body.": "backbone.",
}


def start(run: Run, training: Dataset | ClassFolders, kind: type[AnyModel]) -> AnyModel:
    """What is trained, for the classes of `training`, on the run's device: with fresh, ImageNet's or `train.init`'s
    weights, unless a checkpoint will fill it.

    Args:
        kind: what `model.kind` builds.
    """
    settings = run.settings
    # The global generator is what torch's initialisations draw from; it is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.train.seed)
        # a checkpoint holds every weight, so none are fetched
        fresh = settings.model_copy(update={"model": settings.model.model_copy(update={"pretrained": False})})
        model = build(fresh if run.resume else settings, training.class_names, training.category_ids)
    assert isinstance(model, kind)
    if settings.train.init and not run.resume:
        start_from(settings.train.init, model)
    elif settings.model.pretrained and not run.resume:
        model.origin = trained_from(imagenet_origin(settings.model.backbone))
    # The order in memory that convolutions are fastest in, on CPUs with bf16 and on GPUs.
    return model.to(memory_format=torch.channels_last).to(run.device)


def add_adversary(detector: Detector, settings: Settings) -> None:
    """Put the adversary of [adversary] into the detector's head; the detector's own weights are what they were.

    Raises:
        ValueError: it does not fit the detector's maps.
    """
    channels, size = detector.backbone.channels[0], detector.pool.size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.train.seed)
        head: Any = detector.get_submodule("head")
        head.adversary = Adversary(channels, size, settings.adversary).to(detector.device)


def class_weights(options: TrainSettings, training: Dataset | ClassFolders, layer: nn.Linear) -> Tensor | None:
    """`train.class_weights` in the order of the scores that `layer` gives, (outputs,) float32; None where all are 1.

    Raises:
        ValueError: one is of a class that the data does not have.
    """
    if unknown := [name for name in options.class_weights if name not in training.class_names]:
        raise ValueError(
            f"train.class_weights names {few(unknown)}, and {training.name} has the classes"
            f" {few(training.class_names)}; correct the names"
        )
    if not options.class_weights:
        return None
    weights = torch.ones(layer.out_features, device=layer.weight.device)
    for name, weight in options.class_weights.items():
        weights[list(training.class_names).index(name)] = weight
    return weights


def measure_targets(detector: Detector, data: Dataset, store: Store, settings: Settings) -> None:
    """See `BoxHead.measure_targets`; on the pictures as they are, before any augmentation.

    Weights to start from that were trained on measured targets keep theirs.
    """
    assert isinstance(detector, FastRCNN)
    if not detector.head.target_std.eq(1).all():
        return
    count, difficult = settings.proposals.train_count, settings.data.use_difficult
    detector.head.measure_targets(
        (store.read(each.id, each.size, each.path)[:count], each.targets[~each.targets.difficult | difficult])
        for each in data.records
    )


def start_from(path: Path, detector: Model) -> None:
    """Fill a detector from a weights file, as far as names and shapes agree.

    Of a head for other classes, those of the same names are taken over, and background. What was taken, and what starts
    afresh, is logged.

    Raises:
        ValueError: they are an aligner's, nothing of the backbone agrees, or it was trained on pixels normalised
            otherwise; and as `weights.read`.
    """
    about, tensors = weights.read(path)
    if about["kind"] == Aligner.kind:
        raise ValueError(
            f"train.init = {path} holds an aligner, which no detector can start from; give the weights of the detector"
            " that it was trained on"
        )
    _check_pixels(path, about, detector)
    same_kind = (about["kind"] == "classifier") == (detector.kind == "classifier")
    of_classes: dict[str, Tensor] = {}
    if not same_kind or about["class_names"] != list(detector.class_names):
        of_classes = _of_same_classes(about["class_names"], tensors, detector)
        # As many classes by chance, or one more for background, would fit, and mean others.
        tensors = {name: t for name, t in tensors.items() if not name.startswith(OF_CLASSES)}
    if isinstance(detector, Describer) and about["settings"].get("captions", {}).get("words") != list(detector.words):
        tensors = {name: t for name, t in tensors.items() if not name.startswith(OF_WORDS)}
    own = detector.state_dict()
    tensors_taken = {}
    for theirs, tensor in tensors.items():
        for name in _names_for(theirs):
            if name in own and own[name].shape == tensor.shape:
                tensors_taken[name] = tensor
                break
    if not any(name.startswith("backbone.") for name in tensors_taken):
        raise ValueError(f"{path} has no tensor that fits this detector's backbone; is it for another one?")
    detector.load_state_dict(of_classes | tensors_taken, strict=False)
    detector.origin = trained_from(about.get("origin"))
    if names_left := [name for name in own if name not in tensors_taken]:
        names = ", ".join(names_left[:3]) + (", …" if len(names_left) > 3 else "")
        known = [name for name in detector.class_names if name in _common(about["class_names"], detector)]
        but = f", but for the classes of the same names: {few(known)}" if of_classes else ""
        log.info("%s: took %d of %d tensors; these start afresh: %s%s", path, len(tensors_taken), len(own), names, but)


def _common(names: Sequence[str], detector: Model) -> dict[str, int]:
    """The classes of a detector that are among `names`, but for capitals, and their places there."""
    places = {name.casefold(): place for place, name in enumerate(names)}
    return {name: places[name.casefold()] for name in detector.class_names if name.casefold() in places}


def _of_same_classes(names: Sequence[str], tensors: Mapping[str, Tensor], detector: Model) -> dict[str, Tensor]:
    """The detector's last layers with the rows of classes that other weights know under the same name.

    Background's row comes with them. Box targets that were normalised by what was measured on other data are not
    taken over.

    Args:
        names: the classes of the other weights, whose `tensors` these are.
    """
    own, places = detector.state_dict(), _common(names, detector)
    measured = "head.target_std" in own or "head.target_std" in tensors
    layers = {}
    for layer, width in (("head.score_layer", 1), ("head.delta_layer", 4)):
        for part in ("weight", "bias"):
            old, new = tensors.get(f"{layer}.{part}"), own.get(f"{layer}.{part}")
            if not places or old is None or new is None or old.shape[1:] != new.shape[1:] or (measured and width == 4):
                continue
            pairs = [(detector.class_names.index(name), place) for name, place in places.items()]
            if width == 1:
                pairs.append((len(detector.class_names), len(names)))  # background comes after the classes
            elif (len(old), len(new)) != (4 * len(names), 4 * len(detector.class_names)):  # one box for all classes
                continue
            mine, theirs = map(list, zip(*pairs, strict=True))
            rows = new.clone().unflatten(0, (-1, width))
            rows[mine] = old.unflatten(0, (-1, width))[theirs].to(rows)
            layers[f"{layer}.{part}"] = rows.flatten(0, 1)
    return layers


def trained_from(origin: Mapping[str, str] | None) -> dict[str, str]:
    """What becomes of an origin in training: licences go on, and the source is not what the weights are any more."""
    source = (origin or {}).get("source", "")
    return dict(origin or {}) | ({"source": STARTED + source.removeprefix(STARTED)} if source else {})


def _check_pixels(path: Path, about: dict[str, Any], detector: Model) -> None:
    """Raise ValueError where the weights of `path` expect other pixels than the detector will give them."""
    values = detector.preprocessing.model_dump(mode="json")
    before = about["settings"]["input"]
    faults = [
        f"input.{name} = {before[name]}, not {values[name]}" for name in ("mean", "std") if before[name] != values[name]
    ]
    if faults:
        raise ValueError(f"{path} was trained with {'; '.join(faults)}: set the same, so that pixels look the same")


def _names_for(name: str) -> list[str]:
    """What a tensor may be called in a detector: as it is, or else as WHOLE_NETWORKS says."""
    renamed = [new + name.removeprefix(old) for old, new in WHOLE_NETWORKS.items() if name.startswith(old)]
    return [name, *renamed]
