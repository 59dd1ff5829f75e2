import threading
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rcnnkit.ops import conv2d, conv2d_weights
from rcnnkit.ops.conv2d import multiplies_in_tiles
from tests.levels import on_each_level
from tests.ops.test_library import run

TYPES = [torch.float32, torch.bfloat16]
# batch, channels, height, width, outputs, size, stride, padding
CASES: dict[str, tuple[Any, ...]] = {
    "1x1": (2, 32, 9, 11, 48, (1, 1), 1, 0),
    "1x1, fewer than twelve rows": (1, 16, 2, 3, 16, (1, 1), 1, 0),
    "1x1, many blocks": (1, 64, 61, 47, 80, (1, 1), 1, 0),
    "1x1, an odd number of channels": (1, 17, 5, 6, 16, (1, 1), 1, 0),
    "1x1, padded": (1, 16, 5, 6, 16, (1, 1), 1, 2),
    "1x1, stride 2": (2, 48, 8, 7, 32, (1, 1), 2, 0),
    "1x1, long rows": (1, 1040, 4, 7, 32, (1, 1), 1, 0),
    "fully connected, in parts": (50, 2111, 1, 1, 64, (1, 1), 1, 0),
    "3x3, stride 2": (2, 32, 9, 14, 48, (3, 3), 2, 1),
    "3x3, in parts": (1, 150, 6, 7, 32, (3, 3), 1, 1),
    "7x7 of pixels": (1, 3, 40, 31, 64, (7, 7), 2, 3),
    "11x11 of pixels": (2, 3, 45, 50, 32, (11, 11), 4, 2),
    "wider than high": (1, 5, 8, 9, 16, (1, 4), 1, 0),
    "larger than the map": (1, 4, 2, 3, 16, (5, 5), 1, 2),
    "one cell": (1, 16, 1, 1, 16, (3, 3), 1, 1),
    "tiny maps": (30, 32, 2, 2, 48, (3, 3), 1, 1),
    "tiny maps, one cell": (13, 16, 1, 1, 16, (3, 3), 1, 1),
    "tiny maps, stride 2": (500, 24, 3, 3, 16, (3, 3), 2, 1),
    "tiny maps, in parts": (12, 700, 2, 2, 32, (3, 3), 1, 1),
    "tiny maps, an odd number of channels": (20, 17, 2, 2, 16, (3, 3), 1, 1),
    "tiny maps, wide": (14, 16, 1, 3, 16, (3, 5), 1, 2),
    "tiny maps, windows outside": (15, 16, 1, 1, 16, (2, 2), 1, 2),
    # where neighbours on the map are rows of tiles
    "3x3, one copied block": (1, 32, 9, 16, 48, (3, 3), 1, 1),
    "3x3, several copied blocks": (2, 64, 40, 70, 32, (3, 3), 1, 1),
    "3x3, more padding than window": (1, 32, 12, 33, 16, (3, 3), 1, 4),
    "3x3, stride 2, copied": (2, 32, 41, 60, 16, (3, 3), 2, 1),
    "5x3, stride 3, copied": (1, 32, 40, 95, 16, (5, 3), 3, 2),
    "2x2, stride 3, gaps between windows": (1, 32, 40, 95, 16, (2, 2), 3, 0),
    "1x1, stride 2 of whole steps": (2, 64, 8, 7, 32, (1, 1), 2, 0),
    "3x3, not copied": (3, 32, 5, 4, 32, (3, 3), 1, 1),
    "3x3, wide map without rows": (1, 32, 3, 200, 80, (3, 3), 1, 0),
    "fully connected, long, in parts": (70, 4704, 1, 1, 48, (1, 1), 1, 0),
    "fully connected, long, one row": (1, 5001, 1, 1, 16, (1, 1), 1, 0),
    "tiny maps, whole steps": (40, 64, 2, 2, 48, (3, 3), 1, 1),
    "tiny maps, long": (33, 1056, 2, 2, 16, (3, 3), 1, 1),
}


def problem(batch, channels, height, width, outputs, size, dtype=torch.float32):
    """Small whole numbers, whose sums float32 has exactly."""
    random = torch.Generator().manual_seed(0)

    def whole(*shape):
        return torch.randint(-3, 4, shape, generator=random).to(dtype)

    return whole(batch, channels, height, width), whole(outputs, channels, *size), whole(outputs).float()


def exact(input, weight, bias, stride, padding):
    return F.conv2d(input.double(), weight.double(), bias.double(), stride, padding)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("case", CASES)
def test_the_same_as_a_convolution(case, dtype):
    batch, channels, height, width, outputs, size, stride, padding = CASES[case]
    input, weight, bias = problem(batch, channels, height, width, outputs, size, dtype)
    expected = exact(input, weight, bias, stride, padding)
    found = conv2d(input, conv2d_weights(weight, dtype), bias, size, stride, padding)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, expected.to(dtype))
    residual = torch.randint(-9, 9, expected.shape).to(dtype)
    found = conv2d(input, conv2d_weights(weight, dtype), bias, size, stride, padding, True, residual)
    assert torch.equal(found, (expected + residual).relu().to(dtype))


