"""What loggers receive, read back from what each service wrote offline; and that they cost no training."""

import json
import os
import sqlite3
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from rcnnkit.config import Settings
from rcnnkit.config_files import check_settings
from rcnnkit.training.checkpoint import Progress
from rcnnkit.training.log import RunLog
from rcnnkit.training.loggers import IDS, check_loggers, open_loggers
from rcnnkit.training.train import train
from tests.training.runs import QUIET, Values, settings


class Mine:
    """A logger of one's own."""

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []
        self.finished = 0

    def log(self, iteration: int, numbers: Mapping[str, float]) -> None:
        self.told.append((iteration, dict(numbers)))

    def finish(self) -> None:
        self.finished += 1


def test_a_logger_of_ones_own_is_told_what_the_log_has(tiny: Values, tmp_path: Path) -> None:
    mine = Mine()
    train(settings(tiny, iterations=2, loggers=[]), tmp_path / "run", console=QUIET, loggers=[mine])
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [iteration for iteration, _ in mine.told] == [line.pop("iteration") for line in lines] == [1, 2, 2]
    for (_, numbers), line in zip(mine.told, lines, strict=True):
        assert numbers == pytest.approx({name: value for name, value in line.items() if value is not None}, abs=1e-6)
    assert mine.finished == 1
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_logger_that_fails_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Mine):
        def log(self, iteration: int, numbers: Mapping[str, float]) -> None:
            raise RuntimeError("no network")

    mine, broken = Mine(), Broken()
    with RunLog(tmp_path, QUIET, 4, Progress(), loggers=[broken, mine]) as log:
        for iteration in (1, 2):
            log.write({"iteration": iteration, "loss": 1.0, "AP": float("nan")})
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == "Broken fails (no network). Training goes on without it"
    assert mine.told == [(1, {"loss": 1.0}), (2, {"loss": 1.0})]
    assert (mine.finished, broken.finished) == (1, 0)


def test_what_is_not_installed_is_said_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r'train.loggers has "wandb", which is not installed; install it \(pip install'
    ):
        check_loggers(["tensorboard", "wandb"])
    check_loggers(["tensorboard"])


def asked(name: str) -> Settings:
    return check_settings({"data": {"root": "x"}, "train": {"loggers": [name]}}, "test")


def logged(name: str, run: Path) -> None:
    """Two iterations, and two more after the run was stopped and went on."""
    for done in (0, 2):
        (logger,) = open_loggers(asked(name), run, done)
        for iteration in (done + 1, done + 2):
            logger.log(iteration, {"loss": 0.5 / iteration, "lr": 0.1})
        logger.finish()


EXPECTED = [(1, 0.5), (2, 0.25), (3, pytest.approx(0.5 / 3)), (4, 0.125)]


def test_mlflow_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    logged("mlflow", tmp_path)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    number = json.loads((tmp_path / IDS).read_text())["mlflow"]
    assert [(each.step, each.value) for each in client.get_metric_history(number, "loss")] == EXPECTED
    run = client.get_run(number)
    assert (run.info.status, run.data.params["train.lr_for_16"]) == ("FINISHED", "0.02")
    assert len(client.search_runs([run.info.experiment_id])) == 1


def chunks(file: Path) -> list[bytes]:
    """The records of a .wandb file: LevelDB's log format, in blocks of 32,768 bytes, after a header of seven."""
    data, place, found = file.read_bytes(), 7, [b""]
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # too little of the block is left for a header
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)  # kinds 1 and 4 end a record
        found[-1] += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            found.append(b"")
    return found[:-1]


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logged("wandb", tmp_path)
    found = []
    for file in sorted((tmp_path / "wandb").glob("offline-*/*.wandb"), key=os.path.getmtime):
        assert file.stem == f"run-{json.loads((tmp_path / IDS).read_text())['wandb']}"
        for data in chunks(file):
            record = Record()
            record.ParseFromString(data)
            if record.HasField("history"):
                items = {"".join(each.nested_key) or each.key: each.value_json for each in record.history.item}
                found.append((int(items["_step"]), float(items["loss"])))
    assert found == EXPECTED


def test_trackio_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio", reason="trackio is not installed")
    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "kept")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "kept")
    (tmp_path / "run").mkdir()
    logged("trackio", tmp_path / "run")
    with sqlite3.connect(tmp_path / "kept" / "rcnnkit.db") as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    name = f"run-{json.loads((tmp_path / 'run' / IDS).read_text())['trackio']}"
    assert {row[0] for row in rows} == {name}
    assert [(step, json.loads(metrics)["loss"]) for _, step, metrics in rows] == EXPECTED
