"""The moving average of the weights of a training (Polyak and Juditsky 1992; its decay as in TensorFlow)."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch

from rcnnkit.model import Model

AnyModel = TypeVar("AnyModel", bound=Model)


def averaged_copy(model: AnyModel) -> AnyModel:
    """The average before the first iteration."""
    return copy.deepcopy(model).requires_grad_(False)


@torch.no_grad()
def update_average(average: Model, model: Model, decay: float, iteration: int) -> None:
    """Move the average towards the weights after an iteration, counted from 0; statistics of norms likewise.

    Early weights are soon forgotten: of the average stays (1 + iteration) / (10 + iteration) where that is less than
    `decay`. A weight that does not change keeps its bits.
    """
    stays = min(decay, (1 + iteration) / (10 + iteration))
    ours, theirs = average.state_dict(), model.state_dict()
    floats = [name for name, value in ours.items() if value.is_floating_point()]
    torch._foreach_lerp_([ours[name] for name in floats], [theirs[name] for name in floats], 1 - stays)
    for name in ours.keys() - set(floats):  # batches that a norm has counted
        ours[name].copy_(theirs[name])
