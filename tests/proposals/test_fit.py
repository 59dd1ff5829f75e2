import math

import pytest
import torch
from torch import Tensor

from rcnnkit.boxes import iou
from rcnnkit.proposals.anchors import grid_anchors
from rcnnkit.proposals.fit import fit_anchors, reach
from rcnnkit.proposals.rpn import RPNSettings

PYRAMID = [4, 8, 16, 32, 64]


def tried(sides: Tensor, settings: RPNSettings, strides: list[int], least: float, places: int) -> Tensor:
    """(N,) the share of random places in a large picture where one of all its anchors overlaps each box enough."""
    generator = torch.Generator().manual_seed(0)
    side = 256
    maps = zip(settings.cells(strides), strides, strict=True)
    anchors = torch.cat([grid_anchors(cells, (side // s, side // s), (side, side)) for cells, s in maps])
    hits = []
    for _ in range(places):
        centres = 96 + torch.rand(len(sides), 2, generator=generator) * 64  # far from the grid's end
        boxes = torch.cat([centres - sides / 2, centres + sides / 2], dim=1)
        hits.append((iou(boxes, anchors).amax(dim=1) >= least).float())
    return torch.stack(hits).mean(dim=0)


@pytest.mark.parametrize(
    ("settings", "strides", "least"),
    [
        (RPNSettings(), PYRAMID, 0.5),
        (RPNSettings(), PYRAMID, 0.7),
        (RPNSettings(anchor_sizes=[[16, 32, 64]], anchor_ratios=[1.0]), [16], 0.5),
        (RPNSettings(anchor_layout="detectron2"), PYRAMID, 0.5),
    ],
)
def test_reach_is_what_anchors_on_a_grid_reach(settings: RPNSettings, strides: list[int], least: float) -> None:
    sides = 6 + 100 * torch.rand(40, 2, generator=torch.Generator().manual_seed(1))
    ours, theirs = reach(sides, settings, strides, least), tried(sides, settings, strides, least, 64)
    assert 0.1 < theirs.mean() < 0.9
    assert float(ours.mean()) == pytest.approx(float(theirs.mean()), abs=0.02)
    assert (ours - theirs).abs().max() < 0.25  # four standard deviations of a share of 64


def test_reach_by_hand() -> None:
    settings = RPNSettings(anchor_sizes=[[16]], anchor_ratios=[1.0])
    sides = torch.tensor([[16.0, 16], [16, 8], [16, 7], [32, 32]])
    # On a fine grid the IoU is at most 1, 1/2, 7/16 and 1/4; half a pixel away, the first three are above 0.4.
    assert reach(sides, settings, [1], iou=0.4).tolist() == [1.0, 1.0, 1.0, 0.0]
    assert reach(sides, settings, [1], iou=0.55).tolist() == [1.0, 0.0, 0.0, 0.0]
    # (16 - x) (16 - y) / (512 - that) is 1/2 or more where (16 - x) (16 - y) is 512 / 3 or more; x and y are spread
    # evenly from 0 to 8.
    x = torch.linspace(0, 8, 1001)
    inside = (((16 - x[:, None]) * (16 - x)) >= 512 / 3).float().mean()
    assert reach(sides[:1], settings, [16]).item() == pytest.approx(float(inside), abs=0.03)


def test_reach_of_many_boxes_is_that_of_each() -> None:
    sides = 6 + 100 * torch.rand(5000, 2, generator=torch.Generator().manual_seed(2))
    together = reach(sides, RPNSettings(), PYRAMID)
    some = torch.tensor([0, 4095, 4096, 4999])
    assert together[some].tolist() == [reach(sides[i : i + 1], RPNSettings(), PYRAMID).item() for i in some]
    assert reach(torch.zeros(0, 2), RPNSettings(), PYRAMID).shape == (0,)


def test_defaults_stay_where_they_are_good() -> None:
    sides = 40 + 200 * torch.rand(500, 1, generator=torch.Generator().manual_seed(3)).expand(-1, 2)
    fitted = fit_anchors(sides, PYRAMID)
    assert (fitted.sizes, fitted.ratios) == (RPNSettings().sizes(PYRAMID), RPNSettings().anchor_ratios)
    assert fitted.count == 3
    assert fitted.share == pytest.approx(float(reach(sides, RPNSettings(), PYRAMID).mean()))


def test_small_boxes_get_small_anchors() -> None:
    sides = 12 + 4 * torch.rand(500, 2, generator=torch.Generator().manual_seed(4))
    fitted = fit_anchors(sides, PYRAMID)
    finest = fitted.sizes[0][0]
    assert 11 <= finest <= 17
    assert fitted.sizes == [[finest * 2**i] for i in range(5)]
    assert float(reach(sides, RPNSettings(), PYRAMID).mean()) < 0.1
    assert fitted.share > 0.95
    assert tried(sides[:40], RPNSettings(anchor_sizes=fitted.sizes), PYRAMID, 0.5, 8).mean() > 0.95


def test_lines_of_text_get_flat_anchors() -> None:
    generator = torch.Generator().manual_seed(5)
    widths = torch.exp(torch.randn(500, generator=generator) * 0.4) * 150
    sides = torch.stack([widths, widths * 0.12 * torch.exp(torch.randn(500, generator=generator) * 0.2)], dim=1)
    fitted = fit_anchors(sides, PYRAMID)
    assert all(0.08 <= ratio <= 0.2 for ratio in fitted.ratios)
    assert float(reach(sides, RPNSettings(), PYRAMID).mean()) < 0.1
    assert fitted.share > 0.85


def test_one_map_has_all_sizes() -> None:
    sides = 60 + 200 * torch.rand(500, 2, generator=torch.Generator().manual_seed(6))
    fitted = fit_anchors(sides, [16])
    assert len(fitted.sizes) == 1
    assert fitted.share == pytest.approx(
        float(reach(sides, RPNSettings(anchor_sizes=fitted.sizes, anchor_ratios=fitted.ratios), [16]).mean())
    )


def test_no_other_anchors_that_were_tried_reach_much_more() -> None:
    """A search of its own over finest sizes."""
    sides = torch.exp(torch.rand(400, 2, generator=torch.Generator().manual_seed(7)) * 2.5) * 8
    best = max(
        float(reach(sides, RPNSettings(anchor_sizes=[[base * 2**i] for i in range(5)]), PYRAMID).mean())
        for base in range(8, 64, 4)
    )
    assert fit_anchors(sides, PYRAMID).share > best - 0.05


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_sides_are_lengths(wrong: float) -> None:
    sides = torch.tensor([[8.0, 8.0], [wrong, 8.0]])
    with pytest.raises(ValueError, match=rf"a box is {wrong:g} pixels wide and 8 high; both must be above 0"):
        reach(sides, RPNSettings(), PYRAMID)
    with pytest.raises(ValueError, match="both must be above 0"):
        fit_anchors(sides, PYRAMID)


def test_what_cannot_be_fitted_is_said() -> None:
    with pytest.raises(ValueError, match="there are no boxes to fit anchors to"):
        fit_anchors(torch.zeros(0, 2), PYRAMID)
    with pytest.raises(ValueError, match=r"sides has shape \(3, 4\), expected \(N, 2\)"):
        reach(torch.ones(3, 4), RPNSettings(), PYRAMID)
    with pytest.raises(ValueError, match="has 1 lists, but there are 5 maps"):
        reach(torch.ones(3, 2), RPNSettings(anchor_sizes=[[8]]), PYRAMID)
