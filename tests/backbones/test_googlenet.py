"""GoogLeNet: torchvision's numbers, the original's layers, and the split into map and per-region head."""

import copy

import pytest
import torch
import torchvision
from torch import Tensor, nn

from rcnnkit.backbones.googlenet import INCEPTIONS, GoogLeNet, Inception5
from rcnnkit.backbones.imagenet import imagenet_normalisation
from rcnnkit.backbones.norms import FrozenNorm

PIXELS = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """torchvision's, with auxiliary classifiers, as its file has them, and statistics other than the defaults."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torchvision.models.GoogLeNet(num_classes=1000, init_weights=False)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_var is not None
                assert module.running_mean is not None
                for value in (module.weight, module.running_var):
                    nn.init.uniform_(value, 0.5, 1)
                for value in (module.bias, module.running_mean):
                    nn.init.normal_(value, std=0.2)
    return net.eval()


@pytest.fixture
def download(theirs: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def state_of(weights: object) -> dict[str, Tensor]:
        assert type(weights).__name__ == "GoogLeNet_Weights"
        return copy.copy(theirs.state_dict())

    monkeypatch.setattr("rcnnkit.backbones.imagenet.state_of", state_of)


@pytest.mark.usefixtures("download")
@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_map_and_head_are_torchvisions(theirs: nn.Module, norm) -> None:
    body = GoogLeNet("googlenet", norm, pretrained=True).eval()
    head = Inception5("googlenet", norm, pretrained=True).eval()
    entire = GoogLeNet("googlenet", norm, pretrained=True, whole=True).eval()
    seen: dict[str, Tensor] = {}
    for name in ("inception4e", "inception5b", "avgpool"):
        theirs.get_submodule(name).register_forward_hook(lambda m, i, out, name=name: seen.update({name: out}))
    with torch.no_grad():
        theirs(PIXELS)
        (map_,) = body(PIXELS)
        assert seen["inception4e"].std() > 0.05
        torch.testing.assert_close(map_, seen["inception4e"], atol=1e-4, rtol=1e-4)  # a frozen norm rounds otherwise
        torch.testing.assert_close(entire(PIXELS)[0], seen["inception5b"], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(head(map_), seen["avgpool"].flatten(1), atol=1e-4, rtol=1e-4)
    kind = FrozenNorm if norm == "frozen" else nn.BatchNorm2d
    assert sum(isinstance(m, kind) for m in entire.modules()) == 3 + 6 * len(INCEPTIONS)


@pytest.mark.usefixtures("download")
def test_the_usual_pixels_differ_by_the_normalisation_alone(theirs: nn.Module) -> None:
    """torchvision's pretrained network turns ImageNet's normalisation into mean = std = 0.5; ours is given that."""
    mean, std = (torch.tensor(v)[:, None, None] for v in imagenet_normalisation("googlenet"))
    usual_mean, usual_std = (torch.tensor(v)[:, None, None] for v in imagenet_normalisation("resnet50"))
    unit = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    turning = torchvision.models.GoogLeNet(num_classes=1, transform_input=True, init_weights=False)
    torch.testing.assert_close(turning._transform_input((unit - usual_mean) / usual_std), (unit - mean) / std)


def original(name: str, inputs: int, x: Tensor, layers: nn.Module) -> Tensor:
    """An inception module as figure 2b of the paper draws it, from the convolutions by their place."""
    convolutions = [m for m in layers.modules() if isinstance(m, nn.Conv2d)]
    one, three_reduce, three, five_reduce, five, after_pool = convolutions
    sides = [conv.kernel_size[0] for conv in convolutions]
    assert sides == [1, 1, 3, 1, 5, 1]
    a, (b, c), (d, e), f = INCEPTIONS[name]
    assert [(conv.in_channels, conv.out_channels) for conv in convolutions] == [
        (inputs, a), (inputs, b), (b, c), (inputs, d), (d, e), (inputs, f),
    ]  # fmt: skip
    pooled = nn.functional.max_pool2d(x, 3, 1, 1)
    parts = [one(x), three(three_reduce(x).relu()), five(five_reduce(x).relu()), after_pool(pooled)]
    return torch.cat(parts, dim=1).relu()


def test_the_original_layer_by_layer() -> None:
    net, pixels = GoogLeNet("googlenet_lrn", "none", whole=True).double().eval(), PIXELS.double()
    norm, pool = nn.LocalResponseNorm(5, 1e-4, 0.75, 1), nn.MaxPool2d(3, 2, ceil_mode=True)
    conv1, conv2, conv3 = (net.get_submodule(f"stages.{at}.conv") for at in ("0.conv1", "1.conv2", "1.conv3"))
    with torch.no_grad():
        x = norm(pool(conv1(pixels).relu()))
        x = pool(norm(conv3(conv2(x).relu()).relu()))
        channels = 192
        for name, (a, (_, c), (_, e), f) in INCEPTIONS.items():
            if name in ("inception4a", "inception5a"):
                x = pool(x)
            number = int(name[len("inception")])
            x = original(name, channels, x, net.get_submodule(f"stages.{number - 1}.{name}"))
            channels = a + c + e + f
        torch.testing.assert_close(net(pixels)[0], x)
        assert x.std() > 0.01
    assert not any(isinstance(m, nn.BatchNorm2d | FrozenNorm) for m in net.modules())


def test_from_scratch_the_signal_survives() -> None:
    """Also through the narrow layers of the inceptions, without batch norm."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        net, head = GoogLeNet("googlenet_lrn", "none"), Inception5("googlenet_lrn", "none").eval()
        (map_,) = net(PIXELS)
        assert 0.1 < map_.std() < 5
        assert 0.1 < head(map_).std() < 5


def test_dropout_before_the_classifier_is_for_training() -> None:
    head = Inception5("googlenet_lrn", "none")
    regions = torch.rand(3, 832, 14, 14)
    share = head.train()(regions).eq(0).float().mean() - head.eval()(regions).eq(0).float().mean()
    assert share > 0.1
    assert head(regions).shape == (3, head.channels)
    assert head(regions[:0]).shape == (0, head.channels)


def test_train_and_eval_go_on_working() -> None:
    net = GoogLeNet("googlenet", "batch", frozen_stages=2).train()
    assert [stage.training for stage in net.stages] == [False, False, True, True]
    assert not any(m.training for m in net.eval().modules())
    assert [stage.training for stage in net.train().stages] == [False, False, True, True]
