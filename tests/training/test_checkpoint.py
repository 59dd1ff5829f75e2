"""A checkpoint that is damaged or was changed is one error, which says what in it and what to do."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rcnnkit import weights
from rcnnkit.config import Settings
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import build
from rcnnkit.training.checkpoint import Progress, load_checkpoint, save_checkpoint

SETTINGS = Settings.model_validate(
    {
        "model": {"backbone": "timm/test_resnet", "fpn_channels": 8},
        "head": {"hidden": 8},
        "data": {"root": "data"},
    }
)
NAME = "head.score_layer.weight"


def made() -> tuple[Detector, torch.optim.SGD]:
    detector = build(SETTINGS, ["cat", "dog"])
    assert isinstance(detector, Detector)
    return detector, torch.optim.SGD(detector.parameters(), lr=0.1, momentum=0.9, fused=True)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    detector, optimizer = made()
    for parameter in detector.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.rand_like(parameter)
    return save_checkpoint(tmp_path_factory.mktemp("run"), detector, optimizer, SETTINGS, Progress(7, 0.25, 1.5))


def changed(kept: Path, path: Path, tensors: dict[str, torch.Tensor] | None = None, **training: Any) -> Path:
    about, own = weights.read(kept)
    about["training"] |= training
    save_file(own | (tensors or {}), path, {"rcnnkit": json.dumps(about)})
    return path


def test_what_was_kept_comes_back(kept: Path) -> None:
    detector, optimizer = made()
    assert load_checkpoint(kept, detector, optimizer) == Progress(7, 0.25, 1.5)
    _, tensors = weights.read(kept)
    for name, parameter in detector.named_parameters():
        assert parameter.equal(tensors[name])
        assert optimizer.state[parameter]["momentum_buffer"].equal(tensors[f"training/momentum/{name}"])


def test_the_checkpoint_before_is_kept(tmp_path: Path) -> None:
    detector, optimizer = made()
    for iteration in (1, 2, 3):
        last = save_checkpoint(tmp_path, detector, optimizer, SETTINGS, Progress(iteration))
    assert {path.name for path in tmp_path.iterdir()} == {"last.safetensors", "previous.safetensors"}
    found = [weights.read(path)[0]["training"]["iteration"] for path in (last, tmp_path / "previous.safetensors")]
    assert found == [3, 2]
    assert load_checkpoint(tmp_path / "previous.safetensors", detector, optimizer).iteration == 2


def test_a_file_system_without_hard_links_keeps_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    detector, optimizer = made()
    for iteration in (1, 2):
        save_checkpoint(tmp_path, detector, optimizer, SETTINGS, Progress(iteration))
    assert [path.name for path in tmp_path.iterdir()] == ["last.safetensors"]


def test_a_run_of_format_2_goes_on(kept: Path, tmp_path: Path) -> None:
    about, tensors = weights.read(kept)
    old = {name.replace("head.score_layer.", "head.scores."): tensor for name, tensor in tensors.items()}
    assert {"head.scores.weight", "training/momentum/head.scores.weight"} <= old.keys()
    save_file(old, tmp_path / "last.safetensors", {"rcnnkit": json.dumps(about | {"format": 2})})
    detector, optimizer = made()
    assert load_checkpoint(tmp_path / "last.safetensors", detector, optimizer) == Progress(7, 0.25, 1.5)
    parameter = detector.get_parameter(NAME)
    assert parameter.equal(tensors[NAME])
    assert optimizer.state[parameter]["momentum_buffer"].equal(tensors[f"training/momentum/{NAME}"])


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("iteration", "seven", "'seven', expected a whole number from 0"),
        ("iteration", 7.5, "7.5, expected a whole number from 0"),
        ("iteration", None, "None, expected a whole number from 0"),
        ("iteration", -1, "-1, expected a whole number from 0"),
        ("iteration", True, "True, expected a whole number from 0"),
        ("evaluated", [3], "[3], expected a whole number from 0"),
        ("best_ap", "0.5", "'0.5', expected a finite number"),
        ("best_ap", float("nan"), "nan, expected a finite number"),
        ("seconds", None, "None, expected a finite number"),
        ("seconds", -2.0, "-2.0, expected a finite number"),
        ("loss_scale", 0, "0, expected a finite number above 0"),
        ("loss_scale", "x" * 99, "'xxxxxxxxxxxx...xxxxxxxxxxxxx', expected a finite number above 0"),
    ],
)
def test_progress_that_is_none(kept: Path, tmp_path: Path, field: str, value: Any, expected: str) -> None:
    path = changed(kept, tmp_path / "last.safetensors", **{field: value})
    detector, optimizer = made()
    with pytest.raises(ValueError, match="expected a") as error:
        load_checkpoint(path, detector, optimizer)
    assert str(error.value) == (
        f"{path} says that its {field} is {expected}; continue from another checkpoint, or start from its weights with"
        " train.init"
    )


def test_momentum_of_another_shape_or_type(kept: Path, tmp_path: Path) -> None:
    place = f"training/momentum/{NAME}"
    for tensor, words in (
        (torch.zeros(3, 4), "float32 (3, 4), not float32 (3, 8)"),
        (torch.zeros(3, 8, dtype=torch.float16), "float16 (3, 8), not float32 (3, 8)"),
    ):
        path = changed(kept, tmp_path / "last.safetensors", {place: tensor})
        detector, optimizer = made()
        before = {name: value.clone() for name, value in detector.state_dict().items()}
        with pytest.raises(ValueError, match="momentum") as error:
            load_checkpoint(path, detector, optimizer)
        assert str(error.value) == (
            f"{path} holds a momentum of {NAME} that is {words} as the weight itself; continue from another"
            " checkpoint, or start from its weights with train.init"
        )
        assert all(value.equal(before[name]) for name, value in detector.state_dict().items())
        assert not optimizer.state
    path = changed(kept, tmp_path / "last.safetensors", {place: torch.full((3, 8), torch.nan)})
    with pytest.raises(ValueError, match=rf"NaN or infinite weights: 24 of the 24 values of {NAME}; its training"):
        load_checkpoint(path, *made())


def test_weights_of_another_shape_or_type(kept: Path, tmp_path: Path) -> None:
    for tensor in (torch.zeros(3, 9), torch.zeros(3, 8, dtype=torch.float64)):
        path = changed(kept, tmp_path / "last.safetensors", {NAME: tensor})
        with pytest.raises(ValueError, match=rf"made with other settings: 1 of its tensors, such as {NAME}, are not"):
            load_checkpoint(path, *made())
