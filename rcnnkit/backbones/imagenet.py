"""ImageNet weights, by torchvision."""

from __future__ import annotations

import torchvision
from torch import Tensor

from rcnnkit.downloads import LICENCE, state_of

Colour = tuple[float, float, float]  # RGB, pixels in [0, 1]


def imagenet_weights(name: str) -> dict[str, Tensor]:
    """The state of torchvision's classifier of that name (its first version), downloaded once and checked.

    Raises:
        OSError: the weights cannot be downloaded, or the file that was downloaded before is another one.
        ValueError: torchvision has no such network.
    """
    weights = first_version(name)
    try:
        return state_of(weights)
    except OSError as error:
        raise OSError(f"{error}, or set model.pretrained = false") from None


def imagenet_origin(name: str) -> dict[str, str]:
    """Where these weights come from, and under which licence. Raises ValueError if torchvision has no such network."""
    weights = first_version(name)
    return {"source": f"torchvision {weights!r}", "licence": LICENCE, "url": weights.url}


def imagenet_normalisation(name: str) -> tuple[Colour, Colour]:
    """Mean and standard deviation of the pixels that these weights were trained with.

    Raises:
        ValueError: torchvision has no such network.
    """
    weights = first_version(name)
    if name == "googlenet":  # its weights are TensorFlow's: torchvision's network turns the usual pixels into these
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    usual = weights.transforms()
    return tuple(usual.mean), tuple(usual.std)


def first_version(name: str) -> torchvision.models.WeightsEnum:
    """The entry of torchvision's ImageNet weights that are taken. Raises ValueError if it has no such network."""
    if name not in torchvision.models.list_models(torchvision.models):
        raise ValueError(
            f"torchvision has no ImageNet weights for {name}; start from weights that were trained here (train.init),"
            " or from scratch"
        )
    return torchvision.models.get_model_weights(name).IMAGENET1K_V1
