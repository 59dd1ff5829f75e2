"""Which floating-point type the network computes in."""

from __future__ import annotations

import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type that `precision` names; "auto" is bf16 on a GPU or CPU that multiplies in it, else float32.

    Raises:
        ValueError: a precision of another name.
    """
    if precision in DTYPES:
        return DTYPES[precision]
    if precision != "auto":
        raise ValueError(f"precision {precision} is not one of auto, {', '.join(DTYPES)}")
    if device.type == "cuda":
        with torch.cuda.device(device):  # there may be GPUs of several kinds
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    # Without these instructions bf16 is emulated, slower than float32.
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if device.type == "cpu" and fast else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """A context in which matrix products and convolutions run in `dtype`."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def check_stays_float32(tensor: Tensor, advice: str) -> None:
    """Raise TypeError if what `Module.half` and the like made of a float32 weight is of another type."""
    if tensor.dtype != torch.float32:
        raise TypeError(f"the weights stay float32, not {str(tensor.dtype).removeprefix('torch.')}; {advice}")
