"""The weights that torchvision publishes: fetched once, into torch's own cache, and known by their hash each time."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import WeightsEnum

from rcnnkit.files import sha256

# Torchvision's own; its documentation says of the weights that the data they were trained on may restrict them.
LICENCE = "BSD-3-Clause (torchvision); the terms of the data it was trained on may go beyond it"


def state_of(weights: WeightsEnum) -> dict[str, Tensor]:
    """The tensors of these weights, by name. Raises as `fetch` does."""
    state: dict[str, Tensor] = torch.load(fetch(weights), map_location="cpu", weights_only=True)
    return state


def fetch(weights: WeightsEnum) -> Path:
    """The file of these weights in the cache, downloaded if it is not there.

    Raises:
        OSError: it cannot be downloaded, or what is in the cache is not the file that torchvision published.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=hash_of(weights))
        except (OSError, RuntimeError) as error:  # torch's own of a wrong hash
            raise OSError(
                f"{weights} cannot be downloaded from {weights.url} ({error}); fetch that file where there is a"
                f" network, and put it into {path.parent}"
            ) from None
    if not (found := sha256(path)).startswith(hash_of(weights)):
        raise OSError(
            f"{path} is not what torchvision published under that name (SHA-256 {found}); delete it, and it is fetched"
            " again"
        )
    return path


def hash_of(weights: WeightsEnum) -> str:
    """The first digits of its SHA-256, which torchvision's file names end with."""
    match = re.search(r"-([0-9a-f]{8,})\.pth$", weights.url)
    assert match, weights.url
    return match[1]
