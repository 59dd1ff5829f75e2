"""CaffeNet and VGG_CNN_M_1024: groups, normalisation across channels, and the pooling that rounds up."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rcnnkit.backbones.caffenet import caffenet
from rcnnkit.backbones.response_norm import AcrossChannelsNorm
from rcnnkit.backbones.single_map import SingleMap
from rcnnkit.backbones.vgg_cnn_m import vgg_cnn_m_1024


@pytest.mark.parametrize(
    ("net", "constants"), [(caffenet, (5, 1e-4, 0.75, 1)), (vgg_cnn_m_1024, (5, 5e-4, 0.75, 2))], ids=["caffenet", "m"]
)
def test_constants_of_the_normalisation(net, constants: tuple[float, ...]) -> None:
    norms = [layer for stage in net().stages for layer in stage if isinstance(layer, AcrossChannelsNorm)]
    assert [(norm.size, norm.alpha, norm.beta, norm.k) for norm in norms] == [constants] * 2


def test_caffenet_pools_first_and_vgg_m_normalises_first() -> None:
    def order(net: SingleMap) -> list[str]:
        return [type(layer).__name__ for layer in net.stages[1].children()][:2]

    assert order(caffenet()) == ["MaxPool2d", "AcrossChannelsNorm"]
    assert order(vgg_cnn_m_1024()) == ["AcrossChannelsNorm", "MaxPool2d"]


@pytest.mark.parametrize("stage", [1, 3, 4])  # conv2, conv4, conv5
def test_two_groups_by_hand(stage: int) -> None:
    """The first half of the outputs sees the first half of the inputs, the second the second."""
    conv = next(layer for layer in caffenet().stages[stage].children() if isinstance(layer, nn.Conv2d))
    ins, outs = conv.in_channels // 2, conv.out_channels // 2
    x = torch.randn(1, conv.in_channels, 6, 6)
    halves = [
        nn.functional.conv2d(x[:, part * ins :][:, :ins], conv.weight[part * outs :][:outs], padding=conv.padding)
        for part in (0, 1)
    ]
    with torch.no_grad():
        torch.testing.assert_close(conv(x), torch.cat(halves, dim=1))
    assert conv.weight.shape[1] == ins


def pooled(cells: Tensor, padding: int) -> Tensor:
    """Caffe's 3 × 3 pooling of stride 2, a window at a time: the last ones hold a cell at least."""
    sides = [-(-(side + 2 * padding - 3) // 2) + 1 for side in cells.shape]
    sides = [n - ((n - 1) * 2 >= side + padding) for n, side in zip(sides, cells.shape, strict=True)]
    out = torch.empty(*sides)
    for i, j in np.ndindex(*sides):
        top, left = 2 * i - padding, 2 * j - padding
        out[i, j] = cells[max(top, 0) : top + 3, max(left, 0) : left + 3].max()
    return out


@pytest.mark.parametrize("size", [(13, 13), (12, 15), (150, 250), (3, 2)])
@pytest.mark.parametrize("padded", [True, False])
def test_pooling_rounds_up_as_caffes(size: tuple[int, int], padded: bool) -> None:
    cells = torch.randn(*size)
    pool = next(caffenet(padded=padded).stages[1].children())
    assert pool(cells[None, None])[0, 0].equal(pooled(cells, int(padded)))


def test_from_scratch_the_signal_survives_groups_and_norms() -> None:
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for net in (caffenet(), vgg_cnn_m_1024()):
            assert 0.05 < net(pixels)[0].std() < 20


def test_frozen_stages_are_the_papers() -> None:
    for net in (caffenet(1), vgg_cnn_m_1024(1)):
        frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
        assert frozen == ["stages.0.0.weight", "stages.0.0.bias"]  # conv1
