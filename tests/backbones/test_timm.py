"""Networks of timm as backbones: a convolutional one, one that is channels last inside, and a small mobile one."""

from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit.backbones.names import architecture
from rcnnkit.backbones.timm import TimmMaps
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import build, region_network, window_network
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.structures import Targets

timm = pytest.importorskip("timm", reason="timm is not installed: pip install rcnnkit[timm]")

NAMES = ["convnext_atto", "swin_tiny_patch4_window7_224", "mobilenetv3_small_050"]


def settings(name: str, detector: str = "faster_rcnn", **model: Any) -> DetectorSettings:
    few = dict.fromkeys(("pre_nms", "post_nms", "train_pre_nms", "train_post_nms"), 20)
    return DetectorSettings.model_validate(
        {
            "model": {"kind": detector, "backbone": f"timm/{name}", "fpn_channels": 16} | model,
            "proposals": {"method": "precomputed"},
            "rpn": few | {"hidden": 16},
            "head": {"hidden": 16, "samples": 8},
            "rcnn": {"size": 64, "context": 4, "samples": 6},
            "input": {"short_side": 224, "long_side": 224, "divisor": 32},
        }
    )


@pytest.mark.parametrize("neck", ["fpn", "none"])
@pytest.mark.parametrize("name", NAMES)
def test_strides_and_channels_are_those_of_the_maps(name: str, neck: str) -> None:
    network = region_network(settings(name, neck=neck))
    backbone = network.backbone
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 224, 224))
    assert list(backbone.strides) == ([4, 8, 16, 32, 64] if neck == "fpn" else [16])
    expected = [
        (1, channels, 224 // stride, 224 // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    assert [tuple(each.shape) for each in maps[:4]] == expected[:4]
    assert network.size == 7


@pytest.mark.parametrize("neck", ["fpn", "none"])
@pytest.mark.parametrize("name", NAMES[:2])  # the third is in test_contract.py
def test_trains_and_detects(name: str, neck: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = build(settings(name, neck=neck), ["cat", "dog"]).train()
    assert isinstance(detector, Detector)
    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    losses = detector.losses(
        detector.preprocessing([picture]), [Targets(torch.tensor([[20.0, 30, 120, 200]]), torch.tensor([1]))]
    )
    total = torch.stack(list(losses.values())).sum()
    assert total.isfinite()
    total.backward()
    trained = [parameter for name, parameter in detector.named_parameters() if name.startswith("backbone.")]
    assert sum(parameter.grad is not None for parameter in trained) > len(trained) / 2
    assert detector.eval()(picture).scores.isfinite().all()


def test_r_cnn_looks_at_windows_with_it() -> None:
    chosen = settings("convnext_atto", "rcnn")
    network = window_network(chosen).eval()
    layers = network(torch.zeros(2, 3, 64, 64))
    assert {name: tuple(layer.shape) for name, layer in layers.items()} == {"pool5": (2, 320 * 4), "fc7": (2, 320)}


@pytest.mark.parametrize(
    ("name", "stages", "frozen"),
    [
        ("mobilenetv3_small_050", 1, {"conv_stem", "bn1"}),
        ("mobilenetv3_small_050", 3, {"conv_stem", "bn1", "blocks.0", "blocks.1"}),
        ("convnext_atto", 2, {"stem_0", "stem_1", "stages_0", "stages_1"}),
    ],
)
def test_frozen_stages_are_the_first_ones(name: str, stages: int, frozen: set[str]) -> None:
    with torch.device("meta"):
        body = architecture(f"timm/{name}").pyramid(settings(name, frozen_stages=stages).model)
    assert isinstance(body, torch.nn.Module)
    body.train()
    for path, parameter in body.named_parameters():
        first, second = path.split(".")[1:3]
        assert parameter.requires_grad is (not frozen & {first, f"{first}.{second}"}), path
    norms = [m for m in body.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(norm.training is norm.weight.requires_grad for norm in norms)


def test_stages_without_an_end_cannot_be_frozen() -> None:
    with pytest.raises(
        ValueError, match=r"model\.frozen_stages = 1: timm does not say where this network's stages end"
    ):
        architecture("timm/hrnet_w18_small").pyramid(settings("hrnet_w18_small", frozen_stages=1).model)


def test_stages_after_the_last_map_are_left_out() -> None:
    """timm's mobile networks compute them in any case; the numbers are its own network's."""
    whole = timm.create_model("mobilenetv3_small_050", features_only=True).eval()
    network = region_network(settings("mobilenetv3_small_050", neck="none")).backbone
    assert isinstance(network, TimmMaps)
    network.net.load_state_dict(whole.state_dict(), strict=False)
    assert len(network.net.blocks) == 4
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert network.eval()(pixels)[0].equal(whole(pixels)[3])


def test_normalisation_is_its_configurations() -> None:
    assert architecture("timm/mobilenetv3_small_050").normalisation() == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    inception = architecture("timm/tf_efficientnet_b0.in1k").normalisation()
    assert inception == timm_normalisation("tf_efficientnet_b0.in1k")


def timm_normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    config = timm.get_pretrained_cfg(name)
    return tuple(config.mean), tuple(config.std)


def test_what_timm_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"timm has no network convnext_atom; did you mean"):
        settings("convnext_atom")
    with pytest.raises(ValueError, match=r'neck = "c4" does not go with timm/convnext_atto, which has "fpn" or "none"'):
        settings("convnext_atto", neck="c4")
