"""The moving average of weights, against the sum that defines it."""

import numpy as np
import torch
from torch import nn

from rcnnkit.backbones.classifier import Classifier, ClassifierSettings
from rcnnkit.images import Preprocessing
from rcnnkit.training.average import averaged_copy, update_average


class Small(nn.Module):
    widths = {"fc7": 2}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2)


def test_the_average_is_that_of_its_definition() -> None:
    model = Classifier(Small(), ["a"], [1], Preprocessing(), ClassifierSettings())  # type: ignore[arg-type]  # it has only what is called
    average, decay = averaged_copy(model), 0.3
    generator = torch.Generator().manual_seed(0)
    expected = model.score_layer.weight.detach().double().numpy().copy()
    frozen = model.backbone.norm.bias.detach().clone().fill_(0.1)
    model.backbone.norm.bias.data = average.backbone.norm.bias.data = frozen.clone()
    for iteration in range(6):
        new = torch.randn(1, 2, generator=generator)
        model.score_layer.weight.data = new
        model.backbone.norm.running_mean += 1
        model.backbone.norm.num_batches_tracked += 1
        update_average(average, model, decay, iteration)
        stays = min(decay, (1 + iteration) / (10 + iteration))
        expected = stays * expected + (1 - stays) * new.double().numpy()
    np.testing.assert_allclose(average.score_layer.weight.numpy(), expected, rtol=1e-6)
    assert average.backbone.norm.num_batches_tracked == 6
    assert 5 < average.backbone.norm.running_mean[0] < 6
    assert average.backbone.norm.bias.equal(frozen)
    assert not average.score_layer.weight.requires_grad
