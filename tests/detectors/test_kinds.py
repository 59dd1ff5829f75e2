"""Every kind of model with a spatial transformer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rcnnkit import weights
from rcnnkit.backbones.classifier import Classifier
from rcnnkit.backbones.spatial_transformer import SpatialTransformer
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.rcnn import RCNN, picture_of
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.exporting.export import export
from rcnnkit.inference import prepare
from rcnnkit.structures import Proposals, Targets
from rcnnkit.training.optimizers import parts_of

KINDS: dict[str, dict[str, Any]] = {
    "faster_rcnn": {"rpn": {"post_nms": 20, "pre_nms": 50}, "head": {"samples": 8, "score_threshold": 0.01}},
    "fast_rcnn": {"proposals": {"method": "sliding_windows", "count": 10}, "head": {"samples": 8}},
    "rcnn": {
        "proposals": {"method": "sliding_windows", "count": 10},
        "rcnn": {"size": 48, "samples": 8, "score_threshold": -9},
    },
    "classifier": {"classifier": {"resize": 48, "crop": 48}},
}


def made(kind: str, transformer: str) -> tuple[Any, DetectorSettings]:
    values = {"model": {"kind": kind, "backbone": "resnet18", "neck": "c4", "norm": "batch"}, **KINDS[kind]}
    if kind != "classifier":
        values["input"] = {"short_side": 64, "long_side": 96}
    settings = DetectorSettings.model_validate(values | {"transformer": {"kind": transformer}})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(settings, ["a", "b"]).eval(), settings


def pair(kind: str, transformer: str = "affine") -> tuple[Any, Any]:
    """A model without, and one of the same weights with a transformer at its start."""
    plain, _ = made(kind, "none")
    other, _ = made(kind, transformer)
    generator = torch.Generator().manual_seed(1)
    for name in ("svm_weight", "ridge_weight"):
        if hasattr(plain, name):
            getattr(plain, name).normal_(generator=generator).mul_(0.02)
    missing = other.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing
    assert all("transformer." in name for name in missing)
    return plain, other


def turn(model: nn.Module) -> None:
    """Have it choose something."""
    (found,) = (part for part in model.modules() if isinstance(part, SpatialTransformer))
    nn.init.normal_(found.last_layer.bias, generator=torch.Generator().manual_seed(0))


PICTURE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


def answers(model: Any) -> list[torch.Tensor]:
    if isinstance(model, Classifier):
        return [model([PICTURE, PICTURE[:, ::-1]])]
    found = model(PICTURE)
    assert len(found)
    return [found.boxes, found.scores, found.labels]


@pytest.mark.parametrize("kind", KINDS)
def test_at_its_start_all_answers_are_the_same_to_the_last_bit(kind: str) -> None:
    plain, other = pair(kind)
    for one, two in zip(answers(plain), answers(other), strict=True):
        assert one.equal(two)
    turn(other)
    assert not all(
        one.shape == two.shape and one.equal(two) for one, two in zip(answers(plain), answers(other), strict=True)
    )
    if isinstance(plain, Detector):
        ready = answers(prepare(other, "bf16"))  # the transformer stays in float32
        assert ready[0].dtype == torch.float32


@pytest.mark.parametrize("kind", ["faster_rcnn", "fast_rcnn", "rcnn"])
def test_boxes_stay_in_their_frame(kind: str) -> None:
    plain, other = pair(kind)
    turn(other)
    boxes = torch.tensor([[5.0, 5, 40, 50], [30, 10, 90, 60]])
    predicted = []
    for model in (plain, other):
        images = model.preprocessing([PICTURE])
        with torch.no_grad():
            if isinstance(model, RCNN):
                features = model.compute_features(picture_of(images, 0), boxes)
                predicted.append((model.score(features), model.regress(features)))
            else:
                assert isinstance(model, FastRCNN | FasterRCNN)
                predicted.append(model.head.predict(model.regions(images, [Proposals(boxes, boxes[:, 0])])))
    assert predicted[0][1].equal(predicted[1][1])
    assert not predicted[0][0].equal(predicted[1][0])


@pytest.mark.parametrize("kind", KINDS)
def test_losses_teach_it_and_its_rate_is_its_own(kind: str) -> None:
    model, _ = made(kind, "rotation")
    generator = torch.Generator().manual_seed(0)
    if isinstance(model, Classifier):
        losses = model.losses(model.pixels([model.see(PICTURE)]), torch.tensor([1]))
    else:
        targets = Targets(torch.tensor([[5.0, 5, 40, 50]]), torch.tensor([1]))
        batch = model.batches([PICTURE])[0]
        losses = model.losses(batch, [targets], generator)
    torch.stack(list(losses.values())).sum().backward()
    (part,) = (part for part in model.modules() if isinstance(part, SpatialTransformer))
    assert part.last_layer.bias.grad is not None
    assert part.last_layer.bias.grad.any()
    own = {id(each) for each in part.parameters()}
    factors = {factor: {id(each) for each in weights} for weights, factor in parts_of(model, 1.0)}
    assert factors == {0.1: own, 1.0: {id(each) for each in model.parameters()} - own}
    assert {factor for _, factor in parts_of(model, 0.5)} == {0.5, 0.1, 1.0}


def test_weights_are_kept_and_loaded(tmp_path: Path) -> None:
    model, settings = made("faster_rcnn", "attention")
    turn(model)
    weights.save(model, settings, tmp_path / "w.safetensors")
    loaded = weights.load(tmp_path / "w.safetensors", "cpu", for_training=True)
    for one, two in zip(answers(model), answers(loaded), strict=True):
        assert one.equal(two)
    with pytest.raises(ValueError, match="a detector with a spatial transformer cannot be exported"):
        export(model, tmp_path / "w.onnx")


def test_pool5_cannot_serve_both() -> None:
    values = {"model": {"kind": "rcnn"}, "rcnn": {"layer": "pool5"}, "transformer": {"kind": "affine"}}
    with pytest.raises(ValueError, match=r'rcnn\.layer = "pool5" does not go with a transformer'):
        DetectorSettings.model_validate(values)
    DetectorSettings.model_validate(values | {"rcnn": {"layer": "pool5", "box_regression": False}})
