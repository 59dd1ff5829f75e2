"""Local response normalisation: by its definitions, as torch has it, and in half precision."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rcnnkit.backbones.response_norm import AcrossChannelsNorm, WithinChannelNorm


def across(x: np.ndarray, alpha: float, beta: float, k: float, size: int = 5) -> np.ndarray:
    """AlexNet, section 3.3, a channel at a time."""
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        near = x[:, max(c - size // 2, 0) : c + size // 2 + 1]
        out[:, c] = x[:, c] / (k + alpha / size * (near**2).sum(axis=1)) ** beta
    return out


def within(x: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """Caffe's, a cell at a time: the sum goes over the cells there are, and is divided by nine all the same."""
    out = np.empty_like(x)
    for b, c, i, j in np.ndindex(x.shape):
        window = x[b, c, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
        out[b, c, i, j] = x[b, c, i, j] * (1 + alpha * (window**2).sum() / 9) ** -beta
    return out


SHAPES = [(2, 7, 5, 4), (1, 1, 1, 1), (1, 2, 1, 6), (0, 3, 2, 2)]


@pytest.mark.parametrize("constants", [(1e-4, 0.75, 1.0), (5e-4, 0.75, 2.0), (1.0, 0.5, 0.1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_across_channels(shape: tuple[int, ...], constants: tuple[float, float, float]) -> None:
    x = np.random.default_rng(0).normal(scale=30, size=shape)
    found = AcrossChannelsNorm(5, *constants)(torch.tensor(x))
    np.testing.assert_allclose(found, across(x, *constants), rtol=1e-12)
    if len(x):
        torch.testing.assert_close(found, nn.LocalResponseNorm(5, *constants)(torch.tensor(x)))


@pytest.mark.parametrize("alpha", [5e-5, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_within_a_channel(shape: tuple[int, ...], alpha: float) -> None:
    x = np.random.default_rng(0).normal(scale=10, size=shape)
    np.testing.assert_allclose(WithinChannelNorm(alpha=alpha)(torch.tensor(x)), within(x, alpha, 0.75), rtol=1e-12)


@pytest.mark.parametrize("norm", [AcrossChannelsNorm(5, alpha=1.0), WithinChannelNorm(alpha=1.0)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(norm: nn.Module, dtype: torch.dtype) -> None:
    """1000² is infinite in float16, and a little more than 1 is 1 in bfloat16."""
    for x in (torch.full((1, 6, 4, 4), 1000.0), torch.full((1, 6, 4, 4), 0.05)):
        found = norm(x.to(dtype))
        assert found.dtype == dtype
        assert found.equal(norm(x.to(dtype).float()).to(dtype))


def test_the_gradient() -> None:
    x = torch.randn(1, 6, 3, 3, dtype=torch.float64, requires_grad=True)
    for norm in (AcrossChannelsNorm(5, alpha=1.0), WithinChannelNorm(alpha=1.0)):
        assert torch.autograd.gradcheck(norm, x)


def test_the_order_in_memory_is_kept() -> None:
    x: Tensor = torch.randn(2, 8, 5, 6).to(memory_format=torch.channels_last)
    for norm in (AcrossChannelsNorm(5), WithinChannelNorm()):
        assert norm(x).is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(norm(x), norm(x.contiguous()))
