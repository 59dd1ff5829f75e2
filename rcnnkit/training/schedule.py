"""The learning rate over a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rcnnkit.defaults import DEVICE, PRECISION
from rcnnkit.settings import Count, Factor, NotNegative, Positive, Section, Share

STATED_BATCH = 16  # pictures that `train.lr` is stated for


class TrainSettings(Section):
    """[train]: stochastic gradient descent."""

    iterations: Positive = 90_000
    batch: Positive = 16
    lr: Factor = 0.02  # for 16 pictures; scaled with the batch
    momentum: Share = 0.9
    nesterov: bool = False
    weight_decay: NotNegative = 1e-4  # not on biases and norms
    schedule: Literal["steps", "cosine"] = "steps"
    steps: list[Share] = Field(default=[2 / 3, 8 / 9])  # lr falls to a tenth at these shares of the iterations
    warmup: Count = 1000  # iterations of linear warm-up …
    warmup_from: Share = 1e-3  # … from this share of lr
    clip_norm: NotNegative = 10.0  # of all gradients together; 0: none
    precision: Literal["auto", "float32", "bf16", "fp16"] = PRECISION  # auto: bf16 where the machine has it
    device: str = DEVICE
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    rpn_only: bool = False  # of Faster R-CNN, the region proposal network alone; its head stays as it is
    freeze_backbone: bool = False  # all of it, its norms' statistics too
    log_every: Positive = 20  # iterations
    evaluate_every: Count = 5000  # iterations; 0: only at the end
    save_every: Positive = 1000  # iterations between checkpoints
    resume: Path | None = None  # a run's folder, or its last.safetensors
    init: Path | None = None  # weights to start from


class AlternatingSettings(Section):
    """[alternating]: Faster R-CNN in four steps; these stand in for [train]'s iterations, batch and lr, and by default
    are the paper's for VOC2007, which go with train.steps = [0.75].
    """

    enabled: bool = False
    rpn_iterations: Positive = 80_000  # of steps 1 and 3
    rpn_batch: Positive = 1
    rpn_lr: Factor = 0.016  # for 16 pictures
    head_iterations: Positive = 40_000  # of steps 2 and 4
    head_batch: Positive = 2
    head_lr: Factor = 0.008
    head_steps: list[Share] | None = None  # as train.steps, which it stands in for; by default the same


def learning_rate(settings: TrainSettings, iteration: int) -> float:
    """The effective learning rate of an iteration, counted from 0.

    Scaled linearly with the batch (arXiv:1706.02677); after a linear warm-up, either a tenth from each
    of `steps` on (shares of the iterations), or half a cosine down to 0 (arXiv:1608.03983).
    """
    lr = settings.lr * settings.batch / STATED_BATCH
    if settings.schedule == "steps":
        lr *= 0.1 ** sum(iteration >= share * settings.iterations for share in settings.steps)
    else:
        lr *= (1 + math.cos(math.pi * iteration / settings.iterations)) / 2
    if iteration < settings.warmup:
        start = settings.warmup_from
        lr *= start + (1 - start) * iteration / settings.warmup
    return lr
