"""A run on disk: enough to continue it."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rcnnkit import weights
from rcnnkit.config import Settings
from rcnnkit.model import Model

LAST, BEST = "last.safetensors", "best.safetensors"
ELSE = "continue from another checkpoint, or start from its weights with train.init"


@dataclass
class Progress:
    """How far a run has come."""

    iteration: int = 0  # iterations done
    best_ap: float = -1.0  # on the validation pictures; of a classifier, the top-1 accuracy
    seconds: float = 0.0  # spent training, without evaluation
    loss_scale: float = 65536.0  # fp16's
    scale_steps: int = 0  # since it last changed
    evaluated: int = 0  # iterations done when it was last evaluated


def save_checkpoint(
    run: Path, detector: Model, optimizer: torch.optim.SGD, settings: Settings, progress: Progress
) -> Path:
    """Write run/last.safetensors, whole or not at all: weights, momentum and progress."""
    momentum = {
        f"momentum/{name}": optimizer.state[parameter]["momentum_buffer"]
        for name, parameter in detector.named_parameters()
        if optimizer.state.get(parameter, {}).get("momentum_buffer") is not None
    }
    weights.save(detector, settings, run / LAST, asdict(progress), momentum)
    return run / LAST


def load_checkpoint(path: Path, detector: Model, optimizer: torch.optim.SGD) -> Progress:
    """Continue from a file of `save_checkpoint`.

    Raises:
        FileNotFoundError, ValueError: as `weights.load`, or weights that carry no training state or a damaged one,
            or of a detector with other settings or classes.
    """
    about, tensors = weights.read(path)
    if not asdict(Progress()).keys() - {"evaluated", "scale_steps"} <= about["training"].keys():
        raise ValueError(f"{path} holds weights only; to start from them use train.init, not train.resume")
    if about["class_names"] != list(detector.class_names):
        raise ValueError(
            f"{path} was trained on the classes {', '.join(about['class_names'])}, the data has"
            f" {', '.join(detector.class_names)}; to start from its weights use train.init, not train.resume"
        )
    progress = _progress(about["training"], path)
    state = {n: t for n, t in tensors.items() if not n.startswith(weights.TRAINING)}
    own = detector.state_dict()
    other = [n for n in own.keys() | state.keys() if n not in own or n not in state or not _alike(own[n], state[n])]
    if other:
        raise ValueError(
            f"{path} was made with other settings: {len(other)} of its tensors, such as {min(other)}, are not those of"
            " this detector; continue with the run's own settings.toml"
        )
    parameters = dict(detector.named_parameters())
    stored = {name: tensors.get(f"{weights.TRAINING}momentum/{name}") for name in parameters}
    momentum = {name: buffer for name, buffer in stored.items() if buffer is not None}
    for name, buffer in momentum.items():
        if not _alike(parameters[name], buffer):
            raise ValueError(
                f"{path} holds a momentum of {name} that is {_kind(buffer)}, not {_kind(parameters[name])} as the"
                f" weight itself; {ELSE}"
            )
    weights.check_finite(momentum, path)
    # Nothing is changed before all of it was found to fit.
    detector.load_state_dict(state)
    detector.origin = about.get("origin")
    for name, buffer in momentum.items():
        optimizer.state[parameters[name]]["momentum_buffer"] = buffer.to(parameters[name].device)
    return progress


def _progress(training: Mapping[str, Any], path: Path) -> Progress:
    """What a file says of its training. Raises ValueError for numbers that are none."""
    said = {}
    for field in fields(Progress):
        said[field.name] = value = training.get(field.name, field.default)
        whole = isinstance(field.default, int)
        number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        # Scores may lie below 0, and gradients scaled by 0 are lost.
        least = {"best_ap": -math.inf, "loss_scale": math.ulp(0.0)}.get(field.name, 0)
        if not number or not math.isfinite(value) or value < least:
            expected = "a whole number from 0" if whole else "a finite number" + " above 0" * (least > 0)
            raise ValueError(f"{path} says that its {field.name} is {reprlib.repr(value)}, expected {expected}; {ELSE}")
    return Progress(**said)


def _alike(one: Tensor, other: Tensor) -> bool:
    return (one.shape, one.dtype) == (other.shape, other.dtype)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
