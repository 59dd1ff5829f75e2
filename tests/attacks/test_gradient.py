"""FGSM and PGD on something whose gradient is known."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rcnnkit.attacks.gradient import fast_gradient_sign, projected_gradient, random_signs
from rcnnkit.attacks.victim import Victim


class Linear(Victim):
    """Its loss is weight · pixels."""

    def __init__(self, clean: Tensor, weight: Tensor, eps: int) -> None:
        self.clean, self.weight, self.eps = clean, weight, eps
        self.low, self.high = (clean - eps).clamp(min=0), (clean + eps).clamp(max=255)
        self.generator = torch.Generator().manual_seed(0)

    def loss_gradient(self, pixels: Tensor) -> Tensor:
        assert (pixels >= self.low).all()
        assert (pixels <= self.high).all()
        return self.weight


def victim(eps: int, seed: int = 0) -> Linear:
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randint(256, (3, 5, 6), generator=generator).float()
    clean[0, 0, :2] = torch.tensor([0.0, 255.0])
    return Linear(clean, torch.randn(3, 5, 6, generator=generator), eps)


def test_fgsm_by_hand() -> None:
    linear = victim(3)
    linear.clean, linear.weight = torch.tensor([[[100.0, 100, 100, 1, 254]]]), torch.tensor([[[0.5, -2, 0, -1, 7]]])
    linear.low, linear.high = (linear.clean - 3).clamp(min=0), (linear.clean + 3).clamp(max=255)
    assert fast_gradient_sign(linear).tolist() == [[[103, 97, 100, 0, 255]]]
    assert linear.rounded(fast_gradient_sign(linear).expand(3, 1, 5))[0, :, 0].tolist() == [103, 97, 100, 0, 255]


@pytest.mark.parametrize("eps", [1, 2, 8, 200])
@pytest.mark.parametrize("method", ["fgsm", "pgd", "random"])
def test_never_outside_the_ball_or_the_grey_levels(eps: int, method: str) -> None:
    methods: dict[str, Any] = {
        "fgsm": fast_gradient_sign,
        "pgd": lambda v: projected_gradient(v, 10),
        "random": random_signs,
    }
    linear = victim(eps)
    found = torch.from_numpy(linear.rounded(methods[method](linear))).permute(2, 0, 1).float()
    assert (found - linear.clean).abs().max() <= eps
    assert found.min() >= 0
    assert found.max() <= 255
    if method != "random":  # the ball's best corner, whatever the start
        assert found.equal(linear.project(linear.clean + eps * linear.weight.sign()))


def test_random_signs_are_as_large_and_of_both_kinds() -> None:
    linear = victim(4)
    linear.clean = torch.full((3, 20, 20), 100.0)
    linear.low, linear.high = linear.clean - 4, linear.clean + 4
    change = random_signs(linear) - linear.clean
    assert set(change.unique().tolist()) == {-4.0, 4.0}
    assert 0.4 < (change > 0).float().mean() < 0.6
