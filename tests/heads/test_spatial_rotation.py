"""Blocks of channels that are turned against the head."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rcnnkit.heads.spatial_rotation import SpatialRotation


def made(degrees: float = 10.0, size: int = 7) -> SpatialRotation:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SpatialRotation(8, size, 16, 4, degrees)


def regions(size: int = 7) -> Tensor:
    return torch.rand(3, 8, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_starts_without_any_turn_to_the_last_bit(dtype: torch.dtype) -> None:
    seen = regions().to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
        assert made()(seen).equal(seen)


def test_a_quarter_turn_of_one_block_alone() -> None:
    rotation = made(90.0)
    with torch.no_grad():
        rotation.last_layer.bias[1] = 100.0  # tanh 1
    seen = regions()
    found = rotation(seen)
    torch.testing.assert_close(found[:, 2:4], torch.rot90(seen[:, 2:4], 1, (2, 3)), atol=1e-5, rtol=0)
    for block in (0, 2, 3):
        assert found[:, 2 * block : 2 * block + 2].equal(seen[:, 2 * block : 2 * block + 2])


def test_no_angle_exceeds_the_most() -> None:
    rotation = made(10.0, 14)
    with torch.no_grad():
        rotation.last_layer.weight.normal_(std=100, generator=torch.Generator().manual_seed(0))
    angles = rotation.angles(regions(14))
    assert angles.shape == (3, 4)
    assert angles.abs().max().item() == pytest.approx(math.radians(10), abs=1e-6)
    assert (angles > 0).any()
    assert (angles < 0).any()


def test_the_gradient_of_the_angles_is_reversed_and_that_of_the_regions_is_not() -> None:
    rotation = made()
    with torch.no_grad():
        rotation.last_layer.bias.copy_(torch.tensor([0.3, -0.2, 0.1, 0.5]))
    seen = regions().requires_grad_()
    weight = torch.rand(3, 8, 7, 7, generator=torch.Generator().manual_seed(1))
    (rotation(seen) * weight).sum().backward()
    # torch's own grid and sampler, block by block, with the border continued
    bias = rotation.last_layer.bias.detach().clone().requires_grad_()
    again = regions().requires_grad_()
    angles = math.radians(10) * torch.tanh(bias)
    parts = []
    for block, angle in zip(again.split(2, dim=1), angles, strict=True):
        zero = torch.zeros(())
        theta = torch.stack([angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero]).view(1, 2, 3)
        grid = F.affine_grid(theta.expand(3, 2, 3), list(block.shape), align_corners=False)
        parts.append(F.grid_sample(block, grid, padding_mode="border", align_corners=False))
    (torch.cat(parts, 1) * weight).sum().backward()
    assert rotation.last_layer.bias.grad is not None
    assert bias.grad is not None
    torch.testing.assert_close(rotation.last_layer.bias.grad, -bias.grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(seen.grad, again.grad, rtol=1e-3, atol=1e-5)


def test_a_step_down_the_loss_makes_it_climb() -> None:
    rotation, seen = made(), regions()
    optimizer = torch.optim.SGD(rotation.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        loss = (rotation(seen) - seen).square().sum() + 0.1 * rotation(seen)[:, :, 0].sum()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] > losses[0]


def test_channels_that_cannot_be_cut() -> None:
    with pytest.raises(ValueError, match=r"adversary\.blocks = 4 does not divide the 18 channels .* set it to 2$"):
        SpatialRotation(18, 7, 8, 4, 10.0)
    SpatialRotation(18, 7, 8, 2, 10.0)
