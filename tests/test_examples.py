"""Every script in examples/ runs as its first lines say."""

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from rcnnkit import weights
from rcnnkit.data.reading import read_data
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from tests.cli.commands import Values
from tests.detecting.squares import Squares, film, frames_of, moving, painted

EXAMPLES = Path(__file__).parents[1] / "examples"
Script = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Script:
    """Runs a script in a folder of its own; gives what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture
def detector(tiny: Values, tmp_path: Path) -> Path:
    """Weights that detect something."""
    values = {name: tiny[name] for name in ("model", "rpn", "input")} | {
        "head": tiny["head"] | {"score_threshold": 0.01}
    }
    settings = DetectorSettings.model_validate(values)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights.save(build(settings, ["0", "2", "3", "4", "6", "7"]).eval(), settings, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


@pytest.fixture
def picture(digits: Path) -> Path:
    return digits / "JPEGImages" / "000001.jpg"


def test_detect_picture(run: Script, detector: Path, picture: Path) -> None:
    printed = run("detect_picture.py", detector, picture)
    assert re.search(rf"^\d+ in {picture}; drawn in found\.png$", printed, re.MULTILINE)
    assert Image.open("found.png").size == (96, 96)


def test_detect_folder(run: Script, detector: Path, digits: Path) -> None:
    run("detect_folder.py", detector, digits / "JPEGImages", "out")
    assert len(list(Path("out").glob("*.jpg"))) == 12
    assert Path("out/detections.json").exists()


def test_track(run: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two squares that pass each other keep their numbers, though a frame in the middle is dark."""
    pytest.importorskip("trackers", reason="trackers is not installed: pip install trackers")
    frames = moving(15)
    frames[7] = painted()
    film(tmp_path / "clip.mp4", frames)
    monkeypatch.setattr("rcnnkit.weights.load", lambda _: Squares(least=0.9))
    printed = run("track.py", "w.safetensors", tmp_path / "clip.mp4", "out.mp4")
    assert sorted(line.split()[0] for line in printed.splitlines()) == ["green", "red"]
    assert len(frames_of(Path("out.mp4"))) == 15


def test_train(run: Script, digits: Path) -> None:
    assert "runs/faster_rcnn/best.safetensors finds " in run("train.py", digits, 2)


def test_own_backbone(run: Script, picture: Path) -> None:
    printed = run("own_backbone.py", picture)
    assert {"rpn_objectness", "rpn_box", "class", "box"} == set(re.findall(r"'(\w+)'", printed))
    assert re.search(r"^\d+ detections", printed, re.MULTILINE)


def test_own_data(run: Script, digits: Path) -> None:
    lines = ["000001.jpg,10,20,30,60,cat", "000002.jpg,1.5,2,3,4,dog", "000001.jpg,5,5,9,9,dog"]
    Path("boxes.csv").write_text("\n".join(lines) + "\n")
    assert run("own_data.py", "boxes.csv", digits / "JPEGImages", "mine.json") == (
        "2 pictures with cat, dog in mine.json\n"
    )
    read = read_data(Path("mine.json"), "", images=digits / "JPEGImages")
    assert [record.targets.boxes.tolist() for record in read.records] == [
        [[10, 20, 30, 60], [5, 5, 9, 9]],
        [[1.5, 2, 3, 4]],
    ]
    assert [record.targets.labels.tolist() for record in read.records] == [[0, 1], [1]]


def test_proposals(run: Script, digits: Path) -> None:
    lines = run("proposals.py", digits).splitlines()
    assert lines[0] == "recall with the first [10, 100, 1000] proposals of 4 pictures"
    for line, name in zip(lines[1:], ("selective-search", "sliding-windows"), strict=True):
        method, *recalls = line.split()
        assert method == name
        assert [float(recall) for recall in recalls] == sorted(map(float, recalls))


def test_selective_search(run: Script, picture: Path) -> None:
    assert re.match(r"\d+ proposals in 0\.\d\d s; ", run("selective_search.py", picture, "out.png"))
    assert Image.open("out.png").size == (96, 96)


def test_evaluate(run: Script, detector: Path, digits: Path) -> None:
    printed = run("evaluate.py", detector, digits, "val")
    assert re.match(r"data/val: AP 0\.\d{3}, AP50 0\.\d{3}, in COCO's way\nmean AP in Pascal VOC's way: ", printed)


def test_benchmark(run: Script, detector: Path, digits: Path) -> None:
    other = detector.with_name("other.safetensors")
    other.write_bytes(detector.read_bytes())
    lines = run("benchmark.py", detector, other, digits / "JPEGImages").splitlines()
    assert len(lines) == 2
    assert all(re.match(r"\d\.\d{4} s a picture, median of 12: ", line) for line in lines)
    seconds = [float(line.split()[0]) for line in lines]
    assert seconds == sorted(seconds)


def test_look_inside(run: Script, detector: Path, picture: Path) -> None:
    assert re.match(
        r"\d scores 0\.\d{3} at its box, and 0\.\d{3} ", run("look_inside.py", detector, picture, "out.png", 32)
    )
    assert Path("out.png").exists()


def test_all_of_them_are_run_and_listed() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert len(scripts) == 11
    assert {f"{name.removeprefix('test_')}.py" for name in globals() if name.startswith("test_")} > scripts
    assert set(re.findall(r"\((\w+\.py)\)", (EXAMPLES / "README.md").read_text())) == scripts
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text()
        assert f": python {path.name} " in text.splitlines()[0], path
        assert len(text.splitlines()) <= 45, path
