import inspect
import math
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rcnnkit import ops
from tests.ops.definitions import NASTY_BOXES, random_rois, roi_align

try:
    import torchvision
except (ImportError, RuntimeError):  # a torch that no torchvision was made for
    torchvision = None
needs_torchvision = pytest.mark.skipif(torchvision is None, reason="no torchvision for this torch")

LAYOUTS = [torch.contiguous_format, torch.channels_last]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def generator(seed):
    return torch.Generator().manual_seed(seed)


@needs_torchvision
def test_one_changed_import_moves_a_project_over():
    ours, theirs = (inspect.signature(module.roi_align) for module in (ops, torchvision.ops))
    assert [(p.name, p.default) for p in ours.parameters.values()] == [
        (p.name, p.default) for p in theirs.parameters.values()
    ]


@pytest.mark.parametrize("ratio", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_samples_by_definition(ratio, aligned, layout):
    random = generator(ratio + 10)
    feature = torch.randn(2, 3, 9, 13, generator=random, dtype=torch.float64).contiguous(memory_format=layout)
    rois = random_rois(12, 2, random).double()
    found = ops.roi_align(feature, rois, (2, 3), 0.13, ratio, aligned)
    assert found.is_contiguous()
    np.testing.assert_allclose(found, roi_align(feature, rois, (2, 3), 0.13, ratio, aligned), atol=1e-12)


@needs_torchvision
@pytest.mark.parametrize("seed", range(40))
def test_torchvision_agrees_on_values_and_gradients(seed):
    random = generator(seed)
    channels = [1, 3, 16, 31, 32, 33, 70, 128][seed % 8]
    height, width = (int(n) for n in torch.randint(1, 40, (2,), generator=random))
    feature = torch.randn(3, channels, height, width, generator=random)
    feature = feature.contiguous(memory_format=LAYOUTS[seed % 2]).requires_grad_()
    rois = random_rois(50, 3, random, side=12.0 * max(height, width))
    size, ratio, aligned = (7, 14, (1, 5))[seed % 3], (2, -1, 0, 1)[seed % 4], seed % 5 > 1
    outputs = [module.roi_align(feature, rois, size, 1 / 12, ratio, aligned) for module in (ops, torchvision.ops)]
    # sums of up to a few hundred products in another order
    torch.testing.assert_close(outputs[0], outputs[1], atol=2e-5, rtol=1e-5)
    grad = torch.randn(outputs[0].shape, generator=random)
    ours, theirs = (torch.autograd.grad(output, feature, grad)[0] for output in outputs)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert ours.stride() == feature.stride() or 1 in feature.shape


def test_a_bin_worked_by_hand():
    feature = torch.arange(16.0).reshape(1, 1, 4, 4)
    # one sample at (1.5, 1.5), between 5, 6, 9 and 10; aligned moves it to (1, 1)
    rois = torch.tensor([[0.0, 1, 1, 2, 2]])
    assert ops.roi_align(feature, rois, 1, 1.0, 1).item() == 7.5
    assert ops.roi_align(feature, rois, 1, 1.0, 1, True).item() == 5.0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_beside_float32_boxes(dtype, layout):
    random = generator(4)
    feature = torch.randn(2, 40, 20, 30, generator=random).to(dtype).contiguous(memory_format=layout).requires_grad_()
    rois = random_rois(30, 2, random, side=800.0)  # bfloat16 would round these by pixels
    found = ops.roi_align(feature, rois, 7, 1 / 32, 2, True)
    exact = feature.detach().double().requires_grad_()
    expected = ops.roi_align(exact, rois.double(), 7, 1 / 32, 2, True)
    step = torch.finfo(dtype).eps
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, atol=max(step, 1e-5), rtol=step)
    grad = torch.randn(found.shape, generator=random).to(dtype)
    (ours,) = torch.autograd.grad(found, feature, grad)
    (theirs,) = torch.autograd.grad(expected, exact, grad.double())
    assert ours.dtype == dtype
    # rounded once, at the end, if sums are made in float32
    torch.testing.assert_close(ours.double(), theirs, atol=max(step / 8, 2e-5), rtol=step)


