"""The pyramid: torchvision's values, and one by hand."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from rcnnkit.backbones.fpn import FPN
from rcnnkit.backbones.resnet import ResNet


@pytest.mark.parametrize("size", [(64, 96), (70, 101)])  # also where a map is not twice the next
def test_maps_are_torchvisions(size: tuple[int, int]) -> None:
    fpn = FPN(ResNet("resnet18", "frozen"), 16).eval()
    theirs = FeaturePyramidNetwork([64, 128, 256, 512], 16, LastLevelMaxPool()).eval()
    for i in range(4):
        for block, ours in ((theirs.inner_blocks[i], fpn.lateral[i]), (theirs.layer_blocks[i], fpn.output[i])):
            assert isinstance(ours, nn.Sequential)
            assert isinstance(ours[0].bias, nn.Parameter)
            nn.init.normal_(ours[0].bias)
            block[0].load_state_dict(ours[0].state_dict())
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = fpn(pixels)
        expected = theirs(OrderedDict((str(i), m) for i, m in enumerate(fpn.body(pixels))))
    assert len(maps) == 5
    for ours, other in zip(maps, expected.values(), strict=True):
        torch.testing.assert_close(ours, other)


class Constants(nn.Module):
    """A body whose maps are 1, 10, 100 and 1000 everywhere."""

    strides, channels = [4, 8, 16, 32], [1, 1, 1, 1]

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        return [torch.full((1, 1, 64 // s, 64 // s), 10.0**i) for i, s in enumerate(self.strides)]


def test_the_way_down_by_hand() -> None:
    fpn = FPN(Constants(), 1)
    for lateral, output in zip(fpn.lateral, fpn.output, strict=True):
        nn.init.ones_(lateral.get_parameter("0.weight"))
        nn.init.dirac_(output.get_parameter("0.weight"))  # hands on what it gets
    with torch.no_grad():
        maps = fpn(torch.zeros(1, 3, 64, 64))
    # each level is its own and all above; P6 is P5's
    assert [m.unique().tolist() for m in maps] == [[1111], [1110], [1100], [1000], [1000]]
    assert [tuple(m.shape[2:]) for m in maps] == [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]


def test_p6_is_every_second_cell_of_p5() -> None:
    fpn = FPN(ResNet("resnet18", "frozen"), 8).eval()
    with torch.no_grad():
        maps = fpn(torch.randn(1, 3, 160, 96))
    assert maps[4].equal(maps[3][:, :, ::2, ::2])


def test_strides_and_channels_are_what_comes_out() -> None:
    with torch.device("meta"):
        fpn = FPN(ResNet("resnet18", "frozen"), 24)
        maps = fpn(torch.empty(1, 3, 128, 192))
    assert fpn.channels == [m.shape[1] for m in maps] == [24] * 5
    assert fpn.strides == [128 // m.shape[2] for m in maps] == [192 // m.shape[3] for m in maps] == [4, 8, 16, 32, 64]


@pytest.mark.parametrize(
    ("norm", "kind", "bias"),
    [("none", nn.Identity, True), ("batch", nn.BatchNorm2d, False), ("group", nn.GroupNorm, False)],
)
def test_norms_take_the_place_of_biases(norm, kind: type[nn.Module], bias: bool) -> None:
    with torch.device("meta"):
        fpn = FPN(ResNet("resnet18", "frozen"), 32, norm)
    for conv, layer in [*fpn.lateral, *fpn.output]:
        assert isinstance(layer, kind)
        assert (conv.bias is not None) is bias
