import cv2
import numpy as np
import pytest
import torch

from rcnnkit import ops
from tests.ops.definitions import NASTY_BOXES, random_boxes, random_rois, warp


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(24))
def test_the_released_window_layer_by_definition(seed):
    random = generator(seed)
    pictures = torch.randn(2, 3, 40, 50, generator=random).double()
    if seed % 2:
        pictures = pictures.contiguous(memory_format=torch.channels_last)
    rois = random_rois(8, 2, random, side=60.0)
    size, context, square = ((20, 30), (27, 27))[seed % 2], (0, 1, 4)[seed % 3], seed % 4 > 1
    found = ops.warp_regions(pictures, rois, size, context, (0.5, -1.0, 2.0), square)
    for region, roi in zip(found, rois.numpy().astype(np.float64), strict=True):
        expected = warp(pictures[int(roi[0])].numpy(), roi[1:], size, context, (0.5, -1.0, 2.0), square)
        np.testing.assert_allclose(region, expected, atol=1e-5)  # sample positions are float32, as OpenCV's


@pytest.mark.parametrize("seed", range(5))
def test_opencv_resizes_inside_the_picture_alike(seed):
    random = generator(seed)
    picture = torch.rand(1, 3, 200, 300, generator=random)
    x, y = (int(n) for n in torch.randint(30, 100, (2,), generator=random))
    width, height = (int(n) for n in torch.randint(20, 60, (2,), generator=random))
    box = torch.tensor([[x, y, x + width, y + height]]).float()
    found = ops.warp_regions(picture, [box], 227, 0)[0]
    crop = np.ascontiguousarray(picture[0].permute(1, 2, 0)[y : y + height, x : x + width].numpy())
    expected = cv2.resize(crop, (227, 227), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(found.permute(1, 2, 0), expected, atol=1e-5)


def test_context_surrounds_the_region_by_16_pixels():
    picture = torch.zeros(1, 1, 400, 400)
    picture[..., 100:295, 100:295] = 1  # 195 = 227 − 2 · 16
    warped = ops.warp_regions(picture, [torch.tensor([[100.0, 100, 295, 295]])])[0, 0]
    inside = torch.where(warped[113] > 0.5)[0]
    # with both corners included the crop is 228 pixels, so that 195 of them become 194.1 of the output's
    assert (inside.min().item(), inside.max().item()) == (16, 209)


def test_outside_the_picture_is_fill():
    picture = torch.ones(1, 2, 100, 100)
    warped = ops.warp_regions(picture, [torch.tensor([[0.0, 40, 20, 60]])], 64, 16, (5, 7))[0]
    # the region fills the middle 32 pixels, so 10 pixels of the picture's left are missing: 16 of the output's
    assert warped[:, 32, 0].tolist() == [5, 7]
    assert warped[:, 32, 20].tolist() == [1, 1]
    assert 14 <= (warped[0, 32] == 5).sum() <= 16


@pytest.mark.parametrize("context", [0, 3])
def test_regions_of_every_nasty_kind(context):
    rois = torch.tensor([[0.0, *box] for box in NASTY_BOXES])
    picture = torch.randn(1, 3, 30, 30, generator=generator(0), requires_grad=True)
    found = ops.warp_regions(picture, rois, 16, context, 2.5)
    found.sum().backward()
    assert found.isfinite().all()
    assert picture.grad is not None
    assert picture.grad.isfinite().all()
    for region, box in zip(found.detach(), NASTY_BOXES, strict=True):
        if not np.isfinite(box).all() or max(map(abs, box)) > 1e9 or min(box) >= 400:
            assert (region == 2.5).all()
        elif max(map(abs, box)) < 1e6:
            expected = warp(picture.detach()[0].double().numpy(), np.array(box), (16, 16), context, (2.5,) * 3, False)
            np.testing.assert_allclose(region, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_dtype_with_gradients(dtype):
    random = generator(1)
    picture = torch.randn(2, 3, 30, 40, generator=random).to(dtype).requires_grad_()
    rois = random_rois(9, 2, random, side=40.0)
    found = ops.warp_regions(picture, rois, 24, 4)
    exact = picture.detach().double().requires_grad_()
    expected = ops.warp_regions(exact, rois, 24, 4)
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected, atol=max(step, 1e-6), rtol=step)
    grad = torch.randn(found.shape, generator=random).to(dtype)
    (ours,) = torch.autograd.grad(found, picture, grad)
    (theirs,) = torch.autograd.grad(expected, exact, grad.double())
    torch.testing.assert_close(ours.double(), theirs, atol=max(step, 1e-4), rtol=step)


def test_gradcheck():
    random = generator(9)
    for layout in (torch.contiguous_format, torch.channels_last):
        picture = torch.randn(1, 2, 6, 7, generator=random, dtype=torch.float64).contiguous(memory_format=layout)
        boxes = random_boxes(3, random, side=8.0)
        assert torch.autograd.gradcheck(
            lambda x, b=boxes: ops.warp_regions(x, [b], (6, 8), 1), picture.requires_grad_()
        )


def test_fill_is_exact_in_float64():
    found = ops.warp_regions(torch.zeros(1, 1, 4, 4).double(), torch.tensor([[0, 50.0, 50, 60, 60]]), 3, 0, 0.1)
    assert found.unique().tolist() == [0.1]


def test_empty():
    assert ops.warp_regions(torch.zeros(1, 3, 5, 5), [torch.empty(0, 4)]).shape == (0, 3, 227, 227)
    assert ops.warp_regions(torch.zeros(0, 3, 5, 5), []).shape == (0, 3, 227, 227)


def test_errors_name_what_is_wrong():
    picture = torch.zeros(1, 3, 5, 5)
    with pytest.raises(ValueError, match="context is 8, which leaves nothing of an output of 16 × 16"):
        ops.warp_regions(picture, [torch.zeros(1, 4)], 16, 8)
    with pytest.raises(ValueError, match="fill has 2 numbers for 3 channels"):
        ops.warp_regions(picture, [torch.zeros(1, 4)], fill=(1, 2))
    with pytest.raises(RuntimeError, match="region 0 names picture 1, but the batch has 1"):
        ops.warp_regions(picture, torch.ones(1, 5))


def test_opcheck():
    random = generator(12)
    picture = torch.randn(2, 3, 9, 7, generator=random, requires_grad=True)
    rois = random_rois(3, 2, random, side=9.0)
    torch.library.opcheck(torch.ops.rcnnkit.warp_regions, (picture, rois, torch.zeros(3), 8, 9, 2, False))
