"""How large objects are where the network looks at them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rcnnkit.data.records import Dataset
from rcnnkit.images import Preprocessing


def input_sides(data: Dataset, preprocessing: Preprocessing, use_difficult: bool) -> Tensor:
    """Widths and heights of all objects that are learnt from, (N, 2) pixels of the network's input, in their order.

    Crowds are left out, and difficult objects unless `use_difficult`; so are boxes of no width or height.
    """
    learnt, records = data.learnt(use_difficult), data.flat
    sizes, inverse = np.unique(records.sizes, axis=0, return_inverse=True)  # many pictures have the same
    enlarged = [preprocessing.enlargement((max(1, height), max(1, width))) for height, width in sizes.tolist()]
    factors = np.array(enlarged, np.float32).reshape(-1, 2)[inverse.reshape(-1)]
    boxes = (
        records.objects["box"][learnt].reshape(-1, 2, 2)
        * np.repeat(factors, records.counts, axis=0)[learnt, None, ::-1]
    )
    sides = torch.from_numpy(boxes[:, 1] - boxes[:, 0])
    return sides[(sides > 0).all(dim=1)]
