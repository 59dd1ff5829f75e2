"""What a weights file says of itself, for people and for programs."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rcnnkit import weights
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.info import describe, summary

ORIGIN = {"source": "somebody's", "licence": "CC BY 4.0", "sha256": "00ff", "url": "https://example.org/a.pth"}


def saved(
    path: Path, values: dict, names: list[str], ids: list[int] | None = None, origin: dict | None = None, **more: dict
) -> Path:
    settings = DetectorSettings.model_validate(values)
    detector = build(settings, names, ids)
    detector.origin = origin
    weights.save(detector, settings, path, **more)
    return path


SMALL = {"model": {"backbone": "resnet18", "norm": "batch", "fpn_channels": 16}, "head": {"hidden": 16}}


def test_a_detector_from_elsewhere(tmp_path: Path) -> None:
    progress, momentum = {"iteration": 1500, "best_ap": 0.4375, "note": "text"}, {"momentum": torch.zeros(1000)}
    file = saved(
        tmp_path / "a.safetensors", SMALL, ["cat", "dog"], [17, 18], training=progress, state=momentum, origin=ORIGIN
    )
    told = describe(file)
    detector = weights.load(file, "cpu", for_training=True)
    assert told["weights"] == sum(p.numel() for p in detector.parameters())
    assert told["classes"] == [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}]
    assert told["origin"] == ORIGIN
    assert told["bytes"] == file.stat().st_size
    assert DetectorSettings.model_validate(json.loads(json.dumps(told))["settings"]).model.fpn_channels == 16
    lines = {line.split()[0]: line for line in summary(told)}
    assert f"Faster R-CNN, {told['weights'] / 1e6:.2f} M weights" in lines["detector"]
    assert lines["backbone"].endswith("resnet18, FPN of 16 channels, batch norm")
    assert lines["classes"].endswith("2: cat, dog")
    assert "shorter side 800, longer side 1333 at most, resized as by opencv; mean 0.485 0.456" in lines["input"]
    assert lines["training"].endswith("iteration 1500, best_ap 0.4375, note text; can be resumed")
    assert lines["origin"].endswith("somebody's")
    assert lines["licence"].endswith("CC BY 4.0")


def test_a_classifier_of_many(tmp_path: Path) -> None:
    values = {"model": {"kind": "classifier", "backbone": "resnet18", "norm": "batch"}}
    text = "\n".join(summary(describe(saved(tmp_path / "a.safetensors", values, [f"c{i}" for i in range(30)]))))
    assert "classifier, 11.19 M weights" in text  # torchvision's 11.69 without 970 × 513 of its last layer
    assert "resnet18, batch norm\n" in text
    assert "shorter side 256, of which the middle 224; mean" in text
    assert f"30: {', '.join(f'c{i}' for i in range(11))}, … c29 (id 30)\n" in text
    assert text.endswith("nothing noted")


def test_a_detector_that_no_settings_describe(tmp_path: Path) -> None:
    detector = build(DetectorSettings.model_validate(SMALL), ["cat", "dog"])
    weights.save(detector, None, tmp_path / "a.safetensors")
    told = describe(tmp_path / "a.safetensors")
    lines = {line.split()[0]: line for line in summary(told)}
    assert f"Faster R-CNN, {told['weights'] / 1e6:.2f} M weights" in lines["detector"]
    assert lines["backbone"].endswith(
        "built in Python, without settings; load it with rcnnkit.load(FILE, into=detector)"
    )
    assert "shorter side 800, longer side 1333 at most" in lines["input"]
    assert lines["classes"].endswith("2: cat, dog")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda said: {"format": 2}, "(it has no 'settings'); save it again"),
        (
            lambda said: {n: v for n, v in said.items() if n != "class_names"},
            "(it has no 'class_names'); save it again",
        ),
        (
            lambda said: said | {"settings": said["settings"] | {"masks": {"size": 28}}},
            "(masks is not a setting)",
        ),
        (lambda said: said | {"settings": 3}, "that this rcnnkit knows"),
        (lambda said: said | {"category_ids": [1, 2]}, "that this rcnnkit knows"),
        (lambda said: said | {"training": [1]}, "that this rcnnkit knows"),
    ],
    ids=["a format alone", "no class names", "a setting to come", "no settings", "too many ids", "another kind"],
)
def test_metadata_that_does_not_say_all(tmp_path: Path, change: Callable[[dict], dict], words: str) -> None:
    said, _ = weights.read(saved(tmp_path / "a.safetensors", SMALL, ["cat"]))
    save_file({"a": torch.zeros(1)}, tmp_path / "b.safetensors", {"rcnnkit": json.dumps(change(said))})
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        describe(tmp_path / "b.safetensors")
    assert str(error.value).startswith(f"{tmp_path / 'b.safetensors'} does not describe a detector")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such weights file"):
        describe(tmp_path / "none.safetensors")
    whole = saved(tmp_path / "a.safetensors", SMALL, ["cat"]).read_bytes()
    (tmp_path / "b.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"b\.safetensors is not a whole \.safetensors file"):
        describe(tmp_path / "b.safetensors")
