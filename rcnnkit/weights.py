"""Weights on disk: one .safetensors file that says itself what it is. Loading never unpickles."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rcnnkit.backbones.classifier import Classifier
from rcnnkit.defaults import DEVICE, PRECISION
from rcnnkit.detectors.aligner import Aligner
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import build, title_of
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.files import check_regular, whole
from rcnnkit.inference import AnyDetector, prepare
from rcnnkit.model import Model

FORMAT = 3
# How names of tensors begin in files up to each format, and in later ones.
RENAMED = {
    1: {"head.features.1.": "head.features.fc6.", "head.features.3.": "head.features.fc7."},
    2: {
        "rpn.objectness.": "rpn.objectness_layer.",
        "rpn.deltas.": "rpn.delta_layer.",
        "head.features.": "head.layers.",
        "head.scores.": "head.score_layer.",
        "head.deltas.": "head.delta_layer.",
        "head.svms.": "head.svm_layer.",
        "backbone.head.": "backbone.layers.",
        "classifier.": "score_layer.",
    },
}
TRAINING = "training/"  # tensors under this name continue a run; `load` leaves them alone
ABOUT = {"settings": dict, "class_names": list, "category_ids": list, "training": dict}  # what a file says of itself


def save(
    detector: Model,
    settings: DetectorSettings | None,
    path: Path | str,
    training: Mapping[str, Any] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a detector or classifier atomically.

    Args:
        settings: that the detector was built with; None for one that no settings describe, such as one on a backbone of
            your own. `load` then fills a detector that you build again: rcnnkit.load(path, into=detector).
        path: of the .safetensors file; replaced if it is there.
        training: how it was trained, anything that JSON can hold.
        state: tensors that continue the training.

    Raises:
        ValueError: the detector only detects; or `build` makes other tensors from these settings.
        OSError: the file cannot be written.
    """
    write(*contents(detector, settings, training, state), path)


