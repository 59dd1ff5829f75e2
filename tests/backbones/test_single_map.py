"""AlexNet and VGG: torchvision's numbers, the map a detector needs, and what is frozen."""

import copy
from collections.abc import Iterator

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import VGG, AlexNet

from rcnnkit.backbones.alexnet import alexnet
from rcnnkit.backbones.single_map import HIDDEN, SingleMap, fill_from_imagenet
from rcnnkit.backbones.two_fc import TwoFC
from rcnnkit.backbones.vgg import vgg

PIXELS = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["alexnet", "vgg19"])
def theirs(request: pytest.FixtureRequest) -> Iterator[tuple[str, AlexNet | VGG]]:
    """The name of a classifier and torchvision's network, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield request.param, torchvision.models.get_model(request.param).eval()


def ours(name: str) -> SingleMap:
    return alexnet(padded=False) if name == "alexnet" else vgg("vgg19")


@pytest.fixture
def download(theirs: tuple[str, nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    def state_of(weights: object) -> dict[str, Tensor]:
        assert type(weights).__name__.lower() == f"{theirs[0]}_weights"
        return copy.copy(theirs[1].state_dict())

    monkeypatch.setattr("rcnnkit.backbones.imagenet.state_of", state_of)


@pytest.mark.usefixtures("download")
def test_a_whole_classifier_gives_torchvisions_numbers(theirs: tuple[str, AlexNet | VGG]) -> None:
    name, net = theirs
    body = ours(name).eval()
    head = TwoFC(body.channels[0], body.pool_size, HIDDEN, dropout=0.5).eval()
    fill_from_imagenet(name, body, head)
    with torch.no_grad():
        (map_,) = body(PIXELS)
        torch.testing.assert_close(map_, net.features[:-1](PIXELS))
        pool5 = body.pool5(map_)
        torch.testing.assert_close(pool5, net.avgpool(net.features(PIXELS)))
        assert pool5.std() > 0
        torch.testing.assert_close(net.classifier[-1](head(pool5)), net(PIXELS))


@pytest.mark.usefixtures("download")
def test_a_pyramid_has_the_pretrained_convolutions(theirs: tuple[str, AlexNet | VGG]) -> None:
    name, net = theirs
    body = ours(name)
    fill_from_imagenet(name, body, None)
    found = list(body.parameters())
    assert all(a.equal(b) for a, b in zip(found, net.features.parameters(), strict=True))


@pytest.mark.usefixtures("download")
def test_layers_of_another_size_are_no_place_for_pretrained_ones(theirs: tuple[str, nn.Module]) -> None:
    name, _ = theirs
    body = ours(name)
    with pytest.raises(ValueError, match=r"leave head\.hidden"):
        fill_from_imagenet(name, body, TwoFC(body.channels[0], body.pool_size, 16))
    with pytest.raises(ValueError, match=r"head\.fc6_rank"):
        fill_from_imagenet(name, body, TwoFC(body.channels[0], body.pool_size, HIDDEN, fc6_rank=2))


@pytest.mark.parametrize("net", [alexnet(), vgg("vgg16")], ids=["alexnet", "vgg16"])
@pytest.mark.parametrize("size", [(64, 64), (128, 320), (320, 192)])
def test_the_map_has_a_cell_for_every_16_pixels(net: SingleMap, size: tuple[int, int]) -> None:
    with torch.no_grad():
        (map_,) = net(torch.zeros(1, 3, *size))
    assert map_.shape == (1, net.channels[0], size[0] // 16, size[1] // 16)
    assert net.strides == [16]


def test_cells_lie_where_their_stride_says() -> None:
    """A dot at the middle of cell (8, 8) is seen by that cell at least as well as by any other."""
    for net in (alexnet(), vgg("vgg16")):
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.constant_(layer.weight, 1e-2)
        pixels = torch.zeros(1, 3, 256, 256)
        pixels[:, :, 8 * 16 + 6 : 8 * 16 + 10, 8 * 16 + 6 : 8 * 16 + 10] = 1
        with torch.no_grad():
            (map_,) = net(pixels)
        seen = map_[0, 0]
        assert seen[8, 8] == seen.max() > 0


def test_frozen_stages_are_the_papers() -> None:
    def frozen(net: SingleMap) -> int:
        return sum(not p.requires_grad for name, p in net.named_parameters() if name.endswith("weight"))

    assert frozen(alexnet()) == frozen(vgg("vgg16")) == 0
    assert frozen(alexnet(1)) == 1  # conv1
    net = vgg("vgg16", 2)
    assert frozen(net) == 4  # conv1_1, conv1_2, conv2_1, conv2_2
    assert not net.stages[1].get_parameter("3.weight").requires_grad
    assert net.stages[2].get_parameter("1.weight").requires_grad


def test_from_scratch_the_signal_survives() -> None:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for net in (alexnet(), vgg("vgg16")):
            assert 0.05 < net(PIXELS)[0].std() < 20
