import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rcnnkit.config import Settings
from rcnnkit.config_files import check_settings
from rcnnkit.data.records import Dataset, Record
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.structures import Targets
from rcnnkit.training import loop
from rcnnkit.training.fine_tuning import FineTuning, Pools, WindowBatch
from rcnnkit.training.loop import iterate
from rcnnkit.training.run import Run
from rcnnkit.training.windows import Pictures, Windows
from tests.training.runs import QUIET

VALUES = {
    "model": {"kind": "rcnn", "backbone": "timm/test_resnet"},
    "rcnn": {"size": 32, "context": 4, "samples": 40, "classifier_lr": 7},
    "input": {"short_side": 0},
    "data": {"root": "anywhere"},
    "train": {"lr": 0.1, "weight_decay": 0.01},
}
SETTINGS = check_settings(VALUES, "test")


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> list[Windows]:
    """Picture i has one object of class i, 1 + i windows at it, 10 windows of background and one at IoU 0.5."""
    folder, found = tmp_path_factory.mktemp("pictures"), []
    for i in range(3):
        array = np.random.default_rng(i).integers(0, 256, (64, 80, 3), dtype=np.uint8)
        Image.fromarray(array).save(folder / f"{i}.png")
        box = torch.tensor([[10.0, 10, 30, 30]])
        half = torch.tensor([[10.0, 10, 30, 20]])
        far = torch.tensor([[40.0, 40, 60, 60]])
        targets = Targets(box, torch.tensor([i]))
        boxes = torch.cat([box, *[box + k + 1 for k in range(i)], half, *[far + k for k in range(10)]])
        found.append(Windows(Record(i, folder / f"{i}.png", (64, 80), targets), targets, boxes))
    return found


@pytest.fixture(scope="module")
def detector() -> RCNN:
    detector = build(SETTINGS, ["a", "b", "c"])
    assert isinstance(detector, RCNN)
    return detector


def test_pools_by_hand(windows: list[Windows], detector: RCNN) -> None:
    pools = Pools(detector, windows)
    # object, its shifted copies, and what has IoU 0.5 with it; picture, window, label
    assert pools.foreground.tolist() == [[i, row, i] for i in range(3) for row in range(i + 2)]
    assert pools.background.tolist() == [[i, i + 2 + row, 3] for i in range(3) for row in range(10)]


def test_a_quarter_of_a_batch_is_objects_of_all_pictures_alike(windows: list[Windows], detector: RCNN) -> None:
    pools, generator = Pools(detector, windows), torch.Generator().manual_seed(0)
    drawn = torch.stack([pools.draw(generator) for _ in range(1000)])
    assert drawn.shape == (1000, 40, 3)
    assert (drawn[:, :10, 2] < 3).all()
    assert (drawn[:, 10:, 2] == 3).all()
    counts = torch.bincount(drawn[:, :10, 0].flatten(), minlength=3)
    # of 10,000 objects 2/9, 3/9 and 4/9 are the pictures'; the deviation is at most √(10,000/4) = 50
    assert (counts - torch.tensor([2222, 3333, 4444])).abs().max() < 6 * 50
    assert len(drawn[:, 10:].reshape(-1, 3).unique(dim=0)) == 30


def tuning(
    windows: list[Windows], detector: RCNN, folder: Path, settings: Settings = SETTINGS, memory_gb: float = 1
) -> FineTuning:
    data = Dataset("windows", [each.record for each in windows], detector.class_names, detector.category_ids)
    return FineTuning(Run(settings, folder, QUIET), detector, data, Pictures(windows, detector, memory_gb))


def batches(task: FineTuning, start: int, count: int) -> list[WindowBatch]:
    return list(islice(task.batches(start), count))