def contents(
    detector: Model,
    settings: DetectorSettings | None,
    training: Mapping[str, Any] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save` writes, and raises ValueError for: tensors, which are not copied, and what is said about them."""
    if detector.only_detects:
        raise ValueError(
            "a detector that only detects cannot be saved; save the one that it was made from, such as"
            " rcnnkit.load(file, for_training=True)"
        )
    own = detector.lasting_state()
    if settings is None:
        if isinstance(detector, Classifier):
            raise ValueError("a classifier is saved with the settings that it was built from, not with settings=None")
        sections = {"input": detector.preprocessing.model_dump(mode="json")}
    else:
        sections = {name: getattr(settings, name).model_dump(mode="json") for name in DetectorSettings.model_fields}
        sections["proposals"]["folder"] = None  # of the machine it was trained on
        built = _built(json.dumps(sections), detector.class_names)
        if differences := _differences(own, "the detector", built, "what they build"):
            raise ValueError(
                f"these settings build another detector: {differences}; save it with the settings that it was built"
                " from. One that you built yourself is saved with settings=None, and loaded with"
                " rcnnkit.load(path, into=detector)"
            )
    about = {
        "format": FORMAT,
        "kind": detector.kind,
        "settings": sections,
        "class_names": list(detector.class_names),
        "category_ids": list(detector.category_ids),
        "training": dict(training or {}),
        "origin": dict(detector.origin or {}),
    }
    return own | {TRAINING + name: value for name, value in (state or {}).items()}, about


def write(tensors: Mapping[str, Tensor], about: Mapping[str, Any], path: Path | str) -> None:
    """Write `contents` atomically. Raises OSError."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # One memory order: a file should not tell on which machine it was made.
    ordered = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole(path) as half:
        save_file(ordered, half, {"rcnnkit": json.dumps(about)})


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
    settings = DetectorSettings.of_weights(about["settings"])
    changed = settings.model_copy(update={"head": settings.head.model_copy(update=head)})
    save(detector, changed, out, about["training"] | dict(training or {}))


@functools.lru_cache(maxsize=4)  # as a training saves the same detector again and again
def _built(settings: str, class_names: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors, on the meta device, of what `build` makes from settings in JSON."""
    with torch.device("meta"):
        return dict(build(DetectorSettings.of_weights(json.loads(settings)), class_names).state_dict())


def _differences(
    first_tensors: Mapping[str, Tensor], first: str, second_tensors: Mapping[str, Tensor], second: str
) -> str:
    """Which tensors of two detectors are not alike in name, shape or type; "" where all are."""
    lines = [f"{name} is in {first} alone" for name in first_tensors if name not in second_tensors]
    lines += [f"{name} is in {second} alone" for name in second_tensors if name not in first_tensors]
    lines += [
        f"{name} is {_kind(first_tensors[name])} in {first} and {_kind(second_tensors[name])} in {second}"
        for name in first_tensors
        if name in second_tensors and _kind(first_tensors[name]) != _kind(second_tensors[name])
    ]
    return ", ".join(lines[:2]) + (f", and {len(lines) - 2} other tensors" if len(lines) > 2 else "")


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


@overload
def load(
    path: Path | str,
    device: torch.device | str = DEVICE,
    precision: str = PRECISION,
    max_detections: int | None = None,
    *,
    input: Mapping[str, Any] | None = None,
    for_training: bool = False,
    into: None = None,
) -> Detector: ...


@overload
def load(
    path: Path | str,
    device: torch.device | str = DEVICE,
    precision: str = PRECISION,
    *,
    for_training: bool = False,
    into: AnyDetector,
) -> AnyDetector: ...


def load(
    path: Path | str,
    device: torch.device | str = DEVICE,
    precision: str = PRECISION,
    max_detections: int | None = None,
    *,
    input: Mapping[str, Any] | None = None,
    for_training: bool = False,
    into: Detector | None = None,
) -> Detector:
    """The detector in a weights file, in eval mode.

    It is made for detecting alone, which is several times faster; see `rcnnkit.inference.prepare`. Such a detector can
    be neither trained nor saved nor moved to another device.

    Args:
        path: a .safetensors file that rcnnkit wrote.
        device: "auto" takes a GPU where there is one.
        precision: "float32", "bf16" or "fp16", which it computes in; "auto" is bf16 where the machine multiplies in it,
            else float32.
        for_training: gives the detector as it was trained instead, in float32: to train it on (after its `train()`),
            change it, move it or save it.
        max_detections: of a picture (R-CNN: of a class, before suppression), in place of what the weights say; 0: no
            limit. Where it asks for more, there are more proposals too; see `DetectorSettings.with_max_detections`.
        input: settings of [input] in place of those that the weights keep, such as {"tile": 640}.
        into: a detector that you built, which is filled and moved to `device`, in place of one that is built from the
            file's settings. Its tensors, classes, category ids and input.mean and .std must be the file's. With
            `for_training` it is what is returned, otherwise a copy of it that is made for detecting.

    Raises:
        FileNotFoundError: no such file.
        PermissionError: it may not be read.
        ValueError: a folder or device; a file cut in half, of another kind, or of a later format; weights that are NaN
            or infinite; no such device or precision; a precision beside `for_training`; `max_detections` is negative;
            `input` has a setting that there is not, or a value that it cannot have;
            `into` is another detector than the file's, or missing where the file has no settings.
    """
    if max_detections is not None and (type(max_detections) is not int or max_detections < 0):
        raise ValueError(f"max_detections is {max_detections!r}; give a whole number of 1 or more, or 0 for no limit")
    if for_training and precision != PRECISION:
        raise ValueError(
            f"precision={precision!r} is for detecting, and for_training=True gives float32 weights; leave one of them"
            " out. To train in half precision, set train.precision, or call losses within torch.autocast"
        )
    about, tensors = read(path)
    if about["kind"] == "classifier":
        raise ValueError(
            f"{path} holds a classifier; read it with rcnnkit.weights.load_classifier, or train a detector from it with"
            f" train.init={path}"
        )
    if about["kind"] == Aligner.kind:
        raise ValueError(
            f"{path} holds an aligner, for `rcnnkit ground` and `rcnnkit search`; read it with"
            " rcnnkit.weights.load_aligner, or give the weights of the detector that it was trained on"
        )
    if into is None:
        detector = _filled(about, tensors, path, max_detections, input)
        assert isinstance(detector, Detector)
    else:
        if max_detections is not None:
            raise ValueError(f"max_detections={max_detections} is not for `into`, which has its own; set it there")
        if input:
            raise ValueError("input is not for `into`, which has a preprocessing of its own; change it there")
        detector = _fill(into, about, tensors, path)
    detector = detector.to(pick_device(device)).eval()
    return detector if for_training else prepare(detector, precision)


def load_classifier(path: Path | str, device: torch.device | str = DEVICE) -> Classifier:
    """The classifier in a weights file, ready to classify. Raises as `load` does."""
    about, tensors = read(path)
    if about["kind"] != "classifier":
        aligner = "an aligner; read it with rcnnkit.weights.load_aligner"
        raise ValueError(
            f"{path} holds {aligner if about['kind'] == Aligner.kind else 'a detector; read it with rcnnkit.load'}"
        )
    classifier = _filled(about, tensors, path)
    assert isinstance(classifier, Classifier)
    return classifier.to(pick_device(device)).eval()


def load_aligner(path: Path | str, device: torch.device | str = DEVICE, precision: str = PRECISION) -> Aligner:
    """The aligner in a weights file, ready to ground sentences; its detector is made for detecting alone.

    Args:
        precision: "float32", "bf16" or "fp16", which the detector computes in; as of `load`.

    Raises as `load` does.
    """
    about, tensors = read(path)
    if about["kind"] != Aligner.kind:
        raise ValueError(
            f"{path} holds a {title_of(about['kind'])}, and sentences need an aligner; make one on a detector with"
            " `rcnnkit align`"
        )
    aligner = _filled(about, tensors, path)
    assert isinstance(aligner, Aligner)
    aligner = aligner.to(pick_device(device)).eval()
    aligner.detector = prepare(aligner.detector, precision)
    return aligner


def needs_into(settings: dict[str, Any]) -> bool:
    """Whether these settings of a weights file are of a detector that was saved without any, but for its pixels."""
    return settings.keys() == {"input"}


def _fill(detector: Detector, about: dict[str, Any], tensors: dict[str, Tensor], path: Path | str) -> Detector:
    """The detector with the file's tensors, all of which must fit."""
    if detector.only_detects:
        raise ValueError("`into` only detects; give the detector as you built it")
    own = detector.preprocessing.model_dump(mode="json")
    try:
        pairs = {
            "classes": (about["class_names"], list(detector.class_names)),
            "category ids": (about["category_ids"], list(detector.category_ids)),
            **{f"input.{name}": (about["settings"]["input"][name], own[name]) for name in ("mean", "std")},
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} does not describe its detector (it has no {error}); save it again") from None
    weights = {name: tensor for name, tensor in tensors.items() if not name.startswith(TRAINING)}
    differences = [
        f"{name} {other} in the detector and {one} in the file" for name, (one, other) in pairs.items() if one != other
    ]
    differences += filter(None, [_differences(detector.lasting_state(), "the detector", weights, "the file")])
    if differences:
        listed = "; ".join(differences)
        raise ValueError(f"{path} holds another detector than `into`: {listed}; build it as it was saved")
    detector.load_state_dict(weights, strict=False)  # parts that only train are in no file
    detector.origin = about.get("origin")
    return detector


def _filled(
    about: dict[str, Any],
    tensors: dict[str, Tensor],
    path: Path | str,
    max_detections: int | None = None,
    input: Mapping[str, Any] | None = None,
) -> Model:
    if needs_into(about["settings"]):
        raise ValueError(
            f"{path} holds a {title_of(about['kind'])} that no settings describe; build it as it was saved, and fill it"
            f' with rcnnkit.load("{path}", into=detector)'
        )
    try:
        settings = DetectorSettings.of_weights(about["settings"])
        if max_detections is not None:
            settings = settings.with_max_detections(max_detections)
    except (KeyError, TypeError, ValueError) as error:
        raise _undescribed(path, error) from None
    settings = settings.with_input(input) if input else settings
    try:
        detector = build(settings, about["class_names"], about["category_ids"])
        detector.load_state_dict({n: t for n, t in tensors.items() if not n.startswith(TRAINING)})
        detector.origin = about.get("origin")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _undescribed(path, error) from None
    return detector


def _undescribed(path: Path | str, error: Exception) -> ValueError:
    return ValueError(f"{path} does not hold the detector it describes ({error}); save it again")


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
    return about, {_renamed(name, about["format"]): tensor for name, tensor in tensors.items()}


def _renamed(name: str, format: int) -> str:
    """What a tensor of a file of that format is called now; what continues a run has the name behind a slash."""
    kind, slash, name = name.rpartition("/")
    for last, names in RENAMED.items():
        if format <= last:
            name = next((new + name.removeprefix(old) for old, new in names.items() if name.startswith(old)), name)
    return kind + slash + name


def check_finite(tensors: Mapping[str, Tensor], path: Path | str) -> None:
    """Raise ValueError if a tensor of a weights file holds NaN or infinity."""
    # A sum takes a tenth of the time of looking at every value. It may overflow, so that decides nothing.
    suspects = {name: tensor for name, tensor in tensors.items() if not tensor.sum().isfinite()}
    bad = {name: int((~tensor.isfinite()).sum()) for name, tensor in suspects.items()}
    bad = {name: count for name, count in bad.items() if count}
    if bad:
        first = next(iter(bad))
        remainder = f", and so do {len(bad) - 1} other tensors" if len(bad) > 1 else ""
        raise ValueError(
            f"{path} holds NaN or infinite weights: {bad[first]:,} of the {tensors[first].numel():,} values of {first}"
            f"{remainder}; its training diverged, so take an earlier checkpoint, or train again with a lower"
            " train.lr_for_16"
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
    model = about["settings"].get("model") if isinstance(about.get("settings"), dict) else None
    names = model if isinstance(model, dict) else {}
    about.setdefault("kind", names.get("kind", names.get("detector", "faster_rcnn")))  # format 1 had no other
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
