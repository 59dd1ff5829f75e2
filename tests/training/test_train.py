"""One function for every kind of model."""

import inspect
from pathlib import Path

import pytest

import rcnnkit
from rcnnkit.config_files import write_settings
from rcnnkit.detectors.kinds import KINDS
from rcnnkit.training.train import run_folder, trainer
from tests.training.runs import QUIET, Values, settings


def test_a_file_of_settings_names_the_run(tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_settings(settings(tiny, iterations=1, evaluate_every=0), tmp_path / "small.toml")
    best = rcnnkit.train("small.toml", console=QUIET)
    assert best == Path("runs/small/best.safetensors")
    assert rcnnkit.load(best, "cpu").class_names == ("0", "3", "4", "6", "7")


def test_run_folders(tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = settings(tiny)
    assert run_folder(made) == Path("runs/faster_rcnn")
    assert run_folder(made, Path("configs/small.toml")) == Path("runs/small")
    assert run_folder(made, Path("old/settings.toml")) == Path("runs/old")  # those of another run
    (tmp_path / "runs" / "small" / "log.jsonl").mkdir(parents=True)
    assert run_folder(made, Path("small.toml")) == Path("runs/small-2")
    resumed = settings(tiny, resume="elsewhere/last.safetensors")
    assert run_folder(resumed, Path("small.toml")) == Path("elsewhere")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_names_what_trains_it(kind: str) -> None:
    train_kind = trainer(kind)
    assert f"{train_kind.__module__}.{train_kind.__qualname__}" == f"rcnnkit.training.{KINDS[kind].trainer}"
    first, *others = inspect.signature(train_kind).parameters.values()
    assert first.name == "run"
    assert all(other.default is None for other in others)
