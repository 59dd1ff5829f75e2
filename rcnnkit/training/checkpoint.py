"""A run on disk: enough to continue it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from rcnnkit import weights
from rcnnkit.backbones.classifier import Classifier
from rcnnkit.config import Settings
from rcnnkit.detectors.detector import Detector

LAST, BEST = "last.safetensors", "best.safetensors"


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
    run: Path, detector: Detector | Classifier, optimizer: torch.optim.SGD, settings: Settings, progress: Progress
) -> Path:
    """Write run/last.safetensors, whole or not at all: weights, momentum and progress."""
    momentum = {
        f"momentum/{name}": optimizer.state[parameter]["momentum_buffer"]
        for name, parameter in detector.named_parameters()
        if optimizer.state.get(parameter, {}).get("momentum_buffer") is not None
    }
    weights.save(detector, settings, run / LAST, asdict(progress), momentum)
    return run / LAST


def load_checkpoint(path: Path, detector: Detector | Classifier, optimizer: torch.optim.SGD) -> Progress:
    """Continue from a file of `save_checkpoint`.

    Raises:
        FileNotFoundError, ValueError: as `weights.load`, or weights that carry no training state,
            or of a detector with other settings or classes.
    """
    about, tensors = weights.read(path)
    fields = asdict(Progress()).keys()
    if not fields - {"evaluated", "scale_steps"} <= about["training"].keys():
        raise ValueError(f"{path} holds weights only; to start from them use train.init, not train.resume")
    if about["class_names"] != list(detector.class_names):
        raise ValueError(
            f"{path} was trained on the classes {', '.join(about['class_names'])}, the data has"
            f" {', '.join(detector.class_names)}; to start from its weights use train.init, not train.resume"
        )
    progress = Progress(**{name: value for name, value in about["training"].items() if name in fields})
    detector.origin = about.get("origin")
    try:
        state = {n: t for n, t in tensors.items() if not n.startswith(weights.TRAINING)}
        detector.load_state_dict(state)
    except RuntimeError:
        own = detector.state_dict()
        other = [
            n for n in own.keys() | state.keys() if n not in own or n not in state or own[n].shape != state[n].shape
        ]
        raise ValueError(
            f"{path} was made with other settings: {len(other)} of its tensors, such as {min(other)}, are not those of"
            " this detector; continue with the run's own settings.toml"
        ) from None
    for name, parameter in detector.named_parameters():
        buffer: Tensor | None = tensors.get(f"{weights.TRAINING}momentum/{name}")
        if buffer is not None:
            optimizer.state[parameter]["momentum_buffer"] = buffer.to(parameter.device)
    return progress
