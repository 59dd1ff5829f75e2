"""Weights on disk: one .safetensors file that says itself what it is. Loading never unpickles."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rcnnkit.backbones.classifier import Classifier
from rcnnkit.defaults import DEVICE
from rcnnkit.detectors.build import build
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.files import check_regular, whole
from rcnnkit.inference import prepare

FORMAT = 2
RENAMED = {"head.features.1.": "head.features.fc6.", "head.features.3.": "head.features.fc7."}  # since format 1
TRAINING = "training/"  # tensors under this name continue a run; `load` leaves them alone
ABOUT = {"settings": dict, "class_names": list, "category_ids": list, "training": dict}  # what a file says of itself


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
        "origin": dict(detector.origin or {}),
    }
    tensors = dict(detector.state_dict()) | {TRAINING + name: value for name, value in (state or {}).items()}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # One memory order: a file should not tell on which machine it was made.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole(path) as half:
        save_file(tensors, half, {"rcnnkit": json.dumps(about)})


def save_changed(
    detector: Detector,
    source: Path | str,
    out: Path | str,
    *,
    head: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write the detector of a weights file once more, after its head has changed.

    Args:
        source: the file that it was loaded from, whose settings and notes of the training go on.
        head: settings of [head] that have changed.
        training: notes to add.

    Raises as `read_shapes` and `save` do.
    """
    about, _ = read_shapes(source)
    settings = DetectorSettings.model_validate(about["settings"])
    changed = settings.model_copy(update={"head": settings.head.model_copy(update=head)})
    save(detector, changed, out, about["training"] | dict(training or {}))


def load(
    path: Path | str,
    device: torch.device | str = DEVICE,
    precision: str | None = None,
    max_detections: int | None = None,
) -> Detector:
    """The detector in a weights file, ready to detect.

    Args:
        path: a .safetensors file that rcnnkit wrote.
        device: "auto" takes a GPU where there is one.
        precision: None leaves the detector as it was trained, in float32, to train or save it again. "auto", "float32",
            "bf16" and "fp16" make it faster for detecting alone; see `rcnnkit.inference.prepare`.
        max_detections: of a picture (R-CNN: of a class, before suppression), in place of what the weights say; 0: no
            limit. Where it asks for more, there are more proposals too; see `rcnnkit.config.with_max_detections`.

    Raises:
        FileNotFoundError: no such file.
        PermissionError: it may not be read.
        ValueError: a folder or device; a file cut in half, of another kind, or of a later format; weights that are NaN
            or infinite; no such device or precision; `max_detections` is negative.
    """
    if max_detections is not None and (type(max_detections) is not int or max_detections < 0):
        raise ValueError(f"max_detections is {max_detections!r}; give a whole number from 1 on, or 0 for no limit")
    about, tensors = read(path)
    if about.get("detector") == "classifier":
        raise ValueError(
            f"{path} holds a classifier; read it with rcnnkit.weights.load_classifier, or train a detector from it with"
            f" train.init={path}"
        )
    detector = _filled(about, tensors, path, max_detections)
    assert isinstance(detector, Detector)
    detector = detector.to(pick_device(device)).eval()
    return detector if precision is None else prepare(detector, precision)


def load_classifier(path: Path | str, device: torch.device | str = DEVICE) -> Classifier:
    """The classifier in a weights file, ready to classify. Raises as `load` does."""
    about, tensors = read(path)
    if about.get("detector") != "classifier":
        raise ValueError(f"{path} holds a detector; read it with rcnnkit.load")
    classifier = _filled(about, tensors, path)
    assert isinstance(classifier, Classifier)
    return classifier.to(pick_device(device)).eval()


def _filled(
    about: dict[str, Any], tensors: dict[str, Tensor], path: Path | str, max_detections: int | None = None
) -> Detector | Classifier:
    try:
        settings = DetectorSettings.of_weights(about["settings"])
        if max_detections is not None:
            settings = settings.with_max_detections(max_detections)
        detector = build(settings, about["class_names"], about["category_ids"])
        detector.load_state_dict({n: t for n, t in tensors.items() if not n.startswith(TRAINING)})
        detector.origin = about.get("origin")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold the detector it describes ({error}); save it again") from None
    return detector


def read(path: Path | str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a weights file says of itself, and all its tensors. Raises as `load` does."""
    with _opened(path) as (about, file):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    wrong = [name for name, kind in ABOUT.items() if not isinstance(about.get(name), kind)]
    if wrong or not all(isinstance(name, str) for name in about["class_names"]):
        raise ValueError(
            f"{path} does not hold the detector it describes (its {(wrong or ['class_names'])[0]} are missing or of"
            " another kind); save it again"
        )
    check_finite({name: tensor for name, tensor in tensors.items() if not name.startswith(TRAINING)}, path)
    if about["format"] == 1:
        for old, new in RENAMED.items():
            tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    return about, tensors


def check_finite(tensors: Mapping[str, Tensor], path: Path | str) -> None:
    """Raise ValueError if a tensor of a weights file holds NaN or infinity."""
    # A sum takes a tenth of the time of looking at every value. It may overflow, so that decides nothing.
    suspects = {name: tensor for name, tensor in tensors.items() if not tensor.sum().isfinite()}
    bad = {name: int((~tensor.isfinite()).sum()) for name, tensor in suspects.items()}
    bad = {name: count for name, count in bad.items() if count}
    if bad:
        first = next(iter(bad))
        others = f", and so do {len(bad) - 1} other tensors" if len(bad) > 1 else ""
        raise ValueError(
            f"{path} holds NaN or infinite weights: {bad[first]:,} of the {tensors[first].numel():,} values of {first}"
            f"{others}; its training diverged, so take an earlier checkpoint, or train again with a lower train.lr"
        )


def read_shapes(path: Path | str) -> tuple[dict[str, Any], dict[str, torch.Size]]:
    """What a weights file says of itself, and its tensors' shapes alone, at once. Raises as `load` does."""
    with _opened(path) as (about, file):
        return about, {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _opened(path: Path | str) -> Iterator[tuple[dict[str, Any], Any]]:
    path = Path(path)
    check_regular(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the file in it")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            yield _about(file.metadata() or {}, path), file
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole .safetensors file ({error}); copy it again."
            " Pickled weights (.pt, .pth) are not read, as they can run code; `rcnnkit import` takes them over"
        ) from None


def _about(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    try:
        about = json.loads(metadata["rcnnkit"])
        if about["format"] > FORMAT:
            raise ValueError(f"{path} has format {about['format']}, this rcnnkit reads up to {FORMAT}; upgrade rcnnkit")
    except (KeyError, TypeError, json.JSONDecodeError, RecursionError):
        raise ValueError(f"{path} was not written by rcnnkit: its metadata describes no detector") from None
    return about


def pick_device(device: torch.device | str) -> torch.device:
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
