from pathlib import Path
from typing import Any

import pytest
import torch

from rcnnkit import weights
from rcnnkit.benchmark.measure.contenders import trained, untrained
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings

Values = dict[str, dict[str, Any]]
CPU = torch.device("cpu")


def written(tiny: Values, folder: Path, detector: str, names: tuple[str, ...] = ("a", "b"), **model: Any) -> Path:
    method = model.pop("method", "selective_search")
    values: Values = {section: tiny[section] for section in ("model", "rpn", "head", "input")}
    values = values | {"model": tiny["model"] | {"kind": detector} | model, "rcnn": {"size": 32, "context": 4}}
    values["proposals"] = {"method": method}
    settings = DetectorSettings.model_validate(values)
    path = folder / f"{detector}-{len(names)}-{settings.model.backbone.replace('/', '-')}.safetensors"
    weights.save(build(settings, names), settings, path)
    return path


def test_trained_ones_in_the_order_of_their_papers(tiny: Values, tmp_path: Path) -> None:
    files = [written(tiny, tmp_path, name) for name in ("faster_rcnn", "rcnn", "fast_rcnn")]
    contenders = trained(files)
    assert [contender.name for contender in contenders] == ["rcnn", "fast-rcnn", "faster-rcnn"]
    fast, faster = contenders[1].load(CPU, 7), contenders[2].load(CPU, 7)
    assert isinstance(fast, FastRCNN)
    assert isinstance(faster, FasterRCNN)
    assert fast.count == 7
    assert faster.rpn.keep == (50, 7)
    assert not faster.training
    theirs = weights.load(files[0], CPU, for_training=True).state_dict()
    for name, value in faster.state_dict().items():
        assert torch.equal(value, theirs[name])
    more = contenders[2].load(CPU, 70)
    assert isinstance(more, FasterRCNN)
    assert more.rpn.keep == (70, 70)  # no more than go into suppression come out of it


def test_weights_that_cannot_be_compared(tiny: Values, tmp_path: Path) -> None:
    faster = written(tiny, tmp_path, "faster_rcnn")
    with pytest.raises(ValueError, match=r"have different classes \(a, b, c and a, b\)"):
        trained([faster, written(tiny, tmp_path, "fast_rcnn", ("a", "b", "c"))])
    with pytest.raises(ValueError, match=r"have different backbones \(resnet18 and timm/test_resnet\)"):
        trained([faster, written(tiny, tmp_path, "fast_rcnn", backbone="resnet18")])
    with pytest.raises(ValueError, match="both hold a Faster R-CNN; give one of each kind"):
        trained([faster, faster])
    with pytest.raises(ValueError, match=r"needs proposals that are given to it .* take one that finds its own"):
        trained([faster, written(tiny, tmp_path, "fast_rcnn", method="precomputed")])
    with pytest.raises(FileNotFoundError, match="no such weights file"):
        trained([tmp_path / "none.safetensors"])


def test_untrained_ones_are_the_same_every_time() -> None:
    state = torch.random.get_rng_state()
    first, second = (untrained("resnet18", ["a", "b"])[0].load(CPU).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_no_such_backbone() -> None:
    with pytest.raises(ValueError, match=r"--backbone resnet7: .* there is no backbone .resnet7.; did you mean resnet"):
        untrained("resnet7", ["a"])


def test_untrained_detectors_have_the_papers_sizes() -> None:
    settings = {contender.name: contender.settings for contender in untrained("vgg16", ["a"])}
    assert settings["rcnn"].window_size == 224
    assert settings["fast-rcnn"].proposals.count == 2000
    assert settings["faster-rcnn"].rpn.post_nms == 300
    assert settings["faster-rcnn"].input.short_side == settings["fast-rcnn"].input.short_side == 600
