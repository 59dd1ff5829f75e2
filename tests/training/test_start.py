"""Weights that a training begins with."""

import re
from pathlib import Path

import pytest
import torch

from rcnnkit import weights
from rcnnkit.config_files import check_settings
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import ModelSettings
from rcnnkit.proposals.rpn import RPNSettings
from rcnnkit.training.start import start_from
from rcnnkit.training.train import train
from tests.training.aligners import untrained_detector
from tests.training.runs import QUIET, Values, settings


def test_init_takes_weights_that_fit(tiny: Values, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = train(settings(tiny), tmp_path / "first", console=QUIET)
    started = settings(tiny, init=str(first), lr=1e-12, warmup=0, iterations=1)
    second = train(started, tmp_path / "second", console=QUIET)
    (_, old), (_, new) = weights.read(first), weights.read(second)
    for name in (next(name for name in old if name.startswith("backbone.body.")), "head.delta_layer.weight"):
        torch.testing.assert_close(new[name], old[name], atol=1e-8, rtol=0)
    fewer = settings(tiny, init=str(first), lr=1e-12, warmup=0, iterations=1)
    fewer = fewer.model_copy(update={"head": fewer.head.model_copy(update={"class_agnostic": True})})
    with caplog.at_level("INFO", "rcnnkit"):
        third = train(fewer, tmp_path / "third", console=QUIET)  # the box layer does not fit and starts afresh
    assert weights.read(third)[1]["head.delta_layer.weight"].shape[0] == 4
    assert re.search(
        r"took \d+ of \d+ tensors; these start afresh: head\.delta_layer\.weight, head\.delta_layer\.bias$", caplog.text
    )
    other = settings(tiny, init=str(first))
    other = other.model_copy(update={"model": ModelSettings(backbone="alexnet")})
    with pytest.raises(ValueError, match="no tensor that fits this detector's backbone"):  # its head's biases would
        train(other.model_copy(update={"rpn": RPNSettings()}), tmp_path / "fourth", console=QUIET)


def test_an_aligner_is_nothing_to_start_from(tiny: Values, tmp_path: Path) -> None:
    detector = untrained_detector(tiny, tmp_path / "detector.safetensors")
    about, tensors = weights.read(detector)
    tensors = {f"detector.{name}": tensor for name, tensor in tensors.items()}
    file = tmp_path / "aligner.safetensors"
    weights.write(tensors, about | {"kind": "aligner"}, file)
    model = build(check_settings(tiny, "test"), ["0", "3", "4", "6", "7"])
    message = (
        f"train.init = {file} holds an aligner, which no detector can start from; give the weights of the detector that"
        " it was trained on"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        start_from(file, model)
    start_from(detector, model)


@pytest.mark.parametrize("classes", [["cat", "dog"], ["dog", "cat"], ["RBC", "WBC"]], ids=str)
@pytest.mark.parametrize("detector", ["fast_rcnn", "faster_rcnn"])
def test_layers_for_other_classes_start_afresh(
    tiny: Values, tmp_path: Path, caplog: pytest.LogCaptureFixture, classes: list[str], detector: str
) -> None:
    """Also where there are as many. Classes of the same names, in any order, are taken over with background."""
    made = check_settings(tiny | {"model": tiny["model"] | {"kind": detector}}, "test")
    first = build(made, ["cat", "dog"])
    with torch.no_grad():
        for tensor in first.state_dict().values():
            tensor.add_(torch.linspace(1, 2, tensor.numel()).reshape(tensor.shape).to(tensor))
    weights.save(first, made, tmp_path / "first.safetensors")
    second = build(made, classes)
    with caplog.at_level("INFO", "rcnnkit"):
        start_from(tmp_path / "first.safetensors", second)
    same = {name for name, tensor in second.state_dict().items() if tensor.equal(first.state_dict()[name])}
    fresh = {f"head.{layer}.{part}" for layer in ("score_layer", "delta_layer") for part in ("weight", "bias")}
    fresh |= {"head.target_mean", "head.target_std"} & first.state_dict().keys()
    assert first.state_dict().keys() - same == (set() if classes == ["cat", "dog"] else fresh)
    assert ("start afresh" in caplog.text) == (classes != ["cat", "dog"])
    known = ", but for the classes of the same names: dog, cat\n"
    assert caplog.text.endswith(known) == (classes == ["dog", "cat"])
    for layer, rows in (("score_layer", [1, 0, 2]), ("delta_layer", [4, 5, 6, 7, 0, 1, 2, 3])):
        for part in ("weight", "bias"):
            old, new = (each.state_dict()[f"head.{layer}.{part}"] for each in (first, second))
            assert new.equal(old[rows]) == (classes == ["dog", "cat"])


def test_some_classes_are_known(tiny: Values, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Weights with scores that belong to no class, as torchvision's on COCO."""
    made = check_settings(tiny | {"head": tiny["head"] | {"unnamed": 2}}, "test")
    first = build(made, ["cat", "Dog", "cow"])
    with torch.no_grad():
        for tensor in first.state_dict().values():
            tensor.add_(torch.linspace(1, 2, tensor.numel()).reshape(tensor.shape).to(tensor))
    weights.save(first, made, tmp_path / "first.safetensors")
    second = build(check_settings(tiny, "test"), ["zebra", "dog"])
    before = {name: tensor.clone() for name, tensor in second.state_dict().items()}
    with caplog.at_level("INFO", "rcnnkit"):
        start_from(tmp_path / "first.safetensors", second)
    old, new = first.state_dict(), second.state_dict()
    for part in ("weight", "bias"):
        scores, boxes = f"head.score_layer.{part}", f"head.delta_layer.{part}"
        assert new[scores][1:].equal(old[scores][[1, 3]])  # dog, and background behind the classes
        assert new[boxes][4:].equal(old[boxes][4:8])
        assert new[scores][0].equal(before[scores][0])
        assert new[boxes][:4].equal(before[boxes][:4])
    assert "but for the classes of the same names: dog\n" in caplog.text


def test_init_wants_the_pixels_that_its_weights_know(tiny: Values, tmp_path: Path) -> None:
    first = train(
        settings(tiny | {"input": tiny["input"] | {"std": [0.5, 0.5, 0.5]}}), tmp_path / "first", console=QUIET
    )
    said = r"best\.safetensors was trained with input\.std = \[0\.5, 0\.5, 0\.5\], not \[0\.229, 0\.224, 0"
    with pytest.raises(ValueError, match=said):
        train(settings(tiny, init=str(first)), tmp_path / "second", console=QUIET)
    assert not (tmp_path / "second").exists()


def test_licences_go_on_from_run_to_run(tiny: Values, tmp_path: Path) -> None:
    made = settings(tiny, iterations=1)
    detector = build(made, list("03467"))
    detector.origin = {"source": "torchvision X", "licence": "BSD", "sha256": "00ff"}
    weights.save(detector, made, tmp_path / "start.safetensors")
    first = train(
        settings(tiny, iterations=1, init=str(tmp_path / "start.safetensors")), tmp_path / "first", console=QUIET
    )
    train(settings(tiny, iterations=1, init=str(first)), tmp_path / "second", console=QUIET)
    train(settings(tiny, iterations=2, resume=str(tmp_path / "second")), tmp_path / "second", console=QUIET)
    for run in ("first", "second"):
        for name in ("best", "last"):
            about, _ = weights.read(tmp_path / run / f"{name}.safetensors")
            assert about["origin"] == detector.origin | {"source": "trained from torchvision X"}
    own = train(settings(tiny, iterations=1), tmp_path / "own", console=QUIET)
    assert weights.read(own)[0]["origin"] == {}
