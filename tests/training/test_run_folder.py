"""The folder of a run."""

import os
import signal
from pathlib import Path

import pytest

from rcnnkit.config_files import check_settings, read_settings
from rcnnkit.training import run_folder
from rcnnkit.training.run_folder import keep_settings
from rcnnkit.training.train import run_folder as run_folder_of
from rcnnkit.training.train import train
from tests.training.runs import QUIET, Values, settings


def test_a_run_is_never_overwritten(tiny: Values, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    for folder in (tmp_path / "run", tmp_path / "run" / "notes.txt"):
        with pytest.raises(FileExistsError, match=rf"{folder} is not an empty folder; choose another$"):
            train(settings(tiny), folder, console=QUIET)
    train(settings(tiny), tmp_path / "other", console=QUIET)
    with pytest.raises(FileExistsError, match=r"choose another, or continue it with train\.resume=.*other$"):
        train(settings(tiny), tmp_path / "other", console=QUIET)
    with pytest.raises(FileExistsError):  # also by a run that goes on from elsewhere
        train(settings(tiny, resume=str(tmp_path / "other"), iterations=9), tmp_path / "run", console=QUIET)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_name_that_tensorboard_cannot_write_is_refused(tiny: Values, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run.* is not UTF-8, as TensorBoard needs it; choose another name"):
        train(settings(tiny), tmp_path / "run\udce9", console=QUIET)
    assert not list(tmp_path.iterdir())


def test_there_is_a_run_to_go_on_with(tiny: Values, tmp_path: Path) -> None:
    for resume in (tmp_path / "run", tmp_path / "run" / "last.safetensors"):
        with pytest.raises(FileNotFoundError, match=rf"there is no {resume}, so there is no run to continue"):
            train(settings(tiny, resume=str(resume)), tmp_path / "run", console=QUIET)
    (tmp_path / "run").mkdir()
    with pytest.raises(FileNotFoundError, match=r"there is no .*run/last\.safetensors, so there is no run to continue"):
        train(settings(tiny, resume=str(tmp_path / "run")), tmp_path / "run", console=QUIET)
    alternating = check_settings(
        tiny | {"alternating": {"enabled": True}, "train": tiny["train"] | {"resume": str(tmp_path / "run")}}, "test"
    )
    with pytest.raises(FileNotFoundError, match=r"there is no .*run/settings\.toml, so there is no run to continue"):
        train(alternating, tmp_path / "run", console=QUIET)
    assert not list((tmp_path / "run").iterdir())


def test_no_settings_are_lost_by_going_on(tiny: Values, tmp_path: Path) -> None:
    for lr in (0.1, 0.2, 0.3):
        keep_settings(settings(tiny, lr=lr, **({} if lr == 0.1 else {"resume": str(tmp_path)})), tmp_path, 7)
    names = ("settings-until-7.toml", "settings-until-7-2.toml", "settings.toml")
    assert [read_settings(tmp_path / name).train.lr_for_16 for name in names] == [0.1, 0.2, 0.3]
    assert len(list(tmp_path.iterdir())) == 3


def test_frozen_norms_need_weights_to_start_from(tiny: Values, tmp_path: Path) -> None:
    tiny["model"] |= {"backbone": "resnet18", "norm": "frozen"}
    with pytest.raises(ValueError, match=r"model\.pretrained = true"):
        train(settings(tiny), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run").exists()


def test_a_second_run_in_a_folder_is_refused_by_name_of_the_first(tiny: Values, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "one"
    first = rf"process {os.getpid()} on {os.uname().nodename}, started \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
    with run_folder.alone(settings(tiny), run):
        for resume in ({}, {"resume": str(run)}):
            with pytest.raises(FileExistsError, match=rf"^{run} is in use: {first}, is training there\. Choose"):
                train(settings(tiny, **resume), run, console=QUIET)
        assert [path.name for path in run.iterdir()] == [".lock"]
    assert not (tmp_path / "runs").exists()  # as nothing was left in it


def test_a_lock_ends_with_its_process_and_not_with_those_it_started(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    descriptor = run_folder._hold(file)
    run_folder._locks.add(descriptor)
    ours, childs = os.pipe()
    if (child := os.fork()) == 0:  # as workers, which may live a moment longer than a process that is killed
        os.write(childs, b"forked")
        signal.pause()
    try:
        os.read(ours, 6)
        with pytest.raises(FileExistsError, match="is in use"):
            run_folder._hold(file)
        run_folder._locks.remove(descriptor)
        os.close(descriptor)
        os.close(run_folder._hold(file))  # the file, which is still there, does not matter
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ours)
        os.close(childs)


def test_what_a_killed_run_left_is_no_obstacle_and_is_removed(tiny: Values, tmp_path: Path) -> None:
    run = tmp_path / "run"
    half = run / f".half-1-another-machine-{'0' * 32}"
    half.mkdir(parents=True)
    (half / "last.safetensors").touch()
    (run / ".lock").write_text("process 1 on another-machine, started yesterday,")
    train(settings(tiny, iterations=1), run, console=QUIET)
    names = {
        "best.safetensors",
        "last.safetensors",
        "previous.safetensors",
        "settings.toml",
        "log.jsonl",
        "evaluation.json",
        "report.html",
        "report",
        "tensorboard",
    }
    assert {path.name for path in run.iterdir()} == names


def test_half_of_torchruns_variables_are_not_waited_for(
    tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    said = r"WORLD_SIZE=2 is set, as by torchrun, but RANK and MASTER_ADDR and MASTER_PORT not; start the training with"
    with pytest.raises(ValueError, match=said):
        train(settings(tiny), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("WORLD_SIZE", "1")
    with run_folder.alone(settings(tiny), tmp_path / "run"), pytest.raises(FileExistsError, match="is in use"):
        train(settings(tiny), tmp_path / "run", console=QUIET)


def test_a_run_that_may_be_restarted_needs_a_name(tiny: Values, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(ValueError, match=r"torchrun --max-restarts continues a run in its folder, .*: give --out"):
        run_folder_of(settings(tiny))