def test_strides_of_any_kind():
    random = generator(6)
    wide = torch.randn(4, 20, 18, 40, generator=random)
    rois = random_rois(20, 2, random)
    for view in (wide[::2, 1:, :, ::2], wide.permute(1, 0, 3, 2)[:2], wide[:1].expand(2, -1, -1, -1)):
        expected = ops.roi_align(view.contiguous(), rois, 3, 0.2)
        torch.testing.assert_close(ops.roi_align(view, rois, 3, 0.2), expected, atol=0, rtol=0)


def test_a_list_of_boxes_is_the_same_as_rows_with_pictures():
    random = generator(7)
    feature, rois = torch.randn(3, 4, 10, 10, generator=random), random_rois(9, 3, random)
    rois = rois[rois[:, 0].argsort(stable=True)]
    listed = [rois[rois[:, 0] == i, 1:] for i in range(3)]
    assert torch.equal(ops.roi_align(feature, listed, 2, 0.1), ops.roi_align(feature, rois, 2, 0.1))
    empty = [torch.empty(0, 4)] * 3
    assert ops.roi_align(feature, empty, 2).shape == (0, 4, 2, 2)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 5, 1, 7), (2, 0, 4, 4), (1, 3, 0, 5)])
def test_maps_of_one_cell_and_of_none(shape):
    feature = torch.ones(shape, requires_grad=True)
    found = ops.roi_align(feature, torch.tensor([[0.0, 0, 0, 3, 3]]), 2, 1.0, 2)
    assert found.shape == (1, shape[1], 2, 2)
    found.sum().backward()
    assert feature.grad is not None
    assert feature.grad.shape == shape
    if shape == (1, 1, 1, 1):  # bins of 1.5: samples at 0.375 and 1.125 in the first, beyond 1 in the rest
        np.testing.assert_allclose(
            found.detach()[0, 0], roi_align(feature.detach(), [[0, 0, 0, 3, 3]], (2, 2), 1, 2, False)[0, 0]
        )


@pytest.mark.parametrize("ratio", [2, -1])
@pytest.mark.parametrize("aligned", [False, True])
def test_regions_of_every_nasty_kind(ratio, aligned):
    rois = torch.tensor([[0.0, *box] for box in NASTY_BOXES], requires_grad=True)
    feature = torch.randn(1, 3, 8, 8, generator=generator(0), requires_grad=True)
    start = time.perf_counter()
    found = ops.roi_align(feature, rois, 3, 1.0, ratio, aligned)
    found.sum().backward()
    assert time.perf_counter() - start < 20  # it would be hours if a region of 1e30 were sampled throughout
    assert found.isfinite().all()
    assert feature.grad is not None
    assert feature.grad.isfinite().all()
    assert rois.grad is not None
    assert rois.grad.isfinite().all()
    rois = rois.detach()
    finite = [i for i, box in enumerate(NASTY_BOXES) if all(map(math.isfinite, box))]
    assert not found[[i for i in range(len(rois)) if i not in finite]].any()
    usual = [i for i in finite if max(map(abs, NASTY_BOXES[i])) < 1e6]
    expected = roi_align(feature.detach(), rois[usual], (3, 3), 1.0, ratio, aligned)
    np.testing.assert_allclose(found[usual].detach(), expected, atol=1e-5)


