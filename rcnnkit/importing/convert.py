"""Weights from elsewhere → a weights file of ours, which gives the source's own answers."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor
from torchvision.models import ResNet50_Weights, WeightsEnum

from rcnnkit import weights
from rcnnkit.backbones.classifier import Classifier
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.downloads import cached, fetch
from rcnnkit.files import check_new
from rcnnkit.importing.class_names import names_needed
from rcnnkit.importing.detectron2 import class_count, from_detectron2
from rcnnkit.importing.sources import Source, find
from rcnnkit.importing.tensors import read_tensors, unwrapped
from rcnnkit.importing.torchvision_classifiers import classifier_from_torchvision
from rcnnkit.importing.torchvision_detectors import COCO, NO_CLASS, from_torchvision_state

log = logging.getLogger(__name__)


def import_cached(entry: WeightsEnum) -> Path:
    """A detector of torchvision's as a weights file of ours, fetched and imported once, beside torchvision's own file.

    Raises:
        OSError: it cannot be downloaded, or is damaged.
    """
    out = cached(entry).with_suffix(".safetensors")
    if not out.exists():
        import_weights(str(fetch(entry)), out)
    return out


def import_weights(
    source: str,
    out: Path | str,
    class_names: Sequence[str] | None = None,
    licence: str | None = None,
    norm_eps: float | None = None,
) -> None:
    """Write the weights of `source` as a weights file of ours.

    Args:
        source: the name of torchvision's weights, such as "FasterRCNN_ResNet50_FPN_Weights.COCO_V1" or
            "ResNet50_Weights.IMAGENET1K_V2", a file of detectron2's model zoo, or one of your own training with such a
            network.
        out: the new .safetensors file.
        class_names: without background, in the source's order, where the source does not say them; "N/A", of
            torchvision's detectors alone, for a class that is never to be found.
        licence: of the weights, to be kept in the file; by default what is known of it.
        norm_eps: of batch norms, where the source is a file of a detector of torchvision's: 0 for what was fine-tuned
            from its `FasterRCNN_ResNet50_FPN_Weights.COCO_V1`, which no file says; 1e-5 by default.

    Raises:
        FileExistsError: `out` is there.
        FileNotFoundError, OSError: no such source, or it cannot be downloaded.
        ValueError: it is damaged, asks to run code, or holds something else; the classes have no names.
    """
    out = Path(out)
    check_new(out, ".safetensors")
    found = find(source)
    detector, settings = _converted(read_tensors(found.path), found, class_names, norm_eps)
    detector.origin = found.origin(licence)
    weights.save(detector, settings, out)


def _converted(
    state: Mapping[str, Tensor], source: Source, class_names: Sequence[str] | None, norm_eps: float | None
) -> tuple[Detector | Classifier, DetectorSettings]:
    """By what the tensors are called."""
    state = unwrapped(state)
    version, path = source.weights, str(source.path)
    if any(name.startswith("backbone.body.") for name in state):
        if version is not None:
            # torchvision sets it so for this one alone, after loading it
            own = 0.0 if repr(version) == "FasterRCNN_ResNet50_FPN_Weights.COCO_V1" else 1e-5
            if norm_eps not in (None, own):
                raise ValueError(f"{version!r} was trained with norm_eps = {own:g}, not {norm_eps:g}; leave it out")
            norm_eps = own
        elif norm_eps is None and not any(name.endswith("num_batches_tracked") for name in state):
            log.info(
                "%s: frozen norms are taken to add 1e-5 to variances; if it was trained from torchvision's"
                " FasterRCNN_ResNet50_FPN_Weights.COCO_V1, import it again with --norm-eps 0",
                path,
            )
        return from_torchvision_state(state, class_names, 1e-5 if norm_eps is None else norm_eps, path)
    if norm_eps is not None:
        raise ValueError(f"norm_eps = {norm_eps:g} is for torchvision's detectors, and {path} is not one; leave it out")
    if class_names and NO_CLASS in class_names:
        raise ValueError(
            f'{path} is not a detector of torchvision\'s, and only those may have classes called "{NO_CLASS}"; give'
            " each class a name"
        )
    if any(re.match(r"backbone\.(bottom_up\.)?stem\.conv1\.", name) for name in state):
        names, ids = _coco_or(class_names, class_count(state), path)
        return from_detectron2(state, names, ids, path)
    if class_names is None:
        class_names = _imagenet(state, path)
    return classifier_from_torchvision(state, class_names, version and version.transforms(), path)


def _coco_or(class_names: Sequence[str] | None, count: int, path: str) -> tuple[Sequence[str], Sequence[int]]:
    """The names given, with the ids 1, 2, …; or COCO's, which detectron2 has in the order of their own ids."""
    if class_names is not None:
        return class_names, range(1, len(class_names) + 1)
    coco = {i: name for i, name in enumerate(COCO, start=1) if name != NO_CLASS}
    if count not in (0, len(coco)):
        raise names_needed(path, count)
    return list(coco.values()), list(coco)


def _imagenet(state: Mapping[str, Tensor], path: str) -> Sequence[str]:
    """ImageNet's class names, where there are as many classes."""
    names: Sequence[str] = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    last = [value for name, value in state.items() if name in ("fc.bias", "classifier.6.bias")]
    if last and len(last[0]) != len(names):
        raise names_needed(path, len(last[0]))
    return names
