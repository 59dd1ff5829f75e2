"""Which weights learn by which rule, and at which multiple of the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from rcnnkit.backbones.fpn import FPN
from rcnnkit.backbones.spatial_transformer import SpatialTransformer
from rcnnkit.heads.spatial_dropout import SpatialDropout
from rcnnkit.heads.spatial_rotation import SpatialRotation
from rcnnkit.model import Model
from rcnnkit.training.schedule import TrainSettings

Part = tuple[Sequence[nn.Parameter], float]  # weights, and the multiple of the learning rate that they take
FUSED = ("cpu", "cuda")  # devices where one kernel makes the whole step, which is faster
# What an optimizer keeps of each weight, and what a checkpoint calls it.
STATE: dict[type[torch.optim.Optimizer], dict[str, str]] = {
    torch.optim.SGD: {"momentum_buffer": "momentum"},
    torch.optim.AdamW: {"exp_avg": "mean", "exp_avg_sq": "square", "step": "step"},
}


def parts_of(model: Model, backbone_lr: float) -> list[Part]:
    """The backbone and a spatial transformer, with their multiples of the learning rate, an adversary's networks, and
    the rest. A pyramid's own layers are of the rest."""
    network: Any = model.backbone.body if isinstance(model.backbone, FPN) else model.backbone
    parts: list[Part] = [] if backbone_lr == 1 else [(list(network.parameters()), backbone_lr)]
    parts += transformer_parts(model) + adversary_parts(model)
    known = {id(each) for weights, _ in parts for each in weights}
    return [*parts, ([each for each in model.parameters() if id(each) not in known], 1.0)]


def transformer_parts(model: Model) -> list[Part]:
    """The weights of its spatial transformer, if it has one."""
    found = [each for each in model.modules() if isinstance(each, SpatialTransformer)]
    return [(list(each.parameters()), each.settings.localisation_lr) for each in found]


def adversary_parts(model: Model) -> list[Part]:
    """The weights of each network of its adversary, if it has one.

    There are iterations in which such a network has no gradient. A fused step needs one for all weights of a group that
    have momentum, or for none.
    """
    found = [each for each in model.modules() if isinstance(each, SpatialDropout | SpatialRotation)]
    return [(list(each.parameters()), 1.0) for each in found]


def make_optimizer(parts: Sequence[Part], options: TrainSettings) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW; weight decay on matrices and convolutions only.

    Args:
        parts: what is trained; the multiple of the learning rate is kept as `factor` of its groups.
    """
    groups: list[dict[str, Any]] = []
    for weights, factor in parts:
        learning = [weight for weight in weights if weight.requires_grad]
        for decay, tensors in (
            (options.weight_decay, [weight for weight in learning if weight.ndim > 1]),
            (0.0, [weight for weight in learning if weight.ndim <= 1]),
        ):
            groups.append({"params": tensors, "weight_decay": decay, "factor": factor})
    fused = all(weight.device.type in FUSED for group in groups for weight in group["params"])
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=options.lr_for_16, betas=options.betas, fused=fused)
    return torch.optim.SGD(
        groups, lr=options.lr_for_16, momentum=options.momentum, nesterov=options.nesterov, fused=fused
    )
