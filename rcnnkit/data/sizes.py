"""How large objects are where the network looks at them."""

from __future__ import annotations

import torch
from torch import Tensor

from rcnnkit.boxes import scale
from rcnnkit.data.records import Dataset
from rcnnkit.images import Preprocessing


def input_sides(data: Dataset, preprocessing: Preprocessing, use_difficult: bool) -> Tensor:
    """Widths and heights of all objects that are learnt from, (N, 2) pixels of the network's input, in their order.

    Crowds are left out, and difficult objects unless `use_difficult`; so are boxes of no width or height.
    """
    sides = []
    for record in data.records:
        targets = record.targets[~record.targets.crowd & (~record.targets.difficult | use_difficult)]
        boxes = scale(targets.boxes, record.size, preprocessing.resized(record.size))
        sides.append(boxes[:, 2:] - boxes[:, :2])
    found = torch.cat([torch.zeros(0, 2), *sides])
    return found[(found > 0).all(dim=1)]