@needs_torchvision
def test_a_huge_region_is_the_mean_of_what_the_map_has():
    feature = torch.ones(1, 1, 8, 8)
    # 1000 cells a side, sampled once a cell: [0, 1000)² holds 8 cells and, up to one beyond, a border of 0.5
    found = ops.roi_align(feature, torch.tensor([[0.0, 0, 0, 1000, 1000]]), 1, 1.0)
    expected = torchvision.ops.roi_align(feature, torch.tensor([[0.0, 0, 0, 1000, 1000]]), 1, 1.0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_nan_in_the_map_stays_where_it_is():
    feature = torch.zeros(1, 2, 10, 10)
    feature[0, 0, 2, 2] = math.nan
    found = ops.roi_align(feature, torch.tensor([[0.0, 0, 0, 4, 4], [0, 5, 5, 9, 9]]), 1)
    assert found.isnan().flatten().tolist() == [True, False, False, False]


def test_gradcheck():
    random = generator(9)
    for layout in LAYOUTS:
        feature = torch.randn(2, 3, 5, 6, generator=random, dtype=torch.float64).contiguous(memory_format=layout)
        rois = random_rois(4, 2, random, side=50.0).double()
        for ratio, aligned in ((2, False), (-1, True)):
            assert torch.autograd.gradcheck(
                lambda x, n=ratio, a=aligned, r=rois: ops.roi_align(x, r, (2, 3), 0.1, n, a), feature.requires_grad_()
            )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("ratio", "aligned"), [(2, False), (-1, True), (1, True)])
def test_gradcheck_of_boxes(layout, ratio, aligned):
    random = generator(9)
    feature = torch.randn(2, 3, 5, 6, generator=random, dtype=torch.float64).contiguous(memory_format=layout)
    # one is less than a cell, one upside down
    rois = torch.cat([random_rois(8, 2, random, side=50.0), torch.tensor([[1.0, 8, 9, 11, 13], [0, 31, 22, 9, 12]])])
    pictures, boxes = rois[:, :1].double(), rois[:, 1:].double().requires_grad_()

    def align(input, boxes):
        return ops.roi_align(input, torch.cat([pictures, boxes], 1), (2, 3), 0.1, ratio, aligned)

    assert torch.autograd.gradcheck(align, (feature.requires_grad_(), boxes), atol=1e-6)
    rois = rois.double().requires_grad_()
    (alone,) = torch.autograd.grad(ops.roi_align(feature.detach(), rois, 2, 0.1, ratio, aligned).sum(), rois)
    assert not alone[:, 0].any()
    assert alone[:, 1:].any()


def by_grid_sample(feature, rois, size, scale, ratio):
    """RoIAlign of aligned boxes, on the map's own grid of samples."""
    height, width = feature.shape[2:]
    steps = (torch.arange(size * ratio, dtype=feature.dtype) + 0.5) / (size * ratio)
    x, y = (
        low[:, None] + (high - low)[:, None] * steps
        for low, high in ((r * scale) for r in (rois[:, 1::2].T, rois[:, 2::2].T))
    )
    grid = torch.stack(
        [
            x[:, None, :].expand(-1, len(steps), -1) * 2 / width - 1,
            y[:, :, None].expand(-1, -1, len(steps)) * 2 / height - 1,
        ],
        -1,
    )
    samples = F.grid_sample(feature[rois[:, 0].long()], grid, padding_mode="border", align_corners=False)
    return F.avg_pool2d(samples, ratio)


@pytest.mark.parametrize("ratio", [1, 2, 3])
@pytest.mark.parametrize("channels", [5, 32, 70])
def test_grid_sample_agrees_on_the_gradient_of_boxes(ratio, channels):
    random = generator(ratio)
    feature = torch.randn(2, channels, 12, 17, generator=random, dtype=torch.float64)
    feature = feature.contiguous(memory_format=LAYOUTS[channels % 2])
    centre, half = torch.rand(30, 2, generator=random) * 8 + 44, torch.rand(30, 2, generator=random) * 40
    rois = torch.cat([torch.arange(30.0)[:, None] % 2, centre - half, centre + half], 1).double().requires_grad_()
    outputs = ops.roi_align(feature, rois, 7, 0.125, ratio, True), by_grid_sample(feature, rois, 7, 0.125, ratio)
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-12, rtol=0)
    grad = torch.randn(outputs[0].shape, generator=random, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(output, rois, grad)[0] for output in outputs)
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


