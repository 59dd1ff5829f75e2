"""The learning rate over a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from rcnnkit.defaults import DEVICE, PRECISION
from rcnnkit.settings import Count, Factor, NotNegative, Positive, Section, Share

STATED_BATCH = 16  # pictures that `train.lr_for_16` is stated for


class TrainSettings(Section):
    """[train]: how long and how fast a run learns, by stochastic gradient descent."""

    renamed: ClassVar = {"lr": "lr_for_16"}

    iterations: Positive = 90_000
    """Steps of the run: epochs × training pictures ÷ batch. 90,000 is detectron2's 1x schedule for COCO."""
    batch: Positive = 16
    """Training pictures in a step."""
    lr_for_16: Factor = 0.02
    """Learning rate for a batch of 16 pictures. The real one is lr_for_16 × batch ÷ 16 (arXiv:1706.02677); a run prints
    it when it starts. R-CNN's fine-tuning takes it as it is, for `rcnn.samples` windows. 0.02 is detectron2's. Its name
    in older files is lr."""
    momentum: Share = 0.9
    """Momentum of stochastic gradient descent; 0.9 in the code of all three papers."""
    nesterov: bool = False
    """Nesterov's momentum in place of the plain one."""
    weight_decay: NotNegative = 1e-4
    """L2 penalty on the weights; biases and norms have none. 1e-4 is detectron2's; 5e-4 in the code of all three
    papers."""
    schedule: Literal["steps", "cosine"] = "steps"
    """How the learning rate falls. steps: to a tenth at each of `steps`. cosine: along half a cosine, down to 0
    (arXiv:1608.03983)."""
    steps: list[Share] = Field(default=[2 / 3, 8 / 9])
    """When the learning rate falls to a tenth, as shares of the iterations. 2/3 and 8/9 are detectron2's 60,000 and
    80,000 of 90,000. Only with schedule = "steps"."""
    warmup: Count = 1000
    """Iterations in which the learning rate rises in a straight line; 1000 is detectron2's. 0: none."""
    warmup_from: Share = 1e-3
    """Where the warm-up begins, as a share of the learning rate."""
    clip_norm: NotNegative = 10.0
    """Longest gradient, of all weights together; a longer one is shortened to this. The papers clip nothing. 0: no
    limit."""
    precision: Literal["auto", "float32", "bf16", "fp16"] = PRECISION
    """Number format of the computations; weights stay in float32. auto: bf16 where the GPU or CPU computes in it, else
    float32."""
    device: str = DEVICE
    """auto, cpu, cuda, cuda:1, …; auto: a GPU where there is one."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of all randomness: new weights, order of the pictures, augmentation, sampling. The same seed gives the same
    run."""
    rpn_only: bool = False
    """Train the region proposal network of Faster R-CNN alone; its head stays as it is."""
    freeze_backbone: bool = False
    """Do not train the backbone, nor change the statistics of its norms."""
    log_every: Positive = 20
    """Iterations between two lines of the log."""
    evaluate_every: Count = 5000
    """Iterations between two evaluations on `data.val`, which choose best.safetensors. 0: only at the end."""
    save_every: Positive = 1000
    """Iterations between two checkpoints, last.safetensors."""
    resume: Path | None = None
    """A run's folder, or its last.safetensors; go on from there."""
    init: Path | None = None
    """A weights file of rcnnkit to start from. A layer for other classes is new."""


class AlternatingSettings(Section):
    """[alternating]: Faster R-CNN in four steps (Faster R-CNN 3.2). These settings take the place of [train]'s
    iterations, batch and learning rate. The defaults are the paper's for VOC2007, which go with train.steps = [0.75].
    """

    renamed: ClassVar = {"rpn_lr": "rpn_lr_for_16", "head_lr": "head_lr_for_16"}

    enabled: bool = False
    """Train in four steps: the region proposal network, Fast R-CNN on its proposals, and both once more on shared
    convolutions."""
    rpn_iterations: Positive = 80_000
    """Iterations of steps 1 and 3, which train the region proposal network."""
    rpn_batch: Positive = 1
    """Pictures in a batch of steps 1 and 3."""
    rpn_lr_for_16: Factor = 0.016
    """Learning rate of steps 1 and 3 for 16 pictures; the real one is rpn_lr_for_16 × rpn_batch ÷ 16, the paper's
    0.001. Its name in older files is rpn_lr."""
    head_iterations: Positive = 40_000
    """Iterations of steps 2 and 4, which train Fast R-CNN."""
    head_batch: Positive = 2
    """Pictures in a batch of steps 2 and 4."""
    head_lr_for_16: Factor = 0.008
    """Learning rate of steps 2 and 4 for 16 pictures; the real one is head_lr_for_16 × head_batch ÷ 16, the paper's
    0.001. Its name in older files is head_lr."""
    head_steps: list[Share] | None = None
    """When the learning rate of steps 2 and 4 falls to a tenth, as shares of their iterations. Not given: as
    `train.steps`."""


def learning_rate(settings: TrainSettings, iteration: int) -> float:
    """The effective learning rate of an iteration, counted from 0.

    Scaled linearly with the batch (arXiv:1706.02677); after a linear warm-up, either a tenth from each
    of `steps` on (shares of the iterations), or half a cosine down to 0 (arXiv:1608.03983).
    """
    lr = settings.lr_for_16 * settings.batch / STATED_BATCH
    if settings.schedule == "steps":
        lr *= 0.1 ** sum(iteration >= share * settings.iterations for share in settings.steps)
    else:
        lr *= (1 + math.cos(math.pi * iteration / settings.iterations)) / 2
    if iteration < settings.warmup:
        start = settings.warmup_from
        lr *= start + (1 - start) * iteration / settings.warmup
    return lr
