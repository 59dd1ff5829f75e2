"""ImageNet weights: which there are, and what their pixels were."""

import hashlib
import os
from pathlib import Path
from typing import get_args

import pytest
import torch
import torchvision
from torch import Tensor
from torchvision.models import Weights, WeightsEnum

from rcnnkit.backbones.by_name import BackboneName
from rcnnkit.backbones.googlenet import GoogLeNet
from rcnnkit.backbones.imagenet import imagenet_normalisation, imagenet_weights
from rcnnkit.config import DetectorSettings, SettingsError, check_settings
from rcnnkit.images import Preprocessing

OURS_ALONE = {"caffenet", "zfnet", "vgg_cnn_m_1024", "googlenet_lrn"}  # torchvision has no such networks
USUAL = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("name", get_args(BackboneName))
def test_normalisation(name: str) -> None:
    if name in OURS_ALONE:
        with pytest.raises(ValueError, match=f"torchvision has no ImageNet weights of {name}; start from weights"):
            imagenet_normalisation(name)
        with pytest.raises(ValueError, match=f"torchvision has no ImageNet weights of {name}"):
            imagenet_weights(name)
    else:
        assert imagenet_normalisation(name) == (USUAL if name != "googlenet" else ((0.5,) * 3, (0.5,) * 3))


def test_the_network_itself_refuses_too() -> None:
    with pytest.raises(ValueError, match="no ImageNet weights of googlenet_lrn"):
        GoogLeNet("googlenet_lrn", "none", pretrained=True)


def settings(backbone: str, **given: object) -> DetectorSettings:
    return DetectorSettings.model_validate({"model": {"backbone": backbone, "pretrained": True}, "input": given})


@pytest.mark.parametrize("name", sorted(set(get_args(BackboneName)) - OURS_ALONE))
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
        f"my.toml: model.pretrained = true: torchvision has no ImageNet weights of {name}"
    )
    assert "train.init" in str(error.value)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that torchvision downloads its weights from: the one .pth file there."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    folder = tmp_path / "server"
    folder.mkdir()

    def get_model_weights(_: str) -> type[WeightsEnum]:
        (file,) = folder.glob("*.pth")
        return WeightsEnum("Published", {"IMAGENET1K_V1": Weights(file.as_uri(), None, {})})

    monkeypatch.setattr(torchvision.models, "get_model_weights", get_model_weights)
    return folder


def publish(folder: Path, content: object) -> Path:
    """A file whose name ends in its hash, as torchvision's do."""
    torch.save(content, folder / "net")
    digest = hashlib.sha256((folder / "net").read_bytes()).hexdigest()
    return (folder / "net").rename(folder / f"net-{digest[:8]}.pth")


def small_alexnet() -> dict[str, Tensor]:
    return {name: torch.randn(2) for name in ("features.0.weight", "features.0.bias")}


def test_a_download_is_checked_and_kept(server: Path, tmp_path: Path) -> None:
    state = small_alexnet()
    file = publish(server, state)
    for _ in range(2):
        found = imagenet_weights("alexnet")
        assert found.keys() == state.keys()
        assert all(found[name].equal(state[name]) for name in state)
        file.write_bytes(b"")  # it is not fetched again
    kept = tmp_path / "hub" / "checkpoints" / file.name
    kept.write_bytes(kept.read_bytes()[:-10])
    with pytest.raises(
        ValueError, match=rf"{file.name} is damaged or another file \(SHA-256 [0-9a-f]{{64}}\); remove it"
    ):
        imagenet_weights("alexnet")


def test_a_truncated_download_is_refused(server: Path, tmp_path: Path) -> None:
    file = publish(server, small_alexnet())
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(OSError, match=r"weights of alexnet cannot be downloaded .*invalid hash value"):
        imagenet_weights("alexnet")
    assert not list((tmp_path / "hub" / "checkpoints").iterdir())


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch hostile-was-here",)


def test_nothing_in_a_download_is_run(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    publish(server, Hostile())
    with pytest.raises(OSError, match="Weights only load failed"):
        imagenet_weights("alexnet")
    assert not (tmp_path / "hostile-was-here").exists()
