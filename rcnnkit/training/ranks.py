"""The processes that train one model together, as torchrun starts them."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import zip_longest
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rcnnkit.data.class_folders import ClassFolders
from rcnnkit.data.records import Dataset
from rcnnkit.text import count
from rcnnkit.training.stopping import Interrupted

Value = TypeVar("Value")

TIMEOUT = timedelta(minutes=30)  # for which a process waits for another one; torch's own for gloo
FOR_EVER = timedelta(days=365)  # for work that only one does while the others wait
MEETING = timedelta(minutes=5)  # for which it tries to reach the first one at the start
PATIENCE = 3.0  # seconds that the others leave the first process to say what stopped all of them
_waiting: Any = None  # a group of torch's: the same processes, which wait for each other FOR_EVER


class LostProcess(ConnectionError):
    """Another process of this training ended, or cannot be reached."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of how many processes this one is. What it does with the others, all have to do in the same order.

    Raises:
        LostProcess: by every method that waits for another process, when that one ended or did not answer in TIMEOUT.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    @property
    def here(self) -> int:
        """How many of the processes this machine has."""
        return int(os.environ.get("LOCAL_WORLD_SIZE") or 1) if self.size > 1 else 1

    def share(self, number: int) -> slice:
        """Which of so many pictures of a batch are this process's."""
        return slice(number * self.rank // self.size, number * (self.rank + 1) // self.size)

    @property
    def turns(self) -> slice:
        """Which of a sequence of batches are this process's: one in turn."""
        return slice(self.rank, None, self.size)

    def total(self, numbers: Sequence[float]) -> list[float]:
        """The sum over the processes of each number."""
        return self._reduced(numbers, dist.ReduceOp.SUM)

    def most(self, numbers: Sequence[int]) -> list[int]:
        """The greatest of each number."""
        return [int(each) for each in self._reduced(numbers, dist.ReduceOp.MAX)]

    def gathered(self, value: Value) -> list[Value]:
        """What each process gave."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            with reaching():
                dist.all_gather_object(values, value)
        return values

    def meet(self) -> None:
        """Wait until all are here, for as long as one of them works; one that ended is noticed at once."""
        if self.size > 1:
            with reaching():
                dist.barrier(_waiting)

    def at_first(self, value: Value) -> list[Value] | None:
        """What each process gave, for the first one; None for the others."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            with reaching():
                dist.gather_object(value, values if self.first else None)
        return values if self.first else None

    def from_first(self, value: Value) -> Value:
        """What the first process gave, whatever the others did."""
        values = [value]
        if self.size > 1:
            with reaching():
                dist.broadcast_object_list(values)
        return values[0]

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Fill tensors with those of the first process."""
        with torch.no_grad(), reaching():
            for tensor in tensors if self.size > 1 else ():
                dense = tensor.contiguous()  # convolutions' may lie in another order
                dist.broadcast(dense, 0)
                tensor.copy_(dense)

    def _reduced(self, numbers: Sequence[float], operation: Any) -> list[float]:
        if self.size == 1:
            return list(numbers)
        # On the CPU, whatever the model is on: nothing waits for a GPU here, and gloo notices a process that ended.
        values = torch.tensor(numbers, dtype=torch.float64)
        with reaching():
            dist.all_reduce(values, operation)
        return list(values.tolist())


ALONE = Ranks()


def in_turn(parts: Sequence[Sequence[Value]]) -> list[Value]:
    """What each process made of its `Ranks.turns`, in the order of the whole."""
    return [each for turn in zip_longest(*parts) for each in turn if each is not None]


@contextmanager
def reaching() -> Iterator[None]:
    """Raise LostProcess for what torch raises when another process cannot be reached."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error) or "nccl" in str(error).lower():
            raise LostProcess(
                "another process of this training ended or cannot be reached, so all end; its own output says why"
                f" ({str(error).splitlines()[0][:200]})"
            ) from None
        raise


def current() -> Ranks:
    """Those that `joined` has connected; else this process alone."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return ALONE


@contextmanager
def joined() -> Iterator[Ranks]:
    """Connect the processes that torchrun has started, if it has started several.

    Gradients of GPUs are added up by NCCL, everything else by gloo. The first process alone logs and prints; another
    one that fails prints its error when the first has had time to print its own, and only if that is not the same.

    Raises:
        ValueError: only some of torchrun's variables are set, or the port is in use.
        LostProcess: another process does not come, or cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE") or 1)
    if size <= 1 or current().size > 1:
        yield current()
        return
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]:
        raise ValueError(
            f"WORLD_SIZE={size} is set, as by torchrun, but {' and '.join(missing)} not; start the training with"
            " torchrun, or unset WORLD_SIZE"
        )
    if torch.cuda.is_available() and (here := local_rank()) < torch.cuda.device_count():
        torch.cuda.set_device(here)
    _meet()
    ranks, log = current(), logging.getLogger("rcnnkit")
    level = log.level
    if not ranks.first:
        log.setLevel(logging.ERROR)
    try:
        yield ranks
    except Exception as error:
        if not ranks.first:
            if isinstance(error, LostProcess):
                sys.exit(1)  # that one says why
            time.sleep(PATIENCE)
            if isinstance(error, Interrupted):
                sys.exit(128 + error.signal)
        raise
    finally:
        log.setLevel(level)
        dist.destroy_process_group()


