import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

import rcnnkit
from rcnnkit import demo


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two iterations of each detector on six pictures, evaluated on eight."""
    settings_for = demo.settings_for

    def shortened(*arguments: Any) -> dict[str, Any]:
        settings = settings_for(*arguments)
        return settings | {"train": settings["train"] | {"iterations": 2, "log_every": 1}}

    monkeypatch.setattr(demo, "settings_for", shortened)
    monkeypatch.setattr(demo, "TRAINING_PICTURES", 6)
    monkeypatch.setattr(demo, "VALIDATION_PICTURES", 8)


@pytest.mark.usefixtures("short")
def test_the_demo_in_miniature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_for = demo.settings_for

    def smaller(*arguments: Any) -> dict[str, Any]:  # than the demo's own network, which one detector alone has below
        settings = settings_for(*arguments)
        model = {name: value for name, value in settings["model"].items() if name != "norm"}
        return settings | {"model": model | {"backbone": "timm/test_resnet"}}

    monkeypatch.setattr(demo, "settings_for", smaller)
    out = tmp_path / "demo"
    ap50 = demo.run_demo(out, "cpu", Console(width=100))
    assert list(ap50) == ["rcnn", "fast-rcnn", "faster-rcnn"]
    printed = capsys.readouterr().out
    assert "VOC 11-point" in printed
    for name, title in demo.DETECTORS.items():
        evaluation = json.loads((out / name / "evaluation.json").read_text())
        assert evaluation["pictures"] == 8
        assert evaluation["coco"]["AP50"] == ap50[name]
        assert f"│ {title} " in printed
    drawn = sorted((out / "detections").iterdir())
    assert len(drawn) == demo.SHOWN
    assert Image.open(drawn[0]).size == (160, 160)
    # the three lines that it prints are Python, and work
    lines = [line.strip() for line in printed.splitlines() if line.startswith("  ")][-3:]
    assert lines[0] == "import rcnnkit"
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    assert isinstance(names["detector"], rcnnkit.RCNN | rcnnkit.FastRCNN | rcnnkit.FasterRCNN)
    with pytest.raises(FileExistsError, match="not an empty folder"):
        demo.run_demo(out, "cpu", Console(quiet=True))


@pytest.mark.usefixtures("short")
def test_one_detector_alone(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    assert list(demo.run_demo(out, "cpu", Console(quiet=True), "faster-rcnn")) == ["faster-rcnn"]
    assert not (out / "rcnn").exists()
    assert "init = " not in (out / "faster-rcnn" / "settings.toml").read_text()
    with pytest.raises(ValueError, match="--only fastest-rcnn is not one of rcnn, fast-rcnn, faster-rcnn"):
        demo.run_demo(tmp_path / "other", "cpu", Console(quiet=True), "fastest-rcnn")


@pytest.mark.parametrize(
    ("measured", "used"),
    [
        ({"rcnn": (0.95, 1.4), "fast-rcnn": (0.87, 0.3), "faster-rcnn": (0.941, 0.1)}, "faster-rcnn"),
        ({"rcnn": (0.95, 1.4), "fast-rcnn": (0.945, 0.3), "faster-rcnn": (0.939, 0.1)}, "fast-rcnn"),
        ({"rcnn": (0.95, 1.4)}, "rcnn"),
    ],
)
def test_the_fastest_of_the_good_ones_is_used(measured: dict[str, tuple[float, float]], used: str) -> None:
    def outcome(ap50: float, seconds: float) -> Any:
        coco = SimpleNamespace(numbers={"AP50": ap50})
        return SimpleNamespace(evaluation=SimpleNamespace(coco=coco, seconds_per_image=seconds))

    assert demo.fastest({name: outcome(*numbers) for name, numbers in measured.items()}) == used


@pytest.mark.slow
def test_the_demo_learns(tmp_path: Path) -> None:
    ap50 = demo.run_demo(tmp_path / "demo", "auto", Console(quiet=True))
    assert ap50["rcnn"] >= 0.6
    assert ap50["fast-rcnn"] >= 0.75
    assert ap50["faster-rcnn"] >= 0.8


def test_a_page_of_a_finished_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from rcnnkit.cli.demo import demo as command
    from rcnnkit.serving import server

    served: list[tuple[Any, ...]] = []

    def run_server(*arguments: Any) -> None:
        served.append(arguments[:-1])
        arguments[-1]()

    def run_demo(out: Path, *_: Any) -> None:
        for name in ("data", "detections", "rcnn", "faster-rcnn"):
            (out / name).mkdir(parents=True)
        for name in ("rcnn", "faster-rcnn"):
            (out / name / "best.safetensors").touch()

    monkeypatch.setattr(server, "run_server", run_server)
    monkeypatch.setattr(demo, "run_demo", run_demo)
    monkeypatch.chdir(tmp_path)
    command(ui=True, device="cpu")
    monkeypatch.setattr(demo, "run_demo", None)  # not again
    command(ui=True, device="cpu", port=8001)
    command(out=Path("rcnnkit-demo"), only="rcnn", ui=True, device="cpu")
    best = [Path("rcnnkit-demo") / name / "best.safetensors" for name in ("faster-rcnn", "faster-rcnn", "rcnn")]
    assert [(one[0].weights, *one[1:]) for one in served] == [
        (best[0], "127.0.0.1", 8000, 1),
        (best[1], "127.0.0.1", 8001, 1),
        (best[2], "127.0.0.1", 8000, 1),
    ]
    shown = "open http://127.0.0.1:8000 and drop a picture of rcnnkit-demo/data/JPEGImages there; Ctrl-C ends it"
    assert shown in capsys.readouterr().out
    assert demo.finished(tmp_path / "rcnnkit-demo", "fast-rcnn") is None
    monkeypatch.setattr(server, "LIBRARIES", {"no_such_module": "no-such-module"})
    with pytest.raises(ValueError, match=r"pip install 'rcnnkit\[serve\]'"):
        command(ui=True)
