"""A run on disk: enough to continue it."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rcnnkit import weights
from rcnnkit.config import Settings
from rcnnkit.files import whole
from rcnnkit.model import Model
from rcnnkit.training.optimizers import STATE
from rcnnkit.training.writing import Writer

LAST, BEST = "last.safetensors", "best.safetensors"
PREVIOUS = "previous.safetensors"  # the checkpoint before the last one
AVERAGE = "average"  # of the weights, among what continues a run, as is …
PASSING = "passing"  # … what only trains
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
    stale: int = 0  # evaluations since the best
    processes: int = 1  # that train together


def save_checkpoint(
    run: Path,
    detector: Model,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    progress: Progress,
    average: Model | None = None,
    writer: Writer | None = None,
) -> Path:
    """Write run/last.safetensors atomically: weights, what the optimizer keeps of them, their average, and progress.

    Parts that only train, such as an adversary, are in it as what continues a run, and in no other file.

    The one before it stays as run/previous.safetensors, unless the file system knows no hard links.

    Args:
        writer: does it beside what comes next; by default the file is there on return.
    """
    state = {
        f"{kind}/{name}": optimizer.state[parameter][key]
        for name, parameter in detector.named_parameters()
        for key, kind in STATE[type(optimizer)].items()
        if optimizer.state.get(parameter, {}).get(key) is not None
    }
    lasting = detector.lasting_state()
    state |= {f"{PASSING}/{name}": value for name, value in detector.state_dict().items() if name not in lasting}
    if average is not None:
        state |= {f"{AVERAGE}/{name}": value for name, value in average.state_dict().items()}
    tensors, about = weights.contents(detector, settings, asdict(progress), state)
    if writer is None:
        _write(tensors, about, run)
    else:
        writer.write(tensors, partial(_write, about=about, run=run))
    return run / LAST


def _write(tensors: Mapping[str, Tensor], about: Mapping[str, Any], run: Path) -> None:
    with suppress(OSError):
        if (run / LAST).exists():
            with whole(run / PREVIOUS) as half:
                half.unlink()
                half.hardlink_to(run / LAST)
    weights.write(tensors, about, run / LAST)


def load_checkpoint(
    path: Path, detector: Model, optimizer: torch.optim.Optimizer, average: Model | None = None
) -> Progress:
    """Continue from a file of `save_checkpoint`. An average that is not in it begins with its weights.

    Raises:
        FileNotFoundError, ValueError: as `weights.load`, or weights that carry no training state or a damaged one,
            or of a detector with other settings or classes.
    """
    about, tensors = weights.read(path)
    if not asdict(Progress()).keys() - {"evaluated", "scale_steps", "stale", "processes"} <= about["training"].keys():
        raise ValueError(f"{path} holds weights only; to start from them use train.init, not train.resume")
    if about["class_names"] != list(detector.class_names):
        raise ValueError(
            f"{path} was trained on the classes {', '.join(about['class_names'])}, the data has"
            f" {', '.join(detector.class_names)}; to start from its weights use train.init, not train.resume"
        )
    progress = _progress(about["training"], path)
    passing = f"{weights.TRAINING}{PASSING}/"
    state = {
        name.removeprefix(passing): tensor
        for name, tensor in tensors.items()
        if name.startswith(passing) or not name.startswith(weights.TRAINING)
    }
    own = detector.state_dict()
    mismatches = [
        n for n in own.keys() | state.keys() if n not in own or n not in state or not _alike(own[n], state[n])
    ]
    if mismatches:
        raise ValueError(
            f"{path} was made with other settings: {len(mismatches)} of its tensors, such as {min(mismatches)}, are not"
            " those of this detector; continue with the run's own settings.toml"
        )
    parameters = dict(detector.named_parameters())
    optimizer_state = {
        (key, name): (kind, tensors[place])
        for key, kind in STATE[type(optimizer)].items()
        for name in parameters
        if (place := f"{weights.TRAINING}{kind}/{name}") in tensors
    }
    averaged = {name: tensors.get(f"{weights.TRAINING}{AVERAGE}/{name}", state[name]) for name in own}
    entries = [
        (kind, name, parameters[name], value) for (key, name), (kind, value) in optimizer_state.items() if key != "step"
    ]
    for kind, name, weight, value in [*entries, *((AVERAGE, name, own[name], averaged[name]) for name in own)]:
        if not _alike(weight, value):
            raise ValueError(
                f"{path} holds a {kind} of {name} that is {_kind(value)}, not {_kind(weight)} as the weight itself;"
                f" {ELSE}"
            )
    weights.check_finite(state, path)
    weights.check_finite({name: value for (_, name), (_, value) in optimizer_state.items()}, path)
    # Nothing is changed before all of it was found to fit.
    detector.load_state_dict(state)
    detector.origin = about.get("origin")
    for (key, name), (_, value) in optimizer_state.items():
        # In the weight's order in memory: fused steps go through both as they lie.
        device = parameters[name].device if optimizer.defaults["fused"] else torch.device("cpu")
        like = parameters[name] if key != "step" else torch.zeros((), device=device)
        optimizer.state[parameters[name]][key] = torch.empty_like(like).copy_(value)
    if average is not None:
        average.load_state_dict(averaged)
        average.origin = detector.origin
    return progress


def _progress(training: Mapping[str, Any], path: Path) -> Progress:
    """What a file says of its training. Raises ValueError for numbers that are none."""
    values = {}
    for field in fields(Progress):
        values[field.name] = value = training.get(field.name, field.default)
        whole = isinstance(field.default, int)
        number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        # Scores may lie below 0, and gradients scaled by 0 are lost.
        least = {"best_ap": -math.inf, "loss_scale": math.ulp(0.0)}.get(field.name, 0)
        if not number or not math.isfinite(value) or value < least:
            expected = "a whole number from 0" if whole else "a finite number" + " above 0" * (least > 0)
            raise ValueError(f"{path} says that its {field.name} is {reprlib.repr(value)}, expected {expected}; {ELSE}")
    return Progress(**values)


def _alike(one: Tensor, other: Tensor) -> bool:
    return (one.shape, one.dtype) == (other.shape, other.dtype)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
