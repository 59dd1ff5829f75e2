import inspect
import math

import numpy as np
import pytest
import torch

from rcnnkit import ops
from tests.ops.definitions import NASTY_BOXES, random_rois, roi_pool

try:
    import torchvision
except (ImportError, RuntimeError):  # a torch that no torchvision was made for
    torchvision = None
needs_torchvision = pytest.mark.skipif(torchvision is None, reason="no torchvision for this torch")

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def generator(seed):
    return torch.Generator().manual_seed(seed)


@needs_torchvision
def test_one_changed_import_moves_a_project_over():
    ours, theirs = (inspect.signature(module.roi_pool) for module in (ops, torchvision.ops))
    assert [(p.name, p.default) for p in ours.parameters.values()] == [
        (p.name, p.default) for p in theirs.parameters.values()
    ]


@pytest.mark.parametrize("seed", range(10))
def test_largest_values_by_definition(seed):
    random = generator(seed)
    feature = torch.randn(2, 3, 9, 13, generator=random).mul(4).round()  # many equals
    feature = feature.contiguous(memory_format=LAYOUTS[seed % 2])
    rois = random_rois(12, 2, random)
    values, argmax = torch.ops.rcnnkit.roi_pool(feature, rois, 0.125, 2, 3, True)
    expected_values, expected_argmax = roi_pool(feature, rois, (2, 3), 0.125)
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(argmax, expected_argmax)


@needs_torchvision
@pytest.mark.parametrize("seed", range(30))
def test_torchvision_agrees_on_values_and_gradients(seed):
    random = generator(seed)
    channels = [1, 3, 16, 31, 32, 33, 70, 128][seed % 8]
    height, width = (int(n) for n in torch.randint(1, 40, (2,), generator=random))
    feature = torch.randn(3, channels, height, width, generator=random)
    feature = feature.contiguous(memory_format=LAYOUTS[seed % 2]).requires_grad_()
    rois = random_rois(50, 3, random, side=16.0 * max(height, width))
    size = (7, 6, (1, 5))[seed % 3]
    outputs = [module.roi_pool(feature, rois, size, 1 / 16) for module in (ops, torchvision.ops)]
    assert torch.equal(*outputs)
    grad = torch.randn(outputs[0].shape, generator=random)
    ours, theirs = (torch.autograd.grad(output, feature, grad)[0] for output in outputs)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)  # sums in another order


def test_corners_are_rounded_away_from_zero_and_inclusive():
    feature = torch.arange(36.0).reshape(1, 1, 6, 6)
    # 0.5 → 1, 2.4 → 2: cells 1 and 2 on both axes
    assert ops.roi_pool(feature, torch.tensor([[0.0, 0.5, 0.5, 2.4, 2.4]]), 1).item() == 14
    # bins of 1.5 cells share the middle of three
    found = ops.roi_pool(feature, torch.tensor([[0.0, 0, 0, 2, 2]]), 2)
    assert found.flatten().tolist() == [7, 8, 13, 14]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_dtype_beside_float32_boxes(dtype, layout):
    random = generator(4)
    feature = torch.randn(2, 40, 20, 30, generator=random).to(dtype).contiguous(memory_format=layout).requires_grad_()
    rois = random_rois(30, 2, random, side=800.0)
    found = ops.roi_pool(feature, rois, 7, 1 / 32)
    exact = feature.detach().double().requires_grad_()
    expected = ops.roi_pool(exact, rois, 7, 1 / 32)
    assert torch.equal(found.double(), expected)
    grad = torch.randn(found.shape, generator=random).to(dtype)
    (ours,) = torch.autograd.grad(found, feature, grad)
    (theirs,) = torch.autograd.grad(expected, exact, grad.double())
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(ours.double(), theirs, atol=max(step / 8, 2e-5), rtol=step)


def test_regions_of_every_nasty_kind():
    rois = torch.tensor([[0.0, *box] for box in NASTY_BOXES])
    feature = torch.randn(1, 3, 8, 8, generator=generator(0), requires_grad=True)
    found = ops.roi_pool(feature, rois, 3)
    found.sum().backward()
    usual = [i for i, box in enumerate(NASTY_BOXES) if all(abs(c) < 1e6 for c in box)]
    np.testing.assert_array_equal(found.detach()[usual], roi_pool(feature.detach(), rois[usual], (3, 3), 1.0)[0])
    nowhere = [i for i, box in enumerate(NASTY_BOXES) if not all(map(math.isfinite, box))]
    assert not found[nowhere].any()
    everything = NASTY_BOXES.index([-1e30, -1e30, 1e30, 1e30])
    assert found[everything].amax((1, 2)).tolist() == feature[0].amax((1, 2)).tolist()
    assert feature.grad is not None
    assert feature.grad.isfinite().all()


def test_nan_is_passed_over():
    feature = torch.full((1, 1, 4, 4), math.nan)
    feature[0, 0, 1, 1] = -7
    found = ops.roi_pool(feature, torch.tensor([[0.0, 0, 0, 1, 1], [0, 2, 2, 3, 3], [0, 9, 9, 9, 9]]), 1)
    assert found.flatten().tolist() == [-7, -math.inf, 0]


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 0, 4, 4), (1, 3, 0, 5)])
def test_maps_of_one_cell_and_of_none(shape):
    feature = torch.ones(shape, requires_grad=True)
    found = ops.roi_pool(feature, torch.tensor([[0.0, 0, 0, 0, 0]]), 2)
    assert found.flatten().tolist() == [float(0 not in shape)] * (4 * shape[1])
    found.sum().backward()
    assert feature.grad is not None
    assert feature.grad.sum() == found.sum()
    assert ops.roi_pool(feature, torch.empty(0, 5), 2).shape == (0, shape[1], 2, 2)


def test_no_argmax_is_stored_where_no_gradient_is_wanted():
    feature, rois = torch.randn(1, 2, 4, 4), torch.tensor([[0.0, 0, 0, 3, 3]])
    assert torch.ops.rcnnkit.roi_pool(feature, rois, 1.0, 2, 2, False)[1].numel() == 0
    assert not ops.roi_pool(feature, rois, 2).requires_grad
    with torch.no_grad():
        assert not ops.roi_pool(feature.requires_grad_(), rois, 2).requires_grad


def test_gradcheck():
    random = generator(9)
    feature = torch.randn(2, 3, 5, 6, generator=random, dtype=torch.float64, requires_grad=True)
    rois = random_rois(4, 2, random, side=50.0)
    assert torch.autograd.gradcheck(lambda x: ops.roi_pool(x, rois, (2, 3), 0.1), feature)


def test_errors_name_what_is_wrong():
    feature = torch.zeros(2, 3, 4, 4)
    with pytest.raises(RuntimeError, match="region 0 names picture 5, but the batch has 2"):
        ops.roi_pool(feature, torch.tensor([[5.0, 0, 0, 1, 1]]), 2)
    with pytest.raises(ValueError, match="expected"):
        ops.roi_pool(feature, torch.zeros(1, 4), 2)


def test_opcheck():
    random = generator(12)
    feature = torch.randn(2, 3, 6, 7, generator=random, requires_grad=True)
    rois = random_rois(5, 2, random, side=60.0)
    torch.library.opcheck(torch.ops.rcnnkit.roi_pool, (feature, rois, 0.1, 2, 3, True))
    torch.library.opcheck(torch.ops.rcnnkit.roi_pool, (feature.detach(), rois, 0.1, 2, 3, False))
