"""Torchvision's files are fetched once, and are what they were published as."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torchvision.models import ResNet50_Weights

from rcnnkit.importing.sources import EXAMPLES, Source, fetch, find, sha256, torchvision_weights


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """As an entry of torchvision's enums, at an address without a network."""
    data = b"weights"
    file = tmp_path / "server" / f"net-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    file.parent.mkdir()
    file.write_bytes(data)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return SimpleNamespace(url=file.as_uri(), file=file)


def test_fetched_once(published: SimpleNamespace, tmp_path: Path) -> None:
    path = fetch(published)
    assert path == tmp_path / "hub" / "checkpoints" / published.file.name
    assert path.read_bytes() == b"weights"
    published.file.unlink()
    assert fetch(published) == path
    path.write_bytes(b"weight")  # cut short since
    with pytest.raises(OSError, match=r"net-\w+\.pth is not what torchvision published under that name; delete it"):
        fetch(published)


def test_what_arrives_is_something_else(published: SimpleNamespace, tmp_path: Path) -> None:
    published.file.write_bytes(b"<html>")
    with pytest.raises(OSError, match=r"cannot be downloaded from file://.*net-\w+\.pth \(invalid hash value"):
        fetch(published)
    assert list((tmp_path / "hub" / "checkpoints").iterdir()) == []


def test_a_file_that_nobody_knows(tmp_path: Path) -> None:
    file = tmp_path / "ResNet50_Weights.IMAGENET1K_V2"  # a file goes before a name
    file.write_bytes(b"mine")
    found = find(str(file))
    assert found == Source(file, hashlib.sha256(b"mine").hexdigest())
    assert sha256(file) == found.sha256
    assert found.origin("MIT") == {"source": file.name, "licence": "MIT", "sha256": found.sha256}


def test_names_that_are_like_none() -> None:
    with pytest.raises(ValueError, match="neither a file nor weights of torchvision; such are ") as error:
        find("zzzz")
    assert set(EXAMPLES) <= torchvision_weights().keys()
    assert str(error.value).endswith(f"; such are {', '.join(EXAMPLES)}, …")


def test_where_torchvisions_come_from() -> None:
    entry = ResNet50_Weights.IMAGENET1K_V2
    origin = Source(Path("a.pth"), "00ff", entry).origin(None)
    assert origin["source"] == "torchvision ResNet50_Weights.IMAGENET1K_V2"
    assert origin["licence"].startswith("BSD-3-Clause")
    assert origin["url"] == entry.url
