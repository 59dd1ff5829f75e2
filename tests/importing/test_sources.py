"""Files and names, and what is known of where they come from."""

import hashlib
from pathlib import Path

import pytest
from torchvision.models import ResNet50_Weights

from rcnnkit.importing.sources import EXAMPLES, Source, find, torchvision_weights


def test_a_file_that_nobody_knows(tmp_path: Path) -> None:
    file = tmp_path / "ResNet50_Weights.IMAGENET1K_V2"  # a file goes before a name
    file.write_bytes(b"mine")
    found = find(str(file))
    assert found == Source(file, hashlib.sha256(b"mine").hexdigest())
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
