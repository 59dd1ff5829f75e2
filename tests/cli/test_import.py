"""rcnnkit import and rcnnkit info, as a person meets them."""

import json
import pickle
import urllib.error
from pathlib import Path

import pytest
import torch
import torchvision

from rcnnkit.weights import load_classifier, read
from tests.cli.commands import Command


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.pth"
    torch.save(torchvision.models.resnet18(num_classes=3).state_dict(), path)
    return path


def test_import_and_info(rcnnkit: Command, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("names.txt").write_bytes(b"\xef\xbb\xbfcat\r\nbig dog\n\nbird \n")  # as Windows' editors write it
    assert rcnnkit("import", mine, "--out", "a.safetensors", "--classes", "names.txt", "--licence", "mine, MIT") == 0
    assert "wrote a.safetensors" in capsys.readouterr().out
    assert load_classifier("a.safetensors", "cpu").class_names == ("cat", "big dog", "bird")
    assert rcnnkit("info", "a.safetensors") == 0
    shown = capsys.readouterr().out
    assert "3: cat, big dog, bird" in shown
    assert "mine, MIT" in shown
    assert rcnnkit("info", "--as-json", "a.safetensors") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["origin"]["source"] == "mine.pth"
    assert told["detector"] == "classifier"
    before = Path("a.safetensors").read_bytes()
    assert rcnnkit("import", mine, "--out", "a.safetensors", "--classes", "cat,dog,bird") == 1
    assert "a.safetensors is there already; choose another file, nothing is overwritten" in capsys.readouterr().err
    assert Path("a.safetensors").read_bytes() == before
    assert rcnnkit("import", mine, "--out", "b.safetensors", "--classes", "cat, dog,bird") == 0
    assert read("b.safetensors")[0]["class_names"] == ["cat", "dog", "bird"]


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("mine.pth", [], "mine.pth has 3 classes and does not say which; give their names"),
        ("mine.pth", ["--classes", "a,b"], "mine.pth knows 3 classes, 2 names were given"),
        ("mine.pth", ["--classes", "a,a,b"], "distinct names"),
        ("mine.pth", ["--classes", "nmes.txt"], "--classes nmes.txt: no such file; give a file with one name in each"),
        ("mine.pth", ["--classes", "lists/names"], "--classes lists/names: no such file"),
        ("mine.pth", ["--classes", "a,,b"], '--classes "a,,b" has an empty name; give one between every two commas'),
        ("mine.pth", ["--classes", ""], '--classes "" has an empty name'),
        ("mine.pth", ["--classes", ",".join("abc" * 100)], "mine.pth knows 3 classes, 300 names were given"),
        ("mine.pth", ["--classes", "St. Bernard"], "mine.pth knows 3 classes, 1 name"),
        ("none.pth", [], "none.pth: no such file"),
        ("mine.pth", ["--classes", "latin.txt"], "--classes latin.txt is not UTF-8 text ("),
        ("folder/none", [], "folder/none: no such file"),
        ("hostile.pkl", [], "hostile.pkl is not read: it asks for"),
        ("hostile.pth", [], "hostile.pth is not read: "),
        ("page.pth", [], "page.pth is not read: "),
        ("ResNet50_Weight.IMAGENET1K_V2", [], "did you mean ResNet50_Weights.IMAGENET1K_V2"),
        ("resnet50", [], "did you mean ResNet50_Weights."),
        ("FasterRCNN_ResNet50_FPN_Weights.COCO_V2", [], "did you mean FasterRCNN_ResNet50_FPN_Weights.COCO_V1"),
        ("AlexNet_Weights.IMAGENET1K_V1", [], "cannot be downloaded from https://download.pytorch.org/models/alexnet"),
    ],
)
def test_errors_are_one_message_with_the_fix(
    rcnnkit: Command,
    mine: Path,
    source: str,
    options: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    for name in ("hostile.pkl", "hostile.pth"):
        Path(name).write_bytes(pickle.dumps({"model": Path("x")}))
    Path("latin.txt").write_bytes("é".encode("latin-1"))
    Path("page.pth").write_bytes(b"<html>not found</html>")
    assert rcnnkit("import", source, "--out", "out.safetensors", *options) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert "Traceback" not in error
    assert not Path("out.safetensors").exists()


@pytest.mark.parametrize("arguments", [["import", "runs", "--out", "out.safetensors"], ["info", "runs"]])
def test_a_folder(rcnnkit: Command, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs").mkdir()
    assert rcnnkit(*arguments) == 1
    assert "runs is a folder; name the file in it" in capsys.readouterr().err


@pytest.mark.parametrize("eps", ["-1", "nan", "inf", "small"])
def test_norm_eps_that_is_none(rcnnkit: Command, eps: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert rcnnkit("import", "none.pth", "--out", "out.safetensors", "--norm-eps", eps) == 2
    assert "--norm-eps" in capsys.readouterr().err


def test_another_ending(rcnnkit: Command, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rcnnkit("import", mine, "--out", "out.pth", "--classes", "a,b,c") == 1
    assert "out.pth must end with .safetensors" in capsys.readouterr().err
