"""Finds and loads the compiled operators."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from pathlib import Path

import torch

from rcnnkit.processes import after_fork

os.register_at_fork(after_in_child=after_fork)


def find(name: str) -> Path | None:
    """The compiled library `name` of this package, or None."""
    # __path__, not __file__: an editable install keeps compiled files elsewhere
    for folder in sys.modules[__package__].__path__:
        if (file := Path(folder) / name).exists():
            return file
    return None


def load() -> bool:
    """Load the CPU operators, and the CUDA ones where this torch has CUDA and they were built.

    Returns:
        Whether the CUDA operators are among them.

    Raises:
        ImportError: the CPU library is missing or does not load; the text says what to run.
    """
    file = find("librcnnkit_ops.so")
    if file is None:
        raise ImportError(
            "rcnnkit's compiled operators (librcnnkit_ops.so) are missing; install the package so that they are"
            " built: pip install -e . in a checkout, or pip install rcnnkit"
        )
    try:
        torch.ops.load_library(file)
    except OSError as error:
        raise ImportError(
            f"rcnnkit's compiled operators do not load beside torch {torch.__version__}: {error};"
            " build them again: pip install --force-reinstall --no-deps ."
        ) from error
    cuda = find("librcnnkit_ops_cuda.so")
    if torch.version.cuda and cuda:
        try:
            torch.ops.load_library(cuda)
        except OSError as error:
            warnings.warn(f"rcnnkit's CUDA operators do not load: {error}", stacklevel=2)
    return torch._C._dispatch_has_kernel_for_dispatch_key("rcnnkit::nms", "CUDA")


@functools.cache
def miss_cuda() -> None:
    """Warn, once, that CUDA tensors come and the CUDA operators are not there."""
    warnings.warn(
        "rcnnkit was installed without its CUDA operators, so torchvision's serve CUDA tensors, and warp_regions runs"
        " on the CPU; install it again with RCNNKIT_CUDA=ON in the environment, which says what is missing",
        stacklevel=3,
    )
