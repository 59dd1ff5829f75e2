"""Whether a JPEG file holds all of its picture; decoders make grey of what is missing, and do not say so."""

from __future__ import annotations

import numpy as np
import torch

from rcnnkit.ops.library import load

load()


def check_jpeg(data: np.ndarray) -> str | None:
    """What is wrong with a JPEG's entropy-coded data, or None.

    Every Huffman code is read, and no pixel is made: that takes a third of the time of decoding, or less. What comes
    behind the end marker is not looked at, nor are headers, which decoders do check.

    Args:
        data: (N,) uint8, writable: the file. Of arithmetic coding, 12 bits and lossless JPEG nothing is said.
    """
    damage, read_count, blocks = torch.ops.rcnnkit.check_jpeg(torch.from_numpy(data)).tolist()
    words = {
        1: f"its data end after {read_count:,} of {blocks:,} blocks",
        2: f"its data are damaged after {read_count:,} of {blocks:,} blocks",
        3: "its data are damaged: some are left over when all blocks are read",
        4: f"its later scans are missing: of its pixels it holds only {read_count:,} scan{'s' * (read_count != 1)}",
        5: "it has more than 500 scans",
    }
    return words.get(damage)
