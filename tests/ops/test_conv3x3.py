import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rcnnkit.ops import conv3x3, winograd_weights


def problem(batch, channels, height, width, outputs, seed=0):
    random = torch.Generator().manual_seed(seed)
    input = torch.randn(batch, channels, height, width, generator=random)
    weight = torch.randn(outputs, channels, 3, 3, generator=random) / channels**0.5
    return input, weight, torch.randn(outputs, generator=random)


@pytest.mark.parametrize(
    "shape",
    [
        (1, 16, 1, 1, 16),
        (1, 16, 4, 4, 32),  # one tile, whole
        (2, 32, 5, 3, 16),  # tiles cut off, half a panel
        (3, 48, 13, 18, 80),  # two and a half panels
        (1, 64, 40, 61, 32),  # several blocks
        (70, 16, 3, 2, 16),  # blocks across pictures
    ],
)
def test_the_same_as_a_convolution(shape):
    input, weight, bias = problem(*shape)
    found = conv3x3(input, winograd_weights(weight), bias)
    exact = F.conv2d(input.double(), weight.double(), bias.double(), padding=1)
    assert found.is_contiguous(memory_format=torch.channels_last)
    # outputs have a deviation of 3; torch's own are off by up to 1e-5
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4)


def test_one_weight_at_a_time_by_hand():
    """An input that is 1 in one cell gives the weights themselves, mirrored, around it."""
    input, weight = torch.zeros(1, 16, 7, 7), torch.zeros(16, 16, 3, 3)
    weight[5, 2] = torch.arange(1.0, 10).reshape(3, 3)
    input[0, 2, 3, 4] = 1
    found = conv3x3(input, winograd_weights(weight), torch.zeros(16))
    expected = torch.zeros(16, 7, 7)
    expected[5, 2:5, 3:6] = torch.tensor([[9.0, 8, 7], [6, 5, 4], [3, 2, 1]])
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=4e-6)


def test_bfloat16_maps_are_rounded_once():
    input, weight, bias = problem(2, 32, 9, 11, 48)
    input = input.bfloat16()
    found = conv3x3(input, winograd_weights(weight), bias)
    exact = F.conv2d(input.double(), weight.double(), bias.double(), padding=1)
    assert found.dtype == torch.bfloat16
    np.testing.assert_allclose(found.double(), exact, rtol=2**-8, atol=1e-4)


def test_nothing_gives_nothing():
    _, weight, bias = problem(1, 16, 1, 1, 32)
    for shape in ((0, 16, 5, 5), (2, 16, 0, 5), (2, 16, 5, 0)):
        assert conv3x3(torch.zeros(shape), winograd_weights(weight), bias).shape == (shape[0], 32, *shape[2:])


def test_what_is_not_finite_stays_near():
    """NaN and infinity make NaN of the tiles that read them, and of nothing else."""
    input, weight, bias = problem(1, 16, 12, 12, 16)
    expected = conv3x3(input, winograd_weights(weight), bias)
    input[0, 3, 5, 5] = float("nan")
    found = conv3x3(input, winograd_weights(weight), bias)
    assert found[:, :, 4:7, 4:7].isnan().all()
    assert torch.equal(found[:, :, 8:], expected[:, :, 8:])
    assert torch.equal(found[:, :, :4], expected[:, :, :4])


def test_relu_is_the_same_as_after_it():
    input, weight, bias = problem(2, 16, 6, 9, 48)
    input[1, 0, 0, 0] = float("nan")
    weights = winograd_weights(weight)
    for maps in (input, input.bfloat16()):
        expected = conv3x3(maps, weights, bias).relu()
        np.testing.assert_array_equal(conv3x3(maps, weights, bias, relu=True).float(), expected.float())
    assert (expected == 0).any()


def test_any_strides_are_read():
    input, weight, bias = problem(2, 16, 8, 10, 16)
    expected = conv3x3(input, winograd_weights(weight), bias)
    for same in (input.contiguous(memory_format=torch.channels_last), input.mT.contiguous().mT):
        assert torch.equal(conv3x3(same, winograd_weights(weight), bias), expected)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((16, 16, 5, 5), "not \\(16, 16, 5, 5\\)"), ((16, 8, 3, 3), "multiples of 16"), ((3, 16, 3, 3), "16")],
)
def test_other_weights_are_refused(shape, words):
    with pytest.raises(ValueError, match=words):
        winograd_weights(torch.zeros(shape))


def test_what_does_not_fit_is_refused():
    input, weight, bias = problem(1, 16, 4, 4, 32)
    u = winograd_weights(weight)
    for arguments in (
        (input[:, :8], u, bias),
        (input, u, torch.cat([bias, bias])),
        (input, u[:, :, :8], bias),
        (input.double(), u, bias),
        (input, u.double(), bias),
        (input[0], u, bias),
    ):
        with pytest.raises(RuntimeError):
            conv3x3(*arguments)


LEVEL = """
import torch
from rcnnkit.ops import conv3x3, winograd_weights
from tests.ops.test_conv3x3 import problem
import torch.nn.functional as F
input, weight, bias = problem(2, 32, 9, 30, 48)
for maps in (input, input.bfloat16()):
    exact = F.conv2d(maps.double(), weight.double(), bias.double(), padding=1)
    found = conv3x3(maps, winograd_weights(weight), bias).double()
    assert torch.allclose(found, exact, rtol=0 if maps is input else 2**-8, atol=1e-4), (found - exact).abs().max()
"""


@pytest.mark.parametrize("level", ["baseline", "avx2", "avx512"])
def test_every_instruction_set(level):
    environment = {**os.environ, "RCNNKIT_CPU_LEVEL": level}
    done = subprocess.run([sys.executable, "-c", LEVEL], env=environment, capture_output=True, text=True, check=False)
    if "does not run here" in done.stderr:
        pytest.skip(f"this machine has no {level}")
    assert done.returncode == 0, done.stderr


def test_a_gradient_is_refused_not_zero():
    input, weight, bias = problem(1, 16, 4, 4, 16)
    with pytest.raises(RuntimeError, match="no gradient"):
        conv3x3(input.requires_grad_(), winograd_weights(weight), bias)
    with torch.no_grad():
        conv3x3(input, winograd_weights(weight), bias)


def test_threads_do_not_change_a_bit():
    input, weight, bias = problem(1, 32, 50, 50, 32)
    u, before = winograd_weights(weight), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = conv3x3(input, u, bias)
        torch.set_num_threads(3)
        assert torch.equal(conv3x3(input, u, bias), one)
    finally:
        torch.set_num_threads(before)
