"""Networks of timm as backbones: a convolutional one, one that is channels last inside, and a small mobile one."""

from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit.backbones.names import architecture
from rcnnkit.detectors.detector import Detector, with_proposals
from rcnnkit.detectors.kinds import build, region_network, window_network
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.structures import Proposals, Targets

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
@pytest.mark.parametrize("name", NAMES)
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
    detector = build(chosen, ["cat"]).eval()
    assert isinstance(detector, Detector)
    images = detector.preprocessing([np.zeros((64, 64, 3), dtype=np.uint8)])
    boxes = Proposals(torch.tensor([[4.0, 4, 40, 44], [0, 0, 30, 30]]), torch.ones(2))
    with torch.no_grad():
        assert len(detector.detect(with_proposals(images, [boxes]))) == 1


def test_frozen_stages_are_the_first_ones() -> None:
    body = architecture("timm/mobilenetv3_small_050").pyramid(settings("mobilenetv3_small_050", frozen_stages=1).model)
    assert isinstance(body, torch.nn.Module)
    body.train()
    frozen = {name for name, parameter in body.named_parameters() if not parameter.requires_grad}
    assert frozen
    assert frozen < {name for name, _ in body.named_parameters()}
    norms = [m for m in body.modules() if isinstance(m, torch.nn.BatchNorm2d) and not m.weight.requires_grad]
    assert norms
    assert not any(norm.training for norm in norms)


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
