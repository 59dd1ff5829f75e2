import pytest
import torch

from rcnnkit.exporting.to_torch import suppress
from rcnnkit.ops import batched_nms


@pytest.mark.parametrize("count", [1, 300])
def test_groups_do_not_suppress_each_other(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(4, count, 2, 2, generator=generator).sort(dim=2).values * 1000
    boxes, scores = corners.flatten(2), torch.rand(4, count, generator=generator)
    scores[2, ::3] = -torch.inf
    kept = suppress(boxes, scores, 0.4, 10**9)
    assert (kept[:, 0] >= 4).sum() == 2  # those that keep torch.export content
    kept = kept[kept[:, 0] < 4]
    group = torch.arange(4)[:, None].expand(4, count)
    wanted = batched_nms(boxes.reshape(-1, 4), scores.flatten(), group.flatten(), 0.4)
    wanted = wanted[scores.flatten()[wanted] > -torch.inf]
    assert (kept[:, 0] * count + kept[:, 1]).equal(wanted)
