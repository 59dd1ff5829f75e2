import csv
import errno
import itertools
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from rcnnkit.detecting import videos
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.structures import Detections, ImageBatch
from tests.cli.commands import ALEXNET, Command, saved, stdout_in
from tests.detecting.squares import Squares, film, frames_of, moving, painted


def test_detect_goes_on_after_a_bad_picture(
    rcnnkit: Command, untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    grey = np.full((50, 70), 128, np.uint8)
    cv2.imwrite(str(tmp_path / "a" / "same.png"), grey)
    cv2.imwrite(str(tmp_path / "b" / "same.png"), np.dstack([grey] * 4))
    (tmp_path / "cut.jpg").write_bytes(
        cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (90, 90, 3)))[1].tobytes()[:900]
    )
    files = [tmp_path / "a" / "same.png", tmp_path / "cut.jpg", tmp_path / "none.jpg", tmp_path / "b" / "same.png"]
    out = tmp_path / "out"
    assert rcnnkit("detect", untrained, *files, "--out", out) == 1
    captured = capsys.readouterr()
    assert "cut.jpg cannot be decoded" in captured.err
    assert "none.jpg: no such picture" in captured.err
    assert {p.name for p in out.iterdir()} == {"same.jpg", "same-2.jpg", "detections.json"}
    # nothing is overwritten
    before = (out / "detections.json").read_bytes()
    assert rcnnkit("detect", untrained, files[0], "--out", out) == 1
    assert "is there already" in capsys.readouterr().err
    assert (out / "detections.json").read_bytes() == before


@pytest.mark.parametrize("score", ["1.5", "-0.1"])
def test_probabilities_have_bounds(
    rcnnkit: Command, untrained: Path, capsys: pytest.CaptureFixture[str], score: str
) -> None:
    assert rcnnkit("detect", untrained, "x.jpg", "--out", "found", "--min-score", score) == 1
    assert capsys.readouterr().err == (
        f"error: --min-score {score}: the scores of {untrained} are probabilities; give 0 to 1\n"
    )
    assert not Path("found").exists()


