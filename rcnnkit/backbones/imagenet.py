"""ImageNet weights, by torchvision."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

import torch
import torchvision
from torch import Tensor

Colour = tuple[float, float, float]  # RGB, pixels in [0, 1]


def imagenet_weights(name: str) -> dict[str, Tensor]:
    """The state of torchvision's classifier of that name (its first version), downloaded once and checked.

    Raises:
        OSError: the weights cannot be downloaded.
        ValueError: torchvision has no such network, or the file that was downloaded before is damaged.
    """
    weights = _first_version(name)
    folder = Path(torch.hub.get_dir(), "checkpoints")
    _check_hash(folder / PurePosixPath(weights.url).name)
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:
        raise OSError(
            f"the ImageNet weights of {name} cannot be downloaded from {weights.url} ({error}); fetch that file"
            f" where there is a network, put it into {folder}, or set"
            " model.pretrained = false"
        ) from error
    return state


def imagenet_normalisation(name: str) -> tuple[Colour, Colour]:
    """Mean and standard deviation of the pixels that these weights were trained with.

    Raises:
        ValueError: torchvision has no such network.
    """
    weights = _first_version(name)
    if name == "googlenet":  # its weights are TensorFlow's: torchvision's network turns the usual pixels into these
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    usual = weights.transforms()
    return tuple(usual.mean), tuple(usual.std)


def _check_hash(file: Path) -> None:
    """Raise ValueError unless the SHA-256 of a file begins as its name ends: torch checks only what it downloads."""
    if file.is_file():
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if not found.startswith(file.stem.rpartition("-")[2]):
            raise ValueError(f"{file} is damaged or another file (SHA-256 {found}); remove it, to have it fetched anew")


def _first_version(name: str) -> torchvision.models.WeightsEnum:
    if name not in torchvision.models.list_models(torchvision.models):
        raise ValueError(
            f"torchvision has no ImageNet weights of {name}; start from weights that were trained here (train.init), or"
            " from scratch"
        )
    return torchvision.models.get_model_weights(name).IMAGENET1K_V1