def test_fractions_are_summed_in_float32():
    random = torch.Generator().manual_seed(0)
    input, weight = torch.randn(1, 700, 9, 8, generator=random), torch.randn(32, 700, 1, 1, generator=random)
    bias = torch.randn(32, generator=random)
    found = conv2d(input, conv2d_weights(weight), bias, (1, 1))
    np.testing.assert_allclose(found, exact(input, weight, bias, 1, 0), rtol=0, atol=2e-4)  # of a deviation of 26
    input, weight = input.bfloat16(), weight.bfloat16()
    found = conv2d(input, conv2d_weights(weight, torch.bfloat16), bias, (1, 1))
    np.testing.assert_allclose(found.double(), exact(input, weight, bias, 1, 0), rtol=2**-8, atol=2e-4)


def test_nothing_gives_nothing():
    _, weight, bias = problem(1, 16, 1, 1, 32, (1, 1))
    assert conv2d(torch.zeros(0, 16, 5, 4), conv2d_weights(weight), bias, (1, 1)).shape == (0, 32, 5, 4)


def test_what_is_not_finite_is_of_those_that_read_it():
    input, weight, bias = problem(1, 16, 12, 12, 16, (3, 3))
    input[0, 3, 5, 5] = float("nan")
    for relu in (False, True):
        found = conv2d(input, conv2d_weights(weight), bias, (3, 3), 1, 1, relu)
        assert torch.equal(found.isnan(), exact(input, weight, bias, 1, 1).isnan())
    input[0, 3, 5, 5], weight[:, 3] = float("inf"), 1
    found = conv2d(input, conv2d_weights(weight), bias, (3, 3), 1, 1)
    assert torch.equal(found, exact(input, weight, bias, 1, 1).float())


def test_any_strides_are_read():
    input, weight, bias = problem(2, 16, 8, 10, 16, (1, 1))
    expected = conv2d(input, conv2d_weights(weight), bias, (1, 1), residual=input)
    for same in (input.contiguous(memory_format=torch.channels_last), input.mT.contiguous().mT):
        assert torch.equal(conv2d(same, conv2d_weights(weight), bias, (1, 1), residual=same), expected)


def test_a_large_output_is_not_written_again_while_it_is_held():
    """The memory of large outputs is kept for the next one, once nobody holds it."""
    input, weight, bias = problem(1, 16, 300, 300, 16, (1, 1))
    weights = conv2d_weights(weight)

    def call(i):
        return conv2d(input, weights, bias + i, (1, 1))

    held = [call(i) for i in range(4)]
    part = call(4)[:, :3]  # a view holds all of it
    for i in range(4):
        assert torch.equal(call(10), call(0) + 10)
        assert torch.equal(held[i], call(0) + i)
    assert torch.equal(part, call(4)[:, :3])
    where = {call(i).data_ptr() for i in range(20)}
    assert len(where) < 20


def test_an_output_that_no_memory_is_for_is_said_with_its_size():
    _, weight, bias = problem(1, 1, 1, 1, 16, (1, 1))
    with pytest.raises(RuntimeError, match=r"can't allocate memory for an output of \d{16} bytes"):
        conv2d(torch.zeros(1, 1, 1, 1), conv2d_weights(weight), bias, (1, 1), 1, 1 << 22)


def test_a_row_does_not_depend_on_those_beside_it():
    random = torch.Generator().manual_seed(0)
    input, weight = torch.randn(13, 40, 1, 1, generator=random), torch.randn(16, 40, 1, 1, generator=random)
    bias = torch.randn(16, generator=random)
    for dtype in TYPES:
        w = conv2d_weights(weight, dtype)
        whole = conv2d(input.to(dtype), w, bias, (1, 1))
        for i in range(13):
            assert torch.equal(conv2d(input[i : i + 1].to(dtype), w, bias, (1, 1)), whole[i : i + 1])


def test_threads_of_the_caller_do_not_share_memory():
    input, weight, bias = problem(1, 16, 300, 300, 16, (1, 1))
    weights, wrong = conv2d_weights(weight), []
    expected = conv2d(input, weights, bias, (1, 1))

    def work(i):
        for _ in range(10):
            if not torch.equal(conv2d(input, weights, bias + i, (1, 1)), expected + i):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_other_weights_are_refused():
    for shape in ((16, 16, 3), (3, 16, 3, 3)):
        with pytest.raises(ValueError, match=f"multiple of 16, not \\({shape[0]}, 16"):
            conv2d_weights(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"of float32 or bfloat16, not torch\.float16"):
        conv2d_weights(torch.zeros(16, 16, 3, 3), torch.float16)


