"""Regions from maps: which map, and the values, as torchvision has them."""

import math
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign

from rcnnkit.backbones.two_fc import TwoFC
from rcnnkit.heads.box_head import BoxHead, HeadSettings
from rcnnkit.heads.region_pool import PoolSettings, RegionPool
from rcnnkit.structures import Proposals

STRIDES = [4, 8, 16, 32]
ROI_ALIGN, ROI_POOL = PoolSettings(), PoolSettings(pool="roi_pool")
SIZE = 1024  # pixels of a side


def maps(channels: int = 3, batch: int = 2, strides: list[int] = STRIDES, size: int = SIZE) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, channels, size // s, size // s, generator=generator) for s in strides]


def random_boxes(n: int, seed: int) -> Tensor:
    """Of all scales, some reaching beyond the picture."""
    generator = torch.Generator().manual_seed(seed)
    sides = torch.exp(torch.rand(n, 2, generator=generator) * math.log(SIZE / 2)) * 2
    corner = torch.rand(n, 2, generator=generator) * SIZE - sides / 4
    return torch.cat([corner, corner + sides], dim=1)


def proposals(*boxes: Tensor) -> list[Proposals]:
    return [Proposals(b, torch.ones(len(b))) for b in boxes]


def square(side: float) -> list[float]:
    return [10.0, 20.0, 10 + side, 20 + side]


@pytest.mark.parametrize(
    ("box", "level"),
    [
        (square(224), 4),  # an ImageNet picture
        (square(223), 3),
        (square(447), 4),
        (square(448), 5),
        (square(112), 3),
        (square(111), 2),
        (square(1), 2),  # P2 and below
        (square(5000), 5),  # P5 and above
        ([0, 0, 448, 112], 4),  # √(448 · 112) = 224
        ([0, 0, 1000, 12], 2),  # √12000 = 109.5
        (square(0), 2),
        ([30, 30, 20, 50], 2),  # inverted: no area
        ([0, 0, math.inf, 10], 5),
        ([math.nan, 0, 5, 10], 2),
    ],
)
def test_levels_by_hand(box: list[float], level: int) -> None:
    pool = RegionPool(STRIDES, 7, ROI_ALIGN)
    assert pool.level(torch.tensor([box], dtype=torch.float32)).tolist() == [level - 2]
    # the same box where P3 is the finest of two maps
    two = RegionPool([8, 16], 7, ROI_ALIGN)
    assert two.level(torch.tensor([box], dtype=torch.float32)).tolist() == [min(max(level, 3), 4) - 3]


@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_values_are_torchvisions_over_all_levels(sampling_ratio: int) -> None:
    boxes = [random_boxes(60, 1), random_boxes(40, 2)]
    features = maps()
    ours = RegionPool(STRIDES, 7, PoolSettings(sampling_ratio=sampling_ratio))
    assert len(set(ours.level(torch.cat(boxes)).tolist())) == 4
    theirs = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, sampling_ratio)
    named = OrderedDict((str(i), f) for i, f in enumerate(features))
    expected = theirs(named, boxes, [(SIZE, SIZE)] * 2)
    torch.testing.assert_close(ours(features, proposals(*boxes)), expected)


@pytest.mark.parametrize("aligned", [False, True])
def test_one_map_by_roi_align(aligned: bool) -> None:
    (feature,) = maps(strides=[16])
    boxes = [random_boxes(20, 1), random_boxes(30, 2)]
    expected = torchvision.ops.roi_align(feature, boxes, (5, 5), 1 / 16, 3, aligned)
    ours = RegionPool([16], 5, PoolSettings(sampling_ratio=3, aligned=aligned))([feature], proposals(*boxes))
    torch.testing.assert_close(ours, expected)


def test_one_map_by_roi_pool() -> None:
    (feature,) = maps(strides=[16])
    boxes = [random_boxes(20, 1), random_boxes(30, 2)]
    expected = torchvision.ops.roi_pool(feature, boxes, (6, 6), 1 / 16)
    torch.testing.assert_close(RegionPool([16], 6, ROI_POOL)([feature], proposals(*boxes)), expected)


def test_roi_pool_by_hand() -> None:
    # Cells 1 to 4 of a 6 × 6 map of stride 8; roi_pool counts both ends in: 4 × 4 cells, 2 × 2 bins.
    feature = torch.arange(36.0).reshape(1, 1, 6, 6)
    pooled = RegionPool([8], 2, ROI_POOL)([feature], proposals(torch.tensor([[8.0, 8, 32, 32]])))
    assert pooled.tolist() == [[[[14, 16], [26, 28]]]]  # the largest: rows 1-2 and 3-4, columns 1-2 and 3-4


def test_roi_align_by_hand() -> None:
    # On a ramp of slope 1 a cell in x, bilinear samples average to the centre of each bin.
    feature = torch.arange(16.0).expand(1, 1, 16, 16)
    pooled = RegionPool([4], 2, ROI_ALIGN)([feature], proposals(torch.tensor([[8.0, 8, 40, 24]])))
    # x from cell 2 to 10: bins [2, 6] and [6, 10]
    torch.testing.assert_close(pooled, torch.tensor([[[[4.0, 8], [4, 8]]]]))


