"""The weights that torchvision publishes: fetched once, into torch's own cache, and known by their hash each time."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import torch
from torch import Tensor
from torchvision.models import WeightsEnum

from rcnnkit.files import sha256

# Torchvision's own; its documentation says of the weights that the data they were trained on may restrict them.
LICENCE = "BSD-3-Clause (torchvision); the terms of the data it was trained on may go beyond it"

ANSWER = 5.0  # seconds until a server that gives no answer counts as not there
STALLED = 30.0  # seconds without a byte after which a download fails


def state_of(weights: WeightsEnum) -> dict[str, Tensor]:
    """The tensors of these weights, by name. Raises as `fetch` does."""
    state: dict[str, Tensor] = torch.load(fetch(weights), map_location="cpu", weights_only=True)
    return state


def fetch(weights: WeightsEnum) -> Path:
    """The file of these weights in the cache, downloaded if it is not there.

    Raises:
        OSError: it cannot be downloaded, or what is in the cache is not the file that torchvision published.
    """
    path = cached(weights)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _no_stall():
                torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=hash_of(weights))
        except (OSError, RuntimeError) as error:  # torch's own of a wrong hash
            raise OSError(
                f"{weights} cannot be downloaded from {weights.url} ({error}); download that file on a machine"
                f" with a network, and put it into {path.parent}"
            ) from None
    if not (found := sha256(path)).startswith(hash_of(weights)):
        raise OSError(
            f"{path} is not what torchvision published under that name (SHA-256 {found}); delete it, and it is fetched"
            " again"
        )
    return path


def cached(weights: WeightsEnum) -> Path:
    """Where the file of these weights is, or will be."""
    return Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])


def why_not(weights: WeightsEnum) -> str:
    """Why these weights cannot be had now; "" where they are in the cache, or their server answers within seconds."""
    if cached(weights).exists():
        return ""
    reasons = [f"no answer within {ANSWER:g} s"]

    def ask() -> None:
        try:
            with urlopen(weights.url, timeout=ANSWER):
                reasons[0] = ""
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            reasons[0] = getattr(reason, "strerror", None) or str(reason)

    # In a thread of its own, as looking up the server's name knows no timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER)
    return reasons[0]


@contextmanager
def _no_stall() -> Iterator[None]:
    """Connections that give nothing for so long fail: torch waits for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALLED)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def hash_of(weights: WeightsEnum) -> str:
    """The first digits of its SHA-256, which torchvision's file names end with."""
    match = re.search(r"-([0-9a-f]{8,})\.pth$", weights.url)
    assert match, weights.url
    return match[1]
