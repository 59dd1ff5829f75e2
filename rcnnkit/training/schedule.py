"""How long a run learns, by which rule, and its learning rate over that time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from rcnnkit.defaults import DEVICE, PRECISION
from rcnnkit.settings import Below1, Count, Factor, NotNegative, Positive, Section, Share

STATED_BATCH = 16  # pictures that `train.lr_for_16` is stated for
ADAMW = {"lr_for_16": 1e-4, "weight_decay": 0.05}  # defaults in place of SGD's


class TrainSettings(Section):
    """[train]: how long, how fast and by which rule a run learns."""

    renamed: ClassVar = {"lr": "lr_for_16"}

    iterations: Positive = 90_000
    """Steps of the run: epochs × training pictures ÷ batch. 90,000 is detectron2's 1x schedule for COCO."""
    epochs: Positive | None = None
    """How often the run goes through the training pictures, given in place of `iterations`: epochs × training pictures
    ÷ batch of them, rounded up. All other settings stay in iterations. The run prints the number, and its settings.toml
    has it as `iterations`."""
    batch: Positive = 16
    """Training pictures in a step; of an aligner, pairs of a picture and a sentence."""
    accumulate: Positive = 1
    """Parts that a batch is computed in, one after the other, so that less memory is needed. The step is that of the
    whole batch, as the losses of all parts are divided by the samples of the whole batch; if pictures have unequal
    numbers of samples, each part is computed twice for that. Norms that learn ("batch") and dropout see the parts."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd: stochastic gradient descent with momentum. adamw: AdamW (arXiv:1711.05101), for which `lr_for_16` is 1e-4
    and `weight_decay` 0.05 if they are not given."""
    lr_for_16: Factor = 0.02
    """Learning rate for a batch of 16 pictures. The real one is lr_for_16 × batch ÷ 16 (arXiv:1706.02677); a run prints
    it when it starts. R-CNN's fine-tuning takes it as it is, for `rcnn.samples` windows, and so does an aligner, for
    pairs. 0.02 is detectron2's. Its name in older files is lr."""
    momentum: Share = 0.9
    """Momentum of stochastic gradient descent; 0.9 in the code of all three papers. Only with optimizer = "sgd"."""
    nesterov: bool = False
    """Nesterov's momentum in place of the plain one. Only with optimizer = "sgd"."""
    betas: tuple[Below1, Below1] = (0.9, 0.999)
    """How much of the averages of the gradient and of its square stays at each step. Only with optimizer = "adamw"."""
    backbone_lr: Factor = 1.0
    """Learning rate of the backbone as a multiple of `lr_for_16`; 0.1 in DETR (arXiv:2005.12872). A feature pyramid's
    own layers are not part of the backbone here."""
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
    """What to train on: auto, cpu, cuda, cuda:1, …; auto: a GPU where there is one."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of all randomness: new weights, order of the pictures, augmentation, sampling. The same seed gives the same
    run."""
    checkpointing: bool = False
    """Keep less for the backward pass, and compute the insides of the backbone's blocks once more there
    (arXiv:1604.06174): larger pictures and batches fit into memory, for about a third more time. The gradients are the
    same."""
    rpn_only: bool = False
    """Train the region proposal network of Faster R-CNN alone; its head stays as it is."""
    freeze_backbone: bool = False
    """Do not train the backbone, nor change the statistics of its norms."""
    log_every: Positive = 20
    """Iterations between two lines of the log."""
    ema: Below1 = 0.0
    """Decay of an exponential moving average of the weights, such as 0.9998. The averaged weights are evaluated, and
    kept as best.safetensors. In the first iterations the decay is lower, (1 + n) ÷ (10 + n) after n of them. 0: no
    average."""
    repeat_threshold: Share = 0.0
    """Repeat-factor sampling (LVIS, arXiv:1908.03195): a class that is in a smaller share f of the training
    pictures than this has its pictures repeated √(repeat_threshold ÷ f) times in an epoch. LVIS has 0.001. 0: no
    picture is repeated."""
    class_weights: dict[str, Factor] = Field(default={})
    """Weights of classes in the log loss, by their names; a class that is not named has 1, and so has background. The
    loss is divided by the sum of the weights of its samples."""
    evaluate_every: Count = 5000
    """Iterations between two evaluations on `data.val`, which choose best.safetensors. 0: only at the end."""
    patience: Count = 0
    """Evaluations without a better result after which the run stops. 0: the run goes on to its end."""
    validation_losses: bool = True
    """Log the losses on `data.val` at each evaluation too, on pictures without augmentation: val_loss_class,
    val_loss_box and so on, and their sum val_loss."""
    save_every: Positive = 1000
    """Iterations between two checkpoints, last.safetensors."""
    save_minutes: NotNegative = 0.0
    """Minutes after which a checkpoint is written too, however few iterations that is. 0: only every `save_every`."""
    loggers: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = Field(default=["tensorboard"])
    """Where the log goes besides log.jsonl. Each needs its own package; if tensorboard is not installed, training
    goes on without it."""
    resume: Path | None = None
    """A run's folder, or its last.safetensors, to continue from."""
    init: Path | None = None
    """A weights file of rcnnkit to start from. A layer whose classes differ starts afresh."""

    @model_validator(mode="before")
    @classmethod
    def _adamw_has_its_own_rate(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("optimizer") != "adamw":
            return values
        given = {cls.renamed.get(name, name) for name in values}
        return {name: default for name, default in ADAMW.items() if name not in given} | values

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("epochs") is not None and "iterations" in values:
            both = f"epochs = {values['epochs']} and iterations = {values['iterations']}"
            raise ValueError(f"{both} are both given; keep one")
        return values

    @model_validator(mode="after")
    def _options_go_together(self) -> Self:
        if self.accumulate > self.batch:
            raise ValueError(f"accumulate = {self.accumulate} is more than the batch = {self.batch} can be cut into")
        if self.patience and not self.evaluate_every:
            raise ValueError(f"patience = {self.patience} counts evaluations; set train.evaluate_every above 0")
        if len(set(self.loggers)) < len(self.loggers):
            raise ValueError(f"loggers = {self.loggers} has one of them twice")
        return self

    @model_serializer(mode="wrap")
    def _one_length_is_written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = write(self)
        if self.epochs is not None:
            del values["iterations"]
        return values

    def for_pictures(self, pictures: int) -> Self:
        """The same with `epochs` through so many training pictures turned into `iterations`."""
        if self.epochs is None:
            return self
        iterations = math.ceil(self.epochs * pictures / self.batch)
        return self.model_copy(update={"iterations": iterations, "epochs": None})


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