def test_the_same_without_gradients() -> None:
    features, given, pool = (
        [*maps(), maps()[0]],
        proposals(random_boxes(40, 1), random_boxes(30, 2)),
        RegionPool(STRIDES, 7, ROI_ALIGN),
    )
    expected = pool(features, given)
    with torch.no_grad():
        assert torch.equal(pool(features, given), expected)
        with pytest.raises(ValueError, match="zip"):
            pool(features[:3], given)


@pytest.mark.parametrize("strides", [[16], STRIDES])
def test_any_number_of_regions_goes_through_an_export(strides: list[int]) -> None:
    """Pool, head and suppression of one picture, with as many regions as come."""

    class Regions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = RegionPool(strides, 3, ROI_ALIGN)
            self.head = BoxHead(TwoFC(3, 3, 8), 8, ["a", "b"], [1, 2], HeadSettings(score_threshold=0.3, min_side=1))

        def forward(self, features: list[Tensor], rois: Tensor) -> tuple[Tensor, ...]:
            scores, deltas = self.head.predict(self.pool.pool_rois(features, rois))
            return scores, deltas, *self.head.suppress(rois[:, 1:], scores, deltas, (SIZE, SIZE))

    module, features = Regions().eval(), maps(batch=1, strides=strides)
    rois = [F.pad(random_boxes(count, count), (1, 0)) for count in (40, 2, 71)]
    with torch.no_grad():
        fixed = torch.export.export(module, (features, rois[0])).module()
        open_shapes = {"features": [None] * len(strides), "rois": {0: torch.export.Dim("R", min=2)}}
        dynamic = torch.export.export(module, (features, rois[0]), dynamic_shapes=open_shapes).module()
        for exported, several in ((fixed, rois[:1]), (dynamic, rois)):
            for some in several:
                expected = module(features, some)
                assert len(expected[2]) > 1
                assert all(map(torch.equal, exported(features, some), expected))


def test_no_proposals() -> None:
    for pool, features in (
        (RegionPool(STRIDES, 7, ROI_ALIGN), maps()),
        (RegionPool([16], 7, ROI_POOL), maps(strides=[16])),
    ):
        pooled = pool(features, proposals(torch.empty(0, 4), torch.empty(0, 4)))
        assert pooled.shape == (0, 3, 7, 7)
        assert pooled.dtype == torch.float32


def test_an_image_without_proposals_between_others() -> None:
    features = maps(batch=3)
    one, two = random_boxes(9, 1), random_boxes(5, 2)
    pool = RegionPool(STRIDES, 7, ROI_ALIGN)
    together = pool(features, proposals(one, torch.empty(0, 4), two))
    assert len(together) == 14
    torch.testing.assert_close(together[:9], pool([f[:1] for f in features], proposals(one)))
    torch.testing.assert_close(together[9:], pool([f[2:] for f in features], proposals(two)))


def test_gradients_reach_the_maps_that_are_used_and_are_zero_elsewhere() -> None:
    features = [f.requires_grad_() for f in maps(batch=1)]
    boxes = torch.tensor([square(30), square(300), square(600)])  # P2, P4, P5
    RegionPool(STRIDES, 7, ROI_ALIGN)(features, proposals(boxes)).square().sum().backward()
    gradients = [f.grad for f in features if f.grad is not None]
    assert [bool(g.any()) for g in gradients] == [True, False, True, True]
    assert all(g.isfinite().all() for g in gradients)


def test_gradients_are_torchvisions() -> None:
    boxes = random_boxes(50, 3)
    ours = [f.requires_grad_() for f in maps(batch=1)]
    theirs = [f.requires_grad_() for f in maps(batch=1)]
    RegionPool(STRIDES, 7, ROI_ALIGN)(ours, proposals(boxes)).square().sum().backward()
    named = OrderedDict((str(i), f) for i, f in enumerate(theirs))
    MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)(named, [boxes], [(SIZE, SIZE)]).square().sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("method", ["roi_align", "roi_pool"])
def test_degenerate_boxes_do_not_crash(method) -> None:
    boxes = torch.tensor(
        [
            [5.0, 5, 5, 5],
            [50, 50, 20, 20],
            [-900, -900, -800, -800],
            [5000, 5000, 6000, 6000],
            [-1e4, -1e4, 1e4, 1e4],
        ]
    )
    good = torch.tensor([square(100)])
    for strides in (STRIDES, [16]):
        features = maps(batch=1, strides=strides)
        pool = RegionPool(strides, 3, PoolSettings(pool=method))
        pooled = pool(features, proposals(torch.cat([boxes, good])))
        assert pooled.isfinite().all()
        torch.testing.assert_close(pooled[-1:], pool(features, proposals(good)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_pooled_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    features = [f.to(dtype) for f in maps()]
    boxes = [random_boxes(10, 1), random_boxes(10, 2)]
    pool = RegionPool(STRIDES, 7, ROI_ALIGN)
    expected = pool([f.float() for f in features], proposals(*boxes))
    pooled = pool(features, proposals(*boxes))
    assert pooled.equal(expected.to(dtype))
