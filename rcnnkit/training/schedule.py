"""The learning rate over a run."""

from __future__ import annotations

import math

from rcnnkit.config import TrainSettings

STATED_BATCH = 16  # pictures that `train.lr` is stated for


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
