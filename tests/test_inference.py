"""What was made ready to detect finds what the detector itself finds."""

import copy
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rcnnkit import weights
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.inference import prepare
from rcnnkit.structures import Detections, Proposals, Targets

FPN = {"fpn_channels": 64, "fpn_norm": "batch"}
MODELS: dict[str, dict[str, Any]] = {
    "faster": {"backbone": "resnet18", "norm": "batch", **FPN},
    "frozen": {"backbone": "resnet18", "norm": "frozen", "neck": "c4"},
    "group": {"backbone": "resnet18", "norm": "group"},
    "fast": {"kind": "fast_rcnn", "backbone": "alexnet"},
    "rcnn": {"kind": "rcnn", "backbone": "resnet18", "norm": "batch"},
}


def detector_of(name: str) -> Detector:
    torch.manual_seed(3)
    settings = DetectorSettings.model_validate(
        {
            "model": MODELS[name],
            "rpn": {"pre_nms": 100, "post_nms": 20},
            "head": {"hidden": 64, "score_threshold": 0.0},
            "proposals": {"method": "precomputed"},
            "rcnn": {"size": 64, "score_threshold": -100.0},
            "input": {"short_side": 96, "long_side": 160},
        }
    )
    detector = build(settings, ["a", "b", "c"])
    assert isinstance(detector, Detector)
    module: Any
    for module in detector.modules():
        if hasattr(module, "running_var"):  # statistics that folding could get wrong
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    for name_, buffer in detector.named_buffers():
        if name_.startswith(("svm", "ridge")):
            buffer.normal_(std=0.01)
    return detector.eval()


def found_by(detector: Detector) -> Detections:
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    corners = torch.tensor([[0.0, 0, 60, 50], [30, 20, 119, 89], [5, 5, 20, 80]])
    given = (Proposals(corners, torch.tensor([0.9, 0.8, 0.7])),) if detector.takes_proposals else ()
    found = detector(picture, *given)
    assert isinstance(found, Detections)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_the_same_is_found(name: str) -> None:
    detector = detector_of(name)
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    ready = prepare(detector, "float32")
    expected, found = found_by(detector), found_by(ready)
    assert len(found) == len(expected) > 0
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-2)
    assert not [m for m in ready.modules() if isinstance(m, nn.BatchNorm2d)]
    for key, value in detector.state_dict().items():  # the original is as it was
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    assert detector.backbone is not ready.backbone
    assert not detector.only_detects


class Bare(Detector):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


class Activated(nn.BatchNorm2d):
    """A norm that ends in an activation, as timm has them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).relu()


class Crossed(nn.Module):
    """Called in another order than it is named; one convolution serves two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(16, 16, 3, padding=1) for _ in range(2))
        self.norm_of_first, self.norm_of_second = nn.BatchNorm2d(16), nn.BatchNorm2d(16)
        shared = nn.Conv2d(16, 16, 1)
        self.one, self.other = (nn.Sequential(shared, nn.BatchNorm2d(16)) for _ in range(2))
        self.row = nn.Sequential(nn.Conv2d(16, 16, 3), Activated(16), nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16))
        self.last = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm_of_second(self.second(self.norm_of_first(self.first(x)).relu()))
        x = self.row(self.one(x) - self.other(x))
        rows: torch.Tensor = self.last(x.flatten(2).transpose(1, 2))  # (B, cells, C)
        return rows


def test_networks_that_go_their_own_way_stay_right() -> None:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = Crossed().eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
        pixels = torch.randn(2, 16, 9, 10)
        ready, expected = prepare(Bare(network), "float32"), network(pixels)
        torch.testing.assert_close(ready.backbone(pixels), expected, atol=1e-4, rtol=1e-4)
        assert [type(part) for part in ready.backbone.row][1:] == [Activated, type(ready.backbone.row[0]), nn.Identity]
        half = prepare(Bare(network), "bf16").backbone(pixels)
        assert (half.float() - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_half_precision_is_near_and_boxes_stay_float32() -> None:
    detector = detector_of("faster")
    found = found_by(prepare(detector, "bf16"))
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert abs(float(found.scores.max() - found_by(detector).scores.max())) < 0.02


def test_it_is_neither_trained_nor_saved_and_names_are_checked(tmp_path: Path) -> None:
    detector = detector_of("faster")
    ready = prepare(detector, "float32")
    trained = r"^this detector only detects; rcnnkit\.load\(file, for_training=True\) gives the one that can be tra"
    with pytest.raises(RuntimeError, match=trained):
        ready.train()
    with pytest.raises(RuntimeError, match=trained):
        ready.losses(ready.preprocessing([PICTURE], ready.device), [Targets(torch.zeros(0, 4), torch.zeros(0).long())])
    with pytest.raises(ValueError, match="save the one that it was made from"):
        weights.save(ready, DetectorSettings(), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="ready already"):
        prepare(ready, "bf16")
    with pytest.raises(ValueError, match="precision int8 is not one of auto"):
        prepare(detector, "int8")


PICTURE = np.random.default_rng(1).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def assert_same(one: Detections, other: Detections) -> None:
    assert len(one) > 0
    for name in ("boxes", "scores", "labels"):
        assert getattr(one, name).equal(getattr(other, name))


@pytest.mark.parametrize("precision", [None, "float32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["faster", "fast"])
def test_it_can_be_pickled_and_copied(name: str, precision: str | None) -> None:
    detector = detector_of(name)
    ready = detector if precision is None else prepare(detector, precision)
    expected = found_by(ready)
    assert_same(found_by(pickle.loads(pickle.dumps(ready))), expected)
    assert_same(found_by(copy.deepcopy(ready)), expected)


def test_another_process_finds_the_same() -> None:
    ready = prepare(detector_of("faster"), "float32")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert_same(pool.apply(ready, (PICTURE,)), ready(PICTURE))


def test_weights_are_of_one_type_and_the_error_says_what_to_do_instead() -> None:
    detector = detector_of("faster")
    for change in (nn.Module.half, nn.Module.bfloat16, nn.Module.double, lambda m: m.to(torch.float16)):
        before = {name: value.clone() for name, value in detector.state_dict().items()}
        with pytest.raises(TypeError, match=r"the weights stay float32, not (b?float16|float64); to detect") as error:
            change(detector)
        assert str(error.value).endswith(
            '; to detect in half precision, call rcnnkit.load(file, precision="bf16" or "fp16") or'
            " rcnnkit.inference.prepare(detector, …), and to train in it, set train.precision"
        )
        assert all(value.equal(before[name]) for name, value in detector.state_dict().items())
    assert_same(found_by(detector.float().to("cpu")), found_by(detector))
    ready = prepare(detector, "bf16")
    for change in (nn.Module.half, nn.Module.float, nn.Module.bfloat16, lambda m: m.to("meta")):
        with pytest.raises(RuntimeError, match=r"stays on its device and in its type; load it there: rcnnkit\.load"):
            change(ready)
    assert_same(found_by(ready.to("cpu")), found_by(ready))
