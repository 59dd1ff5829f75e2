"""ResNets: torchvision's numbers, what is frozen, and what happens without a network."""

import copy
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d

from rcnnkit.backbones.norms import Norm, norm_layer
from rcnnkit.backbones.resnet import ResNet, ResNetC4, Stage4, set_variant


def classifier(name: str = "resnet18", seed: int = 0) -> nn.Module:
    """torchvision's, with weights and statistics that differ from the defaults everywhere."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = torchvision.models.get_model(name)
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
def downloads(monkeypatch: pytest.MonkeyPatch) -> dict[str, nn.Module]:
    """Networks handed out in place of downloads, by name."""
    nets: dict[str, nn.Module] = {}

    def state_of(weights: object) -> dict[str, Tensor]:
        name = type(weights).__name__.removesuffix("_Weights").lower()
        nets.setdefault(name, classifier(name))
        return copy.deepcopy(nets[name].state_dict())

    monkeypatch.setattr("rcnnkit.backbones.imagenet.state_of", state_of)
    return nets


PIXELS = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_pretrained_maps_are_torchvisions(downloads: dict[str, nn.Module], norm) -> None:
    resnet = ResNet("resnet18", norm, pretrained=True).eval()
    theirs = IntermediateLayerGetter(downloads["resnet18"], {f"layer{i}": str(i) for i in range(1, 5)})
    with torch.no_grad():
        ours, expected = resnet(PIXELS), theirs(PIXELS)
    for mine, other in zip(ours, expected.values(), strict=True):
        assert other.std() > 0.05
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)  # a frozen norm rounds otherwise


@pytest.mark.parametrize(("name", "stages"), [("resnet50", 2), ("resnet152", 4)])
def test_bottlenecks_too(downloads: dict[str, nn.Module], name, stages: int) -> None:
    resnet = ResNet(name, "frozen", pretrained=True, stages=stages).eval()
    theirs = IntermediateLayerGetter(downloads[name], {f"layer{i + 1}": str(i) for i in range(stages)})
    with torch.no_grad():
        ours, expected = resnet(PIXELS), theirs(PIXELS)
    for mine, other in zip(ours, expected.values(), strict=True):
        # of what is typical, as 50 blocks add up what a frozen norm rounds otherwise
        torch.testing.assert_close(mine, other, atol=1e-4 * float(other.abs().mean()), rtol=1e-4)


def test_c4_and_stage_4_together_are_the_whole(downloads: dict[str, nn.Module]) -> None:
    c4 = ResNetC4(ResNet("resnet18", "frozen", pretrained=True, stages=3)).eval()
    stage4 = Stage4("resnet18", "frozen", pretrained=True).eval()
    net = downloads["resnet18"]
    net.fc = nn.Identity()
    with torch.no_grad():
        (feature,) = c4(PIXELS)
        torch.testing.assert_close(stage4(feature), net(PIXELS), atol=1e-4, rtol=1e-4)
    assert (c4.strides, c4.channels, stage4.channels) == ([16], [256], 512)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", [64, 128, 256, 512]),
        ("resnet34", [64, 128, 256, 512]),
        ("resnet50", [256, 512, 1024, 2048]),
        ("resnet101", [256, 512, 1024, 2048]),
        ("resnet152", [256, 512, 1024, 2048]),
    ],
)
def test_strides_and_channels_are_what_comes_out(name, channels: list[int]) -> None:
    with torch.device("meta"):
        resnet = ResNet(name, "frozen")
        maps = resnet(torch.empty(1, 3, 64, 128))
    assert resnet.channels == [m.shape[1] for m in maps] == channels
    assert resnet.strides == [64 // m.shape[2] for m in maps] == [128 // m.shape[3] for m in maps] == [4, 8, 16, 32]


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_stages(stages: int) -> None:
    with torch.device("meta"):
        resnet = ResNet("resnet18", "frozen", stages=stages)
        maps = resnet(torch.empty(1, 3, 64, 64))
    assert len(maps) == len(resnet.channels) == len(resnet.strides) == stages


@pytest.mark.parametrize("frozen", range(6))
def test_frozen_stages_stay_as_they_are(frozen: int) -> None:
    resnet = ResNet("resnet18", "batch", frozen_stages=frozen).train()
    parts = [resnet.stem, *resnet.stages]
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    loss = sum(m.square().mean() for m in resnet(PIXELS))
    if frozen < 5:
        loss.backward()
        torch.optim.SGD([p for p in resnet.parameters() if p.requires_grad], lr=0.1).step()
    for i, (part, old) in enumerate(zip(parts, before, strict=True)):
        changed = {name for name, value in part.state_dict().items() if not value.equal(old[name])}
        # weights, and the batch's statistics
        assert changed == (set() if i < frozen else set(old)), i
        assert all(p.requires_grad is (i >= frozen) for p in part.parameters())


def test_train_and_eval_go_on_working() -> None:
    inner = ResNet("resnet18", "batch", frozen_stages=2)
    resnet = nn.Sequential(inner)
    resnet.train()
    assert [m.training for m in (inner, inner.stem[1], inner.stages[1])] == [True, False, True]
    resnet.eval()
    assert not any(m.training for m in resnet.modules())
    resnet.train()
    assert inner.stages[1].training


def test_freezing_adds_nothing_to_the_state() -> None:
    free, frozen = ResNet("resnet18", "frozen"), ResNet("resnet18", "frozen", frozen_stages=2)
    assert free.state_dict().keys() == frozen.state_dict().keys()


def test_norms() -> None:
    assert isinstance(norm_layer("batch")(64), nn.BatchNorm2d)
    assert isinstance(norm_layer("frozen")(64), FrozenBatchNorm2d)
    group = norm_layer("group")(64)
    assert isinstance(group, nn.GroupNorm)
    assert (group.num_groups, group.num_channels) == (32, 64)
    assert norm_layer("none")(64)(PIXELS) is PIXELS
    kinds: dict[Norm, type] = {"batch": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d, "group": nn.GroupNorm}
    counts = {
        norm: sum(isinstance(m, kind) for m in ResNet("resnet18", norm).modules()) for norm, kind in kinds.items()
    }
    assert set(counts.values()) == {20}


def test_frozen_norms_have_nothing_to_learn() -> None:
    names = [name for name, _ in ResNet("resnet18", "frozen").named_parameters()]
    assert len(names) == 20  # the convolutions: 1 + 4 · 4 + 3 shortcuts


@pytest.mark.parametrize("norm", ["group", "none"])
def test_pretrained_weights_need_the_norm_they_had(downloads: dict[str, nn.Module], norm) -> None:
    said = f'pretrained = true goes with model.norm = "frozen", "batch" or "sync", not "{norm}"'
    with pytest.raises(ValueError, match=said):
        ResNet("resnet18", norm, pretrained=True)
    assert not downloads  # refused before anything is fetched


def test_weights_of_another_network_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    state = classifier("resnet34").state_dict()
    monkeypatch.setattr("rcnnkit.backbones.imagenet.state_of", lambda _: state)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        ResNet("resnet18", "batch", pretrained=True)


def test_a_frozen_network_gets_all_it_needs(downloads: dict[str, nn.Module]) -> None:
    state = ResNet("resnet18", "frozen", pretrained=True).state_dict()
    theirs = downloads["resnet18"].state_dict()
    names = {"conv1": "stem.0", "bn1": "stem.1"} | {f"layer{i + 1}": f"stages.{i}" for i in range(4)}
    for name, value in theirs.items():
        part, _, rest = name.partition(".")
        if part != "fc" and not name.endswith("num_batches_tracked"):
            assert state.pop(f"{names[part]}.{rest}").equal(value), name
    assert not state


@pytest.mark.parametrize("in_1x1", [False, True])
def test_where_bottlenecks_step(in_1x1: bool) -> None:
    net = ResNet("resnet50", "frozen").eval()
    set_variant(net, 0.25, in_1x1)
    blocks: list[Any] = [block for stage in net.stages for block in stage.children()]
    steps = [(block.conv1.stride[0], block.conv2.stride[0]) for block in blocks]
    first = (2, 1) if in_1x1 else (1, 2)
    assert steps == [(1, 1)] * 3 + [first] + [(1, 1)] * 3 + [first] + [(1, 1)] * 5 + [first] + [(1, 1)] * 2
    assert [m.shape[2] for m in net(torch.zeros(1, 3, 64, 64))] == [16, 8, 4, 2]
    norm = blocks[0].bn1
    x = torch.randn(1, 64, 2, 2)
    nn.init.constant_(norm.running_var, 2.0)
    torch.testing.assert_close(norm(x), x / 1.5)  # √(2 + 0.25)
