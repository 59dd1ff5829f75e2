"""What is said before the first iteration, and that nothing comes of it."""

import io
import itertools
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from rcnnkit import weights
from rcnnkit.data.class_folders import read_class_folders
from rcnnkit.data.loading import draws, largest_draw
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Record
from rcnnkit.data.sizes import input_sides
from rcnnkit.detectors.detector import Detector
from rcnnkit.images import Preprocessing
from rcnnkit.proposals.fit import reach
from rcnnkit.proposals.store import Store
from rcnnkit.structures import Targets
from rcnnkit.training import classification, detection, preflight
from rcnnkit.training.detection import Detection, read_splits
from rcnnkit.training.run import Run
from rcnnkit.training.start import start
from rcnnkit.training.train import dry_run, train
from tests.training.runs import QUIET, Values, settings


def said(values: Values, folder: Path, *, notes: dict[str, str] | None = None, **train: object) -> str:
    """What a dry run prints."""
    file = io.StringIO()
    dry_run(settings(values, **train), folder, console=Console(file=file, width=1000), notes=notes or {})
    return file.getvalue()


def a_task(tiny: Values, folder: Path) -> tuple[Detection, Run]:
    run = Run(settings(tiny, iterations=100), folder, QUIET, dry=True)
    training, _ = read_splits(run.settings.data)
    return Detection(run, start(run, training, Detector), training, None, None), run


def test_a_training_is_the_same_to_the_bit_without_it(
    tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "FEW", 0)
    tried = []
    try_batch = preflight.try_batch

    def trial(*arguments: Any) -> Any:
        tried.append(try_batch(*arguments))
        return tried[-1]

    monkeypatch.setattr(preflight, "try_batch", trial)
    train(settings(tiny, iterations=3), tmp_path / "with", console=QUIET)
    assert len(tried) == 1
    monkeypatch.setattr(detection, "preflight", lambda *_: None)
    train(settings(tiny, iterations=3), tmp_path / "without", console=QUIET)
    assert len(tried) == 1
    (one, first), (other, second) = (weights.read(tmp_path / name / "last.safetensors") for name in ("with", "without"))
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)
    assert one["training"].keys() == other["training"].keys()


