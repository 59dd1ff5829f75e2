"""Which ResNet a state dict holds."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# Blocks of each stage, and whether they are bottlenecks.
RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}


def resnet_name(state: Mapping[str, Tensor], stages: str, first: int) -> str | None:
    """The name of the ResNet whose blocks are in `state`; None if there is no such.

    Args:
        stages: what their names begin with, such as "backbone.body.layer{}", …
        first: … and the number of the first of the four.
    """
    prefixes = [re.escape(stages.format(first + i)) for i in range(4)]
    blocks = tuple(
        len({match[1] for name in state if (match := re.match(rf"{prefix}\.(\d+)\.", name))}) for prefix in prefixes
    )
    return RESNETS.get((blocks, f"{stages.format(first)}.0.conv3.weight" in state))
