"""Masks of pooled regions, beside numpy from the definition."""

import numpy as np
import pytest
import torch

from rcnnkit.heads.spatial_dropout import (
    SpatialDropout,
    hardest_windows,
    hide,
    likely_cells,
    loss_of,
    mask_side,
    random_cells,
    scaled,
    windows,
)

CPU = torch.device("cpu")


def test_masks_of_14_cells_are_of_7() -> None:
    assert [mask_side(size) for size in (2, 6, 7, 8, 9, 14)] == [2, 6, 7, 8, 9, 7]
    assert [scaled(15, side) for side in (1, 2, 6, 7, 8)] == [1, 1, 11, 15, 20]


def test_windows_as_in_the_released_code() -> None:
    found = windows(7, CPU).numpy()
    assert found.shape == (16, 7, 7)
    corners = [(int(ys[0]), int(xs[0])) for ys, xs in map(np.nonzero, found)]
    assert corners == [(y, x) for y in (0, 2, 4, 5) for x in (0, 2, 4, 5)]
    assert (found.sum((1, 2)) == 4).all()
    assert found.any(0).all()  # no cell is left out
    assert windows(6, CPU).shape == (9, 6, 6)
    assert windows(2, CPU).sum((1, 2)).tolist() == [1] * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hide(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    regions = torch.rand(3, 2, 14, 14, generator=generator).to(dtype) + 1
    hidden = torch.rand(3, 7, 7, generator=generator) < 0.3
    found = hide(regions, hidden)
    assert found.dtype == dtype
    for r, c, y, x in np.ndindex(3, 2, 14, 14):
        assert found[r, c, y, x] == (0 if hidden[r, y // 2, x // 2] else regions[r, c, y, x])


def test_random_cells_are_any_and_so_many() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = random_cells(2000, 7, 15, CPU)
    assert (found.flatten(1).sum(1) == 15).all()
    share = found.double().mean(0)
    assert (share - 15 / 49).abs().max() < 5 * (15 / 49 * 34 / 49 / 2000) ** 0.5


def test_likely_cells_are_drawn_from_the_likeliest() -> None:
    heat = torch.randn(1, 7, 7, generator=torch.Generator().manual_seed(0)).expand(400, 7, 7)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = likely_cells(heat, 15, 20).flatten(1)
    assert (found.sum(1) == 15).all()
    likeliest = set(heat[0].flatten().argsort(descending=True)[:20].tolist())
    assert set(found.any(0).nonzero()[:, 0].tolist()) == likeliest
    share = found.double().mean(0)[sorted(likeliest)]
    assert (share - 0.75).abs().max() < 5 * (0.75 * 0.25 / 400) ** 0.5


def test_the_hardest_window_is_found() -> None:
    regions = torch.rand(5, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    weight = torch.rand(3, 7, 7, generator=torch.Generator().manual_seed(1))
    found = hardest_windows(regions, lambda seen: (seen * weight).sum((1, 2, 3)))
    tried = windows(7, CPU)
    for region, mask in zip(regions.numpy(), found, strict=True):
        losses = [(region * weight.numpy() * window.numpy()).sum() for window in tried]
        assert mask.equal(tried[int(np.argmax(losses))])
    ties = hardest_windows(regions, lambda seen: torch.ones(len(seen)))
    assert all(mask.equal(tried[0]) for mask in ties)
    assert hardest_windows(regions[:0], lambda seen: torch.ones(len(seen))).shape == (0, 7, 7)


@pytest.mark.parametrize("size", [6, 7, 14])
def test_the_network_gives_a_logit_for_each_cell_and_no_gradient_to_the_regions(size: int) -> None:
    network = SpatialDropout(4, size, 8)
    regions = torch.rand(2, 4, size, size, requires_grad=True)
    heat = network(regions)
    assert heat.shape == (2, mask_side(size), mask_side(size))
    assert heat.dtype == torch.float32
    heat.sum().backward()
    assert regions.grad is None
    assert all(each.grad is not None and each.grad.any() for each in network.parameters())
    assert network(regions[:0]).shape == (0, mask_side(size), mask_side(size))


def test_the_loss_by_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    heat, hidden = torch.randn(3, 7, 7, generator=generator), torch.rand(3, 7, 7, generator=generator) < 0.3
    p, m = 1 / (1 + np.exp(-heat.double().numpy())), hidden.numpy()
    expected = -(m * np.log(p) + (1 - m) * np.log(1 - p)).mean((1, 2))
    np.testing.assert_allclose(loss_of(heat, hidden).numpy(), expected, rtol=1e-5)
