"""Convolutions and fc6: torchvision's own head with the same weights gives the same."""

import pytest
import torch
from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead

from rcnnkit.backbones.norms import Norm
from rcnnkit.heads.convs_fc import ConvsFC


@pytest.mark.parametrize(("norm", "theirs"), [("none", None), ("batch", nn.BatchNorm2d)])
def test_torchvisions_head(norm: Norm, theirs: type[nn.Module] | None) -> None:
    witness = FastRCNNConvFCHead((8, 5, 5), [8, 8, 8], [16], norm_layer=theirs).eval()
    head = ConvsFC(8, 5, 3, 16, norm).eval()
    for parameter in witness.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = [m for m in head.state_dict() if "num_batches" not in m]
    values = [value for name, value in witness.state_dict().items() if "num_batches" not in name]
    head.load_state_dict(dict(zip(ours, values, strict=True)), strict=False)
    regions = torch.randn(4, 8, 5, 5)
    torch.testing.assert_close(head(regions), witness(regions))
    assert head(regions).eq(0).any()  # the last ReLU
    assert head(regions[:0]).shape == (0, 16)
