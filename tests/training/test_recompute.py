"""What is computed again is the same: losses, gradients and statistics of norms."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from rcnnkit.backbones.architecture import NetworkSettings
from rcnnkit.backbones.names import architecture
from rcnnkit.backbones.norms import Norm
from rcnnkit.backbones.two_fc import RegionSettings
from rcnnkit.training.recompute import recompute


def body(name: str, norm: Norm, frozen: int = 0) -> nn.Module:
    settings = NetworkSettings(norm=norm, frozen_stages=frozen)
    torch.manual_seed(0)
    network = architecture(name)
    made: Any = network.pyramid(settings) if "fpn" in network.necks else network.regions(settings, RegionSettings())
    return getattr(made, "backbone", made)


class Counting(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.convolutions += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("name", "norm", "frozen", "blocks"),
    [("resnet18", "batch", 0, 9), ("resnet18", "frozen", 2, 6), ("vgg16", "none", 2, 3)],
)
def test_gradients_are_the_same_to_the_bit(name: str, norm: Norm, frozen: int, blocks: int) -> None:
    plain = body(name, norm, frozen).train()
    again = copy.deepcopy(plain)
    assert recompute(again) == blocks
    pixels = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    numbers = []
    for network in (plain, again):
        with Counting() as counted:
            maps = network(pixels)
            forward = counted.convolutions
            sum((each**2).mean() for each in maps).backward()
        numbers.append((forward, counted.convolutions - forward))
    assert numbers[0][0] == numbers[1][0] >= numbers[1][1] > numbers[0][1] == 0
    for (key, one), other in zip(plain.named_parameters(), again.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), key
        assert one.grad is None or (other.grad is not None and one.grad.equal(other.grad)), key
    for (key, buffer), same in zip(plain.named_buffers(), again.buffers(), strict=True):
        assert buffer.equal(same), key
    assert plain.state_dict().keys() == again.state_dict().keys()
    with torch.no_grad():
        assert all(one.equal(other) for one, other in zip(plain.eval()(pixels), again.eval()(pixels), strict=True))


def test_of_a_copy_the_copy_learns() -> None:
    network = body("resnet18", "batch").train()
    recompute(network)
    other = copy.deepcopy(network)
    other(torch.ones(1, 3, 40, 40))[-1].sum().backward()
    assert all(weight.grad is None for weight in network.parameters())