def test_a_trial_leaves_no_trace(tiny: Values, tmp_path: Path) -> None:
    task, run = a_task(tiny, tmp_path / "run")
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    state = torch.get_rng_state()
    largest, usual = task.largest_batch()
    trial = preflight.try_batch(task, run, largest)
    assert trial.shape == "2 × 128 × 128 pixels"  # 96, padded to multiples of 64
    assert usual == 1
    assert trial.seconds > 0
    assert trial.needs is not None
    assert trial.has is not None
    assert trial.needs < trial.has
    after = task.model.state_dict()
    assert all(after[name].equal(value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in task.model.parameters())
    assert torch.get_rng_state().equal(state)
    assert task.model.training


def test_statistics_are_put_back_also_after_an_error(tiny: Values, tmp_path: Path) -> None:
    task, _ = a_task(tiny, tmp_path / "run")
    before = {name: value.clone() for name, value in task.model.named_buffers()}

    def disturb() -> None:
        with preflight._undisturbed(task.model, torch.device("cpu")):
            for buffer in task.model.buffers():
                buffer.add_(1)
            raise KeyError

    with pytest.raises(KeyError):
        disturb()
    assert all(value.equal(before[name]) for name, value in task.model.named_buffers())


def test_a_dry_run_says_all_and_writes_nothing(tiny: Values, tmp_path: Path, digits: Path) -> None:
    text = said(tiny, tmp_path / "runs" / "new")
    assert not (tmp_path / "runs").exists()
    data = read_data(digits, "train")
    labels = torch.cat([record.targets.labels for record in data.records]).bincount()
    counts = sorted(zip(data.class_names, labels.tolist(), strict=True), key=lambda each: -each[1])
    listed = ", ".join(f"{name} ({number})" for name, number in counts)
    assert f"{sum(labels)} objects: {listed}; 0.0% of the pictures have none\n" in text
    assert "data/train: 8 pictures, 5 classes; evaluated on data/val, 4 pictures; " in text
    assert "batches of 2, learning rate 0.0025 (train.lr_for_16 = 0.02); run folder " in text
    made = settings(tiny)
    share = reach(input_sides(data, made.input, False), made.rpn, made.model.strides).mean()
    assert f"anchors reach {share:.1%} of the objects at an IoU of 0.5" in text
    assert re.search(r"the largest batch: 2 × 128 × 128 pixels, \d+\.\d of \d+\.\d GB of memory; checkpoints: 0", text)
    assert re.search(
        r"about \S+ images/s: 4 iterations take less than a minute and end at \d\d:\d\d, without eva", text
    )


def test_pictures_without_objects_and_missed_objects_are_counted(tiny: Values, tmp_path: Path, digits: Path) -> None:
    shutil.copytree(digits, tmp_path / "data")
    for file in ("000001", "000002"):
        path = tmp_path / "data" / "Annotations" / f"{file}.xml"
        path.write_text(re.sub(r"<object>.*</object>", "", path.read_text(), flags=re.DOTALL))
    values = tiny | {"data": tiny["data"] | {"root": str(tmp_path / "data")}}
    values["rpn"] = tiny["rpn"] | {"anchor_sizes": [[256]] * 5}
    text = said(values, tmp_path / "run")
    assert "25.0% of the pictures have none" in text
    assert "anchors reach 0.0% of the objects at an IoU of 0.5; `rcnnkit suggest` fits them" in text
    suggested = said(values, tmp_path / "run", notes={"rpn.anchor_sizes": "fitted"})  # it is no help to repeat it
    assert "anchors reach 0.0% of the objects at an IoU of 0.5\n" in suggested


def test_classifiers_have_one_too(tiny: Values, tmp_path: Path) -> None:
    from PIL import Image

    for name, number in (("cat", 3), ("dog", 1)):
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
        for i in range(number):
            Image.new("RGB", (40, 40), (60 * i, 0, 0)).save(tmp_path / "data" / "train" / name / f"{i}.png")
    values: Values = {
        "model": {"kind": "classifier", "backbone": "timm/test_resnet"},
        "classifier": {"crop": 32, "resize": 36},
        "data": {"root": str(tmp_path / "data"), "val": "", "workers": 0},
        "train": tiny["train"],
    }
    text = said(values, tmp_path / "run")
    assert "pictures: cat (3), dog (1)\n" in text
    assert "the largest batch: 2 × 32 × 32 pixels" in text
    folders = read_class_folders(tmp_path / "data", "train", skip_bad=False)
    assert (
        len(
            classification.load_class_batch(
                folders.records,
                classification.ClassifierAugmentation(settings(values).augment, settings(values).classifier),
                6,
            )
        )
        == 6
    )  # over again


def test_the_largest_batch_is_the_largest_that_is_drawn() -> None:
    nothing = Targets(torch.zeros(0, 4), torch.zeros(0).long())
    sizes = [(100, 200), (200, 100), (50, 60), (300, 310), (400, 90), (90, 400), (120, 119), (10, 500), (333, 222)]
    records = [Record(i, Path(f"{i}.jpg"), size, nothing) for i, size in enumerate(sizes)]
    shape = Preprocessing(short_side=150, long_side=400, divisor=32)

    def area(drawn: list[tuple[int, int]]) -> int:
        height, width = shape.canvas([shape.resized(sizes[i]) for i, _ in drawn])
        return height * width

    for batch in (1, 2, 4):
        drawn, usual = largest_draw(records, shape, batch)
        areas = [area(each) for each in itertools.islice(draws(records, batch, 0), 400)]
        assert len(drawn) == batch
        assert area(drawn) >= max(areas)
        assert batch > 2 or area(drawn) == max(areas)  # larger batches draw the two together seldom
        assert 0 < usual <= 1
        if batch == 1:
            assert usual == pytest.approx(sum(areas) / len(areas) / max(areas), rel=0.02)


def test_the_disk_that_checkpoints_take(tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, run = a_task(tiny, tmp_path / "run")
    needed = preflight.check_disk(task, run)
    train(settings(tiny, iterations=2), tmp_path / "run", console=QUIET)
    best, last = ((tmp_path / "run" / f"{name}.safetensors").stat().st_size for name in ("best", "last"))
    assert needed == pytest.approx(best + 2 * last, rel=0.01)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e6))
    with pytest.raises(ValueError, match=r"checkpoints of this run take 0\.\d\d GB, and 0\.00 GB are free where .*new"):
        train(settings(tiny), tmp_path / "new", console=QUIET)
    assert not (tmp_path / "new").exists()


