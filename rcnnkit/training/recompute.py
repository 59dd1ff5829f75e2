"""Less memory for more time: what a backbone computes inside its blocks is computed again in the backward pass.

Gradient checkpointing (Chen and others 2016, Training deep nets with sublinear memory cost, arXiv:1604.06174).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

ROWS = (nn.Sequential, nn.ModuleList)


def recompute(backbone: nn.Module) -> int:
    """Keep only the inputs of a backbone's blocks for the backward pass. Gradients stay the same, to the bit.

    Blocks without weights that learn are left as they are: nothing is kept of them anyway.

    Args:
        backbone: changed in place.

    Returns:
        How many blocks that is.
    """
    blocks = [block for block in _blocks(backbone) if any(weight.requires_grad for weight in block.parameters())]
    for block in blocks:
        block.forward = partial(_forward, block, block.forward)
    return len(blocks)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The innermost modules that are more than one layer, and hold no rows of such."""
    parts = list(module.children())
    rows = [part for part in parts if isinstance(part, ROWS) and any(any(each.children()) for each in part)]
    whole = [part for part in parts if any(part.children()) and not isinstance(part, ROWS)]
    if rows or isinstance(module, nn.ModuleList) or (isinstance(module, nn.Sequential) and whole):
        for part in parts:
            yield from _blocks(part)
    elif parts:
        yield module


def _forward(block: nn.Module, forward: Callable[..., Any], *inputs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=partial(_contexts, block))


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Of the forward pass, and of the one that repeats it."""
    return nullcontext(), _statistics_stay(block)


@contextmanager
def _statistics_stay(block: nn.Module) -> Iterator[None]:
    """Norms that learn have counted this batch already."""
    norms = [each for each in block.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    counters = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    before = [None if number is None else number.clone() for _, number in counters]
    for norm in norms:
        norm.momentum = 0.0  # the new statistics weigh nothing
    try:
        yield
    finally:
        for norm, (momentum, number), old in zip(norms, counters, before, strict=True):
            norm.momentum = momentum
            if number is not None and old is not None:
                number.copy_(old)