def test_a_gradient_of_boxes_worked_by_hand():
    feature = torch.tensor([[[[0.0, 1, 5, 7]]]]).expand(1, 1, 4, 4)
    rois = torch.tensor([[0.0, 0.8, 1, 2.8, 3]], requires_grad=True)
    # one sample at x = 1.3, halfway between the sides, where the map rises by 4 a cell; nothing changes along y
    (grad,) = torch.autograd.grad(ops.roi_align(feature, rois, 1, 1.0, 1, True), rois)
    torch.testing.assert_close(grad, torch.tensor([[0.0, 2, 0, 2, 0]]))
    # on the centre of cell 1 the slope towards cell 2 counts
    (grad,) = torch.autograd.grad(
        ops.roi_align(feature, rois - torch.tensor([0, 0.3, 0, 0.3, 0]), 1, 1.0, 1, True), rois
    )
    torch.testing.assert_close(grad, torch.tensor([[0.0, 2, 0, 2, 0]]))
    # off the map the border continues: x = -0.2, x = 3.3
    for left in (-0.7, 2.8):
        rois = torch.tensor([[0.0, left, 1, left + 2, 3]], requires_grad=True)
        (grad,) = torch.autograd.grad(ops.roi_align(feature, rois, 1, 1.0, 1, True), rois)
        assert not grad.any()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_has_a_gradient_of_float32_boxes(dtype, layout):
    random = generator(4)
    feature = torch.randn(2, 40, 20, 30, generator=random).to(dtype).contiguous(memory_format=layout)
    rois = random_rois(30, 2, random, side=800.0).requires_grad_()
    found = ops.roi_align(feature, rois, 7, 1 / 32, 2, True)
    exact = rois.detach().double().requires_grad_()
    expected = ops.roi_align(feature.double(), exact, 7, 1 / 32, 2, True)
    grad = torch.randn(found.shape, generator=random).to(dtype)
    (ours,) = torch.autograd.grad(found, rois, grad)
    (theirs,) = torch.autograd.grad(expected, exact, grad.double())
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("ratio", "aligned"), [(2, False), (-1, True), (5, True)])
def test_gradients_of_map_and_boxes_at_once_are_those_of_each_alone(dtype, ratio, aligned):
    random = generator(8)
    for layout in LAYOUTS:
        feature = torch.randn(2, 40, 20, 30, generator=random).to(dtype).contiguous(memory_format=layout)
        rois = torch.cat([random_rois(20, 2, random, side=300.0), torch.tensor([[0.0, *box] for box in NASTY_BOXES])])
        rois = torch.cat([rois, rois[:9][:, [0, 3, 4, 1, 2]]])  # some upside down
        leaves = feature.requires_grad_(), rois.requires_grad_()
        found = ops.roi_align(*leaves, (7, 3), 0.1, ratio, aligned)
        grad = torch.randn(found.shape, generator=random).to(dtype)
        both = torch.autograd.grad(found, leaves, grad)
        of_map = ops.roi_align(feature, rois.detach(), (7, 3), 0.1, ratio, aligned)
        of_boxes = ops.roi_align(feature.detach(), rois, (7, 3), 0.1, ratio, aligned)
        alone = torch.autograd.grad(of_map, feature, grad) + torch.autograd.grad(of_boxes, rois, grad)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(both, alone, strict=True))
        assert both[0].stride() == feature.stride()


def test_nan_in_the_map_is_in_the_gradient_of_the_boxes_that_see_it():
    feature = torch.randn(1, 2, 10, 10, generator=generator(3))
    feature[0, 0, 2, 2] = math.nan
    rois = torch.tensor([[0.0, 0, 0, 4, 4], [0, 5, 5, 9, 9]], requires_grad=True)
    (grad,) = torch.autograd.grad(ops.roi_align(feature, rois, 2).sum(), rois)
    assert grad[0, 1:].isnan().all()
    assert grad[1].isfinite().all()


