"""ImageNet weights, by torchvision."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor


def imagenet_weights(name: str) -> dict[str, Tensor]:
    """The state of torchvision's classifier of that name (its first version), downloaded once and checked.

    Raises:
        OSError: the weights cannot be downloaded.
    """
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True)
    except Exception as error:
        raise OSError(
            f"the ImageNet weights of {name} cannot be downloaded from {weights.url} ({error}); fetch that file"
            f" where there is a network, put it into {torch.hub.get_dir()}/checkpoints, or set"
            " model.pretrained = false"
        ) from error
    return state
