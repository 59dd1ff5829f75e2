import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rcnnkit.ops import conv3x3, winograd_weights
from tests.levels import on_each_level


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


def polynomials():
    """How outputs, weights and inputs come from and go to values at 0, ±3/4, ±3/2 and infinity, by interpolation:
    (4, 6), (6, 3) and (6, 6), in float64."""
    points = [0, 0.75, -0.75, 1.5, -1.5]
    outputs = np.array([[point**i for point in points] + [i == 3] for i in range(4)], dtype=float)
    scales = [np.prod([p - q for q in points if q != p]) for p in points]
    weights = np.array([[p**i / s for i in range(3)] for p, s in zip(points, scales, strict=True)] + [[0, 0, 1]])
    inputs = [np.poly([q for q in points if q != p])[::-1] for p in points] + [np.poly(points)[::-1]]
    return outputs, weights, np.array([np.pad(row, (0, 6 - len(row))) for row in inputs])


def test_products_of_bfloat16_are_of_rounded_coefficients():
    input, weight, bias = problem(2, 32, 8, 12, 48)
    input = input.bfloat16()
    found = conv3x3(input, winograd_weights(weight, torch.bfloat16), bias)
    assert found.dtype == torch.bfloat16
    back, of_weights, of_inputs = polynomials()

    def rounded(values):
        return torch.from_numpy(values).bfloat16().double().numpy()

    tiles = F.pad(input.double(), (1, 1, 1, 1)).unfold(2, 6, 4).unfold(3, 6, 4).numpy()  # B, C, h, w, 6, 6
    products = np.einsum(
        "bchwij,ocij->bohwij",
        rounded(np.einsum("ik,bchwkl,jl->bchwij", of_inputs, tiles, of_inputs)),
        rounded(np.einsum("ik,ockl,jl->ocij", of_weights, weight.double().numpy(), of_weights)),
    )
    expected = (
        np.einsum("ik,bohwkl,jl->bohiwj", back, products, back).reshape(found.shape) + bias[:, None, None].numpy()
    )
    # A coefficient in the middle of two may be rounded to the other one.
    np.testing.assert_allclose(found.double(), expected, rtol=2**-8, atol=0.03)
    assert (found.double().numpy() - expected).std() < 0.003 * expected.std()  # the outputs' own rounding has 0.0017
    exact = F.conv2d(input.double(), weight.double(), bias.double(), padding=1).numpy()
    assert 0.008 < (found.double().numpy() - exact).std() / exact.std() < 0.015


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
    for maps in (input, input.bfloat16()):
        weights = winograd_weights(weight, maps.dtype)
        expected = conv3x3(maps, weights, bias).relu()
        np.testing.assert_array_equal(conv3x3(maps, weights, bias, relu=True).float(), expected.float())
    assert (expected == 0).any()


def test_a_residual_is_added_before_the_relu():
    input, weight, bias = problem(2, 16, 6, 9, 48)
    residual = torch.randn(2, 48, 6, 9, generator=torch.Generator().manual_seed(9))
    exact = (F.conv2d(input.double(), weight.double(), bias.double(), padding=1) + residual).relu()
    found = conv3x3(input, winograd_weights(weight), bias, relu=True, residual=residual)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4)
    halves = conv3x3(input.bfloat16(), winograd_weights(weight, torch.bfloat16), bias, True, residual.bfloat16())
    assert (halves - exact).std() < 0.02 * exact.std()


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
    with pytest.raises(ValueError, match=r"of float32 or bfloat16, not torch\.float16"):
        winograd_weights(torch.zeros(16, 16, 3, 3), torch.float16)


def test_what_does_not_fit_is_refused():
    input, weight, bias = problem(1, 16, 4, 4, 32)
    u = winograd_weights(weight)
    for arguments in (
        (input[:, :8], u, bias),
        (input, u, torch.cat([bias, bias])),
        (input, u[:, :, :8], bias),
        (input.double(), u, bias),
        (input.bfloat16(), u, bias),
        (input, winograd_weights(weight, torch.bfloat16), bias),
        (input.bfloat16(), winograd_weights(weight, torch.bfloat16)[:, :, :4], bias),
        (input, u.double(), bias),
        (input[0], u, bias),
        (input, u, bias, False, torch.zeros(1, 32, 4, 5)),
        (input, u, bias, False, torch.zeros(1, 32, 4, 4).double()),
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
    found = conv3x3(maps, winograd_weights(weight, maps.dtype), bias).double()
    error = (found - exact).std() / exact.std()
    assert error < (1e-5 if maps is input else 0.015), error
"""


def test_every_instruction_set():
    on_each_level(LEVEL)


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
