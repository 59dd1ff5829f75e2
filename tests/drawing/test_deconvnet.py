"""The deconvnet beside numpy from the definition, autograd and torch's own unpooling."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnnkit.backbones.alexnet import alexnet
from rcnnkit.backbones.caffenet import caffenet
from rcnnkit.backbones.fpn import FPN
from rcnnkit.backbones.resnet import ResNet
from rcnnkit.backbones.response_norm import WithinChannelNorm
from rcnnkit.backbones.single_map import SingleMap, SingleMapWindows
from rcnnkit.backbones.two_fc import TwoFC
from rcnnkit.backbones.vgg import VGGMaps, vgg
from rcnnkit.backbones.vgg_cnn_m import vgg_cnn_m_1024
from rcnnkit.backbones.zfnet import zfnet
from rcnnkit.detectors.detector import Detector
from rcnnkit.drawing import deconvnet
from rcnnkit.drawing.deconvnet import layers, project, trace
from rcnnkit.inference import prepare


class Bare(Detector):
    """A backbone and nothing else."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


def net(*stages: nn.Module, seed: int = 0) -> SingleMap:
    """A SingleMap of these stages with random weights, biases too."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = SingleMap(stages, 1, nn.Identity(), 1)
        for layer in body.modules():
            if isinstance(layer, nn.Conv2d):
                assert layer.bias is not None
                nn.init.normal_(layer.weight)
                nn.init.normal_(layer.bias, std=0.1)
    return body


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))


def transposed(values: np.ndarray, conv: nn.Conv2d, size: tuple[int, int]) -> np.ndarray:
    """(C, h, w) → (c, H, W) by the definition: each value spreads its filter over what the filter had seen."""
    weight = conv.weight.detach().double().numpy()
    assert not isinstance(conv.padding, str)
    (stride, _), (pad, _) = conv.stride, conv.padding
    each, inputs = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    out = np.zeros((conv.in_channels, size[0] + 2 * pad, size[1] + 2 * pad))
    for c, y, x in np.argwhere(values):
        first = c // each * inputs
        _, kh, kw = weight[c].shape
        window = out[first : first + inputs, y * stride : y * stride + kh, x * stride : x * stride + kw]
        window += values[c, y, x] * weight[c]
    return out[:, pad : pad + size[0], pad : pad + size[1]]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("cell", [(0, 0), (2, 3), (6, 8), None])
def test_convolutions_are_those_written_out(groups: int, cell: tuple[int, int] | None) -> None:
    first, second = nn.Conv2d(3, 6, 5, stride=2, padding=1), nn.Conv2d(6, 4, 3, padding=1, groups=groups)
    body = net(nn.Sequential(first, nn.ReLU(inplace=True)), nn.Sequential(second, nn.ReLU(inplace=True)))
    image = picture(15, 19)
    found = deconvnet(body, image, "conv2", 3, cell)

    (map_,) = body(image[None])
    value = map_[0, 3].detach()
    assert map_.shape[2:] == (7, 9)
    if cell is None:
        assert found.cell == np.unravel_index(int(value.argmax()), value.shape)
    assert found.value == value[found.cell]
    values = np.zeros(map_.shape[1:])
    values[(3, *found.cell)] = found.value
    middle = transposed(values, second, (7, 9)).clip(min=0)
    expected = transposed(middle, first, (15, 19))
    if found.value:
        assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found.pixels, expected, rtol=1e-4, atol=1e-4)  # of values up to 60


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 2, 0)])
def test_where_nothing_is_rectified_it_is_the_gradient_times_the_activation(
    kernel: int, stride: int, padding: int, ceil_mode: bool
) -> None:
    """Positive filters, biases and pixels: no ReLU changes anything, on the way up or down."""
    body = net(
        nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU()),
        nn.Sequential(
            nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode),
            nn.Conv2d(5, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1, groups=2),
            nn.ReLU(),
        ),
        nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 2, 1), nn.ReLU()),
    )
    for parameter in body.parameters():
        parameter.data.abs_()
    image = picture(34, 41).abs()
    traced = trace(body, image, "conv3")
    for y in range(traced.activations.shape[1]):
        for x in range(traced.activations.shape[2]):
            found = project(traced, 1, (y, x))
            leaf = image.clone().requires_grad_()
            (map_,) = body(leaf[None])
            (gradient,) = torch.autograd.grad(map_[0, 1, y, x], leaf)
            torch.testing.assert_close(found.pixels, gradient * found.value, rtol=1e-4, atol=1e-5)


def test_unpooling_is_torchs() -> None:
    body = net(
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 3, 3), nn.ReLU())
    )
    first, second = body.get_submodule("stages.0.0"), body.get_submodule("stages.1.1")
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    image = picture(11, 14)  # the last row is in no window
    with torch.no_grad():
        pooled, indices = F.max_pool2d(first(image[None]).relu(), 2, return_indices=True)
        found = deconvnet(body, image, "conv2", 0)
        up = torch.zeros_like(second(pooled))
        up[(0, 0, *found.cell)] = found.value
        down = F.conv_transpose2d(up, second.weight)
        down = F.max_unpool2d(down, indices, [2, 2], output_size=(11, 14)).relu()
        torch.testing.assert_close(found.pixels, F.conv_transpose2d(down, first.weight)[0])
    assert found.value > 0


def test_windows_that_share_a_maximum_add_up() -> None:
    """One bright pixel, seen by four windows of 3 with stride 2; a 1×1 filter of ones adds up its channels."""
    body = net(
        nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU()),
        nn.Sequential(nn.MaxPool2d(3, 2), nn.Conv2d(1, 1, 2), nn.ReLU()),
    )
    for parameter in body.parameters():
        nn.init.zeros_(parameter) if parameter.ndim == 1 else nn.init.ones_(parameter)
    image = torch.zeros(3, 5, 5)
    image[0, 2, 2] = 3.0
    found = deconvnet(body, image, "conv2", 0)
    assert found.value == 12  # four windows of 3
    expected = torch.zeros(3, 5, 5)
    expected[:, 2, 2] = 4 * 12
    torch.testing.assert_close(found.pixels, expected)


def test_ties_go_to_the_first() -> None:
    """On an even image all of a map is alike but for its border: the first cell, and the first pixel of each window."""
    body = net(
        nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU()), nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 1, 1), nn.ReLU())
    )
    for parameter in body.parameters():
        parameter.data.abs_()
    found = deconvnet(body, torch.ones(3, 6, 6), "conv2", 0)
    assert found.cell == (0, 0)
    assert found.pixels[:, 0, 0].all()
    assert found.pixels.count_nonzero() == 3


def test_contrast_is_passed_through() -> None:
    def with_norm(norm: nn.Module) -> SingleMap:
        return net(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), norm),
            nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 2, 3), nn.ReLU()),
        )

    image = picture(12, 12)
    normed = with_norm(nn.LocalResponseNorm(3))
    assert list(layers(normed)) == ["conv1", "conv2"]
    traced = trace(normed, image, "conv2")
    torch.testing.assert_close(traced.activations[None], normed(image[None])[0].detach())
    y, x = np.unravel_index(int(traced.activations[0].argmax()), traced.activations.shape[1:])
    cell = int(y), int(x)
    plain = project(trace(with_norm(nn.Sequential()), image, "conv2"), 0, cell)
    found = project(traced, 0, cell)
    assert found.value != plain.value
    assert found.value > 0 < plain.value
    # Here the norm moves no maximum, so all that is left of it is the activation's value.
    torch.testing.assert_close(found.pixels / found.value, plain.pixels / plain.value)


def test_layers_have_the_papers_names() -> None:
    assert list(layers(alexnet())) == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    with torch.device("meta"):
        body = vgg("vgg16")
    names = [f"conv{i}_{j}" for i, n in enumerate((2, 2, 3, 3, 3), start=1) for j in range(1, n + 1)]
    assert list(layers(body)) == names
    assert list(layers(SingleMapWindows(body, TwoFC(body.channels[0], body.pool_size, 8)))) == names
    assert list(layers(FPN(VGGMaps(body), 4))) == names


@pytest.mark.parametrize(
    ("body", "layer", "side"),
    [
        (alexnet(padded=False), "conv5", 163),
        (caffenet(), "conv5", 163),
        (zfnet(), "conv5", 139),
        (vgg_cnn_m_1024(), "conv5", 139),
        (vgg("vgg16"), "conv3_2", 32),
    ],
    ids=["alexnet", "caffenet", "zfnet", "vgg_cnn_m_1024", "vgg16"],
)
def test_of_a_whole_network(body: SingleMap, layer: str, side: int) -> None:
    """The map is the network's own; the receptive field is as large as worked out by hand, and no larger."""
    image = picture(200, 231)
    traced = trace(body, image, layer)
    if layer == "conv5":
        torch.testing.assert_close(traced.activations, body(image[None])[0][0].detach())
    channel = int(traced.activations.amax(dim=(1, 2)).argmax())
    found = deconvnet(body, image, layer, channel)
    x1, y1, x2, y2 = found.box
    assert x2 - x1 == y2 - y1 == side
    outside = found.pixels.clone()
    outside[:, max(0, y1) : y2, max(0, x1) : x2] = 0
    assert not outside.any()
    assert found.pixels.abs().max() > 0
    if isinstance(body.get_submodule("stages.1.0"), WithinChannelNorm):  # which looks a little beyond the box
        return
    # The box is what the activation depends on: other pixels change nothing.
    other = picture(200, 231, seed=1)
    other[:, max(0, y1) : y2, max(0, x1) : x2] = image[:, max(0, y1) : y2, max(0, x1) : x2]
    again = project(trace(body, other, layer), channel, found.cell)
    assert again.value == pytest.approx(found.value, rel=1e-4)
    torch.testing.assert_close(again.pixels, found.pixels, rtol=1e-3, atol=1e-5)


