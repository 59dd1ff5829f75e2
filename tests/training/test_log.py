"""What a run reports: nothing twice, and nothing that stops it when it cannot be written."""

import io
import json
import logging
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rcnnkit.training import loop
from rcnnkit.training.checkpoint import Progress
from rcnnkit.training.log import Board, RunLog, write_evaluation, write_line
from rcnnkit.training.train import train
from tests.training.runs import QUIET, Values, settings


def step(iteration: int) -> dict[str, float]:
    return {
        "iteration": iteration,
        "loss": iteration / 8,
        "lr": 0.1,
        "batch": 1,
        "images_per_second": 1,
        "seconds": iteration,
    }


def iterations(run: Path) -> list[int]:
    return [json.loads(line)["iteration"] for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_run_that_goes_on_drops_what_it_will_tell_again(tmp_path: Path) -> None:
    lines = [{"iteration": 1, "loss": 1}, {"iteration": 1, "AP": 0.1}, {"stage": "SVMs"}, {"iteration": 2, "loss": 1}]
    kept = "".join(json.dumps(line) + "\n" for line in lines)
    # An evaluation that was interrupted before a checkpoint knew of it, an iteration, and half a line.
    dropped = '{"iteration": 2, "AP": 0.2}\n{"iteration": 3, "loss": 1}\n{"iteration": 4, "lo'
    (tmp_path / "log.jsonl").write_text(kept + dropped)
    with RunLog(tmp_path, QUIET, 4, Progress(iteration=2, evaluated=1)) as log:
        assert (tmp_path / "log.jsonl").read_text() == kept
        log.write({"iteration": 2, "AP": float("nan")})
    assert (tmp_path / "log.jsonl").read_text() == kept + '{"iteration": 2, "AP": null}\n'


@pytest.mark.parametrize("terminal", [False, True])
def test_the_end_is_estimated_once(tmp_path: Path, terminal: bool) -> None:
    """From all iterations since the run went on, so that one that was held up does not change it much."""
    file = io.StringIO()
    console = Console(file=file, width=150, force_terminal=terminal)
    with RunLog(tmp_path, console, 64, Progress(iteration=2, seconds=100)) as log:
        log.step(3, step(3) | {"seconds": 101})
        log.step(4, step(4) | {"seconds": 104, "images_per_second": 0.01})
    shown = file.getvalue()
    assert "loss 0.500  0.0 images/s  lr 0.1  2.0 min left" in shown
    assert shown.count("left") == shown.count("min left")
    assert "-:--:--" not in shown


def test_tensorboard_reads_it(tmp_path: Path) -> None:
    with RunLog(tmp_path, QUIET, 4, Progress(), loggers=[Board(tmp_path / "tensorboard", 0)]) as log:
        for iteration in (1, 2, 3):
            log.step(iteration, step(iteration))
    again = [Board(tmp_path / "tensorboard", 2)]  # stopped, and continued after the second
    with RunLog(tmp_path, QUIET, 4, Progress(iteration=2), loggers=again) as log:
        for iteration in (3, 4):
            log.step(iteration, step(iteration) | {"loss": 9.0})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss", "lr", "batch", "images_per_second", "seconds"]
    assert [(each.step, each.value) for each in events.Scalars("loss")] == [(1, 0.125), (2, 0.25), (3, 9), (4, 9)]


def test_a_log_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    (tmp_path / "tensorboard").touch()
    with RunLog(tmp_path, QUIET, 4, Progress(), loggers=[Board(tmp_path / "tensorboard", 0)]) as log:
        for iteration in (1, 2):
            log.step(iteration, step(iteration))
    board, lines = sorted(record.getMessage() for record in caplog.records)[::-1]
    assert lines == f"{tmp_path}/log.jsonl cannot be written (No space left on device). Training goes on without it"
    assert board.startswith(f"{tmp_path}/tensorboard/events.out.tfevents.")
    assert board.endswith("cannot be written (File exists). Training goes on without it")
    (tmp_path / "evaluation.json").mkdir()
    write_evaluation(tmp_path, {"AP": 1})
    assert caplog.records[-1].getMessage().startswith(f"{tmp_path}/evaluation.json cannot be written (")
    assert len(caplog.records) == 3


def test_no_half_line_is_left_when_the_disk_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    write_line(tmp_path, {"iteration": 1})
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, limits[1]))
    try:
        write_line(tmp_path, {"iteration": 2})  # of which 13 of 17 bytes would have gone in
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert iterations(tmp_path) == [1]
    assert "log.jsonl cannot be written (File too large)" in caplog.text
    write_line(tmp_path, {"iteration": 3})  # there is room again
    assert iterations(tmp_path) == [1, 3]


def test_a_run_whose_folder_is_taken_away_is_trained_on(
    tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run, real, calls = tmp_path / "runs" / "one", loop.step, []

    def taken(*arguments: Any) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 2:
            shutil.rmtree(run.parent)
        return real(*arguments)

    monkeypatch.setattr(loop, "step", taken)
    with caplog.at_level(logging.WARNING, "rcnnkit"):
        best = train(settings(tiny, save_every=3), run, console=QUIET)
    assert best.exists()
    assert iterations(run) == [4, 4]  # the checkpoint of iteration 3 made the folders again
    messages = [record.getMessage() for record in caplog.records]
    assert f"{run}/log.jsonl cannot be written (No such file or directory). Training goes on without it" in messages
    assert len(messages) == 2  # and of TensorBoard
    assert any((run / "tensorboard").iterdir())


def test_a_fifo_is_not_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / "log.jsonl")
    write_line(tmp_path, {"iteration": 1})
    assert f"{tmp_path}/log.jsonl cannot be written (" in caplog.text
