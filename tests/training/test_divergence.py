"""What a run leaves where it diverges: it can be looked at, and repeated."""

import json
import math
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from rcnnkit import weights
from rcnnkit.cli import main
from rcnnkit.data.loading import Batch
from rcnnkit.detectors.detector import Detector
from rcnnkit.training.detection import Detection, read_splits
from rcnnkit.training.divergence import Record, leave
from rcnnkit.training.gradient import NonFiniteLoss
from rcnnkit.training.run import Run
from rcnnkit.training.start import start
from rcnnkit.training.train import train
from tests.training.runs import QUIET, Values, settings


def test_norms_are_those_of_each_part() -> None:
    model = nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 1, bias=False), "idle": nn.Linear(1, 1)})
    for part, value in (("backbone", 3.0), ("head", 2.0)):
        for weight in model[part].parameters():
            weight.data.fill_(value)
            weight.grad = torch.full_like(weight, 2 * value)
    record = Record.of(7, {"loss": math.inf}, 0.5, model)
    assert record.to_json() == {
        "iteration": 7,
        "lr": 0.5,
        "losses": {"loss": math.inf},
        "weight_norms": pytest.approx({"backbone": math.sqrt(6 * 9), "head": math.sqrt(2 * 4)}),
        "gradient_norms": pytest.approx({"backbone": math.sqrt(6 * 36), "head": math.sqrt(2 * 16)}),
    }
    assert record.gradient_norm.item() == pytest.approx(math.sqrt(6 * 36 + 2 * 16))


def test_a_run_that_diverges_can_be_repeated(
    tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "a run"
    # It waits in iteration 1 of 4, and so it has to where that is the last one of 2.
    tiny["adversary"] = {"kind": "random", "start": 0.4, "pretrain": 0.0, "every": 1}
    wild = settings(tiny, lr=1e12, warmup=0, clip_norm=0.0, evaluate_every=1, patience=9, validation_losses=False)
    with pytest.raises(NonFiniteLoss, match="is not finite in iteration") as error:
        train(wild, run, console=QUIET)
    folder = run / "diverged"
    report = json.loads((folder / "diverged.json").read_text())
    iteration, command = report["iteration"], report["repeat"]
    assert iteration > 0
    text, _, told = str(error.value).partition("boxes\n")
    assert told == f"{folder} has these pictures as the network saw them. This repeats the iteration:\n{command}"
    assert report["seed"] == 0
    assert {"nan", "inf"} & {*report["losses"].values()} or text.startswith("the gradient")
    assert [each["iteration"] for each in report["last_iterations"]][:iteration] == list(range(iteration))
    first = report["last_iterations"][0]
    assert first["lr"] == pytest.approx(1e12 / 8)
    assert first["losses"].keys() == {"rpn_objectness", "rpn_box", "class", "box", "loss"}
    assert first["gradient_norms"].keys() == {"backbone", "rpn", "head"}

    # Everything in the checkpoint is finite, statistics of norms too: it is of before the iteration.
    about, tensors = weights.read(folder / "last.safetensors")
    assert about["training"]["iteration"] == iteration
    assert all(tensor.isfinite().all() for tensor in tensors.values())

    pictures = sorted(folder.glob("*.png"))
    assert [path.stem.partition("-")[2] for path in pictures] == [Path(path).stem for path in report["pictures"]]
    for path in pictures:
        pixels = np.asarray(Image.open(path))
        assert pixels.shape == (96, 96, 3)

    for _ in range(2):  # a second time, too
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 1
        said = " ".join(capsys.readouterr().err.split())
        assert " ".join(text.split()) in said  # the same losses, of the same pictures
        assert str(folder) in said
    assert not (folder / "diverged").exists()
    assert json.loads((folder / "diverged.json").read_text()) == report


def test_the_pictures_are_those_that_the_network_saw(tiny: Values, tmp_path: Path) -> None:
    tiny["augment"] = {"flip": 1.0}
    made = settings(tiny)
    run = Run(made, tmp_path / "run", QUIET)
    training, _ = read_splits(made.data)
    task = Detection(run, start(run, training, Detector), training, None, None)
    batch = next(task.batches(0))
    assert isinstance(batch, Batch)
    folder, _ = leave(run, task.model, batch, {"loss": math.nan}, [])
    again, _ = leave(run, task.model, batch, {"loss": math.nan}, [])
    assert again.name == "diverged-2"  # nothing is overwritten
    for path, picture, targets in zip(sorted(folder.glob("*.png")), batch.pictures, batch.targets, strict=True):
        drawn = np.asarray(Image.open(path)).astype(int)
        plain = picture.permute(1, 2, 0).numpy().astype(int)
        changed = np.abs(drawn - plain).max(axis=2) > 0
        for x1, y1, x2, y2 in targets.boxes.round().int().tolist():
            for x in (x1, x2):  # the edges of its frame
                assert changed[y1:y2, max(0, x - 2) : x + 2].any(axis=1).mean() > 0.8
        assert 0 < changed.mean() < 0.8