def _meet() -> None:
    """Connect with the others at MASTER_ADDR:MASTER_PORT, where the first process or torchrun itself listens.

    Raises:
        ValueError: the port is in use.
        LostProcess: nobody answers there within MEETING, or another process does not come.
    """
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    try:
        store, rank, size = next(dist.rendezvous("env://", timeout=MEETING))
        store.set_timeout(TIMEOUT)
    except RuntimeError as error:  # `DistNetworkError`, and others by the version of torch
        if "EADDRINUSE" in str(error) or "in use" in str(error):
            raise ValueError(
                f"port {port} is in use, perhaps by another training; start torchrun with --standalone, which finds a"
                " free one, or with another port in --rdzv-endpoint or --master-port"
            ) from None
        within = f"within {MEETING.total_seconds():g} seconds ({str(error).splitlines()[0][:200]})"
        if os.environ["RANK"] == "0":
            text = f"not all of {os.environ['WORLD_SIZE']} processes have come to {address}:{port} {within}"
        else:
            text = f"the first process cannot be reached at {address}:{port} {within}"
        raise LostProcess(
            f"{text}; check that torchrun was started on every machine, with the same --rdzv-endpoint, and that the"
            " machines can reach each other there"
        ) from None
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with reaching():
        dist.init_process_group(
            backend, store=dist.PrefixStore("training", store), rank=rank, world_size=size, timeout=TIMEOUT
        )
        global _waiting
        _waiting = dist.new_group(backend="gloo", timeout=FOR_EVER)


def shared(losses: nn.Module, device: torch.device) -> DistributedDataParallel:
    """The same, which leaves the mean over all processes of the gradients in its weights.

    The order in which gradients are added up is that of the weights, and not, as is torch's way otherwise, that of the
    first backward pass: a resumed run adds up as the whole one did.
    """
    # One that is never used: torch warns where all are, and goes on all the same.
    losses.register_parameter("unused", nn.Parameter(torch.zeros((), device=device)))
    with reaching(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of `broadcast_buffers`, whose new name older torch lacks
        return DistributedDataParallel(
            losses,
            broadcast_buffers=False,  # frozen ones do not change, and `Ranks.spread` does the others
            find_unused_parameters=True,  # also keeps the order
            gradient_as_bucket_view=True,
        )


def check_same_data(ranks: Ranks, datasets: Sequence[Dataset | ClassFolders]) -> None:
    """Raise ValueError where processes have read other data."""
    if ranks.size == 1:
        return
    first, *others = ranks.gathered([(each.name, len(each), digest(each)) for each in datasets])
    for rank, other in enumerate(others, 1):
        for (name, number, told), (_, its_number, its) in zip(first, other, strict=True):
            if told != its:
                raise ValueError(
                    f"process {rank} read {count(its_number, 'picture')} as {name}, the first process {number:,}, and"
                    " their files, sizes or objects differ; give all processes the same data"
                )


def digest(data: Dataset | ClassFolders) -> str:
    """Tells data sets apart, wherever their pictures lie: by their names, sizes and objects."""
    hash_ = hashlib.sha256(repr(list(data.class_names)).encode())
    if isinstance(data, ClassFolders):
        paths: Sequence[str] = [str(each.path) for each in data.records]
        values: Any = [each.label for each in data.records]
    else:
        paths, values = data.flat.paths, (data.flat.objects, data.flat.counts, data.flat.sizes)
    hash_.update("\0".join(path.rpartition(os.sep)[2] for path in paths).encode(errors="surrogateescape"))
    for array in values if isinstance(values, tuple) else (np.array(values),):
        hash_.update(np.ascontiguousarray(array).tobytes())
    return hash_.hexdigest()


def local_rank() -> int:
    """Number of this process among those on its machine."""
    return int(os.environ.get("LOCAL_RANK") or 0)


def device_of(name: str, ranks: Ranks) -> str:
    """The device that is meant for this process by `train.device`.

    Raises:
        ValueError: one GPU is named for several processes, or a machine has fewer GPUs than processes.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if ranks.size == 1 or name not in ("auto", "cuda"):
        if ranks.size > 1 and name.startswith("cuda:"):
            raise ValueError(
                f'train.device = "{name}" is one GPU, and each of {ranks.size} processes takes one of its own; set'
                ' train.device = "cuda"'
            )
        return name
    if name == "auto" and not gpus:
        return "cpu"
    if local_rank() >= gpus:
        raise ValueError(
            f"this machine has {gpus} GPUs for {os.environ.get('LOCAL_WORLD_SIZE', ranks.size)} processes, which take"
            f" one each; start it with torchrun --nproc-per-node {max(1, gpus)}, or set train.device = cpu"
        )
    return f"cuda:{local_rank()}"


@contextmanager
def first_here() -> Iterator[None]:
    """What is done in here, the first process of each machine does before the others, which find it in a cache."""
    ranks, waits = current(), local_rank() > 0
    if waits:
        ranks.meet()
    yield
    if not waits:
        ranks.meet()


def readers(workers: int) -> int:
    """`data.workers`, with its default shared out among the processes of a machine."""
    here = current().here
    return workers if workers >= 0 or here == 1 else max(1, min(8, (os.cpu_count() or 1) // here))


def restarted() -> bool:
    """Whether torchrun has started the processes once more after one of them failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0) > 0


def may_restart() -> bool:
    """Whether torchrun would do that."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS") or 0) > 0