def test_batches_hold_the_windows_and_their_mirror_images(
    windows: list[Windows], detector: RCNN, tmp_path: Path
) -> None:
    def first(flip: float, flip_vertical: float) -> WindowBatch:
        augment = {"flip": flip, "flip_vertical": flip_vertical}
        settings = check_settings(VALUES | {"augment": augment, "train": {"seed": 5}}, "test")
        return batches(tuning(windows, detector, tmp_path, settings), 3, 1)[0]

    plain, mirrored, turned = first(0, 0), first(1, 0), first(0, 1)
    pictures = Pictures(windows, detector, 1)
    expected = torch.cat([pictures.cut(i, torch.arange(len(w))) for i, w in enumerate(windows)])
    labels = torch.cat([torch.tensor([i] * (i + 2) + [3] * 10) for i in range(3)])
    for window, label in zip(plain.windows, plain.labels, strict=True):
        same = (expected == window).flatten(1).all(dim=1)
        assert label in labels[same]  # every window is one of its picture's, with the right label
    assert (plain.labels < 3).sum() == 10
    assert mirrored.windows.equal(plain.windows.flip(3))
    assert turned.windows.equal(plain.windows.flip(2))


def test_a_batch_depends_on_seed_and_iteration_alone(windows: list[Windows], detector: RCNN, tmp_path: Path) -> None:
    made = [check_settings(VALUES | {"augment": {"flip_vertical": 0.5}, "train": {"seed": i}}, "test") for i in (1, 2)]
    one, two = (tuning(windows, detector, tmp_path, settings, memory_gb=0) for settings in made)
    run, later, other = batches(one, 0, 4), batches(one, 2, 2), batches(two, 0, 1)[0]
    assert all(a.windows.equal(b.windows) for a, b in zip(run[2:], later, strict=True))
    assert not run[0].windows.equal(other.windows)
    assert not run[0].windows.equal(run[1].windows)


def test_without_background_there_is_nothing_to_learn(windows: list[Windows], detector: RCNN) -> None:
    with pytest.raises(ValueError, match=r"no window has IoU < rcnn.foreground_iou = 0.5"):
        Pools(detector, [Windows(w.record, w.targets, w.boxes[:1]) for w in windows])


def test_the_new_layer_learns_faster_and_biases_do_not_decay(detector: RCNN, tmp_path: Path) -> None:
    groups = tuning([], detector, tmp_path).optimizer.param_groups
    of = {id(p): group for group in groups for p in group["params"]}
    assert of.keys() == {id(p) for p in detector.parameters()}
    for name, parameter in detector.named_parameters():
        group = of[id(parameter)]
        assert group["factor"] == (7 if name.startswith("score_layer") else 1)
        assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0)


def test_a_run_with_dropout_goes_on_as_if_it_had_not_stopped(windows: list[Windows], tmp_path: Path) -> None:
    model = {"kind": "rcnn", "backbone": "alexnet"}
    options = {"iterations": 4, "save_every": 2, "log_every": 1, "warmup": 0, "lr": 0.01}
    values = VALUES | {"model": model, "rcnn": {"size": 63, "samples": 8}, "head": {"hidden": 8}, "train": options}
    settings = check_settings(values, "test")

    def run(folder: Path, settings: Settings) -> RCNN:
        torch.manual_seed(0)
        detector = build(settings, ["a", "b", "c"])
        assert isinstance(detector, RCNN)
        task = tuning(windows, detector, folder, settings)
        task.restore()
        torch.manual_seed(task.run.resume is None)  # what the global generator did before does not matter
        iterate(task)
        return detector

    whole = run(tmp_path / "whole", settings)
    with pytest.MonkeyPatch.context() as patch:
        real, calls = loop.step, []

        def killed(*arguments: Any) -> dict[str, float]:
            calls.append(1)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return real(*arguments)

        patch.setattr(loop, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "half", settings)
    resumed = check_settings(values | {"train": options | {"resume": tmp_path / "half"}}, "test")
    again = run(tmp_path / "half", resumed)
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert a.equal(b)
    lines = (tmp_path / "half" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [1, 2, 3, 4]
