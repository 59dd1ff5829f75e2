"""Classifiers are trained by the loop that detectors are trained by, and detectors start from them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from rich.console import Console

from rcnnkit import weights
from rcnnkit.backbones.classifier import Classifier
from rcnnkit.backbones.single_map import SingleMap
from rcnnkit.config import Settings
from rcnnkit.config_files import check_settings
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.downloads import LICENCE
from rcnnkit.structures import LossSum
from rcnnkit.training import loop
from rcnnkit.training.gradient import NonFiniteLoss
from rcnnkit.training.start import start_from
from rcnnkit.training.train import train

Values = dict[str, dict[str, Any]]
QUIET = Console(quiet=True)
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy pictures of three colours: eight of each to train on, three to validate on, of blue none."""
    folder, rng = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for split, number, names in (("train", 8, list(COLOURS)), ("val", 3, ["red", "green"])):
        for name in names:
            (folder / split / name).mkdir(parents=True)
            for i in range(number):
                pixels = np.clip(rng.normal(COLOURS[name], 30, (40 + i, 36, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


@pytest.fixture
def small(root: Path) -> Values:
    """Settings of a classifier that trains in a second, with dropout."""
    return {
        "model": {"kind": "classifier", "backbone": "alexnet"},
        "head": {"hidden": 8},
        "classifier": {"resize": 66, "crop": 63},
        "data": {"root": str(root), "workers": 0},
        "train": {
            **{"iterations": 4, "batch": 3, "lr": 0.01, "warmup": 0, "schedule": "cosine"},
            **{"log_every": 1, "evaluate_every": 2, "device": "cpu", "precision": "float32"},
        },
    }


def settings(values: Values, **sections: dict[str, Any]) -> Settings:
    return check_settings({s: values.get(s, {}) | sections.get(s, {}) for s in {*values, *sections}}, "test")


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_it_learns_and_leaves_all_that_is_promised(small: Values, root: Path, tmp_path: Path) -> None:
    model = {"backbone": "resnet18", "norm": "batch", "neck": "fpn"}
    sizes = {"resize": 36, "crop": 32, "area": [0.5, 1.0]}
    options = {"iterations": 12, "batch": 12, "lr": 0.02, "evaluate_every": 6}
    run = tmp_path / "run"
    made = settings(small, model=model, classifier=sizes, train=options)
    best = train(made, run, console=QUIET)
    names = {
        "best.safetensors",
        "last.safetensors",
        "previous.safetensors",
        "settings.toml",
        "log.jsonl",
        "evaluation.json",
        "report.html",
        "tensorboard",
    }
    assert {path.name for path in run.iterdir()} == names
    judged = [line for line in log(run) if "top1" in line]
    assert [line["iteration"] for line in judged] == [6, 12]
    assert judged[-1]["top5"] is None  # of three classes the best five are all
    about, _ = weights.read(best)
    assert about["training"]["top1"] == max(line["top1"] for line in judged) == 1.0
    assert json.loads((run / "evaluation.json").read_text())["classes"][0] == {
        **{"name": "blue", "pictures": 0, "top1": None}  # it does not count in the mean of classes either
    }
    classifier = weights.load_classifier(best, "cpu")
    assert classifier.class_names == ("blue", "green", "red")
    assert (classifier.settings.resize, classifier.settings.crop) == (36, 32)
    called = [classifier.class_names[i] for i in classifier([root / f"train/{n}/0.png" for n in COLOURS]).argmax(dim=1)]
    assert called == list(COLOURS)


def test_files_of_classifiers_and_detectors_are_kept_apart(small: Values, tiny: Values, tmp_path: Path) -> None:
    made = settings(small)
    weights.save(build(made, ["a", "b"]), made, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"c\.safetensors holds a classifier; read it with .*load_classifier"):
        weights.load(tmp_path / "c.safetensors", "cpu")
    detecting = check_settings(tiny, "test")
    weights.save(build(detecting, ["a", "b"]), detecting, tmp_path / "d.safetensors")
    with pytest.raises(ValueError, match=r"d\.safetensors holds a detector; read it with rcnnkit\.load"):
        weights.load_classifier(tmp_path / "d.safetensors", "cpu")


def test_a_resumed_run_ends_where_the_whole_one_does(
    small: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(settings(small), tmp_path / "whole", console=QUIET)
    step, calls = loop.step, []

    def killed(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(loop, "step", killed)
    half = tmp_path / "half"
    with pytest.raises(KeyboardInterrupt):
        train(settings(small), half, console=QUIET)  # after three iterations, of which two are kept
    torch.manual_seed(99)  # what the global generator did before does not matter
    again = train(settings(small, train={"resume": str(half)}), half, console=QUIET)
    (_, first), (_, second) = weights.read(whole), weights.read(again)
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)


def test_what_cannot_be_learnt(small: Values, tmp_path: Path) -> None:
    (tmp_path / "train" / "only").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / "train/only/1.png")
    with pytest.raises(ValueError, match=r"train has the class only only, so every picture is right"):
        train(settings(small, data={"root": str(tmp_path), "val": ""}), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_names_the_pictures(
    small: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned = lambda self, *_: {"class": LossSum(self.score_layer.bias.sum() * float("nan"), 1)}  # noqa: E731
    monkeypatch.setattr(Classifier, "loss_sums", poisoned)
    with pytest.raises(NonFiniteLoss, match=r"(?s)iteration 0 .*class nan.*train/\w+/\d\.png.*train/\w+/\d\.png"):
        train(settings(small), tmp_path / "run", console=QUIET)


@pytest.mark.parametrize("names", [["x", "y"], ["x", "y", "z"], ["red", "green", "blue"]], ids=str)
def test_the_last_layer_is_new_for_other_classes(
    small: Values, tmp_path: Path, caplog: pytest.LogCaptureFixture, names: list[str]
) -> None:
    """Also where there are as many, or the same ones in another order."""
    made = settings(small)
    weights.save(build(made, names), made, tmp_path / "first.safetensors")
    for classes, afresh in ((["blue", "green", "red"], True), (names, False)):
        caplog.clear()
        classifier = build(made, classes)
        assert isinstance(classifier, Classifier)
        before = classifier.score_layer.weight.clone()
        with caplog.at_level("INFO", "rcnnkit"):
            start_from(tmp_path / "first.safetensors", classifier)
        assert classifier.score_layer.weight.equal(before) == afresh
        assert ("start afresh: score_layer.weight, score_layer.bias" in caplog.text) == afresh


def test_as_many_classes_with_background_are_not_taken_for_the_same(small: Values, tmp_path: Path) -> None:
    made = settings(small)
    weights.save(build(made, ["a", "b", "c"]), made, tmp_path / "c.safetensors")
    rcnn = build(settings(small, model={"kind": "rcnn"}, rcnn={"size": 63}), ["a", "b"])  # and background
    assert isinstance(rcnn, RCNN)
    before = rcnn.score_layer.weight.clone()
    start_from(tmp_path / "c.safetensors", rcnn)
    assert rcnn.score_layer.weight.equal(before)


def test_a_detector_wants_the_pixels_that_the_classifier_knows(small: Values, tmp_path: Path) -> None:
    made = settings(small, input={"mean": [0.5, 0.5, 0.5]})
    weights.save(build(made, ["a", "b"]), made, tmp_path / "c.safetensors")
    detecting = check_settings({"model": {"backbone": "alexnet"}, "head": {"hidden": 8}, "data": small["data"]}, "test")
    with pytest.raises(ValueError, match=r"c\.safetensors was trained with input\.mean = \[0\.5, 0\.5, 0\.5\], not"):
        start_from(tmp_path / "c.safetensors", build(detecting, ["a", "b"]))


PARTS = {
    "resnet18 R-CNN": ({"kind": "rcnn", "backbone": "resnet18", "norm": "batch"}, None),
    "resnet18 Fast R-CNN C4": ({"kind": "fast_rcnn", "backbone": "resnet18", "norm": "frozen", "neck": "c4"}, None),
    "resnet18 Faster R-CNN C4": ({"backbone": "resnet18", "norm": "batch", "neck": "c4"}, None),
    "resnet18 Fast R-CNN FPN": ({"kind": "fast_rcnn", "backbone": "resnet18", "norm": "batch"}, None),
    "resnet18 Faster R-CNN FPN": ({"backbone": "resnet18", "norm": "frozen"}, None),
    "alexnet R-CNN": ({"kind": "rcnn", "backbone": "alexnet"}, 8),
    "alexnet Fast R-CNN": ({"kind": "fast_rcnn", "backbone": "alexnet"}, 8),
    "alexnet Faster R-CNN": ({"backbone": "alexnet"}, 8),
    "vgg16 Faster R-CNN": ({"backbone": "vgg16"}, 8),
    "vgg16 Fast R-CNN FPN": ({"kind": "fast_rcnn", "backbone": "vgg16", "neck": "fpn"}, 8),
    "googlenet Faster R-CNN": ({"backbone": "googlenet", "norm": "batch"}, None),
}


@pytest.mark.parametrize("case", PARTS)
def test_every_tensor_of_a_classifier_arrives_in_every_detector(case: str, tmp_path: Path) -> None:
    model, hidden = PARTS[case]
    backbone = model["backbone"]
    values = {"model": {"fpn_channels": 16} | model, "head": {"hidden": hidden or 0}, "rcnn": {"size": 64}}
    own = {"norm": "batch"} if backbone in ("resnet18", "googlenet") else {}
    plain = {"kind": "classifier", "backbone": backbone} | own
    made = DetectorSettings.model_validate(values | {"model": plain, "classifier": {"resize": 64, "crop": 64}})
    classifier = build(made, ["a", "b"]).eval()
    assert isinstance(classifier, Classifier)
    for name, tensor in classifier.state_dict().items():  # running means and variances too, no two alike
        if tensor.is_floating_point() and name.endswith((".bias", "running_mean", "running_var")):
            tensor.uniform_(0.5, 1.5)
    weights.save(classifier, made, tmp_path / "c.safetensors")
    detector = build(DetectorSettings.model_validate(values), ["x", "y", "z"]).eval()
    assert isinstance(detector, Detector)
    start_from(tmp_path / "c.safetensors", detector)

    there = list(detector.state_dict().values())
    for name, tensor in classifier.backbone.state_dict().items():
        # frozen norms count no batches, and a pyramid has an fc6 and fc7 of its own
        if "num_batches_tracked" not in name and not ("FPN" in case and name.startswith("layers.")):
            assert any(tensor.equal(other) for other in there), name
    # And at their places: the detector's layers make of pixels what the classifier's make of them.
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = classifier.backbone(pixels)["fc7"]
        if case.partition(" ")[2] == "R-CNN":
            found = detector.backbone(pixels)["fc7"]
        elif "FPN" in case:
            maps = detector.backbone.body(pixels)
            found = maps[-2 if backbone == "vgg16" else -1]  # of a VGG the last is pooled
            expected = classifier.backbone.body(pixels)[-1]
        elif "C4" in case or backbone == "googlenet":
            assert isinstance(detector, FastRCNN | FasterRCNN)
            found = detector.head.layers(detector.backbone(pixels)[0])
        else:  # a detector's AlexNet pads its pooling: the classifier's map, the detector's layers
            body = detector.backbone
            assert isinstance(body, SingleMap)
            assert isinstance(detector, FastRCNN | FasterRCNN)
            own_map = classifier.backbone.body(pixels)[0] if backbone == "alexnet" else body(pixels)[0]
            found = detector.head.layers(body.pool5(own_map))
    # frozen norms are folded into one product, and so rounded otherwise; 1.1e-5 is the most that was seen
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=1e-4)


def test_imagenets_last_layer_is_new_and_its_normalisation_stays(
    small: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr("rcnnkit.backbones.resnet.imagenet_weights", lambda _: state)
    model = {"backbone": "resnet18", "pretrained": True}
    sizes, options = {"resize": 36, "crop": 32}, {"iterations": 1, "lr": 1e-12}
    with caplog.at_level("INFO", "rcnnkit"):
        run = settings(small, model=model, classifier=sizes, train=options)
        best = train(run, tmp_path / "run", console=QUIET)
    assert "model.pretrained: the last layer is new, for the 3 classes here" in caplog.text
    classifier = weights.load_classifier(best, "cpu")
    torch.testing.assert_close(classifier.backbone.body.stem[0].weight, state["conv1.weight"], atol=1e-8, rtol=0)
    assert classifier.score_layer.weight.shape == (3, 512)
    assert classifier.preprocessing.mean == (0.485, 0.456, 0.406)
    assert classifier.origin == {
        "source": "trained from torchvision ResNet18_Weights.IMAGENET1K_V1",
        "licence": LICENCE,
        "url": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    }