def test_a_gpu_without_memory_for_it(tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(preflight, "_pass", full)
    said = r"the largest batch, 2 images of .*\.jpg and others, does not fit into the memory of cpu; lower train\.batch"
    with pytest.raises(ValueError, match=said):
        dry_run(settings(tiny), tmp_path / "run", console=QUIET)


def test_tight_memory_is_warned_of(
    tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(preflight, "free_memory", lambda device: 0)
    dry_run(settings(tiny), tmp_path / "run", console=QUIET)
    assert re.search(
        r"the largest batch, 2 × 128 × 128 pixels, takes \S+ of \S+ GB of memory; lower train", caplog.text
    )


WINDOWS: Values = {"proposals": {"method": "sliding_windows", "train_count": 40}}
RCNN: Values = {
    "model": {"kind": "rcnn", "backbone": "timm/test_resnet"},
    "rcnn": {"size": 32, "context": 4, "samples": 16},
    "input": {"short_side": 0},
}


def test_fast_rcnn_is_tried_on_the_proposals_of_one_batch(
    tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = tiny | {"model": tiny["model"] | {"kind": "fast_rcnn"}} | WINDOWS
    found: list[Any] = []
    write = Store.write

    def noted(store: Store, key: Any, *rest: Any) -> None:
        found.append(key)
        write(store, key, *rest)

    monkeypatch.setattr(Store, "write", noted)
    text = said(values, tmp_path / "run")
    assert 1 <= len(found) <= 2  # the pictures of the largest batch
    assert list(tmp_path.iterdir()) == []
    assert "the proposals of 12 pictures are computed first, which takes less than a minute\n" in text
    assert "the largest batch: 2 × 128 × 128 pixels" in text
    assert "images/s: 4 iterations take" in text
    train(settings(values, iterations=1), tmp_path / "run", console=QUIET)
    found.clear()
    text = said(values, tmp_path / "other")
    assert found == []  # those of the training lie in proposals/
    assert "computed first" not in text


@pytest.mark.parametrize("scorer", ["svm", "softmax"])
def test_rcnn(tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scorer: str) -> None:
    monkeypatch.chdir(tmp_path)
    values = {"data": tiny["data"], "train": tiny["train"]} | RCNN | WINDOWS
    values["rcnn"] = RCNN["rcnn"] | {"scorer": scorer, "box_regression": scorer == "svm"}
    text = said(values, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    assert "the proposals of 12 pictures are computed first, which takes less than a minute\n" in text
    assert "batches of 16 windows, learning rate 0.02 (train.lr_for_16 = 0.02); run folder " in text
    assert re.search(r"\d+ objects: .*; 0\.0% of the pictures have none\n", text)
    assert re.search(r"the largest batch: 16 × 32 × 32 pixels, \d+\.\d of \d+\.\d GB of memory; checkpoints: 0", text)
    assert re.search(
        r"about \S+ windows/s: 4 iterations take less than a minute and end at .*, without the stages", text
    )
    windows, each = (
        int(n.replace(",", "")) for n in re.findall(r"about (\S+) windows, (\d+) a picture; feat", text)[0]
    )
    assert windows == pytest.approx(8 * each, rel=0.01)
    assert ("the features of 8 pictures take less than a minute, before SVMs" in text) == (scorer == "svm")
    if scorer == "softmax":
        return
    run = train(settings(values, iterations=1), tmp_path / "run", console=QUIET).parent
    stored = sum(path.stat().st_size for path in (run / "features").glob("*.safetensors"))
    expected = float(re.findall(r"features: about (\S+) GB", text)[0]) * 1e9
    assert stored == pytest.approx(expected, rel=0.1)
    text = said(values, tmp_path / "other")  # now that all proposals are there, nothing is guessed
    assert re.search(r"\n[\d,]+ windows, \d+ a picture; features: \d", text)
    assert "computed first" not in text


def test_windows_that_do_not_fit(tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preflight, "_pass", full)
    values = {"data": tiny["data"], "train": tiny["train"]} | RCNN | WINDOWS
    with pytest.raises(
        ValueError, match=r"largest batch, 16 windows of .*\.jpg and others, does not fit .*; lower rcnn\.samples"
    ):
        dry_run(settings(values), tmp_path / "run", console=QUIET)


def test_four_steps_try_each_network_once(tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = tiny | {"alternating": {"enabled": True, "rpn_iterations": 20, "head_iterations": 30}}
    text = said(values, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    first, second = text.split("step 2-fast-rcnn\n")
    assert first.startswith("step 1-rpn\n")
    assert "anchors reach" in first
    assert ": 20 iterations take" in first
    assert ": 30 iterations take" in second
    assert "anchors reach" not in second
    assert "computed first" not in text
    assert second.endswith(
        "steps 3-rpn and 4-fast-rcnn train the same on convolutions that stay, in less memory and time\n"
    )


def test_times() -> None:
    now = datetime(2024, 3, 1, 23, 0)
    assert preflight._clock(now + timedelta(minutes=30), now) == "23:30"
    assert preflight._clock(now + timedelta(hours=2), now) == "01:00 on Saturday"
    assert preflight._clock(now + timedelta(days=9), now) == "23:00 on 2024-03-10"
    spans = [preflight.duration(timedelta(minutes=each)) for each in (0.5, 12, 89, 90, 47 * 60, 96 * 60)]
    assert spans == ["less than a minute", "12 min", "89 min", "1.5 h", "47.0 h", "4.0 days"]
