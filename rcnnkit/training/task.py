"""What a run trains, on which data, and what it learns from in one iteration."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rcnnkit.config import Settings
from rcnnkit.data.class_folders import ClassFolders
from rcnnkit.data.records import Dataset
from rcnnkit.images import Preprocessing
from rcnnkit.model import Model
from rcnnkit.structures import LossSum
from rcnnkit.training.average import averaged_copy
from rcnnkit.training.divergence import ITERATIONS, Record
from rcnnkit.training.optimizers import Part, make_optimizer, parts_of
from rcnnkit.training.ranks import Ranks, check_same_data, shared
from rcnnkit.training.recompute import recompute
from rcnnkit.training.run import Result, Run
from rcnnkit.training.schedule import STATED_BATCH, TrainSettings, learning_rate

Data = TypeVar("Data", Dataset, ClassFolders)


class Batch(Protocol):
    """What is learnt from in one iteration."""

    @property
    def paths(self) -> Sequence[Path]:
        """Of the pictures in it."""
        ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device, preprocessing: Preprocessing) -> tuple[Any, Any]:
        """What `Task.loss_sums` takes: the inputs and their targets, on the device. Both can be sliced."""
        ...


class Task(ABC, Generic[Data]):
    """What a run trains, on which data, and how good it is.

    Args:
        run: in its folder.
        model: with the weights to start from, on the run's device.
        training: the data.
        validation: the data that it is judged by, if any.
    """

    things = "images"  # what a batch is made of
    size_setting = "train.batch"  # sets how many of them
    smaller = "train.batch or input.short_side"  # settings that make a batch need less memory
    afterwards = "evaluations"  # what takes time besides the iterations
    keeps_best = True  # at evaluations and at the end; False: what comes after the loop does

    def __init__(self, run: Run, model: Any, training: Data, validation: Data | None) -> None:
        self.run, self.options, self.ranks = run, run.settings.train, run.ranks
        check_shares(self.options.accumulate, self.whole, self.things, self.size_setting, self.ranks)
        if self.ranks.size > 1 and synchronous(run.settings) and run.device.type != "cuda":
            raise ValueError(
                f'model.norm = "sync" works on GPUs only, and these processes compute on {run.device}; set model.norm ='
                ' "batch", or "group", which does not depend on the batch'
            )
        check_same_data(self.ranks, [training] if validation is None else [training, validation])
        self.model = model.train()
        self.training: Data = training
        self.validation: Data | None = validation
        leave_alone(self.model, self.options)
        self.optimizer = make_optimizer(self.parts(), self.options)
        self.average = averaged_copy(self.model) if self.options.ema else None
        if self.options.checkpointing:
            recompute(self.model.get_submodule("backbone"))
        self.shared: DistributedDataParallel | None = None  # computes `loss_sums`, and adds up all processes' gradients
        self.history: deque[Record] = deque(maxlen=ITERATIONS)

    @property
    def whole(self) -> int:
        """How many things a batch of all processes has."""
        return self.options.batch

    @abstractmethod
    def batches(self, start: int) -> Generator[Batch]:
        """Batches without end, from that iteration on; of each, what is this process's share."""

    def validation_batches(self, data: Data) -> Generator[Batch]:
        """All of the validation data once, without augmentation, in batches of `part`; of several processes, each has
        one in turn."""
        raise NotImplementedError

    def loss_sums(
        self, model: Any, inputs: Any, targets: Any, generators: Sequence[torch.Generator]
    ) -> dict[str, LossSum]:
        """Named losses to add up, before they are divided by the number of samples.

        Args:
            model: the one that learns, or its average.
            generators: draw the samples, one for each picture.
        """
        sums: dict[str, LossSum] = model.loss_sums(inputs, targets, generators)
        return sums

    @property
    def part(self) -> int:
        """How many things are validated at a time."""
        return math.ceil(self.options.batch / self.options.accumulate)

    def evaluate(self, data: Data) -> Result | None:
        """How good the weights that are judged are on the validation data. Several processes share the work, and the
        first one alone gets the answer."""
        raise NotImplementedError

    @property
    def judged(self) -> Any:
        """The weights that are evaluated and kept: those that learn, or their average."""
        return self.model if self.average is None else self.average

    def parts(self) -> Sequence[Part]:
        """What is trained, and with which multiple of the learning rate."""
        return parts_of(self.model, self.options.backbone_lr)

    def learning_rate(self, iteration: int) -> float:
        return learning_rate(self.options, iteration)

    @property
    def top_rate(self) -> float:
        """The learning rate that the schedule is a share of."""
        return self.options.lr_for_16 * self.options.batch / STATED_BATCH

    def share_out(self) -> None:
        """Let several processes add up their gradients."""
        if self.ranks.size > 1:
            if synchronous(self.run.settings):
                nn.SyncBatchNorm.convert_sync_batchnorm(self.model)  # keeps the weights that the optimizer has
            self.shared = shared(Losses(self), self.run.device)

    def restore(self) -> None:
        """Go on from the run's checkpoint, if there is one. Raises as `Run.restore`."""
        self.run.restore(self.model, self.optimizer, self.average)

    def save(self) -> None:
        """Write the checkpoint. Raises OSError."""
        self.run.save(self.model, self.optimizer, self.average)


class Losses(nn.Module):
    """The losses of a task as a module, which DistributedDataParallel takes."""

    def __init__(self, task: Task[Any]) -> None:
        super().__init__()
        self.model = task.model
        self.compute = partial(task.loss_sums, task.model)

    def forward(self, *arguments: Any) -> dict[str, LossSum]:
        return self.compute(*arguments)


def synchronous(settings: Settings) -> bool:
    """Whether norms that learn see the pictures of all processes."""
    return "sync" in (settings.model.norm, settings.model.fpn_norm)


def check_shares(accumulate: int, whole: int, things: str, setting: str, ranks: Ranks) -> None:
    """Raise ValueError where a process would have nothing of some part of a batch."""
    if ranks.size > 1 and whole // ranks.size < accumulate:
        parts = f", each in train.accumulate = {accumulate} parts" if accumulate > 1 else ""
        raise ValueError(
            f"a batch of {whole} {things} cannot be shared out among {ranks.size} processes{parts}; raise {setting}"
            f" to {ranks.size * accumulate} or more, or start fewer processes"
        )


def leave_alone(model: Model, options: TrainSettings) -> None:
    """Take the parts that are not to be trained out of the training: see `train.rpn_only`, `train.freeze_backbone`."""
    names = {"backbone": options.freeze_backbone, "head": options.rpn_only}
    for name in (name for name, frozen in names.items() if frozen):
        part = model.get_submodule(name)
        part.requires_grad_(False)
        part.eval()  # evaluation gives every module its own mode back
