"""Four steps, one detector: what each step may change, that the convolutions are shared, and that it goes on."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from rcnnkit import weights
from rcnnkit.config import Settings
from rcnnkit.config_files import check_settings
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.training import loop
from rcnnkit.training.alternating import STEPS
from rcnnkit.training.stopping import Interrupted
from rcnnkit.training.train import train

Values = dict[str, dict[str, Any]]
QUIET = Console(quiet=True)
OPTIONS = {"enabled": True, "rpn_iterations": 3, "rpn_batch": 1, "head_iterations": 2, "head_batch": 2}


def settings(tiny: Values, **train: Any) -> Settings:
    return check_settings(tiny | {"alternating": OPTIONS, "train": tiny["train"] | train}, "test")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def run(tiny: Values, trained: Path, tmp_path: Path) -> Path:
    """A finished run, to do with as one likes."""
    if not trained.exists():
        train(settings(tiny), trained, console=QUIET)
    return shutil.copytree(trained, tmp_path / "run")


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return {n: t for n, t in weights.read(path)[1].items() if not n.startswith(weights.TRAINING)}


def part(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {n: t for n, t in state.items() if n.startswith(f"{name}.")}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and len(one) > 0 and all(one[name].equal(other[name]) for name in one)


def test_the_convolutions_are_shared_and_each_step_changes_its_own_part(run: Path) -> None:
    first, second, third, fourth = (tensors(run / step / "best.safetensors") for step in STEPS)
    final = tensors(run / "best.safetensors")
    # the very same tensors, statistics of batch norms included
    assert same(part(final, "backbone"), part(second, "backbone"))
    assert same(part(final, "backbone"), part(third, "backbone"))
    assert same(part(final, "backbone"), part(fourth, "backbone"))
    assert not same(part(first, "backbone"), part(second, "backbone"))  # these two learnt apart
    assert same(part(final, "rpn"), part(third, "rpn"))
    assert not same(part(first, "rpn"), part(third, "rpn"))
    assert same(part(third, "head"), part(second, "head"))  # the RPN's steps leave it alone
    assert same(part(final, "head"), part(fourth, "head"))
    assert not same(part(fourth, "head"), part(second, "head"))


def test_the_detector_is_a_faster_rcnn_like_any_other(run: Path) -> None:
    detector = weights.load(run / "best.safetensors", "cpu", for_training=True)
    assert isinstance(detector, FasterRCNN)
    assert all(parameter.requires_grad for parameter in detector.parameters())
    about, _ = weights.read(run / "best.safetensors")
    assert about["kind"] == "faster_rcnn"
    assert about["training"].keys() == {"iteration", "data", "val", "AP"}
    assert (run / "evaluation.json").is_file()
    assert (run / "settings.toml").is_file()


def test_joint_training_of_nothing_but_the_rpn_is_step_1(tiny: Values, run: Path, tmp_path: Path) -> None:
    alone = tiny | {"train": tiny["train"] | {"rpn_only": True, "iterations": 3, "batch": 1, "lr": 0.016}}
    alone["data"] = tiny["data"] | {"val": ""}
    best = train(check_settings(alone, "test"), tmp_path / "alone", console=QUIET)
    assert same(tensors(best), tensors(run / STEPS[0] / "best.safetensors"))


def test_what_is_done_is_not_done_again(
    tiny: Values, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("trained again")

    final = tensors(run / "best.safetensors")
    (run / "best.safetensors").unlink()
    with pytest.raises(FileExistsError, match=r"choose another, or continue it with train\.resume="):
        train(settings(tiny), run, console=QUIET)
    monkeypatch.setattr(loop, "step", never)
    train(settings(tiny, resume=str(run)), run, console=QUIET)
    assert same(tensors(run / "best.safetensors"), final)


def test_a_run_goes_on_as_a_whole_with_its_own_settings(tiny: Values, run: Path) -> None:
    before = (run / STEPS[1] / "best.safetensors").read_bytes()
    with pytest.raises(ValueError, match=rf"is one step of an alternating run; .*train\.resume={run}$"):
        train(settings(tiny, resume=str(run / STEPS[1])), run / STEPS[1], console=QUIET)
    assert (run / STEPS[1] / "best.safetensors").read_bytes() == before
    with pytest.raises(ValueError, match=r"was begun with train\.momentum = 0\.9, not 0\.5: leave that as it was"):
        train(settings(tiny, resume=str(run), momentum=0.5), run, console=QUIET)
    assert not list(run.glob("settings-until*"))


@pytest.mark.parametrize("stopped_in", [1, 2])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    tiny: Values, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_in: int
) -> None:
    """Stopped after the first iteration of a step; the whole run is in `run`."""
    stopped = tmp_path / "stopped"
    steps = []
    step = loop.step

    def until(*arguments: Any) -> Any:
        values = step(*arguments)
        run = arguments[0].run
        if run.progress.iteration == 0:
            steps.append(1)
        if len(steps) == stopped_in + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return values

    with monkeypatch.context() as patch:
        patch.setattr(loop, "step", until)
        with pytest.raises(
            Interrupted,
            match=rf"after 1 iterations; continue with rcnnkit train {stopped}/settings.toml train\.resume={stopped}$",
        ):
            train(settings(tiny), stopped, console=QUIET)
    assert not (stopped / "best.safetensors").exists()
    train(settings(tiny, resume=str(stopped)), stopped, console=QUIET)
    assert same(tensors(stopped / "best.safetensors"), tensors(run / "best.safetensors"))


def test_a_step_killed_before_its_first_checkpoint_begins_anew(tiny: Values, run: Path, tmp_path: Path) -> None:
    final = tensors(run / "best.safetensors")
    for name in ("best.safetensors", "last.safetensors"):
        (run / STEPS[3] / name).unlink()
    train(settings(tiny, resume=str(run)), run, console=QUIET)
    assert same(tensors(run / "best.safetensors"), final)
