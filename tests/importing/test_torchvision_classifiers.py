"""torchvision's classifiers with random weights give the same logits here."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision.models import ResNet50_Weights

from rcnnkit import weights
from rcnnkit.downloads import hash_of
from rcnnkit.importing.convert import import_weights
from rcnnkit.importing.sources import CLASSIFIERS, torchvision_weights
from rcnnkit.importing.torchvision_classifiers import classifier_from_torchvision

PICTURE = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8).repeat(30, 0).repeat(30, 1)


def trained(name: str, **options: object) -> nn.Module:
    """With statistics that do something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torchvision.models.get_model(name, **options).eval()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_var is not None
                assert module.running_mean is not None
                for value in (module.weight, module.running_var):
                    nn.init.uniform_(value, 0.5, 1)
                for value in (module.bias, module.running_mean):
                    nn.init.normal_(value, std=0.2)
    return net


@pytest.mark.parametrize("name", ["alexnet", "googlenet", "resnet18", "resnet50"])
def test_the_same_answers(name: str) -> None:
    options = {"googlenet": {"transform_input": True, "init_weights": False}}.get(name, {})
    theirs = trained(name, num_classes=7, **options)
    preset = ResNet50_Weights.IMAGENET1K_V2.transforms()  # resizes to 232
    with torch.inference_mode():
        expected = theirs(preset(Image.fromarray(PICTURE))[None])[0]
    ours, settings = classifier_from_torchvision(theirs.state_dict(), list("abcdefg"), preset)
    assert expected.std() > 0.01
    torch.testing.assert_close(ours(PICTURE), expected.softmax(0), atol=1e-5, rtol=0)
    assert settings.model.backbone == name
    assert (settings.classifier.resize, settings.classifier.crop) == (232, 224)


def test_a_file_and_imagenets_names(tmp_path: Path) -> None:
    theirs = trained("resnet18")
    torch.save({"state_dict": {f"module.{n}": v for n, v in theirs.state_dict().items()}}, tmp_path / "mine.pth")
    import_weights(str(tmp_path / "mine.pth"), tmp_path / "a.safetensors")
    ours = weights.load_classifier(tmp_path / "a.safetensors", "cpu")
    assert len(set(ours.class_names)) == 1000
    assert (ours.class_names[0], ours.class_names[134]) == ("tench", "crane bird")
    with torch.inference_mode():
        expected = theirs(
            torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()(Image.fromarray(PICTURE))[None]
        )
    torch.testing.assert_close(ours(PICTURE), expected.softmax(1)[0], atol=1e-5, rtol=0)
    about, _ = weights.read(tmp_path / "a.safetensors")
    assert about["origin"]["source"] == "mine.pth"
    assert about["origin"]["licence"].startswith("not stated")


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_tensor_has_its_place(name: str) -> None:
    """Shapes alone: each of theirs is taken once, and nothing of ours is left."""
    with torch.device("meta"):
        options = {"init_weights": False} if name in ("googlenet", "vgg16", "vgg19") else {}
        state = torchvision.models.get_model(name, **options).state_dict()
        ours, _ = classifier_from_torchvision(state, [str(i) for i in range(1000)])
    kept = [value for key, value in state.items() if not key.startswith("aux")]
    assert sum(v.numel() for v in kept) == sum(v.numel() for v in ours.state_dict().values())


def test_what_the_table_of_torchvisions_weights_relies_on() -> None:
    entries = torchvision_weights()
    assert {"ResNet152_Weights.IMAGENET1K_V2", "GoogLeNet_Weights.DEFAULT"} <= entries.keys()
    assert "VGG16_Weights.IMAGENET1K_FEATURES" not in entries  # convolutions alone
    for entry in entries.values():
        assert re.fullmatch("[0-9a-f]{8}", hash_of(entry))
        if not repr(entry).startswith("Faster"):
            preset = entry.transforms()
            assert (preset.mean, preset.std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
            assert preset.interpolation.value == "bilinear"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s | {"layer1.0.extra": torch.zeros(1)}, "1 without a place here:\n  layer1.0.extra"),
        (lambda s: {n: v for n, v in s.items() if n != "layer2.0.bn1.bias"}, "1 missing:\n  layer2.0.bn1.bias"),
        (
            lambda s: s | {"conv1.weight": torch.zeros(64, 1, 7, 7)},
            r"1 of another shape:\n  conv1.weight \(64, 1, 7, 7\), expected \(64, 3, 7, 7\)",
        ),
        (lambda s: {n: v for n, v in s.items() if not n.startswith("fc")}, "2 missing:\n  fc.weight\n  fc.bias"),
        (
            lambda s: {n: v for n, v in s.items() if "layer4" not in n},
            "is no AlexNet, VGG16, .* begin with conv1.weight",
        ),
    ],
)
def test_what_does_not_fit_is_listed(change, words: str) -> None:
    state = change(torchvision.models.resnet18(num_classes=3).state_dict())
    with pytest.raises(ValueError, match=words):
        classifier_from_torchvision(state, ["a", "b", "c"], source="mine.pth")


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn", "vgg13", "vgg16_bn", "vgg19_bn"])
def test_other_vggs(name: str) -> None:
    with torch.device("meta"):
        state = torchvision.models.get_model(name, init_weights=False).state_dict()
    with pytest.raises(ValueError, match=r"mine\.pth is no AlexNet, VGG16, VGG19, .* begin with features\.0\.weight"):
        classifier_from_torchvision(state, [str(i) for i in range(1000)], source="mine.pth")


def test_a_long_list_is_cut() -> None:
    state = torchvision.models.resnet18(num_classes=3).state_dict()
    state = {name: value for name, value in state.items() if not name.endswith("running_mean")}
    with pytest.raises(ValueError, match=r"mine\.pth does not fit:\n20 missing:") as error:
        classifier_from_torchvision(state, ["a", "b", "c"], source="mine.pth")
    assert len(str(error.value).splitlines()) == 22
    state = {name: value for name, value in state.items() if not name.endswith("running_var")}
    with pytest.raises(ValueError, match=r"(?s)40 missing:.*\n  … and 20 more$") as error:
        classifier_from_torchvision(state, ["a", "b", "c"], source="mine.pth")
    assert len(str(error.value).splitlines()) == 23


def test_names_that_do_not_count() -> None:
    state = torchvision.models.resnet18(num_classes=3).state_dict()
    with pytest.raises(ValueError, match="knows 3 classes, 2 names were given"):
        classifier_from_torchvision(state, ["a", "b"])