def test_margins_have_none(rcnnkit: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    margins = saved(
        ALEXNET | {"model": ALEXNET["model"] | {"kind": "fast_rcnn"}, "head": {"svms": True}}, tmp_path / "w"
    )
    assert rcnnkit("detect", margins, "x.jpg", "--out", "found", "--min-score", "-1.5") == 1
    assert "x.jpg: no such picture" in capsys.readouterr().err  # it is searched


def test_detect_looks_into_sub_folders_and_says_what_it_left_out(
    rcnnkit: Command,
    untrained: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = ("a.jfif", "b.ppm", "mon/a.avif", "tue/a.png", "tue/a.webp")
    for name in (*files, "notes.txt", "tue/list.csv"):
        Path("in", name).parent.mkdir(parents=True, exist_ok=True)
        if Path(name).suffix in (".txt", ".csv"):
            Path("in", name).write_text("none")
        else:
            Image.new("RGB", (70, 50), (90, 90, 90)).save(Path("in", name))
    assert rcnnkit("detect", untrained, "in", "--out", "in/found", "--min-score", "0.01") == 0
    captured = capsys.readouterr()
    assert "WARNING in: 5 pictures taken, 2 other things left out: 1 .csv, 1 .txt\n" in captured.err
    assert "wrote 5 pictures" in captured.out
    drawn = sorted(path.relative_to("in/found").as_posix() for path in Path("in/found").rglob("*.jpg"))
    assert drawn == ["a.jpg", "b.jpg", "mon/a.jpg", "tue/a-2.jpg", "tue/a.jpg"]
    results = json.loads(Path("in/found/detections.json").read_text())
    assert {result["image_id"] for result in results} <= {f"in/{name}" for name in files}
    # what was drawn is not looked at in its turn
    assert rcnnkit("detect", untrained, "in", "--out", "in/found") == 1
    assert "in/found/detections.json is there already; choose another folder" in capsys.readouterr().err


def test_scores_that_are_none_are_refused(
    rcnnkit: Command, untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert rcnnkit("detect", untrained, "x.jpg", "--out", out, "--min-score", "nan") == 2
    assert "nan is not a finite number" in capsys.readouterr().err


def test_a_picture_wider_than_jpeg_is_drawn_as_png(
    rcnnkit: Command,
    untrained: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, width in (("a", 64), ("b", 65_501), ("c", 64)):
        Image.new("RGB", (width, 8), "red").save(f"{name}.png")
    assert rcnnkit("detect", untrained, "a.png", "b.png", "c.png", "--out", "o", "--batch", "3") == 0
    assert {path.name for path in Path("o").iterdir()} == {"a.jpg", "b.png", "c.jpg", "detections.json"}
    assert Image.open("o/b.png").size == (65_501, 8)
    assert "b.png: nothing that scores 0.5; drawn in o/b.png\n" in capsys.readouterr().out


def test_a_picture_that_cannot_be_written_stands_alone(
    rcnnkit: Command,
    untrained: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, width in (("a", 64), ("b", 65_501), ("c", 64)):
        Image.new("RGB", (width, 8), "red").save(f"{name}.png")
    Path("o").mkdir()
    Path("o/b.png").write_text("mine")
    assert rcnnkit("detect", untrained, "a.png", "b.png", "c.png", "--out", "o", "--min-score", "0") == 1
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
    rcnnkit: Command,
    untrained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The next picture would fail as well; and what was found is written."""
    for name in "ab":
        Image.new("RGB", (64, 64), "red").save(f"{name}.png")

    def save(*_: object) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", "o/a.jpg")

    monkeypatch.setattr("rcnnkit.detecting.drawn.save_picture", save)
    assert rcnnkit("detect", untrained, "a.png", "b.png", "--out", "o") == 1
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
    rcnnkit: Command,
    untrained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    reason: str,
) -> None:
    for name, width in (("a", 64), ("b", 77), ("c", 64)):
        Image.new("RGB", (width, 48), "red").save(f"{name}.png")
    detect = FasterRCNN.detect

    def fails(self: FasterRCNN, images: ImageBatch) -> list[Detections]:
        if (48, 77) in images.original_sizes:
            raise error
        return detect(self, images)

    monkeypatch.setattr(FasterRCNN, "detect", fails)
    assert rcnnkit("detect", untrained, "a.png", "b.png", "c.png", "--out", "o") == 1
    said = capsys.readouterr()
    assert said.err == f"error: b.png: the search failed ({reason}); a smaller picture takes less memory\n"
    assert {path.name for path in Path("o").iterdir()} == {"a.jpg", "c.jpg", "detections.json"}


def test_names_of_files_may_be_any_bytes(rcnnkit: Command, untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [b"a.png", b"caf\xe9.png", b"x\x1b[2J\nwrote it.png", b"z.png"]
    for name in names:
        Image.new("RGB", (64, 48), "red").save(os.fsdecode(name), "png")
    printed = stdout_in(monkeypatch, "utf-8")
    files = [os.fsdecode(name) for name in names]
    assert rcnnkit("detect", untrained, *files, "--out", "o", "--min-score", "0") == 0
    shown = printed.getvalue().decode()
    assert "caf\\xe9.png: " in shown
    assert "x\\x1b[2J\\nwrote it.png: " in shown
    assert len(shown.splitlines()) == 5
    assert {path.suffix for path in Path("o").iterdir()} == {".jpg", ".json"}
    assert len(list(Path("o").iterdir())) == 5
    found = {os.fsencode(each["image_id"]) for each in json.loads(Path("o/detections.json").read_text())}
    assert found == set(names)


def test_results_have_the_ids_of_the_file_that_lists_the_pictures(
    rcnnkit: Command, untrained: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = digits / "annotations" / "instances_val.json"
    images = json.loads(file.read_text())["images"]
    pictures = [next(digits.rglob(Path(each["file_name"]).name)) for each in images[:2]]
    assert rcnnkit("detect", untrained, *pictures, "--out", tmp_path / "out", "--ids", file) == 0
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {each["image_id"] for each in results} == {each["id"] for each in images[:2]}
    other = tmp_path / "other.jpg"
    other.write_bytes(pictures[0].read_bytes())
    assert rcnnkit("detect", untrained, other, "--out", tmp_path / "new", "--ids", file) == 1
    assert "no id is known of 1 picture" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_settings_of_the_input_can_differ_from_those_of_the_weights(
    rcnnkit: Command, untrained: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = next((digits / "JPEGImages").iterdir())
    tiles = ("--set", "input.tile=64", "--set", "input.tile_overlap=16", "--set", "input.test_flip=true")
    assert rcnnkit("detect", untrained, picture, "--out", "found", *tiles) == 0
    assert rcnnkit("detect", untrained, picture, "--out", "plain") == 0
    found, plain = (json.loads((tmp_path / out / "detections.json").read_text()) for out in ("found", "plain"))
    assert len(found) > len(plain) > 0
    assert rcnnkit("evaluate", untrained, digits, "--split", "val", "--json", "e.json", *tiles) == 0
    for given, message in (
        ("input.tiles=64", "input.tiles is not a setting; did you mean input.tile?"),
        ("input.tile=64", "input.tile_overlap = 128 is not less than tile = 64, so the next tile would be no further"),
        ("head.nms_iou=0.3", "--set head.nms_iou: only the settings of [input] can differ from those of the weights"),
        ("tile=64", "'tile=64' is not of the form section.key=value, such as train.batch=8"),
    ):
        capsys.readouterr()
        assert rcnnkit("detect", untrained, picture, "--out", "none", "--set", given) == 1
        assert f"error: {message}" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "none").exists()


@pytest.fixture
def squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any weights are those of a detector of squares."""
    monkeypatch.setattr("rcnnkit.weights.load", lambda *_, **__: Squares())


@pytest.mark.usefixtures("squares")
def test_a_folder_of_pictures_and_videos(rcnnkit: Command, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/mon").mkdir(parents=True)
    film(Path("in/mon/clip.mp4"), moving(5))
    Image.fromarray(painted((0, 3, 4))).save("in/a.png")
    command = ("detect", "w.safetensors", "in/**/*", "--out", "out", "--results", "r.csv", "--crop", "crops")
    assert rcnnkit(*command, "--min-score", "0.25", "--frames", "4") == 0
    assert capsys.readouterr().out.splitlines() == [
        "in/a.png: 1 red",
        "in/mon/clip.mp4: 4 frames, 4 red, 4 green; drawn in out/mon/clip.mp4",
        "wrote 1 picture, 1 video and 9 detections in r.csv",
        "wrote 5 red, 4 green in crops",
    ]
    with Path("r.csv").open() as lines:
        assert [(row["image"], row["frame"]) for row in csv.DictReader(lines)] == [
            ("in/a.png", ""),
            *[("in/mon/clip.mp4", str(number // 2)) for number in range(8)],
        ]
    assert sorted(path.as_posix() for path in Path("out").rglob("*.*")) == ["out/a.jpg", "out/mon/clip.mp4"]
    assert len(frames_of(Path("out/mon/clip.mp4"))) == 4
    assert rcnnkit("detect", "w.safetensors", "in/a.png", "--out", "o", "--format", "voc") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "wrote 1 picture and 1 detection in o/detections"
    assert sorted(path.name for path in Path("o/detections").iterdir()) == ["Annotations", "ImageSets", "JPEGImages"]


@pytest.mark.usefixtures("squares")
def test_a_video_that_breaks_off_is_reported(rcnnkit: Command, capsys: pytest.CaptureFixture[str]) -> None:
    data = film(Path("a.avi"), moving(12)).read_bytes()
    Path("cut.avi").write_bytes(data[: len(data) * 2 // 3])
    Path("bad.mp4").write_bytes(b"none")
    assert rcnnkit("detect", "w.safetensors", "cut.avi", "bad.mp4", "--out", "out") == 1
    printed = capsys.readouterr()
    number = len(frames_of(Path("out/cut.mp4")))
    assert 4 < number < 12
    assert printed.out.splitlines()[0].startswith(f"cut.avi: {number} frames, {number} red")
    assert printed.err.splitlines() == [
        f"error: cut.avi: only {number} of its 12 frames could be read; copy it again. What was found in these is kept",
        "error: bad.mp4 cannot be opened as a video; copy it again, or convert it to MP4",
    ]


class Endless:
    """A camera; after so many frames somebody presses Ctrl-C."""

    def __init__(self, until: int, number: int) -> None:
        self.frames, self.until, self.number = itertools.count(1), until, number

    def isOpened(self) -> bool:
        return True

    def get(self, _: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, Any]:
        if next(self.frames) == self.until:
            os.kill(os.getpid(), self.number)
            time.sleep(0.01)  # until it arrives
        return True, painted((0, 5, 5))[:, :, ::-1]  # blue first

    def release(self) -> None:
        pass


@pytest.mark.usefixtures("squares")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_a_camera_ends_by_a_signal(
    rcnnkit: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, status: int
) -> None:
    opened = videos._opened
    monkeypatch.setattr(videos, "_opened", lambda it: Endless(6, number) if it == 0 else opened(it))
    options = ("--out", "out", "--results", "r.csv", "--batch", "4")
    assert rcnnkit("detect", "w.safetensors", "camera:0", "--frames", "3", *options) == 0
    assert capsys.readouterr().out.startswith("camera:0: 3 frames, 3 red; drawn in out/camera-0.mp4\n")
    assert frames_of(Path("out/camera-0.mp4"))
    Path("out/camera-0.mp4").unlink()
    Path("r.csv").unlink()
    before = signal.getsignal(number)
    assert rcnnkit("detect", "w.safetensors", "camera:0", *options) == status
    assert signal.getsignal(number) == before
    # The second batch was read when the signal came, and its first frame was the last.
    assert capsys.readouterr().out.splitlines()[0] == "camera:0: 5 frames, 5 red; drawn in out/camera-0.mp4"
    assert len(Path("r.csv").read_text().splitlines()) == 1 + 5
    assert frames_of(Path("out/camera-0.mp4"))


@pytest.mark.usefixtures("squares")
def test_ctrl_c_in_a_video_is_no_success(rcnnkit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    film(Path("a.mp4"), moving(9))
    detect = Squares.detect

    def interrupted(self: Squares, images: ImageBatch) -> list[Detections]:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        return detect(self, images)

    monkeypatch.setattr(Squares, "detect", interrupted)
    assert rcnnkit("detect", "w.safetensors", "a.mp4", "--out", "out", "--batch", "2") == 130
    assert len(frames_of(Path("out/a.mp4"))) == 1
    assert len(json.loads(Path("out/detections.json").read_text())) == 2


@pytest.mark.usefixtures("squares")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a.png",), "nothing would be written; give --out FOLDER, --results FILE or --crop FOLDER"),
        (
            ("in/*.gif", "--out", "out"),
            "in/*.gif matches no file; correct it, or name the folder to take all that is in",
        ),
        (("a.png", "--results", "r.xml"), "r.xml ends with none of .json, .csv, .parquet; or name the format of a fol"),
        (
            ("a.png", "--results", "r", "--format", "xml"),
            "the format 'xml' is not one of coco, csv, parquet, yolo, voc",
        ),
        (
            ("a.png", "--crop", "c", "--format", "csv"),
            "the format csv is of results, and none are written; name a file",
        ),
        (
            ("ftp://a/b.png", "--out", "out"),
            "ftp://a/b.png: URLs of ftp:// are not read, but http, https, rtmp, rtmps,",
        ),
    ],
)
def test_what_is_asked_wrongly_is_said(
    rcnnkit: Command, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert rcnnkit("detect", "w.safetensors", *arguments) == 1
    assert capsys.readouterr().err.startswith(f"error: {words}")
    assert not Path("out").exists()


@pytest.mark.usefixtures("squares")
def test_frames_have_no_ids(rcnnkit: Command, capsys: pytest.CaptureFixture[str]) -> None:
    film(Path("a.mp4"), moving(2))
    Path("ids.json").write_text('{"images": [{"file_name": "a.png", "id": 3}]}')
    assert rcnnkit("detect", "w.safetensors", "a.mp4", "--results", "r.csv", "--ids", "ids.json") == 1
    assert "a.mp4 is a video, whose frames have no ids; search it without ids" in capsys.readouterr().err
    Image.fromarray(painted((0, 3, 4))).save("a.png")
    assert rcnnkit("detect", "w.safetensors", "a.png", "--results", "r.csv", "--ids", "ids.json") == 0
    assert Path("r.csv").read_text().splitlines()[1].startswith("3,3.000,4.000,")
