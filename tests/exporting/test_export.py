"""Files of other runtimes: equal to their detectors, and used without rcnnkit."""

import copy
import importlib.util
import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import rcnnkit
from rcnnkit.benchmark import run
from rcnnkit.benchmark.measure import contenders
from rcnnkit.benchmark.measure.turns import measure
from rcnnkit.benchmark.options import Options
from rcnnkit.benchmark.results import Memory, read
from rcnnkit.cli import app
from rcnnkit.data.reading import read_data
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import build
from rcnnkit.exporting import export as exporting
from rcnnkit.exporting import proof
from rcnnkit.exporting.agreement import Limits, difference
from rcnnkit.exporting.export import describe, export
from rcnnkit.exporting.proof import Unequal, random_picture
from rcnnkit.exporting.runtimes import Exported
from rcnnkit.exporting.script import script
from rcnnkit.exporting.to_onnx import to_onnx, with_threshold
from rcnnkit.exporting.traced import traced
from rcnnkit.inference import prepare
from rcnnkit.structures import Detections, Proposals
from rcnnkit.weights import save
from tests.exporting.conftest import settings, small

pytestmark = pytest.mark.skipif(
    not (importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxruntime")),
    reason="onnx and onnxruntime are not installed: pip install 'rcnnkit[export]'",
)
LIMITS = Limits(0.05, 0.5, 30)


def pictures(*sizes: tuple[int, int]) -> list[np.ndarray]:
    generator = np.random.default_rng(3)
    return [random_picture(*size, generator) for size in sizes]


def test_a_file_is_proven(exported: tuple[Detector, Path, str]) -> None:
    detector, file, told = exported
    assert sorted(path.name for path in file.parent.iterdir()) == ["detect.py", "small.onnx"]
    assert told.startswith("equal on 14 pictures with ")
    answers = Exported(file)
    for batch in (pictures((150, 200)), pictures((96, 96), (300, 211), (40, 90)), []):
        for wanted, found in zip(detector(batch), answers(batch), strict=True):
            assert len(found) > 0
            assert difference(wanted, found, LIMITS) == ""
            assert (found.class_names, found.category_ids) == (("cat", "dog"), (17, 18))


def test_a_file_says_what_it_is(exported: tuple[Detector, Path, str]) -> None:
    import onnx

    _, file, _ = exported
    model = onnx.load(file)
    assert {node.domain for node in model.graph.node} == {""}
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    (said,) = model.metadata_props
    about = json.loads(said.value)
    assert about["class_names"] == ["cat", "dog"]
    assert about["category_ids"] == [17, 18]
    assert (about["score_threshold"], about["nms_iou"], about["max_detections"]) == (0.05, 0.5, 30)
    assert (about["kind"], about["with_preprocessing"], about["licence"]) == ("faster_rcnn", False, None)
    assert about["input"]["short_side"] == 96
    assert about["inputs"] == ["pixels", "sizes"]
    shapes = {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in model.graph.input
    }
    assert shapes == {"pixels": ["pictures", "height", "width", 3], "sizes": ["pictures", 2]}


def test_detectpy_says_how_it_is_called(exported: tuple[Detector, Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["detect.py", "small.onnx"])
    with pytest.raises(SystemExit, match=r"python detect\.py FILE.onnx PICTURE"):
        runpy.run_path(str(exported[1].with_name("detect.py")), run_name="__main__")


def test_detectpy_needs_neither_rcnnkit_nor_torch(exported: tuple[Detector, Path, str], tmp_path: Path) -> None:
    detector, file, _ = exported
    (picture,) = pictures((150, 200))
    Image.fromarray(picture).save(tmp_path / "a.png")
    code = (
        "import sys, runpy\n"
        "sys.modules |= dict.fromkeys(['rcnnkit', 'torch', 'torchvision', 'cv2', 'onnx'])\n"
        f"sys.argv = ['detect.py', {str(file)!r}, {str(tmp_path / 'a.png')!r}]\n"
        f"runpy.run_path({str(file.parent / 'detect.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert not done.stderr
    lines = [line.split()[1:] for line in done.stdout.splitlines()]
    wanted = [[name, f"{score:.3f}", *(f"{side:.1f}" for side in box)] for name, score, box in detector(picture)]
    assert len(lines) == len(wanted) > 0
    for line, one in zip(lines, wanted, strict=True):
        assert line[0] == one[0]
        assert [float(v) for v in line[1:]] == pytest.approx([float(v) for v in one[1:]], abs=0.11)


def test_the_first_layer_that_differs(
    exported: tuple[Detector, Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    detector, file, _ = exported
    changed: Any = copy.deepcopy(detector)
    with torch.no_grad():
        changed.backbone.output[1][0].weight[3] += 0.5

    def again(threshold: float, inside: bool) -> Exported:
        assert (threshold, inside) == (0.05, True)
        to_onnx(detector, tmp_path / "a.onnx", describe(detector, False), with_preprocessing=False, inside=True)
        return Exported(tmp_path / "a.onnx")

    monkeypatch.setattr(proof, "SIDES", ((96, 130),))
    with pytest.raises(
        Unequal, match=r"differ on a random picture, 130 × 96: .*; they part at the map of stride 8, by"
    ):
        proof.prove(changed, Exported(file), again, None)


@pytest.mark.slow
def test_a_file_that_differs_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def other(detector: Detector, path: Path, about: Any, **options: Any) -> None:
        with torch.no_grad():
            detector.backbone.output[1][0].weight[3] += 0.5
            to_onnx(detector, path, about, **options)
            detector.backbone.output[1][0].weight[3] -= 0.5

    monkeypatch.setitem(exporting.FORMATS, "onnx", exporting.Format(".onnx", other, takes_opset=True))
    monkeypatch.setattr(proof, "SIDES", ((96, 130),))
    with pytest.raises(
        Unequal,
        match=r"bad.onnx and the detector differ on a random picture, 130 × 96: .* alone; they"
        " part at the map of stride 8, by",
    ):
        export(small(), tmp_path / "bad.onnx")
    assert list(tmp_path.iterdir()) == []


def test_fast_rcnn_with_its_resize_and_roi_pooling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = small("fast_rcnn", model={"pool": "roi_pool"}, head={"class_agnostic": True, "max_detections": 0})
    to_onnx(detector, tmp_path / "a.onnx", describe(detector, True), with_preprocessing=True)
    answers = Exported(tmp_path / "a.onnx")
    given = pictures((150, 200), (150, 200), (97, 61))
    regions = [proof._random_regions(picture, np.random.default_rng(i)) for i, picture in enumerate(given)]
    regions[1] = Proposals(regions[1].boxes[:9], regions[1].scores[:9])
    one_by_one = [detector(picture, boxes) for picture, boxes in zip(given, regions, strict=True)]
    for size in (1, 2, 3):  # in which the last is of another size, so that each goes alone
        for wanted, found in zip(one_by_one[:size], answers(given[:size], regions[:size]), strict=True):
            assert len(found) > 9
            assert difference(wanted, found, Limits(0.05, 0.5, 0)) == ""
    with pytest.raises(ValueError, match=r"a.onnx also needs the proposals of each picture; pass them"):
        answers(given)
    np.save(tmp_path / "a.npy", regions[0].boxes.numpy())
    lines = printed(script("onnx", ".onnx", answers.about), tmp_path / "a.onnx", given[0], monkeypatch, capsys)
    for line, (name, score, box) in zip(lines, one_by_one[0], strict=True):
        assert line[0] == name
        assert [float(value) for value in line[1:]] == pytest.approx([score, *box], abs=0.11)


def printed(
    text: str, file: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[list[str]]:
    """The lines of a script without the picture's name."""
    (file.parent / "detect.py").write_text(text)
    Image.fromarray(picture).save(file.with_name("a.png"))
    monkeypatch.setattr(sys, "argv", ["detect.py", str(file), str(file.with_name("a.png"))])
    capsys.readouterr()
    runpy.run_path(str(file.parent / "detect.py"), run_name="__main__")
    return [line.split()[1:] for line in capsys.readouterr().out.splitlines()]


def test_the_windows_of_rcnn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = small("rcnn", model={"backbone": "alexnet", "norm": "none"}, rcnn={"size": 67})
    with torch.no_grad():
        for buffer in detector.buffers():
            if buffer.is_floating_point() and not buffer.any():
                buffer.normal_(std=0.05)
    assert str(export(detector, tmp_path / "a.onnx")) == "equal on 42 pictures with 0 detections"
    answers, (window,) = Exported(tmp_path / "a.onnx"), pictures((67, 67))
    lines = printed((tmp_path / "detect.py").read_text(), tmp_path / "a.onnx", window, monkeypatch, capsys)
    scores = answers.run({"windows": window[None]})["scores"][0]
    assert lines == [["cat", f"{scores[0]:.3f}"], ["dog", f"{scores[1]:.3f}"]]
    with pytest.raises(ValueError, match="only the window classifier of an R-CNN is exported"):
        traced(detector, None, True)  # type: ignore[arg-type]  # an R-CNN


def test_other_thresholds(exported: tuple[Detector, Path, str], tmp_path: Path) -> None:
    _, file, _ = exported
    for threshold, count in ((1.0, 0), (-1.0, 30)):
        with_threshold(file, tmp_path / "a.onnx", threshold)
        (found,) = Exported(tmp_path / "a.onnx")(pictures((150, 200)))
        assert len(found) == count


def test_bad_input(exported: tuple[Detector, Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector, file, _ = exported
    answers = Exported(file)
    with pytest.raises(ValueError, match=r"takes pictures \(H, W, 3\) uint8 RGB, not float32 of shape \(9, 9, 3\)"):
        answers([np.zeros((9, 9, 3), np.float32)])
    with pytest.raises(ValueError, match=r"small.onnx makes its own proposals; leave yours out"):
        answers(pictures((30, 40)), [Proposals(torch.zeros(0, 4), torch.zeros(0))])
    with pytest.raises(ValueError, match=r"onnxruntime cannot run small.onnx with pixels \(1, 9, 9, 3\): "):
        answers.run({"pixels": np.zeros((1, 9, 9, 3), np.uint8)})
    with pytest.raises(FileExistsError, match=r"small.onnx is there already"):
        export(detector, file)
    with pytest.raises(ValueError, match=r"a.pt must end with .onnx"):
        export(detector, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="opset 11 is not one of 18 to 20"):
        export(detector, tmp_path / "a.onnx", opset=11)
    with pytest.raises(ValueError, match="opset 19 is for ONNX, and torch has none; leave it out"):
        export(detector, tmp_path / "a.pt2", "torch", opset=19)
    with pytest.raises(ValueError, match="format 'tflite' is not one of onnx, openvino, torch, aoti"):
        export(detector, tmp_path / "a.onnx", "tflite")
    with pytest.raises(ValueError, match=r"only detects cannot be exported; .* for_training=True"):
        export(prepare(detector, "float32"), tmp_path / "a.onnx")
    for name in ("detect.py", "detect_a_onnx.py"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=r"detect.py and .*detect_a_onnx.py are there already, and are of other"):
        export(detector, tmp_path / "a.onnx")
    for name in ("detect.py", "detect_a_onnx.py"):
        (tmp_path / name).unlink()
    scales = small("fast_rcnn", input={"scales": (64, 96)})
    with pytest.raises(ValueError, match=r"input.scales: a detector that looks at several scales cannot be exported"):
        export(scales, tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=r"resizes pixels that are normalised already.*; add --with-preprocessing"):
        export(small(input={"resizing": "torchvision"}), tmp_path / "a.onnx")
    monkeypatch.setattr("rcnnkit.exporting.runtimes.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r".onnx files need onnxruntime, which is not installed: pip install 'rcnnkit\[e"
    ):
        export(detector, tmp_path / "a.onnx")
    (tmp_path / "b.onnx").write_bytes(b"none")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"b.onnx cannot be opened as an exported file"):
        Exported(tmp_path / "b.onnx")
    with pytest.raises(FileNotFoundError, match=r"c.onnx: no such exported file"):
        Exported(tmp_path / "c.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.onnx"]


def test_a_program_says_how_small_pictures_may_be(
    exported: tuple[Detector, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(feed: Any) -> Any:
        raise RuntimeError("a guard failed")

    answers = Exported(exported[1])
    monkeypatch.setattr(answers, "_run", fail)
    answers.path = Path("a.pt2")
    with pytest.raises(ValueError, match=r"guard failed; .* more than 64 pixels a side alone, and .onnx files any$"):
        answers.run({"pixels": np.zeros((1, 64, 90, 3), np.uint8)})
    with pytest.raises(ValueError, match=r"guard failed$"):
        answers.run({"pixels": np.zeros((1, 65, 90, 3), np.uint8)})


@pytest.mark.slow  # torch.export and a C++ compiler
@pytest.mark.parametrize("format", ["openvino", "torch", "aoti"])
def test_other_formats(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if format == "openvino":
        pytest.importorskip("openvino")
    file = tmp_path / f"a{exporting.FORMATS[format].suffix}"
    sections: dict[str, Any] = {"input": {"long_side": 240}}  # torch's files take no side of 64 pixels or fewer
    number = 16
    if format == "aoti":  # a compiler takes long: one map, and no case that the file is compiled once more for
        sections |= {"model": {"neck": "none"}, "rpn": {"anchor_sizes": [[16, 64]]}}
        cases, number = proof._cases, 13

        def once(*arguments: Any) -> list[proof.Case]:
            return [case for case in cases(*arguments) if case.threshold is None and "one colour" not in case.name]

        monkeypatch.setattr(proof, "_cases", once)
    detector = small(**sections)
    told = export(detector, file, format)
    assert str(told).startswith(f"equal on {number} pictures with ")
    (picture,) = pictures((150, 200))
    Image.fromarray(picture).save(tmp_path / "a.png")
    code = (
        "import sys, runpy\n"
        "sys.modules |= dict.fromkeys(['rcnnkit', 'cv2', 'onnx'])\n"
        f"sys.argv = ['detect.py', {str(file)!r}, {str(tmp_path / 'a.png')!r}]\n"
        f"runpy.run_path({str(tmp_path / 'detect.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert len(done.stdout.splitlines()) == len(detector(picture)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["faster_rcnn", "fast_rcnn"])
def test_openvino_resizes_as_the_detector(tmp_path: Path, kind: str) -> None:
    """It has neither float64 nor whole numbers of 64 bits."""
    pytest.importorskip("openvino")
    told = export(small(kind), tmp_path / "a.xml", "openvino", with_preprocessing=True)
    assert str(told).startswith("equal on 16 pictures with ")
    (tmp_path / "detect.py").write_text("of another file")
    other = export(small(kind), tmp_path / "b.xml", "openvino", with_preprocessing=True)
    assert other.script == tmp_path / "detect_b_openvino.py"


def test_it_takes_turns_with_detectors(exported: tuple[Detector, Path, str], digits: Path, tmp_path: Path) -> None:
    _, file, _ = exported
    (contender,) = contenders.exported([file.parent], ["cat", "dog"], 1)
    assert (contender.name, contender.title) == ("small.onnx", "small.onnx (onnxruntime, float32)")
    records = read_data(digits, "val").records[:2]
    measure(contender, records, "cpu")  # the first call pays for what later ones find
    turn = measure(contender, records, "cpu")
    assert turn.step.pictures == len(turn.detections) == 2
    assert turn.step.stages.keys() == {"decode", "resize", "runtime", "drawing", "other"}
    assert turn.step.stages["runtime"] > 0.2 * turn.step.whole
    with pytest.raises(ValueError, match=r"small.onnx knows cat, dog, and the detectors cat; export one of"):
        contenders.exported([file], ["cat"], 1)
    with pytest.raises(ValueError, match=r"another file is called small.onnx, too; rename one of them"):
        contenders.exported([file, file], ["cat", "dog"], 1)
    with pytest.raises(FileNotFoundError, match=r"the folder holds no .onnx, .xml, .pt2 file"):
        contenders.exported([tmp_path], ["cat", "dog"], 1)


def test_a_benchmark_says_which_files_are_int8(
    exported: tuple[Detector, Path, str], in_int8: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, exact, _ = exported
    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate(pictures(*[(64, 70)] * 10)):  # the least that a benchmark takes
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{number}.png")
    save(detector, settings(), tmp_path / "a.safetensors")
    monkeypatch.setattr(run, "peaks", lambda *arguments: Memory(None, None))
    options = Options(data=tmp_path / "pictures", weights=(tmp_path / "a.safetensors",), device="cpu", threads=1)
    options = replace(options, also=(exact, in_int8[0].parent))  # a file, and a folder
    page = run.run_benchmark(options, tmp_path / "out", Console(quiet=True)).read_text()
    report, results = (tmp_path / "out" / "report.md").read_text(), read(tmp_path / "out").contenders
    titles = ["small.onnx (onnxruntime, float32)", "small_int8.onnx (onnxruntime, int8)"]
    titles += ["small_int8.xml (openvino, int8)"] * (len(in_int8) > 1)
    files = [results[path.name] for path in (exact, *in_int8)]
    assert [file.title for file in files] == titles
    for file in files:
        assert len(file.steps) == 10
        assert file.summary is not None
        assert file.summary.stages.keys() == {"decode", "resize", "runtime", "drawing", "other"}
        assert file.summary.stages["runtime"].share > 0.1
    by_stage = report.partition("## Stage by stage: median")[2].splitlines()[2]
    for title in titles:
        assert title in by_stage
        assert page.count(f"<span>{title}</span>") == 2  # the two kinds of bars
    for text in (report, page):
        assert "Exported files: the stage “runtime” is the file in its runtime" in text


@pytest.mark.slow  # three exports
def test_the_command(tmp_path: Path, bccd: Path) -> None:
    made_from = settings(input={"short_side": 96, "long_side": 160})
    names = ["RBC", "WBC", "Platelets"]
    save(build(made_from, names).eval(), made_from, tmp_path / "a.safetensors")
    arguments = ["export", str(tmp_path / "a.safetensors"), "--out", str(tmp_path / "a.onnx"), "--with-preprocessing"]
    result = CliRunner().invoke(app, [*arguments, "--verify", str(bccd)])
    assert result.exit_code == 0, result.output
    told = " ".join(result.output.split())
    assert "equal on 32 pictures with" in told
    assert "; AP 0." in told


def test_calibration_is_for_int8() -> None:
    words = ["export", "w.safetensors", "--out", "a.onnx", "--calibrate", "pictures"]
    result = CliRunner().invoke(app, words)
    assert str(result.exception) == "--calibrate pictures is for --precision int8; leave it out"


def test_it_is_a_name_of_rcnnkit() -> None:
    assert rcnnkit.export is export
    assert Detections is rcnnkit.Detections
