"""Which rule weights learn by, against the rules written out and torch's other implementations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rcnnkit.config import Settings
from rcnnkit.detectors.kinds import build
from rcnnkit.model import Model
from rcnnkit.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from rcnnkit.training.optimizers import make_optimizer, parts_of
from rcnnkit.training.schedule import TrainSettings

SMALL: dict[str, Any] = {"model": {"backbone": "timm/test_resnet", "fpn_channels": 8}, "head": {"hidden": 8}}


def learnt(options: TrainSettings, plain: Any = None, **arguments: Any) -> list[Any]:
    """Weights after four steps along the same gradients, by our optimizer or by a plain one of torch."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 2), (3,), (4, 3, 3, 3)]
    weights = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    weights[2].data = weights[2].data.contiguous(memory_format=torch.channels_last)
    if plain is None:
        optimizer = make_optimizer([(weights, 1.0)], options)
    else:
        matrices = {"params": [weights[0], weights[2]], "weight_decay": options.weight_decay}
        optimizer = plain([matrices, {"params": [weights[1]], "weight_decay": 0.0}], lr=options.lr_for_16, **arguments)
    for _ in range(4):
        for weight in weights:
            weight.grad = torch.empty_like(weight).copy_(torch.randn(weight.shape, generator=generator))
        optimizer.step()
    return [weight.detach() for weight in weights]


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_fused_step_of_sgd_is_the_plain_one(nesterov: bool) -> None:
    """But for rounding: it multiplies and adds at once."""
    options = TrainSettings(lr_for_16=0.1, momentum=0.8, nesterov=nesterov, weight_decay=0.01)
    plain = learnt(options, torch.optim.SGD, momentum=0.8, nesterov=nesterov, foreach=False)
    for ours, other in zip(learnt(options), plain, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-6, atol=1e-6)


def test_adamw_is_its_papers() -> None:
    """Algorithm 2 of arXiv:1711.05101, in float64."""
    options = TrainSettings(optimizer="adamw", lr_for_16=0.1, weight_decay=0.2, betas=(0.8, 0.95))
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator).double().numpy() for shape in [(3, 2), (3,), (4, 3, 3, 3)]]
    means, squares = [np.zeros(()) for _ in range(3)], [np.zeros(()) for _ in range(3)]
    for step in range(1, 5):
        for i, weight in enumerate(start):
            gradient = torch.randn(weight.shape, generator=generator).double().numpy()
            means[i] = 0.8 * means[i] + 0.2 * gradient
            squares[i] = 0.95 * squares[i] + 0.05 * gradient**2
            mean, square = means[i] / (1 - 0.8**step), squares[i] / (1 - 0.95**step)
            decay = 0.2 * (weight.ndim > 1)
            start[i] = weight - 0.1 * (mean / (np.sqrt(square) + 1e-8) + decay * weight)
    for ours, expected in zip(learnt(options), start, strict=True):
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-5, atol=1e-6)


C4 = {"backbone": "resnet18", "norm": "batch", "neck": "c4"}


@pytest.mark.parametrize(("model", "fraction"), [(SMALL["model"], True), (C4, False)], ids=["fpn", "c4"])
def test_the_backbone_has_a_rate_of_its_own(model: dict[str, Any], fraction: bool) -> None:
    detector = build(Settings.model_validate(SMALL | {"model": model, "data": {"root": "x"}}), ["a"])
    groups = make_optimizer(parts_of(detector, 0.1), TrainSettings()).param_groups
    factors = {id(weight): group["factor"] for group in groups for weight in group["params"]}
    assert factors.keys() == {id(weight) for weight in detector.parameters()}
    for name, weight in detector.named_parameters():
        slow = name.startswith("backbone.body." if fraction else "backbone.")
        assert factors[id(weight)] == (0.1 if slow else 1.0), name


def test_what_adamw_keeps_comes_back(tmp_path: Path) -> None:
    """To the bit: the next step is the same, also where weights lie channels last."""
    settings = Settings.model_validate(SMALL | {"data": {"root": "x"}, "train": {"optimizer": "adamw"}})

    def made() -> tuple[Model, torch.optim.Optimizer]:
        torch.manual_seed(0)
        detector = build(settings, ["a"]).to(memory_format=torch.channels_last)
        return detector, make_optimizer(parts_of(detector, 1.0), settings.train)

    def step(detector: Model, optimizer: torch.optim.Optimizer, seed: int) -> None:
        torch.manual_seed(seed)
        for weight in detector.parameters():
            weight.grad = torch.randn_like(weight)
        optimizer.step()

    (one, first), (other, second) = made(), made()
    step(one, first, 1)
    file = save_checkpoint(tmp_path, one, first, settings, Progress(1))
    load_checkpoint(file, other, second)
    step(one, first, 2)
    step(other, second, 2)
    assert all(a.equal(b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
