"""The spatial transformer, beside torch's own grid and sampler."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rcnnkit.backbones.spatial_transformer import LARGEST, SpatialTransformer, TransformerSettings, sample

KINDS = ["rotation", "attention", "affine"]


def transformer(kind: str, channels: int = 3, size: int = 7) -> SpatialTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SpatialTransformer(channels, size, TransformerSettings.model_validate({"kind": kind}))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 6, 7, 14, 48, 224, 227])
def test_it_starts_as_the_identity_to_the_last_bit(kind: str, size: int) -> None:
    maps = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size))
    for dtype in (torch.float32, torch.bfloat16):
        found = transformer(kind, 3, size)(maps.to(dtype))
        assert found.dtype == dtype
        assert found.equal(maps.to(dtype))


@pytest.mark.parametrize("size", [6, 8, 21])
def test_samples_are_grid_samples(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    maps = torch.randn(4, 2, size, size, generator=generator, dtype=torch.float64, requires_grad=True)
    theta = torch.eye(2, 3, dtype=torch.float64) + torch.randn(4, 2, 3, generator=generator, dtype=torch.float64) / 2
    theta.requires_grad_()
    grid = F.affine_grid(theta, [4, 2, size, size], align_corners=False)
    expected = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    found = sample(maps, theta)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    weight = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(each, (maps, theta), weight) for each in (found, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


def test_a_quarter_turn_and_a_zoom() -> None:
    maps = torch.randn(1, 2, 7, 7, generator=torch.Generator().manual_seed(0))
    quarter = torch.tensor([[[0.0, -1, 0], [1, 0, 0]]])  # reads to the right where it writes upwards
    torch.testing.assert_close(sample(maps, quarter), torch.rot90(maps, 1, (2, 3)), atol=1e-5, rtol=0)
    # half the size, moved to the upper left: an 8 × 8 map's upper left quarter, twice as large
    maps = torch.arange(64.0).view(1, 1, 8, 8)
    found = sample(maps, torch.tensor([[[0.5, 0, -0.5], [0, 0.5, -0.5]]]))
    np.testing.assert_allclose(found[0, 0, 0, :4], [0, 0.25, 0.75, 1.25])


def test_what_may_be_chosen() -> None:
    maps = torch.randn(5, 3, 7, 7, generator=torch.Generator().manual_seed(1))
    for size in (0.3, 100.0):
        for kind in KINDS:
            chosen = transformer(kind)
            nn.init.normal_(chosen.last_layer.weight, std=size, generator=torch.Generator().manual_seed(2))
            theta = chosen.theta(maps)
            linear = theta[:, :, :2]
            if kind == "rotation":
                torch.testing.assert_close(linear @ linear.mT, torch.eye(2).expand(5, 2, 2), atol=1e-5, rtol=0)
                assert not theta[:, :, 2].any()
                assert size > 1 or len(theta[:, 0, 0].unique()) == 5
            if kind == "attention":
                assert linear[:, 0, 0].equal(linear[:, 1, 1])
                assert not linear[:, 0, 1].any()
                assert linear[:, 0, 0].log().abs().max() <= math.log(LARGEST) * 1.0001
            assert theta.abs().max() <= LARGEST * 1.0001
            assert chosen(maps).isfinite().all()


@pytest.mark.parametrize(("size", "convolutions"), [(7, 0), (14, 0), (32, 1), (48, 1), (224, 4), (227, 4)])
def test_the_localisation_network_grows_with_the_maps(size: int, convolutions: int) -> None:
    made = transformer("affine", 3, size)
    assert sum(isinstance(layer, nn.Conv2d) for layer in made.localisation) == convolutions
    found = made(torch.zeros(1, 3, size, size, requires_grad=True))
    assert found.shape == (1, 3, size, size)


def test_every_weight_learns() -> None:
    made = transformer("affine", 3, 32)
    nn.init.normal_(made.last_layer.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    made(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in made.parameters())