def test_what_does_not_fit_is_refused():
    input, weight, bias = problem(1, 16, 4, 4, 32, (3, 3))
    w = conv2d_weights(weight)
    for words, *arguments in (
        ("not for 8", input[:, :8], w, bias, (3, 3)),
        ("not for 16", input, w, bias, (1, 1)),
        ("not for 16", input, w, torch.cat([bias, bias]), (3, 3)),
        ("8 outputs", input, w, bias[:8], (3, 3)),
        ("float32 or bfloat16", input.double(), w, bias, (3, 3)),
        ("of the input's type", input.bfloat16(), w, bias, (3, 3)),
        ("of the input's type", input, w, bias.double(), (3, 3)),
        ("no channels", input[:, :0], torch.zeros(1, 0, 32), bias, (1, 1)),
        ("stride 1152921504606846976", input, w, bias, (3, 3), 1 << 60),
        ("smaller than the window", input[:, :, :2], w, bias, (3, 3)),
        ("stride 0", input, w, bias, (3, 3), 0),
        ("padding -1", input, w, bias, (3, 3), 1, -1),
        ("like the output", input, w, bias, (3, 3), 1, 0, False, torch.zeros(1, 32, 4, 4)),
        ("like the output", input, w, bias, (3, 3), 1, 1, False, torch.zeros(1, 32, 4, 4).bfloat16()),
    ):
        with pytest.raises(RuntimeError, match=words):
            conv2d(*arguments)


def test_a_gradient_is_refused_not_zero():
    input, weight, bias = problem(1, 16, 4, 4, 16, (1, 1))
    with pytest.raises(RuntimeError, match="no gradient"):
        conv2d(input, conv2d_weights(weight), bias, (1, 1), residual=input.clone().requires_grad_())


def test_tiles_keep_to_sums_of_float32():
    """In bfloat16, in every form: each output is within its own rounding of the exact sum of rounded inputs."""
    random = torch.Generator().manual_seed(0)
    for case in ("1x1, long rows", "3x3, several copied blocks", "3x3, not copied", "7x7 of pixels", "tiny maps"):
        batch, channels, height, width, outputs, size, stride, padding = CASES[case]
        input = torch.randn(batch, channels, height, width, generator=random).bfloat16()
        weight = torch.randn(outputs, channels, *size, generator=random).bfloat16()
        bias = torch.randn(outputs, generator=random)
        found = conv2d(input, conv2d_weights(weight, torch.bfloat16), bias, size, stride, padding)
        np.testing.assert_allclose(
            found.double(), exact(input, weight, bias, stride, padding), rtol=2**-8, atol=3e-4, err_msg=case
        )


def test_tiles_of_torch_stay_configured():
    """torch's layers remember in which shape they left a thread's tiles."""
    layer = torch.nn.Linear(40, 24).bfloat16()
    rows, (input, weight, bias) = torch.ones(9, 40).bfloat16(), problem(1, 32, 9, 16, 48, (3, 3), torch.bfloat16)
    with torch.no_grad():
        expected = layer(rows)
        for _ in range(3):
            conv2d(input, conv2d_weights(weight, torch.bfloat16), bias, (3, 3), 1, 1)
            assert torch.equal(layer(rows), expected)


REFUSED = """
import ctypes

class Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

# A system that would have no place for tiles on a signal's stack refuses them.
memory = ctypes.create_string_buffer(4096)
assert not ctypes.CDLL(None).sigaltstack(ctypes.byref(Stack(ctypes.addressof(memory), 0, 4096)), None)
from rcnnkit.ops.conv2d import multiplies_in_tiles
assert not multiplies_in_tiles()
from tests.ops import test_conv2d as t
t.test_the_same_as_a_convolution("3x3, one copied block", t.torch.bfloat16)
"""


def test_tiles_that_the_system_refuses_are_not_used():
    if not multiplies_in_tiles():
        pytest.skip("this machine has no AMX, or refuses it")
    done = run(REFUSED)
    assert not done.returncode, done.stderr


def test_every_instruction_set():
    on_each_level(
        "from tests.ops import test_conv2d as t\n"
        "for dtype in t.TYPES:\n    for case in t.CASES:\n        t.test_the_same_as_a_convolution(case, dtype)"
    )


def test_threads_do_not_change_a_bit():
    random = torch.Generator().manual_seed(0)
    input, weight = torch.randn(1, 40, 50, 50, generator=random), torch.randn(32, 40, 3, 3, generator=random)
    w, bias, before = conv2d_weights(weight), torch.zeros(32), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = conv2d(input, w, bias, (3, 3), 2, 1)
        torch.set_num_threads(3)
        assert torch.equal(conv2d(input, w, bias, (3, 3), 2, 1), one)
    finally:
        torch.set_num_threads(before)
