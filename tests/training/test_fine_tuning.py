import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from rcnnkit.config_files import check_settings
from rcnnkit.data.records import Record
from rcnnkit.detectors.build import build
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.structures import Targets
from rcnnkit.training import fine_tuning
from rcnnkit.training.checkpoint import Progress, load_checkpoint
from rcnnkit.training.fine_tuning import _batches, _Pools, fine_tune, window_sgd
from rcnnkit.training.windows import Pictures, Windows

VALUES = {
    "model": {"detector": "rcnn", "backbone": "resnet18", "norm": "batch"},
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
    pools = _Pools(detector, windows)
    # object, its shifted copies, and what has IoU 0.5 with it; picture, window, label
    assert pools.foreground.tolist() == [[i, row, i] for i in range(3) for row in range(i + 2)]
    assert pools.background.tolist() == [[i, i + 2 + row, 3] for i in range(3) for row in range(10)]


def test_a_quarter_of_a_batch_is_objects_of_all_pictures_alike(windows: list[Windows], detector: RCNN) -> None:
    pools, generator = _Pools(detector, windows), torch.Generator().manual_seed(0)
    drawn = torch.stack([pools.draw(generator) for _ in range(1000)])
    assert drawn.shape == (1000, 40, 3)
    assert (drawn[:, :10, 2] < 3).all()
    assert (drawn[:, 10:, 2] == 3).all()
    counts = torch.bincount(drawn[:, :10, 0].flatten(), minlength=3)
    # of 10,000 objects 2/9, 3/9 and 4/9 are the pictures'; the deviation is at most √(10,000/4) = 50
    assert (counts - torch.tensor([2222, 3333, 4444])).abs().max() < 6 * 50
    assert len(drawn[:, 10:].reshape(-1, 3).unique(dim=0)) == 30


def test_batches_hold_the_windows_and_their_mirror_images(windows: list[Windows], detector: RCNN) -> None:
    pools, pictures = _Pools(detector, windows), Pictures(windows, detector, 1)
    with ThreadPoolExecutor(2) as workers:
        plain, mirrored, turned = (
            next(iter(_batches(pools, pictures, flips, 5, range(3, 6), workers))) for flips in ((0, 0), (1, 0), (0, 1))
        )
    expected = torch.cat([pictures.cut(i, torch.arange(len(w))) for i, w in enumerate(windows)])
    found = plain.windows()
    labels = torch.cat([torch.tensor([i] * (i + 2) + [3] * 10) for i in range(3)])
    for window, label in zip(found, plain.labels, strict=True):
        same = (expected == window).flatten(1).all(dim=1)
        assert label in labels[same]  # every window is one of its picture's, with the right label
    assert (plain.labels < 3).sum() == 10
    assert mirrored.windows().equal(found.flip(3))
    assert turned.windows().equal(found.flip(2))


def test_a_batch_depends_on_seed_and_iteration_alone(windows: list[Windows], detector: RCNN) -> None:
    pools, pictures = _Pools(detector, windows), Pictures(windows, detector, 0)
    with ThreadPoolExecutor(2) as workers:
        run = [b.windows() for b in _batches(pools, pictures, (0.5, 0.5), 1, range(0, 4), workers)]
        later = [b.windows() for b in _batches(pools, pictures, (0.5, 0.5), 1, range(2, 4), workers)]
        other = next(iter(_batches(pools, pictures, (0.5, 0.5), 2, range(0, 4), workers)))
    assert all(a.equal(b) for a, b in zip(run[2:], later, strict=True))
    assert not run[0].equal(other.windows())
    assert not run[0].equal(run[1])


def test_without_background_there_is_nothing_to_learn(windows: list[Windows], detector: RCNN) -> None:
    with pytest.raises(ValueError, match=r"no window has IoU < rcnn.foreground_iou = 0.5"):
        _Pools(detector, [Windows(w.record, w.targets, w.boxes[:1]) for w in windows])


def test_the_new_layer_learns_faster_and_biases_do_not_decay(detector: RCNN) -> None:
    groups = window_sgd(detector, SETTINGS).param_groups
    of = {id(p): group for group in groups for p in group["params"]}
    assert of.keys() == {id(p) for p in detector.parameters()}
    for name, parameter in detector.named_parameters():
        group = of[id(parameter)]
        assert group["factor"] == (7 if name.startswith("score_layer") else 1)
        assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0)


def test_a_run_with_dropout_goes_on_as_if_it_had_not_stopped(windows: list[Windows], tmp_path: Path) -> None:
    model = {"detector": "rcnn", "backbone": "alexnet"}
    options = {"iterations": 4, "save_every": 2, "log_every": 1, "warmup": 0, "lr": 0.01}
    values = VALUES | {"model": model, "rcnn": {"size": 63, "samples": 8}, "head": {"hidden": 8}, "train": options}
    settings = check_settings(values, "test")

    def run(folder: Path, resume: Path | None) -> RCNN:
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        detector = build(settings, ["a", "b", "c"])
        assert isinstance(detector, RCNN)
        optimizer = window_sgd(detector, settings)
        progress = load_checkpoint(resume, detector, optimizer) if resume else Progress()
        torch.manual_seed(resume is None)  # what the global generator did before does not matter
        arguments = (Pictures(windows, detector, 1), settings, folder, Console(quiet=True), torch.float32)
        fine_tune(detector, optimizer, progress, *arguments)
        return detector

    whole = run(tmp_path / "whole", None)
    with pytest.MonkeyPatch.context() as patch:
        real, calls = fine_tuning.descend, []

        def killed(*arguments: Any) -> dict[str, float]:
            calls.append(1)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return real(*arguments)

        patch.setattr(fine_tuning, "descend", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "half", None)
    again = run(tmp_path / "half", tmp_path / "half" / "last.safetensors")
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert a.equal(b)
    lines = (tmp_path / "half" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [1, 2, 3, 4]
