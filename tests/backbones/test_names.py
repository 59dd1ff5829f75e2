"""Every backbone: the papers' layer tables, and what they share."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from rcnnkit.backbones.googlenet import GoogLeNet
from rcnnkit.backbones.names import ARCHITECTURES
from rcnnkit.backbones.single_map import SingleMap
from rcnnkit.backbones.two_fc import TwoFC
from rcnnkit.backbones.vgg import VGGMaps, vgg
from rcnnkit.backbones.window import WindowNetwork
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.kinds import build, region_network, window_network
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.inference import prepare

LAYERS = ["pool5", "fc6", "fc7"]
NAMES = list(ARCHITECTURES)
# Weights of the whole classifier of 1000 classes; widths of pool5, fc6 and fc7; channels and cells of a window's last
# map; channels and cells of the detectors' map of 600 × 1000 pixels.
TABLE: dict[str, tuple[int, tuple[int, int, int], tuple[int, int], tuple[int, int, int]]] = {
    "alexnet": (61_100_840, (9216, 4096, 4096), (256, 13), (256, 38, 63)),
    "caffenet": (60_965_224, (9216, 4096, 4096), (256, 13), (256, 39, 64)),
    "zfnet": (62_357_608, (9216, 4096, 4096), (256, 15), (256, 39, 64)),
    "vgg_cnn_m_1024": (87_250_536, (18432, 4096, 1024), (512, 13), (512, 36, 61)),
    "vgg16": (138_357_544, (25088, 4096, 4096), (512, 14), (512, 37, 62)),
    "vgg19": (143_667_240, (25088, 4096, 4096), (512, 14), (512, 37, 62)),
    "googlenet": (6_624_904, (9216, 1024, 1024), (1024, 7), (832, 37, 62)),
    "googlenet_lrn": (6_998_552, (9216, 1024, 1024), (1024, 7), (832, 37, 62)),
    "resnet18": (11_689_512, (4608, 512, 512), (512, 7), (256, 38, 63)),
    "resnet34": (21_797_672, (4608, 512, 512), (512, 7), (256, 38, 63)),
    "resnet50": (25_557_032, (18432, 2048, 2048), (2048, 7), (1024, 38, 63)),
    "resnet101": (44_549_160, (18432, 2048, 2048), (2048, 7), (1024, 38, 63)),
    "resnet152": (60_192_808, (18432, 2048, 2048), (2048, 7), (1024, 38, 63)),
}


def settings(name: str, detector: str = "faster_rcnn", **model: Any) -> DetectorSettings:
    """Small everywhere but in the backbone."""
    norm = {"norm": "batch"} if "batch" in ARCHITECTURES[name].norms else {}
    few = dict.fromkeys(("pre_nms", "post_nms", "train_pre_nms", "train_post_nms"), 20)
    return DetectorSettings.model_validate(
        {
            "model": {"kind": detector, "backbone": name, "fpn_channels": 16} | norm | model,
            "proposals": {"method": "precomputed", "train_count": 12, "count": 6},
            "rpn": few | {"hidden": 16},
            "head": {"hidden": 16, "samples": 8},
            "rcnn": {"size": max(32, ARCHITECTURES[name].smallest), "context": 4, "samples": 6},
            "input": {"short_side": 64, "long_side": 64},
        }
    )


def whole(name: str) -> WindowNetwork:
    default = DetectorSettings.model_validate({"model": settings(name, "rcnn").model})
    with torch.device("meta"):
        return window_network(default)


def test_the_table_is_complete() -> None:
    assert set(TABLE) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", NAMES)
def test_layer_table(name: str) -> None:
    count, widths, (channels, cells), (map_channels, height, width) = TABLE[name]
    network = whole(name)
    classifier = 1000 * (widths[2] + 1)
    assert sum(p.numel() for p in network.parameters()) + classifier == count
    window = torch.empty(2, 3, *[ARCHITECTURES[name].window] * 2, device="meta")
    assert network.body(window)[-1].shape == (2, channels, cells, cells)
    layers = network(window)
    assert network.widths == {name: width for name, width in zip(LAYERS, widths, strict=True) if name in layers}
    assert {layer: tuple(found.shape) for layer, found in layers.items()} == {
        layer: (2, network.widths[layer]) for layer in layers
    }
    assert ("fc6" in layers) is ARCHITECTURES[name].fc6
    single = {"neck": next(neck for neck in ARCHITECTURES[name].necks if neck != "fpn")}
    with torch.device("meta"):
        body = region_network(settings(name, **single)).backbone
        found = body(torch.empty(1, 3, 600, 1000))[-1]
    assert found.shape == (1, map_channels, height, width)
    assert (body.strides[-1], body.channels[-1]) == (16, map_channels)
    assert settings(name, **single).model.strides == list(body.strides)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        # channels and cells that each ends with
        ("caffenet", [(96, 55), (256, 27), (384, 13), (384, 13), (256, 13)]),
        ("zfnet", [(96, 112), (256, 29), (384, 15), (384, 15), (256, 15)]),
        ("vgg_cnn_m_1024", [(96, 109), (256, 26), (512, 13), (512, 13), (512, 13)]),
        ("vgg19", [(64, 224), (128, 112), (256, 56), (512, 28), (512, 14)]),
        ("googlenet", [(64, 112), (192, 56), (480, 28), (832, 14), (1024, 7)]),
        ("googlenet_lrn", [(64, 112), (192, 56), (480, 28), (832, 14), (1024, 7)]),
    ],
)
def test_stages(name: str, sizes: list[tuple[int, int]]) -> None:
    pixels = torch.empty(1, 3, *[ARCHITECTURES[name].window] * 2, device="meta")
    found = []
    body = whole(name).body
    assert isinstance(body, SingleMap | GoogLeNet)
    for stage in body.stages:
        pixels = stage(pixels)
        found.append((pixels.shape[1], pixels.shape[2]))
    assert found == sizes


@pytest.mark.parametrize("name", [name for name in NAMES if ARCHITECTURES[name].smallest > 1])
def test_the_smallest_window(name: str) -> None:
    network, smallest = whole(name).eval(), ARCHITECTURES[name].smallest
    for size in range(smallest, smallest + 9):
        assert network(torch.empty(1, 3, size, size, device="meta"))["fc7"].shape == (1, network.widths["fc7"])
    with pytest.raises(RuntimeError):
        network(torch.empty(1, 3, smallest - 1, smallest - 1, device="meta"))


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("resnet")])
def test_frozen_stages_are_the_first_ones(name: str) -> None:
    for frozen in range(ARCHITECTURES[name].stages + 1):
        with torch.device("meta"):
            body: Any = window_network(settings(name, "rcnn", frozen_stages=frozen)).body
        body.train()
        for number, stage in enumerate(body.stages):
            assert all(p.requires_grad is (number >= frozen) for p in stage.parameters())
            norms = [m for m in stage.modules() if isinstance(m, nn.BatchNorm2d)]
            assert all(m.training is (number >= frozen) for m in norms)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["caffenet", "zfnet", "googlenet", "googlenet_lrn"])
def test_made_ready_to_detect(name: str) -> None:
    """Groups, both kinds of response normalisation and folded norms, also in half precision."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        detector = build(settings(name), ["cat"]).eval()
        assert isinstance(detector, FasterRCNN)
        pixels = torch.randn(1, 3, 64, 96)
        (expected,) = detector.backbone(pixels)
        for precision, tolerance in (("float32", 1e-4), ("bf16", 0.05)):
            ready = prepare(detector, precision)
            (found,) = ready.backbone(pixels)
            assert (found.float() - expected).abs().mean() < tolerance * expected.abs().mean()
            assert ready(picture()).scores.isfinite().all()


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_a_pyramid_on_vgg(name: str) -> None:
    """conv3, conv4, conv5 before the next stage pools them, and pool5."""
    with torch.device("meta"):
        detector = build(settings(name, neck="fpn"), ["cat"])
        maps = detector.backbone(torch.empty(1, 3, 128, 192))
    assert detector.backbone.strides == [128 // m.shape[2] for m in maps] == [192 // m.shape[3] for m in maps]
    assert detector.backbone.strides == [4, 8, 16, 32, 64]
    assert [lateral[0].in_channels for lateral in detector.backbone.lateral] == [256, 512, 512, 512]


def test_the_maps_of_vgg_are_its_own_features() -> None:
    ours, theirs = vgg("vgg16"), make_layers(cfgs["D"])
    pairs = zip(ours.stages.named_parameters(), theirs.named_parameters(), strict=True)
    with torch.no_grad():
        for (_, a), (_, b) in pairs:
            b.copy_(a)
        pixels = torch.randn(1, 3, 32, 64)
        found = VGGMaps(ours)(pixels)
        for last, found_map in zip((16, 23, 30, 31), found, strict=True):  # after ReLU, and after pool5
            torch.testing.assert_close(found_map, theirs[:last](pixels))


@pytest.mark.parametrize("name", ["zfnet", "caffenet", "vgg_cnn_m_1024"])
def test_anchors_lie_16_pixels_apart(name: str) -> None:
    """Also where the map has a row more than there are 16s in the picture."""
    detector = build(settings(name), ["cat"])
    assert isinstance(detector, FasterRCNN)
    images = detector.preprocessing([np.zeros((64, 64, 3), dtype=np.uint8)])
    cells = torch.zeros(1, 1, 5, 5)
    (anchors,) = detector.rpn.place_anchors(images, [cells])
    centres = (anchors[:, :2] + anchors[:, 2:]).reshape(5, 5, -1, 2)[:, :, 0] / 2
    for centre in centres.unbind(dim=2):
        assert centre.unique().tolist() == [0, 16, 32, 48, 64]


def test_fc7_is_narrower_in_vgg_cnn_m_1024() -> None:
    """Its own widths, where head.hidden does not say others."""
    default = DetectorSettings.model_validate(
        {"model": {"kind": "fast_rcnn", "backbone": "vgg_cnn_m_1024"}, "proposals": {"method": "precomputed"}}
    )
    with torch.device("meta"):
        detector = build(default, ["cat"])
    assert isinstance(detector, FastRCNN)
    layers = detector.head.layers
    assert isinstance(layers, TwoFC)
    assert isinstance(layers.fc6, nn.Linear)
    assert isinstance(layers.fc7, nn.Linear)
    assert (layers.fc6.in_features, layers.fc6.out_features, layers.fc7.out_features) == (18432, 4096, 1024)
    assert detector.head.score_layer.in_features == 1024
    assert detector.pool.size == 6