def test_the_map_is_kept_only_for_boxes_that_ask():
    random = generator(5)
    feature, rois = torch.randn(1, 4, 9, 9, generator=random, requires_grad=True), random_rois(3, 1, random)
    kept = []

    def keep(tensor):
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        ops.roi_align(feature, rois, 2, 0.1)
        assert kept == [rois.shape]
        ops.roi_align(feature, rois.requires_grad_(), 2, 0.1)
    assert kept[1:] == [rois.shape, feature.shape]


@pytest.mark.parametrize("name", ["input", "boxes"])
def test_gradients_are_the_same_every_time(name):
    random = generator(11)
    feature = torch.randn(1, 64, 30, 30, generator=random, requires_grad=True)
    rois, grad = random_rois(200, 1, random).requires_grad_(), torch.randn(200, 64, 7, 7, generator=random)
    found = ops.roi_align(feature, rois, 7, 0.3, 2)
    of = {"input": feature, "boxes": rois}[name]
    grads = [torch.autograd.grad(found, of, grad, retain_graph=True)[0] for _ in range(5)]
    assert all(torch.equal(g, grads[0]) for g in grads)


def test_errors_name_what_is_wrong():
    feature = torch.zeros(2, 3, 4, 4)
    with pytest.raises(RuntimeError, match="region 1 names picture 2, but the batch has 2"):
        ops.roi_align(feature, torch.tensor([[1.0, 0, 0, 1, 1], [2, 0, 0, 1, 1]]), 2)
    with pytest.raises(RuntimeError, match="region 0 names picture"):
        ops.roi_align(feature, torch.tensor([[math.nan, 0, 0, 1, 1]]), 2)
    with pytest.raises(RuntimeError, match="region 0 names picture -1"):
        ops.roi_align(feature, torch.tensor([[-1.0, 0, 0, 1, 1]]), 2)
    with pytest.raises(ValueError, match=r"boxes has shape \(1, 4\), expected \(R, 5\)"):
        ops.roi_align(feature, torch.zeros(1, 4), 2)
    with pytest.raises(ValueError, match="boxes are on meta, input is on cpu"):
        ops.roi_align(feature, torch.zeros(1, 5, device="meta"), 2)
    with pytest.raises(ValueError, match="boxes has 1 tensors for 2 pictures"):
        ops.roi_align(feature, [torch.zeros(1, 4)], 2)
    with pytest.raises(ValueError, match=r"input has shape \(3, 4, 4\)"):
        ops.roi_align(feature[0], torch.zeros(1, 5), 2)
    with pytest.raises(ValueError, match="output_size is 0"):
        ops.roi_align(feature, torch.zeros(1, 5), 0)
    with pytest.raises(RuntimeError, match="dtype must be"):
        ops.roi_align(feature.int(), torch.zeros(1, 5), 2)


def test_opcheck():
    random = generator(12)
    for layout in LAYOUTS:
        feature = torch.randn(2, 3, 6, 7, generator=random).contiguous(memory_format=layout).requires_grad_()
        rois = random_rois(5, 2, random, side=60.0).requires_grad_()
        torch.library.opcheck(torch.ops.rcnnkit.roi_align, (feature, rois, 0.1, 2, 3, 2, True))
        grad = torch.randn(5, 3, 2, 3, generator=random)
        torch.library.opcheck(
            torch.ops.rcnnkit.roi_align_backward_boxes, (grad, feature.detach(), rois.detach(), 0.1, 2, True)
        )
        both = torch.ops.rcnnkit.roi_align_backward_both
        channels_last = layout == torch.channels_last
        torch.library.opcheck(both, (grad, feature.detach(), rois.detach(), 0.1, 2, True, channels_last))
