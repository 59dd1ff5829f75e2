"""ImageNet weights: which there are, and what their pixels were."""

import pytest

from rcnnkit.backbones.googlenet import GoogLeNet
from rcnnkit.backbones.imagenet import imagenet_normalisation, imagenet_weights
from rcnnkit.backbones.names import ARCHITECTURES
from rcnnkit.config_files import SettingsError, check_settings
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.images import Preprocessing

OURS_ALONE = {"caffenet", "zfnet", "vgg_cnn_m_1024", "googlenet_lrn"}  # torchvision has no such networks
USUAL = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_normalisation(name: str) -> None:
    if name in OURS_ALONE:
        with pytest.raises(ValueError, match=f"torchvision has no ImageNet weights for {name}; start from weights"):
            imagenet_normalisation(name)
        with pytest.raises(ValueError, match=f"torchvision has no ImageNet weights for {name}"):
            imagenet_weights(name)
    else:
        assert imagenet_normalisation(name) == (USUAL if name != "googlenet" else ((0.5,) * 3, (0.5,) * 3))


def test_the_network_itself_refuses_too() -> None:
    with pytest.raises(ValueError, match="no ImageNet weights for googlenet_lrn"):
        GoogLeNet("googlenet_lrn", "none", pretrained=True)


def settings(backbone: str, **given: object) -> DetectorSettings:
    return DetectorSettings.model_validate({"model": {"backbone": backbone, "pretrained": True}, "input": given})


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - OURS_ALONE))
def test_pretrained_weights_bring_their_normalisation(name: str) -> None:
    found = settings(name, short_side=300).input
    assert (found.mean, found.std) == imagenet_normalisation(name)
    assert found.short_side == 300
    again = DetectorSettings.model_validate(settings(name).model_dump())  # all of them written out
    assert again == settings(name)


def test_other_normalisation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"input\.mean = \[0\.485, 0\.456, 0\.406\], but the ImageNet weights of goog"):
        settings("googlenet", mean=USUAL[0])
    with pytest.raises(
        ValueError, match=r"input\.std = \[1\.0, 1\.0, 1\.0\], but .* resnet50 were trained with \[0\.2"
    ):
        settings("resnet50", std=[1, 1, 1])
    with pytest.raises(ValueError, match=r"input\.mean = .* leave it out, or set model\.pretrained = false"):
        DetectorSettings(model=settings("googlenet").model, input=Preprocessing())  # its defaults, built beforehand


def test_without_pretrained_weights_any_goes() -> None:
    found = DetectorSettings.model_validate({"model": {"backbone": "googlenet"}, "input": {"mean": [0, 0, 0]}}).input
    assert (found.mean, found.std) == ((0, 0, 0), USUAL[1])


@pytest.mark.parametrize("name", sorted(OURS_ALONE))
def test_settings_say_that_there_are_none(name: str) -> None:
    with pytest.raises(SettingsError) as error:
        check_settings({"model": {"backbone": name, "pretrained": True}, "data": {"root": "x"}}, "my.toml")
    assert str(error.value).startswith(
        f"my.toml: model.pretrained = true: torchvision has no ImageNet weights for {name}"
    )
    assert "train.init" in str(error.value)
