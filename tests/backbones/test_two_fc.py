"""fc6 and fc7: the arithmetic, dropout, and layers that were split in two."""

import torch
from torch import nn

from rcnnkit.backbones.two_fc import TwoFC


def test_two_layers_with_relu() -> None:
    head = TwoFC(2, 3, 5)
    assert isinstance(head.fc6, nn.Linear)
    assert isinstance(head.fc7, nn.Linear)
    regions = torch.randn(4, 2, 3, 3)
    hidden = (regions.reshape(4, 18) @ head.fc6.weight.T + head.fc6.bias).clamp(min=0)
    expected = (hidden @ head.fc7.weight.T + head.fc7.bias).clamp(min=0)
    torch.testing.assert_close(head(regions), expected)
    assert head(regions[:0]).shape == (0, 5)


def test_dropout_is_for_training() -> None:
    head = TwoFC(2, 3, 64, dropout=0.5)
    assert isinstance(head.fc7, nn.Linear)
    nn.init.ones_(head.fc7.bias)
    regions = torch.randn(50, 2, 3, 3)
    assert head.train()(regions).eq(0).float().mean() > 0.4
    assert head.eval()(regions).equal(head.eval()(regions))
    assert head.eval()(regions).eq(0).float().mean() < 0.4


def test_a_rank_makes_two_layers_with_one_bias() -> None:
    head = TwoFC(2, 3, 5, fc6_rank=4)
    assert [tuple(p.shape) for p in head.fc6.parameters()] == [(4, 18), (5, 4), (5,)]
    regions = torch.randn(4, 2, 3, 3)
    assert isinstance(head.fc6, nn.Sequential)
    first, second = head.fc6
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    hidden = (regions.flatten(1) @ first.weight.T @ second.weight.T + second.bias).clamp(min=0)
    torch.testing.assert_close(head(regions), head.fc7(hidden).clamp(min=0))
