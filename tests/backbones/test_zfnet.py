"""ZFNet: the order of its layers, where its cells lie, and what the classifier's pooling takes."""

import torch

from rcnnkit.backbones.zfnet import zfnet


def test_a_classifier_takes_the_largest_of_6_by_6_parts() -> None:
    cells = torch.rand(1, 1, 15, 15)
    found = zfnet().pool5(cells)
    assert found.shape == (1, 1, 6, 6)
    # part i of 15 cells goes from floor(15 i / 6) to ceil(15 (i + 1) / 6)
    assert found[0, 0, 0, 0] == cells[0, 0, :3, :3].max()
    assert found[0, 0, 1, 5] == cells[0, 0, 2:5, 12:].max()


def test_norms_and_pooling_come_before_conv2_and_conv3() -> None:
    net = zfnet()
    kinds = [[type(layer).__name__ for layer in stage.children()] for stage in net.stages]
    between = ["WithinChannelNorm", "MaxPool2d", "Conv2d", "ReLU"]
    assert kinds == [["Conv2d", "ReLU"], between, between, ["Conv2d", "ReLU"], ["Conv2d", "ReLU"]]


def test_cells_lie_where_their_stride_says() -> None:
    """A dot at pixel 16 · 8 is seen by cell (8, 8) at least as well as by any other."""
    net = zfnet()
    for stage in net.stages:
        for layer in stage.children():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.constant_(layer.weight, 1e-2)
    pixels = torch.zeros(1, 3, 256, 256)
    pixels[:, :, 127:130, 127:130] = 1
    with torch.no_grad():
        seen = net(pixels)[0][0, 0]
    assert seen[8, 8] == seen.max() > 0
