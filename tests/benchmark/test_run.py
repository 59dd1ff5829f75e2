from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from PIL import Image
from rich.console import Console

from rcnnkit import weights
from rcnnkit.benchmark import run
from rcnnkit.benchmark.measure.choice import choose
from rcnnkit.benchmark.options import Options
from rcnnkit.benchmark.results import Memory, read
from rcnnkit.benchmark.run import run_benchmark
from rcnnkit.data.digits import write_digits
from rcnnkit.data.reading import read_data
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.evaluation.report import evaluate

CONSOLE = Console(quiet=True)
NAMES = ["rcnn", "fast-rcnn", "faster-rcnn"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures") / "data"
    write_digits(root, train=1, val=10, size=(96, 96))
    return root


@pytest.fixture
def options(tiny: dict[str, dict[str, Any]], pictures: Path, tmp_path: Path) -> Options:
    """Three small detectors that find something, and ten annotated pictures."""
    classes = read_data(pictures, "val").class_names
    files = []
    for name in NAMES:
        values: dict[str, Any] = {section: tiny[section] for section in ("model", "rpn", "input")}
        values |= {
            # A ResNet, as torchvision's twin is measured beside it.
            "model": tiny["model"] | {"kind": name.replace("-", "_"), "backbone": "resnet18", "norm": "batch"},
            "head": tiny["head"] | {"score_threshold": 0.0, "max_detections": 20},
            "rcnn": {"size": 32, "context": 4, "max_detections": 5},
            "proposals": {"count": 20, "min_side": 8},
        }
        settings = DetectorSettings.model_validate(values)
        torch.manual_seed(0)
        files.append(tmp_path / f"{name}.safetensors")
        weights.save(build(settings, classes).eval(), settings, files[-1])
    return Options(weights=tuple(files), data=pictures, split="val", device="cpu", batch=3)


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "peaks", lambda *arguments: Memory(1_000_000_000, None))


@pytest.mark.usefixtures("no_processes")
def test_the_whole_benchmark(options: Options, pictures: Path, tmp_path: Path) -> None:
    out, threads = tmp_path / "out", torch.get_num_threads()
    before = cv2.getNumThreads()
    assert run_benchmark(replace(options, threads=1), out, CONSOLE) == out / "report.html"
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (threads, before)
    results = read(out)
    assert results.complete
    assert (results.options.threads, results.options.device, results.options.precision) == (1, "cpu", "float32")
    assert list(results.contenders) == [*NAMES, "torchvision"]
    data = read_data(pictures, "val")
    for name, contender in results.contenders.items():
        assert [step.pictures for step in contender.steps] == [3, 3, 3, 1]
        assert contender.summary is not None
        assert contender.summary.missing < 0.2  # 0.03 where a picture takes more than the milliseconds it takes here
        assert contender.summary.proposals > 0 or name == "torchvision"
    for path, name in zip(options.weights, NAMES, strict=True):
        numbers = evaluate(weights.load(path, "cpu", for_training=True), data).coco.numbers
        # The same as of the detector that is not prepared, but for what rounding does to scores that are nearly ties.
        accuracy = results.contenders[name].accuracy
        assert accuracy is not None
        assert accuracy["AP50"] == pytest.approx(numbers["AP50"], abs=0.02)
    assert "AP50" in (out / "report.md").read_text()
    assert (out / "stages.png").exists()
    drawn = sorted((out / "pictures").iterdir())
    assert len(drawn) == 4 * 4
    assert Image.open(drawn[0]).size == (96, 96)
    assert (out / "report.html").read_text().count("data:image/jpeg") == 16
    with pytest.raises(FileExistsError, match="is not an empty folder; choose another, nothing is overwritten"):
        run_benchmark(options, out, CONSOLE)


@pytest.mark.usefixtures("no_processes")
def test_what_was_measured_is_kept(options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = run.turns

    def interrupted(*arguments: Any) -> Any:
        for number, turn in enumerate(turns(*arguments)):
            if number == 9:
                raise error
            yield turn

    monkeypatch.setattr(run, "turns", interrupted)
    error: BaseException = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(options, tmp_path / "stopped", CONSOLE)
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    with pytest.raises(ValueError, match=r"cpu ran out of memory .* lower --batch or --max-proposals; what was"):
        run_benchmark(options, tmp_path / "full", CONSOLE)
    for name, why in (("stopped", "interrupted"), ("full", "too little memory")):
        results = read(tmp_path / name)
        assert (results.complete, results.stopped) == (False, why)
        assert [len(contender.steps) for contender in results.contenders.values()] == [2, 2, 3, 2]
        assert results.contenders["rcnn"].accuracy is not None
        assert f"Not complete ({why})" in (tmp_path / name / "report.html").read_text()


def test_bad_input(options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for changed, words in (
        ({"device": "cuda:77"}, 'device "cuda:77" cannot be used'),
        ({"precision": "int8"}, "int8 is not one of auto, float32, bf16, fp16"),
        ({"data": None}, "--weights needs pictures to detect in"),
        ({"random": True}, "--random and --weights exclude each other"),
        ({"backbone": "resnet50"}, r"--backbone resnet50, but .*rcnn\.safetensors has resnet18; add --random"),
        ({"limit": 5}, "5 pictures; a benchmark needs at least 10"),
    ):
        with pytest.raises(ValueError, match=words):
            run_benchmark(replace(options, **changed), tmp_path / "out", CONSOLE)
    monkeypatch.setattr("rcnnkit.benchmark.measure.memory.free_memory", lambda device: 1000)
    with pytest.raises(ValueError, match=r"R-CNN needs about .* GB on cpu"):
        run_benchmark(options, tmp_path / "out", CONSOLE)
    assert not (tmp_path / "out").exists()  # all before anything is written
    with pytest.raises(ValueError, match="needs about"):  # which had its pictures drawn before
        run_benchmark(Options(demo=tmp_path / "no", random=True, limit=10), tmp_path / "out", CONSOLE)
    assert not list((tmp_path / "out").iterdir())  # and the next try finds it empty


def test_the_demo_is_trained_where_it_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def run_demo(folder: Path, *_: Any) -> None:
        asked.append(folder)
        (folder / "rcnn").mkdir(parents=True)

    monkeypatch.setattr("rcnnkit.benchmark.measure.choice.run_demo", run_demo)
    options = Options(demo=tmp_path / "demo")
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match=r"rcnn/best\.safetensors is not there; train the whole demo"):
            choose(options, tmp_path / "out", CONSOLE)
    assert asked == [tmp_path / "demo"]  # once


def test_untrained_detectors_need_no_demo(tmp_path: Path) -> None:
    options = Options(demo=tmp_path / "demo", random=True, backbone="alexnet", limit=12)
    contenders, data, annotated = choose(options, tmp_path / "out", CONSOLE)
    assert [contender.name for contender in contenders] == NAMES
    assert {contender.settings.model.backbone for contender in contenders} == {"alexnet"}
    assert not annotated  # there is no accuracy to tell
    assert len(data) == 12
    assert contenders[0].class_names == tuple(data.class_names)
    assert not (tmp_path / "demo").exists()
