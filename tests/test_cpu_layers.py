"""What takes the place of torch's layers does what they do."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, conv1x1

import rcnnkit.cpu_layers
from rcnnkit.backbones.fpn import Lateral
from rcnnkit.cpu_layers import Convolution, MaxPool, ResidualBlock, replace_layers, served_types

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def no_gradients() -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def replaced(module: nn.Module) -> nn.Module:
    whole = nn.ModuleList([module.eval()])
    replace_layers(whole, torch.float32)
    return whole[0]


def near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 32, 3, padding=1),
        nn.Conv2d(8, 32, 3, padding=1),  # too few channels for conv3x3
        nn.Conv2d(16, 3, 1),  # outputs that fill no vector
        nn.Conv2d(16, 24, 3, padding=1, bias=False),
        nn.Conv2d(16, 32, (3, 5), stride=2, padding=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("side", [2, 5, 16])
def test_a_convolution(layer: nn.Conv2d, side: int) -> None:
    maps = torch.randn(2, layer.in_channels, side, side)
    ours, expected = Convolution(layer, torch.float32), layer(maps)
    near(ours(maps), expected)
    residual = torch.randn_like(expected)
    ours.relu = True
    near(ours(maps, residual), (expected + residual).relu())


@pytest.mark.parametrize(("side", "tiles"), [(2, False), (5, False), (6, True), (16, True)])
def test_small_maps_are_not_cut_into_tiles(side: int, tiles: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = rcnnkit.cpu_layers.conv3x3

    def counted(*given: Any) -> torch.Tensor:
        calls.append(1)
        return real(*given)

    monkeypatch.setattr(rcnnkit.cpu_layers, "conv3x3", counted)
    Convolution(nn.Conv2d(16, 32, 3, padding=1), torch.float32)(torch.randn(1, 16, side, side))
    assert bool(calls) == tiles


@pytest.mark.parametrize("outputs", [32, 21])
def test_a_fully_connected_layer(outputs: int) -> None:
    layer, rows = nn.Linear(50, outputs), torch.randn(7, 50)
    near(Convolution(layer, torch.float32)(rows), layer(rows))
    assert Convolution(layer, torch.float32)(rows[:0]).shape == (0, outputs)


@pytest.mark.parametrize("layer", [nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2), nn.MaxPool2d(3, 2, ceil_mode=True)], ids=str)
def test_max_pooling(layer: nn.MaxPool2d) -> None:
    ours = replaced(layer)
    assert isinstance(ours, MaxPool)
    for maps in (torch.randn(2, 16, 14, 11), torch.randn(2, 9, 14, 11), torch.randn(2, 16, 14, 11).double()):
        assert torch.equal(ours(maps), layer(maps))


@pytest.mark.parametrize(
    "layer", [nn.MaxPool2d(2, return_indices=True), nn.MaxPool2d(2, dilation=2), nn.MaxPool2d((2, 1))]
)
def test_other_pooling_stays(layer: nn.MaxPool2d) -> None:
    assert replaced(layer) is layer


def test_maps_of_another_type_are_converted() -> None:
    """As under an autocast that the caller is in."""
    layer, maps = nn.Conv2d(16, 32, 3, padding=1), torch.randn(1, 16, 16, 16)
    found = Convolution(layer, torch.bfloat16)(maps)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), layer(maps), rtol=0, atol=0.1)
    near(Convolution(layer, torch.float32)(maps.double()), layer(maps))


@pytest.mark.parametrize(
    "block",
    [
        BasicBlock(32, 32, norm_layer=nn.Identity),
        BasicBlock(16, 32, 2, nn.Sequential(conv1x1(16, 32, 2), nn.Identity()), norm_layer=nn.Identity),
        Bottleneck(64, 16, norm_layer=nn.Identity),
        Bottleneck(32, 16, 2, conv1x1(32, 64, 2), norm_layer=nn.Identity),
    ],
)
def test_a_residual_block(block: BasicBlock | Bottleneck) -> None:
    maps = torch.randn(2, block.conv1.in_channels, 13, 10)
    before, expected = maps.clone(), block.eval()(maps)
    ours = replaced(block)
    assert isinstance(ours, ResidualBlock)
    near(ours(maps), expected)
    assert torch.equal(maps, before)


def test_a_block_with_norms_of_its_own_keeps_them() -> None:
    block = Bottleneck(64, 16, norm_layer=lambda channels: nn.GroupNorm(4, channels))
    maps = torch.randn(1, 64, 8, 8)
    expected = block(maps)
    ours = replaced(block)
    assert isinstance(ours, Bottleneck)
    assert isinstance(ours.conv1, Convolution)
    near(ours(maps), expected)


@pytest.mark.parametrize("norm", [nn.Identity(), nn.GroupNorm(4, 32)])
def test_a_lateral_connection(norm: nn.Module) -> None:
    lateral, maps, above = Lateral(nn.Conv2d(16, 32, 1), norm), torch.randn(1, 16, 8, 8), torch.randn(1, 32, 8, 8)
    expected = [lateral(maps), lateral(maps, above)]
    ours = replaced(lateral)
    assert isinstance(ours, Convolution) == isinstance(norm, nn.Identity)
    near(ours(maps), expected[0])
    near(ours(maps, above), expected[1])


def test_relus_after_layers_go_into_them() -> None:
    network = nn.Sequential(
        nn.Conv2d(16, 32, 1),
        nn.Identity(),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 16),
        nn.ReLU(),
    )
    maps = torch.randn(3, 16, 8, 8)
    expected = network(maps)
    ours = replaced(network)
    assert [type(part).__name__ for part in ours.children()].count("ReLU") == 1
    near(ours(maps), expected)


def test_a_layer_that_comes_twice_and_a_relu_that_comes_once() -> None:
    layer, maps = nn.Conv2d(16, 16, 1), torch.randn(2, 16, 5, 5)
    network = nn.Sequential(layer, nn.Identity(), layer, nn.ReLU())
    expected = network(maps)
    near(replaced(network)(maps), expected)


def test_a_network_that_goes_its_own_way_keeps_its_relus() -> None:
    class Own(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[0](x) + self[1](x)

    network, maps = Own(nn.Conv2d(16, 16, 1), nn.ReLU()), torch.randn(2, 16, 5, 5)
    expected = network(maps)
    near(replaced(network)(maps), expected)


def test_what_was_replaced_is_left_alone() -> None:
    network, maps = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(2)), torch.randn(2, 16, 8, 8)
    expected = network(maps)
    replace_layers(network, torch.float32)
    replace_layers(network, torch.bfloat16)
    near(network(maps), expected)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 32, 3, groups=2),
        nn.Conv2d(16, 32, 3, dilation=2),
        nn.Conv2d(16, 32, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(16, 32, 3, stride=(1, 2)),
        nn.Conv2d(16, 32, 3, padding=(0, 1)),
        nn.Conv2d(16, 32, 3, padding="same"),
    ],
    ids=str,
)
def test_other_convolutions_stay(layer: nn.Conv2d) -> None:
    assert replaced(layer) is layer


def test_types_that_torch_serves_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    both, one = {torch.float32, torch.bfloat16}, {torch.float32}
    for amx, tiles, types in ((False, False, both), (True, True, both), (True, False, one)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr(rcnnkit.cpu_layers, "multiplies_in_tiles", lambda tiles=tiles: tiles)
        assert served_types() == types
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert not served_types()


@pytest.mark.parametrize("tiles", [False, True])
def test_what_is_multiplied_in_tiles_is_not_transformed(tiles: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rcnnkit.cpu_layers, "multiplies_in_tiles", lambda: tiles)
    layer, maps = nn.Conv2d(16, 32, 3, padding=1), torch.randn(1, 16, 16, 16)
    assert Convolution(layer, torch.float32).coefficients is not None
    ours = Convolution(layer, torch.bfloat16)
    assert (ours.coefficients is None) == tiles
    torch.testing.assert_close(ours(maps.bfloat16()).float(), layer(maps), rtol=0, atol=0.1)
