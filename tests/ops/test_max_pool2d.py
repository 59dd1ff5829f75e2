import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rcnnkit.ops import max_pool2d

TYPES = [torch.float32, torch.bfloat16]


def maps(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1), (3, 3, 1), (2, 5, 1)]
)
def test_the_same_as_torch(size, stride, padding, ceil_mode, dtype):
    for height, width in ((3, 3), (7, 10), (12, 5), (33, 64)):
        input = maps(2, 48, height, width, dtype=dtype)
        found = max_pool2d(input, size, stride, padding, ceil_mode)
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(found, F.max_pool2d(input, size, stride, padding, ceil_mode=ceil_mode))


def test_by_hand():
    input = torch.arange(20.0).reshape(1, 1, 4, 5).expand(1, 16, 4, 5) * torch.tensor([1.0, -1] * 8)[:, None, None]
    found = max_pool2d(input, 2, 2, ceil_mode=True)
    np.testing.assert_array_equal(found[0, 0], [[6, 8, 9], [16, 18, 19]])
    np.testing.assert_array_equal(found[0, 1], [[0, -2, -4], [-10, -12, -14]])


@pytest.mark.parametrize("dtype", TYPES)
def test_nan_and_infinity(dtype):
    input = maps(1, 16, 6, 6, dtype=dtype)
    input[0, 2, 1, 1], input[0, 3, 0, 0], input[0, 4] = float("nan"), float("inf"), float("-inf")
    for size in (2, 3):
        found, expected = max_pool2d(input, size, 2), F.max_pool2d(input, size, 2)
        np.testing.assert_array_equal(found.float(), expected.float())
        assert found[0, 2, 0, 0].isnan()


def test_the_smallest_numbers_stay():
    input = torch.full((1, 16, 2, 2), 1e-39).bfloat16()
    assert torch.equal(max_pool2d(input, 2, 2), input[:, :, :1, :1])


def test_sizes_stay_open_in_an_export():
    class Pool(torch.nn.Module):
        def forward(self, x):
            return max_pool2d(x, 3, 2, 1)

    sides = {2: torch.export.Dim("height", min=4, max=64), 3: torch.export.Dim("width", min=4, max=64)}
    program = torch.export.export(Pool(), (maps(1, 16, 20, 30),), dynamic_shapes=(sides,))
    other = maps(1, 16, 11, 9)
    assert torch.equal(program.module()(other), max_pool2d(other, 3, 2, 1))


def test_nothing_gives_nothing():
    assert max_pool2d(torch.zeros(0, 16, 5, 6), 2, 2).shape == (0, 16, 2, 3)


def test_any_strides_are_read():
    input = maps(2, 16, 8, 10)
    for same in (input.contiguous(memory_format=torch.channels_last), input.mT.contiguous().mT):
        assert torch.equal(max_pool2d(same, 3, 2, 1), max_pool2d(input, 3, 2, 1))


def test_what_does_not_fit_is_refused():
    for words, *arguments in (
        ("multiple of 16", maps(1, 8, 4, 4), 2, 2),
        ("rank 4", maps(16, 4, 4), 2, 2),
        ("float32 or bfloat16", maps(1, 16, 4, 4).double(), 2, 2),
        ("do not fit on a map of 4 × 1", maps(1, 16, 4, 1), 2, 2),
        ("padding 2", maps(1, 16, 4, 4), 2, 2, 2),
        ("stride 0", maps(1, 16, 4, 4), 2, 0),
        ("stride -1", maps(1, 16, 4, 4), 2, -1),
        ("stride 4611686018427387904", maps(1, 16, 4, 4), 2, 1 << 62),
        ("windows of 0", maps(1, 16, 4, 4), 0, 1),
    ):
        with pytest.raises(RuntimeError, match=words):
            max_pool2d(*arguments)
    with pytest.raises(RuntimeError, match="no gradient"):
        max_pool2d(maps(1, 16, 4, 4).requires_grad_(), 2, 2)
