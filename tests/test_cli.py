import errno
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tomli_w
from PIL import Image

from rcnnkit import weights
from rcnnkit.cli import free_folder, main
from rcnnkit.detectors.build import build
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.structures import Detections, ImageBatch

CONFIGS = Path(__file__).parents[1] / "configs"
Values = dict[str, dict[str, Any]]


def rcnnkit(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of the command."""
    monkeypatch.setattr(sys, "argv", ["rcnnkit", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def untrained(tiny: Values, tmp_path: Path) -> Path:
    """Weights that detect something, if nothing sensible."""
    values = {name: tiny[name] for name in ("model", "rpn", "input")}
    values["head"] = tiny["head"] | {"score_threshold": 0.01}
    settings = DetectorSettings.model_validate(values)
    path = tmp_path / "untrained.safetensors"
    weights.save(build(settings, ["0", "2", "3", "4", "6", "7"]).eval(), settings, path)
    return path


def test_train_evaluate_detect(
    tiny: Values, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(tomli_w.dumps(tiny))
    monkeypatch.chdir(tmp_path)
    assert rcnnkit(monkeypatch, "train", config, "train.iterations=2", "head.score_threshold=0.01") == 0
    out = capsys.readouterr().out
    assert "learning rate 0.0025 (0.02 stated for 16)" in out
    assert "wrote runs/tiny/best.safetensors" in out
    assert rcnnkit(monkeypatch, "train", config, "train.iterations=1") == 0  # the next run, beside it
    assert Path("runs/tiny-2/best.safetensors").exists()
    resume = ("train", "runs/tiny/settings.toml", "train.resume=runs/tiny", "train.iterations=3")
    assert rcnnkit(monkeypatch, *resume) == 0
    assert weights.read("runs/tiny/last.safetensors")[0]["training"]["iteration"] == 3
    capsys.readouterr()

    best = Path("runs/tiny/best.safetensors")
    assert rcnnkit(monkeypatch, "evaluate", best, digits, "--split", "val", "--json", "voc.json") == 0
    assert "VOC 11-point" in capsys.readouterr().out
    annotations = digits / "annotations" / "instances_val.json"
    assert rcnnkit(monkeypatch, "evaluate", best, annotations, "--json", "coco.json") == 0
    voc, coco = (json.loads(Path(f"{name}.json").read_text()) for name in ("voc", "coco"))
    assert voc["coco"] == coco["coco"]  # the same pictures in two formats
    assert voc["pictures"] == 4

    assert rcnnkit(monkeypatch, "detect", best, digits / "JPEGImages", "--out", "found", "--min-score", "0.01") == 0
    results = json.loads(Path("found/detections.json").read_text())
    assert results
    assert results[0].keys() == {"image_id", "category_id", "bbox", "score"}
    assert {Path(r["image_id"]).name for r in results} <= {p.name for p in (digits / "JPEGImages").iterdir()}
    first = digits / "JPEGImages" / "000001.jpg"
    drawn = np.asarray(Image.open("found/000001.jpg"), dtype=int)
    plain = np.asarray(Image.open(first), dtype=int)
    assert drawn.shape == plain.shape
    assert (np.abs(drawn - plain).max(axis=2) > 60).any()  # something was drawn


def test_crop_of_roboflows_files(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They have one name in every split's folder, which is what tells them apart."""
    for split, ours in (("train", "train"), ("valid", "val")):
        (tmp_path / split).mkdir()
        content = (digits / f"annotations/instances_{ours}.json").read_text()
        (tmp_path / split / "_annotations.coco.json").write_text(content)
    pictures = ("--images", digits / "JPEGImages")
    assert (
        rcnnkit(monkeypatch, "crop", tmp_path / "train/_annotations.coco.json", *pictures, "--out", tmp_path / "o") == 0
    )
    monkeypatch.chdir(tmp_path / "valid")
    assert rcnnkit(monkeypatch, "crop", "_annotations.coco.json", *pictures, "--out", tmp_path / "o") == 0
    split = ("--split", "valid/_annotations.coco.json", "--out", tmp_path / "below")
    assert rcnnkit(monkeypatch, "crop", tmp_path, *pictures, *split) == 0
    folders = [line.rpartition(" ")[2] for line in capsys.readouterr().out.splitlines()]
    assert folders == [str(tmp_path / name) for name in ("o/train", "o/valid", "below/valid")]


def test_a_split_beside_a_file_is_refused(
    digits: Path, untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = digits / "annotations/instances_val.json"
    out = ("--out", tmp_path / "o")
    for command in (
        ("evaluate", untrained, file),
        ("crop", file, *out),
        ("svms", untrained, file, "--proposals", tmp_path, *out),
        ("benchmark", "--weights", untrained, "--images", file, *out),
        ("proposals", "compute", file, *out),
        ("proposals", "evaluate", file, "--proposals", tmp_path),
    ):
        assert rcnnkit(monkeypatch, *command, "--split", "val") == 1
        assert capsys.readouterr().err.endswith(
            f"--split val is for a VOC folder, and {file} is a file that is read whole; leave it out\n"
        )
    assert not (tmp_path / "o").exists()


def test_detect_goes_on_after_a_bad_picture(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    grey = np.full((50, 70), 128, np.uint8)
    cv2.imwrite(str(tmp_path / "a" / "same.png"), grey)
    cv2.imwrite(str(tmp_path / "b" / "same.png"), np.dstack([grey] * 4))
    (tmp_path / "cut.jpg").write_bytes(
        cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (90, 90, 3)))[1][:900]
    )
    files = [tmp_path / "a" / "same.png", tmp_path / "cut.jpg", tmp_path / "none.jpg", tmp_path / "b" / "same.png"]
    out = tmp_path / "out"
    assert rcnnkit(monkeypatch, "detect", untrained, *files, "--out", out) == 1
    captured = capsys.readouterr()
    assert "cut.jpg cannot be decoded" in captured.err
    assert "none.jpg: no such picture" in captured.err
    assert {p.name for p in out.iterdir()} == {"same.jpg", "same-2.jpg", "detections.json"}
    # nothing is overwritten
    before = (out / "detections.json").read_bytes()
    assert rcnnkit(monkeypatch, "detect", untrained, files[0], "--out", out) == 1
    assert "is there already" in capsys.readouterr().err
    assert (out / "detections.json").read_bytes() == before


def test_detect_looks_into_sub_folders_and_says_what_it_left_out(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    files = ("a.jfif", "b.ppm", "mon/a.avif", "tue/a.png", "tue/a.webp")
    for name in (*files, "notes.txt", "tue/list.csv"):
        Path("in", name).parent.mkdir(parents=True, exist_ok=True)
        if Path(name).suffix in (".txt", ".csv"):
            Path("in", name).write_text("none")
        else:
            Image.new("RGB", (70, 50), (90, 90, 90)).save(Path("in", name))
    assert rcnnkit(monkeypatch, "detect", untrained, "in", "--out", "in/found", "--min-score", "0.01") == 0
    captured = capsys.readouterr()
    assert "WARNING in: 5 pictures taken, 2 other things left out: 1 .csv, 1 .txt\n" in captured.err
    assert "wrote 5 pictures" in captured.out
    drawn = sorted(path.relative_to("in/found").as_posix() for path in Path("in/found").rglob("*.jpg"))
    assert drawn == ["a.jpg", "b.jpg", "mon/a.jpg", "tue/a-2.jpg", "tue/a.jpg"]
    results = json.loads(Path("in/found/detections.json").read_text())
    assert {result["image_id"] for result in results} <= {f"in/{name}" for name in files}
    # what was drawn is not looked at in its turn
    assert rcnnkit(monkeypatch, "detect", untrained, "in", "--out", "in/found") == 1
    assert "in/found/a.jpg is there already" in capsys.readouterr().err


def test_crop_then_train_and_evaluate_a_classifier(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "annotations/instances_val.json"):
        assert rcnnkit(monkeypatch, "crop", digits, "--split", split, "--out", "cut", "--context", "0.1") == 0
    said = capsys.readouterr().out.split("wrote ")
    assert said[1].endswith("in cut/train\n")
    assert said[2].endswith("in cut/instances_val\n")
    assert rcnnkit(monkeypatch, "crop", digits, "--out", "cut") == 1
    assert "cut/train is not an empty folder" in capsys.readouterr().err
    config = CONFIGS / "classifier_resnet18_bccd.toml"
    changed = [
        "data.root=cut",
        "data.val=instances_val",
        "data.workers=0",
        "classifier.resize=36",
        "classifier.crop=32",
    ]
    options = ["train.iterations=2", "train.batch=4", "train.device=cpu"]
    assert rcnnkit(monkeypatch, "train", config, *changed, *options, "--out", "run") == 0
    assert "cut/instances_val: top1 0." in (shown := capsys.readouterr().out)
    assert "wrote run/best.safetensors" in shown
    best = ("evaluate", "run/best.safetensors", "cut", "--split", "instances_val")
    assert rcnnkit(monkeypatch, *best, "--json", "accuracy.json") == 0
    assert "mean of classes" in capsys.readouterr().out
    numbers = json.loads(Path("accuracy.json").read_text())
    assert numbers["pictures"] == sum(each["pictures"] for each in numbers["classes"])
    assert rcnnkit(monkeypatch, *best, "--images", "cut") == 1
    assert (
        "holds a classifier, which looks at whole pictures in class folders; leave --images" in capsys.readouterr().err
    )
    assert rcnnkit(monkeypatch, *best[:3], "--split", "test") == 1
    assert "the folders in cut are: instances_val, train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "none.toml"], "none.toml: no such settings file"),
        (["train", "tiny.toml", "rpn.nms_iuo=0.5"], "rpn.nms_iuo is not a setting; did you mean rpn.nms_iou?"),
        (["train", "tiny.toml", "train.lr=fast"], "train.lr = 'fast': "),
        (["train", "tiny.toml", "data.root=nowhere"], "nowhere does not exist"),
        (["train", "tiny.toml", "data.train=some"], "some.txt"),
        (["train", "tiny.toml", "train.device=tpu"], 'device "tpu" cannot be used'),
        (["train", "tiny.toml", "--out", "full"], "full is not an empty folder; choose another"),
        (["evaluate", "none.safetensors", "."], "none.safetensors: no such weights file"),
        (["evaluate", "half.safetensors", "."], "not a whole .safetensors file"),
        (["detect", "untrained.safetensors", "empty", "--out", "out"], "empty holds no pictures"),
        (["detect", "untrained.safetensors", "x.jpg", "--out", "out", "--precision", "int8"], "not one of auto"),
        (["evaluate", "untrained.safetensors", ".", "--json", "full/notes.txt"], "notes.txt is there already; choose"),
        (["evaluate", "untrained.safetensors", ".", "--json", "full"], "full is there already; choose another file"),
        (
            ["detect", "untrained.safetensors", "x.jpg", "--out", "tiny.toml"],
            "tiny.toml is a file; choose a folder",
        ),
        (["detect", "untrained.safetensors", "x.jpg", "--out", "out"], "x.jpg: no such picture"),
        (
            ["compress", "untrained.safetensors", "--rank", "fc6=4", "--out", "w.pth"],
            "w.pth must end with .safeten",
        ),
        (["demo", "--out", "out", "--device", "cuda:99"], 'device "cuda:99" cannot be used'),
        (["compress", "w", "--rank", "fc6=8", "--rank", "fc6=4", "--out", "out"], "fc6 is given twice: 8 and 4; which"),
        (["demo", "--out", "full"], "full is not empty"),
    ],
)
def test_errors_are_one_message_with_the_fix(
    tiny: Values,
    untrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(tomli_w.dumps(tiny))
    Path("half.safetensors").write_bytes(untrained.read_bytes()[:1000])
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    assert rcnnkit(monkeypatch, *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert "Traceback" not in error
    assert Path("full/notes.txt").read_text() == "mine"
    assert not Path("out").exists()  # a corrected call is not refused for what this one left


def test_a_class_that_the_weights_do_not_know(
    tiny: Values, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = DetectorSettings.model_validate({name: tiny[name] for name in ("model", "rpn", "head", "input")})
    weights.save(build(settings, ["0", "2", "3", "4", "6"]), settings, tmp_path / "w.safetensors")
    assert rcnnkit(monkeypatch, "evaluate", tmp_path / "w.safetensors", digits, "--split", "val") == 1
    assert "7" in (error := capsys.readouterr().err)
    assert "0, 2, 3, 4, 6" in error


def test_scores_that_are_none_are_refused(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert rcnnkit(monkeypatch, "detect", untrained, "x.jpg", "--out", out, "--min-score", "nan") == 2
    assert "nan is not a finite number" in capsys.readouterr().err


def test_messages_in_a_pipe_are_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """So that long paths in them can be searched for and copied."""
    words = "a path " * 40 + "with [brackets]"
    monkeypatch.setattr("rcnnkit.cli.app", lambda: logging.getLogger("rcnnkit").warning(words))
    main()
    assert f"WARNING {words}\n" in capsys.readouterr().err
    assert not logging.getLogger("rcnnkit").handlers  # of somebody who calls it in a process of his own


def test_free_folder(tmp_path: Path) -> None:
    assert free_folder(tmp_path / "run") == tmp_path / "run"
    (tmp_path / "run").mkdir()
    assert free_folder(tmp_path / "run") == tmp_path / "run"  # empty: nothing to lose
    (tmp_path / "run" / "x").touch()
    (tmp_path / "run-2").touch()
    assert free_folder(tmp_path / "run") == tmp_path / "run-3"


def test_help_in_a_process_of_its_own() -> None:
    shown = subprocess.run([sys.executable, "-m", "rcnnkit", "--help"], capture_output=True, text=True, check=True)
    for command in ("train", "evaluate", "detect", "crop", "demo"):
        assert command in shown.stdout


STRANGE = "a\x1b[2J\n\u202eb"  # clears the screen, begins a line, turns what follows round
STRANGE_SEEN = r"a\x1b[2J\n\u202eb"


def stdout_in(monkeypatch: pytest.MonkeyPatch, encoding: str) -> io.BytesIO:
    """What the command prints, on a terminal of that encoding."""
    file = io.TextIOWrapper(io.BytesIO(), encoding, errors="strict", write_through=True)
    monkeypatch.setattr(sys, "stdout", file)
    return file.buffer


def test_a_picture_wider_than_jpeg_is_drawn_as_png(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, width in (("a", 64), ("b", 65_501), ("c", 64)):
        Image.new("RGB", (width, 8), "red").save(f"{name}.png")
    assert rcnnkit(monkeypatch, "detect", untrained, "a.png", "b.png", "c.png", "--out", "o", "--batch", "3") == 0
    assert {path.name for path in Path("o").iterdir()} == {"a.jpg", "b.png", "c.jpg", "detections.json"}
    assert Image.open("o/b.png").size == (65_501, 8)
    assert "b.png: nothing that scores 0.5; drawn in o/b.png\n" in capsys.readouterr().out


def test_a_picture_that_cannot_be_written_stands_alone(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, width in (("a", 64), ("b", 65_501), ("c", 64)):
        Image.new("RGB", (width, 8), "red").save(f"{name}.png")
    Path("o").mkdir()
    Path("o/b.png").write_text("mine")
    assert rcnnkit(monkeypatch, "detect", untrained, "a.png", "b.png", "c.png", "--out", "o", "--min-score", "0") == 1
    shown = capsys.readouterr()
    assert shown.err == (
        "error: b.png: the picture with its boxes cannot be written (o/b.png is there already; choose another file,"
        " nothing is overwritten); what was found is in o/detections.json\n"
    )
    assert Path("o/b.png").read_text() == "mine"
    assert {path.name for path in Path("o").iterdir()} == {"a.jpg", "b.png", "c.jpg", "detections.json"}
    results = json.loads(Path("o/detections.json").read_text())
    assert f"wrote 2 pictures and {len(results)} detections in o/detections.json\n" in shown.out


def test_a_full_disk_stops_detection(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next picture would fail as well; and what was found is written."""
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Image.new("RGB", (64, 64), "red").save(f"{name}.png")

    def save(*_: object) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", "o/a.jpg")

    monkeypatch.setattr("rcnnkit.detecting.save_picture", save)
    assert rcnnkit(monkeypatch, "detect", untrained, "a.png", "b.png", "--out", "o") == 1
    assert capsys.readouterr().err == "error: o/a.jpg: no space left on device\n"
    assert Path("o/detections.json").exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("[enforce fail] not enough memory\nmore"), "[enforce fail] not enough memory"),
    ],
)
def test_a_picture_that_cannot_be_searched_stands_alone(
    untrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, width in (("a", 64), ("b", 77), ("c", 64)):
        Image.new("RGB", (width, 48), "red").save(f"{name}.png")
    detect = FasterRCNN.detect

    def fails(self: FasterRCNN, images: ImageBatch) -> list[Detections]:
        if (48, 77) in images.original_sizes:
            raise error
        return detect(self, images)

    monkeypatch.setattr(FasterRCNN, "detect", fails)
    assert rcnnkit(monkeypatch, "detect", untrained, "a.png", "b.png", "c.png", "--out", "o") == 1
    said = capsys.readouterr()
    assert said.err == f"error: b.png: the search failed ({reason}); a smaller picture takes less memory\n"
    assert {path.name for path in Path("o").iterdir()} == {"a.jpg", "c.jpg", "detections.json"}


def test_names_of_files_may_be_any_bytes(untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [b"a.png", b"caf\xe9.png", b"x\x1b[2J\nwrote it.png", b"z.png"]
    for name in names:
        Image.new("RGB", (64, 48), "red").save(os.fsdecode(name), "png")
    printed = stdout_in(monkeypatch, "utf-8")
    files = [os.fsdecode(name) for name in names]
    assert rcnnkit(monkeypatch, "detect", untrained, *files, "--out", "o", "--min-score", "0") == 0
    shown = printed.getvalue().decode()
    assert "caf\\xe9.png: " in shown
    assert "x\\x1b[2J\\nwrote it.png: " in shown
    assert len(shown.splitlines()) == 5
    assert {path.suffix for path in Path("o").iterdir()} == {".jpg", ".json"}
    assert len(list(Path("o").iterdir())) == 5
    found = {os.fsencode(each["image_id"]) for each in json.loads(Path("o/detections.json").read_text())}
    assert found == set(names)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_numbers_are_written_and_printed_on_any_terminal(
    tiny: Values, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    content = json.loads((digits / "annotations" / "instances_val.json").read_text())
    names = ["Löwe", "кот", STRANGE, "4", "6", "7"][: len(content["categories"])]
    file = strange_weights(tiny, tmp_path, names)
    for category, name in zip(content["categories"], names, strict=True):
        category["name"] = name
    (tmp_path / "val.json").write_text(json.dumps(content))
    printed = stdout_in(monkeypatch, encoding)
    arguments = ("evaluate", file, tmp_path / "val.json", "--images", digits)
    assert rcnnkit(monkeypatch, *arguments, "--json", tmp_path / "e.json") == 0
    numbers = json.loads((tmp_path / "e.json").read_text())
    assert [each["name"] for each in numbers["classes"]] == names
    shown = printed.getvalue().decode(encoding)
    assert "≤ 100" in shown if encoding == "utf-8" else "<= 100" in shown
    assert STRANGE_SEEN in shown
    assert not set(shown) & {"\x1b", "\u202e"}
    assert ("Löwe" in shown) == (encoding != "ascii")


def test_numbers_that_cannot_be_written_are_printed(
    untrained: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    file = tmp_path / "e.json"
    assert rcnnkit(monkeypatch, "evaluate", untrained, digits, "--split", "val", "--json", file) == 1
    said = capsys.readouterr()
    assert "VOC 11-point" in said.out
    assert f"{file} cannot be written (No space left on device)" in said.err
    assert not list(tmp_path.glob(".*"))


def strange_weights(tiny: Values, folder: Path, names: list[str]) -> Path:
    settings = DetectorSettings.model_validate({name: tiny[name] for name in ("model", "rpn", "head", "input")})
    weights.save(build(settings, names).eval(), settings, folder / "w.safetensors")
    return folder / "w.safetensors"


def test_names_of_classes_are_only_text(
    tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = strange_weights(tiny, tmp_path, [STRANGE, "b\x7f"])
    assert rcnnkit(monkeypatch, "info", file) == 0
    assert f"classes   2: {STRANGE_SEEN}, b\\x7f\n" in capsys.readouterr().out
    assert rcnnkit(monkeypatch, "info", file, "--json") == 0
    shown = capsys.readouterr().out
    assert json.loads(shown)["classes"] == [{"id": 1, "name": STRANGE}, {"id": 2, "name": "b\x7f"}]
    assert not {letter for letter in shown if not " " <= letter < "\x7f"} - {"\n"}


def test_an_error_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert rcnnkit(monkeypatch, "info", "a\x1b]0;title\x07\nwrote it") == 1
    assert capsys.readouterr().err == "error: a\\x1b]0;title\\x07\n  wrote it: no such weights file\n"


def test_weights_that_may_not_be_read(
    forbidden: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rcnnkit(monkeypatch, "info", forbidden) == 1
    assert capsys.readouterr().err == (
        f"error: {forbidden} may not be read (permission denied); change its permissions, or ask its owner to do so\n"
    )


def test_the_file_of_numbers_is_looked_at_before_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing.safetensors"
    assert rcnnkit(monkeypatch, "evaluate", missing, ".", "--json", tmp_path / "none" / "e.json") == 1
    assert "none is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_help_on_any_terminal(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    printed = stdout_in(monkeypatch, encoding)
    for command in ("train", "detect", "benchmark", "see"):
        assert rcnnkit(monkeypatch, command, "--help") == 0
    assert "--device" in printed.getvalue().decode(encoding)
