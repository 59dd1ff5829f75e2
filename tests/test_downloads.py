"""Torchvision's files are fetched once, and are what they were published as."""

import hashlib
import os
import pickle
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision

from rcnnkit import downloads
from rcnnkit.backbones.imagenet import imagenet_weights
from rcnnkit.downloads import cached, fetch, hash_of, state_of, why_not
from rcnnkit.files import sha256

STATE = {"features.0.weight": torch.arange(6.0).view(2, 3), "features.0.bias": torch.tensor([0.5, -1])}


def publish(folder: Path, content: object) -> Any:
    """As an entry of torchvision's enums, its address without a network, the file's name ending in its hash."""
    folder.mkdir()
    torch.save(content, folder / "net")
    digest = hashlib.sha256((folder / "net").read_bytes()).hexdigest()
    return SimpleNamespace(url=(folder / "net").rename(folder / f"net-{digest[:8]}.pth").as_uri())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def file_of(weights: Any) -> Path:
    return Path(weights.url.removeprefix("file://"))


def test_fetched_once(cache: Path, tmp_path: Path) -> None:
    weights = publish(tmp_path / "server", STATE)
    path = fetch(weights)
    assert path == cache / file_of(weights).name
    assert path.read_bytes() == file_of(weights).read_bytes()
    file_of(weights).unlink()
    found = state_of(weights)
    assert found.keys() == STATE.keys()
    assert all(found[name].equal(STATE[name]) for name in STATE)
    path.write_bytes(path.read_bytes()[:-10])  # cut short since
    with pytest.raises(
        OSError, match=rf"{path.name} is not what torchvision published .*\(SHA-256 {sha256(path)}\); d"
    ):
        fetch(weights)


def test_what_arrives_is_something_else(cache: Path, tmp_path: Path) -> None:
    weights = publish(tmp_path / "server", STATE)
    file_of(weights).write_bytes(b"<html>")
    with pytest.raises(OSError, match=r"cannot be downloaded from file://.*net-\w+\.pth \(invalid hash value"):
        fetch(weights)
    assert list(cache.iterdir()) == []


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch hostile-was-here",)


@pytest.mark.usefixtures("cache")
def test_nothing_in_a_download_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = publish(tmp_path / "server", Hostile())
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        state_of(weights)
    assert not (tmp_path / "hostile-was-here").exists()


def test_the_hash_in_a_name() -> None:
    assert hash_of(torchvision.models.ResNet18_Weights.IMAGENET1K_V1) == "f37072fd"


def test_a_backbone_says_what_to_do_without_a_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(OSError, match="cannot be downloaded") as error:
        imagenet_weights("resnet18")
    message = str(error.value)
    assert "resnet18-f37072fd.pth (Name or service not known)" in message
    assert message.endswith(f"put it into {cache}, or set model.pretrained = false")


def test_what_is_in_the_cache_can_be_had(cache: Path, tmp_path: Path) -> None:
    weights = publish(tmp_path / "server", STATE)
    assert cached(weights) == cache / file_of(weights).name
    assert why_not(weights) == ""  # its server answers
    file_of(weights).unlink()
    assert why_not(weights) == "No such file or directory"
    cache.mkdir(parents=True)
    cached(weights).touch()
    assert why_not(weights) == ""


def test_a_server_that_says_nothing_is_not_waited_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "ANSWER", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/net-00112233.pth"
        began = time.perf_counter()
        assert why_not(SimpleNamespace(url=address)) in ("timed out", "no answer within 0.2 s")
    assert time.perf_counter() - began < 2
    assert why_not(SimpleNamespace(url=address)) == "Connection refused"


def test_a_download_that_stalls_ends(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "STALLED", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/net-00112233.pth"
        with pytest.raises(OSError, match=r"cannot be downloaded from http://127.*/net-00112233\.pth \(timed out\)"):
            fetch(SimpleNamespace(url=address))
    assert socket.getdefaulttimeout() is None
    assert not any(cache.iterdir())
