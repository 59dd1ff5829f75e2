"""The losses of a batch and their gradient, whatever parts and processes the batch is shared out to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rcnnkit.precision import autocast
from rcnnkit.structures import ImageBatch, LossSum
from rcnnkit.text import visible
from rcnnkit.training.ranks import Ranks, reaching
from rcnnkit.training.task import Batch, Task

Share = tuple[float, float]  # the sum of a loss over samples, and their number
APART = 104_729  # between the seeds of two processes' dropout


class NonFiniteLoss(RuntimeError):
    """A loss or its gradient became NaN or infinite; the text names the pictures.

    Args:
        losses: of that iteration, by name.
        here: whether this process's pictures may be the cause.
    """

    def __init__(self, text: str, losses: Mapping[str, float], here: bool = True) -> None:
        super().__init__(text)
        self.losses, self.here = losses, here


def gradient(task: Task[Any], batch: Batch, scaler: torch.amp.GradScaler, ranks: Ranks) -> dict[str, float]:
    """The losses of a batch, whose gradient is left in the weights.

    A loss is a mean over samples of the whole batch, whose number is known when all parts are computed. Until then each
    part takes the other pictures to have as many samples as its own have. Where that was wrong, all is computed again.

    Args:
        batch: this process's share of it.
        ranks: the processes that have the others; a part is of all of them at a time.
    """
    options, device = task.options, task.run.device
    iteration = task.run.progress.iteration
    seed = seed_of(options.seed, iteration)
    inputs, targets = batch.to(device, task.model.preprocessing)
    if ranks.size > 1 and isinstance(inputs, ImageBatch):  # what is at the border of a picture depends on the padding
        inputs = inputs.padded_to(ranks.most(inputs.pixels.shape[2:]))
    number, first = len(targets), ranks.share(task.whole).start
    edges = [number * i // options.accumulate for i in range(options.accumulate + 1)]
    parts = [slice(start, stop) for start, stop in pairwise(edges) if start < stop]
    counts: dict[str, float] | None = None  # of the samples of the whole batch
    while True:
        task.optimizer.zero_grad()
        terms: list[tuple[dict[str, Share], dict[str, float]]] = []  # of each part, and by which counts it was divided
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            # Dropout knows no other generator than the global one.
            torch.manual_seed(seed + APART * ranks.rank)
            for part in parts:
                size = part.stop - part.start
                with autocast(device, task.run.dtype), _added_up(task, ranks, part is parts[-1]) as loss_sums:
                    drawn = generators(seed, size, first + part.start)
                    sums = loss_sums(inputs[part], targets[part], drawn)
                own = shares_of(sums)
                shares, whole = _of_all(own, ranks, size, number)
                divisors = counts or {name: count * whole for name, (_, count) in shares.items()}
                if not all(math.isfinite(total) for total, _ in shares.values()):
                    raise _not_finite_in(own, shares, batch, iteration, ranks)
                loss = torch.stack([LossSum(each.total, divisors[name]).mean for name, each in sums.items()]).sum()
                with reaching():
                    scaler.scale(loss * ranks.size).backward()  # of gradients, the mean over the processes is taken
                terms.append((shares, divisors))
        counts = {name: sum(shares[name][1] for shares, _ in terms) for name in sums}
        if all(divisors[name] == counts[name] for _, divisors in terms for name in counts):
            return losses_of([shares for shares, _ in terms])


@contextmanager
def _added_up(task: Task[Any], ranks: Ranks, last: bool) -> Iterator[Callable[..., dict[str, LossSum]]]:
    """`task.loss_sums` of the model that learns, whose gradients are added to those of other processes in the last part
    of a batch."""
    if task.shared is None or ranks.size == 1:
        yield partial(task.loss_sums, task.model)
        return
    task.shared.require_backward_grad_sync = last  # as of `no_sync`, which ends before the backward pass here
    with reaching():
        yield task.shared


def _of_all(own: Mapping[str, Share], ranks: Ranks, size: float, number: float) -> tuple[dict[str, Share], float]:
    """The sums of a part of all processes, and how many times the whole batch is as large as that.

    Args:
        size: of the part here.
        number: of the pictures of the whole batch that are here.
    """
    *sums, size, number = ranks.total([*chain.from_iterable(own.values()), size, number])
    return {name: (sums[2 * i], sums[2 * i + 1]) for i, name in enumerate(own)}, number / size


def _not_finite_in(
    own: Mapping[str, Share], shares: Mapping[str, Share], batch: Batch, iteration: int, ranks: Ranks
) -> NonFiniteLoss:
    """Names the pictures of the processes whose own losses are not finite."""
    is_here = not all(math.isfinite(total) for total, _ in own.values())
    paths = ranks.gathered(list(batch.paths) if is_here else [])
    losses = losses_of([shares])
    return NonFiniteLoss(not_finite("loss", losses, paths, iteration), losses, is_here)


def not_finite(thing: str, values: dict[str, float], paths: Sequence[Sequence[Path]], iteration: int) -> str:
    """Names pictures, process by process."""
    numbers = ", ".join(f"{name} {value:g}" for name, value in values.items())
    of = ", ".join(str(rank) for rank, some in enumerate(paths) if some)
    owners = f" of process {of}" if len(paths) > 1 else ""
    pictures = "\n".join(f"  {visible(str(path))}" for some in paths for path in some)
    return (
        f"the {thing} is not finite in iteration {iteration} ({numbers}), with the pictures{owners}\n{pictures}\n"
        "Lower train.lr_for_16, lengthen train.warmup, or look at these pictures and their boxes"
    )


def shares_of(sums: Mapping[str, LossSum]) -> dict[str, Share]:
    """As plain numbers; a GPU is waited for once."""
    totals = torch.stack([each.total for each in sums.values()])
    counts = [each.count for each in sums.values()]
    weighted = [each for each in counts if isinstance(each, Tensor)]
    numbers = (torch.cat([totals, torch.stack(weighted)]) if weighted else totals).tolist()
    known = iter(numbers[len(sums) :])
    numbered = zip(sums, numbers, counts, strict=False)
    return {name: (total, next(known) if isinstance(n, Tensor) else float(n)) for name, total, n in numbered}


def losses_of(parts: Sequence[Mapping[str, Share]]) -> dict[str, float]:
    """The losses by name, of all parts together, and `loss`, their sum."""
    losses = {}
    for name in parts[0]:
        total, number = (sum(each) for each in zip(*(part[name] for part in parts), strict=True))
        losses[name] = total / number if number else 0.0
    return losses | {"loss": sum(losses.values())}


def seed_of(seed: int, iteration: int) -> int:
    """One for each iteration: a resumed run draws what it would have drawn."""
    return seed * 1_000_003 + iteration


def generators(seed: int, number: int, first: int = 0) -> list[torch.Generator]:
    """One for each of so many pictures, by its place in the batch: what it draws does not depend on the others."""
    return [torch.Generator().manual_seed((seed * 4099 + first + i) % 2**63) for i in range(number)]
