"""Where a run's numbers go besides its log: one small hook, and the packages that settings can name."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from rcnnkit.config import Settings
from rcnnkit.training.log import Board

log = logging.getLogger("rcnnkit")

IDS = "loggers.json"  # what the services call a run, so that it goes on as the same one
PROJECT = "rcnnkit"  # unless the service's own environment variable names another


class Logger(Protocol):
    """What gets the numbers of a run: any object with these two methods, given to `rcnnkit.train`.

    An error of its own ends its part in the run, which goes on without it.
    """

    def log(self, iteration: int, numbers: Mapping[str, float]) -> None:
        """Numbers by name, after so many iterations: losses, rate and speed, or those of an evaluation."""
        ...

    def finish(self) -> None:
        """The run ends, or is interrupted."""
        ...


def check_loggers(names: Sequence[str]) -> None:
    """Raise ValueError where one is not installed. TensorBoard's is done without: it is there by default."""
    missing = [name for name in names if name != "tensorboard" and importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f'train.loggers has "{missing[0]}", which is not installed; install it (pip install {missing[0]}), or leave'
            " it out"
        )


def open_loggers(settings: Settings, run: Path, iteration: int) -> list[Logger]:
    """Those of `train.loggers`. One that cannot be started is left out, which is logged.

    Args:
        run: the run's folder.
        iteration: the last one before the run went on.
    """
    loggers: list[Logger] = []
    for name in settings.train.loggers:
        try:
            if name == "tensorboard":
                loggers.append(Board(run / "tensorboard", iteration))
            else:
                loggers.append(SERVICES[name](settings, run))
        except ImportError:  # TensorBoard's
            continue
        except Exception as error:  # a service cannot be reached, or nobody is logged in
            said = " ".join(str(error).split()) or type(error).__name__
            log.warning("%s cannot be started (%s). Training goes on without it", name, said)
    return loggers


class WandB:
    """Weights & Biases; offline where WANDB_MODE says so."""

    def __init__(self, settings: Settings, run: Path) -> None:
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=_id(run, "wandb"),
            resume="allow",
            dir=run,
            config=settings.model_dump(mode="json"),
            settings=wandb.Settings(console="off"),
        )

    def log(self, iteration: int, numbers: Mapping[str, float]) -> None:
        self.run.log(dict(numbers), step=iteration)

    def finish(self) -> None:
        self.run.finish()


class MLflow:
    """MLflow: the server of MLFLOW_TRACKING_URI, or mlflow.db in the run's folder."""

    def __init__(self, settings: Settings, run: Path) -> None:
        from mlflow import MlflowClient

        place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.resolve()}/mlflow.db"
        self.client, name = MlflowClient(place), os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self.client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self.client.create_experiment(name)
        run_id = _ids(run).get("mlflow")
        self.id = run_id or _id(run, "mlflow", self.client.create_run(number, run_name=run.name).info.run_id)
        if run_id:
            self.client.update_run(run_id, status="RUNNING")
            return
        for section, values in settings.model_dump(mode="json", exclude_none=True).items():
            for key, value in values.items():
                self.client.log_param(self.id, f"{section}.{key}", value)

    def log(self, iteration: int, numbers: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self.client.log_batch(self.id, [Metric(name, value, now, iteration) for name, value in numbers.items()])

    def finish(self) -> None:
        self.client.set_terminated(self.id)


class Trackio:
    """Trackio, which keeps its runs on this machine unless it is set up otherwise."""

    def __init__(self, settings: Settings, run: Path) -> None:
        import trackio

        self.run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=f"{run.name}-{_id(run, 'trackio')}",
            resume="allow",
            config=settings.model_dump(mode="json"),
            embed=False,
            auto_log_gpu=False,
        )

    def log(self, iteration: int, numbers: Mapping[str, float]) -> None:
        self.run.log(dict(numbers), step=iteration)

    def finish(self) -> None:
        self.run.finish()


SERVICES: dict[str, Callable[[Settings, Path], Logger]] = {"wandb": WandB, "mlflow": MLflow, "trackio": Trackio}


def _ids(run: Path) -> dict[str, str]:
    try:
        ids = json.loads((run / IDS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return ids if isinstance(ids, dict) else {}


def _id(run: Path, service: str, new: str = "") -> str:
    """What a service calls this run: as before, or `new`, by default eight random digits."""
    ids = _ids(run)
    if service not in ids:
        ids[service] = new or uuid.uuid4().hex[:8]
        (run / IDS).write_text(json.dumps(ids), encoding="utf-8")
    return ids[service]