def test_an_activation_of_nothing_comes_from_nothing() -> None:
    body = net(nn.Sequential(nn.Conv2d(3, 1, 3), nn.ReLU()))
    nn.init.constant_(body.get_parameter("stages.0.0.bias"), -1e6)
    found = deconvnet(body, picture(5, 5), "conv1", 0)
    assert found.value == 0
    assert not found.pixels.any()


def test_half_precision() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body, image = alexnet(padded=False), picture(100, 100)
    full = deconvnet(body, image, "conv2", 5)
    half = deconvnet(body.bfloat16(), image, "conv2", 5, full.cell)
    assert half.pixels.dtype == torch.float32
    assert half.value == pytest.approx(full.value, rel=0.02)  # bf16 has 8 binary digits
    difference = (half.pixels - full.pixels).norm() / full.pixels.norm()
    assert 0 < difference < 0.3  # another switch here and there


def test_one_cell() -> None:
    body = net(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()))
    image = picture(3, 3)
    found = deconvnet(body, image, "conv1", 1)
    assert found.box == (0, 0, 3, 3)
    torch.testing.assert_close(found.pixels, found.value * body.get_parameter("stages.0.0.weight")[1].detach())


def test_bad_input() -> None:
    body, image = alexnet(), picture(64, 64)
    with pytest.raises(ValueError, match=r"no layer 'conv_5'; did you mean conv5\? It has conv1, conv2, conv3, conv4"):
        deconvnet(body, image, "conv_5", 0)
    with pytest.raises(ValueError, match=r"no layer 'xyz'; it has conv1, "):
        deconvnet(body, image, "xyz", 0)
    for channel in (-1, 256):
        with pytest.raises(ValueError, match=f"channels 0 to 255, not {channel}"):
            deconvnet(body, image, "conv5", channel)
    for cell in ((4, 0), (0, -1)):
        with pytest.raises(ValueError, match="outside the layer's map of 4 rows and 4 columns"):
            deconvnet(body, image, "conv5", 0, cell)
    with pytest.raises(ValueError, match=r"expected \(3, H, W\)"):
        deconvnet(body, image[None], "conv5", 0)
    with pytest.raises(ValueError, match="not finite"):
        deconvnet(body, image * torch.nan, "conv5", 0)
    with pytest.raises(ValueError, match="30 wide and 40 high is too small for conv5: nothing is left of it in conv3"):
        deconvnet(alexnet(padded=False), picture(40, 30), "conv5", 0)
    with pytest.raises(ValueError, match="AlexNet, ZFNet and VGG have them; the ways through a ResNet part"):
        deconvnet(FPN(ResNet("resnet18", "batch")), image, "conv5", 0)
    with pytest.raises(ValueError, match=r"cannot undo stages\.0\.0\.1, BatchNorm2d"):
        deconvnet(net(nn.Sequential(nn.Sequential(nn.Conv2d(3, 1, 1), nn.BatchNorm2d(1)))), image, "conv1", 0)
    with pytest.raises(
        ValueError, match=r"(?s)cannot undo stages\.0\.0, Convolution.* as a detector of rcnnkit\.load\(file, for_tr"
    ):
        deconvnet(prepare(Bare(body), "float32").backbone, image, "conv5", 0)
    with pytest.raises(ValueError, match=r"cannot undo stages\.0\.0, Conv2d.*padding=same"):
        deconvnet(net(nn.Sequential(nn.Conv2d(3, 1, 3, padding="same"))), image, "conv1", 0)
