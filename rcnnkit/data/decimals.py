"""The shortest decimals that read back as the very same float32, so that files stay readable."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def shortest(value: float, target: float, parse: Callable[[float], float]) -> float:
    """`value` with as few decimals as still give `target`.

    Args:
        value: the number to write down, exact.
        target: the float32 that a reader has to arrive at.
        parse: what a reader does with the number written, before it rounds to float32.
    """
    for decimals in range(17):
        short = round(value, decimals)
        if np.float32(parse(short)) == np.float32(target):
            return int(short) if short.is_integer() else short
    return value
