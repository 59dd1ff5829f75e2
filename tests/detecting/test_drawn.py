"""Drawings and objects of pictures and videos, each in a place of its own, whatever goes wrong between."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rcnnkit import detect_files, draw
from rcnnkit.data.class_folders import read_class_folders
from rcnnkit.detecting import videos
from rcnnkit.structures import Detections, ImageBatch
from tests.detecting.squares import Squares, film, frames_of, moving, painted, rate_of


def test_videos_with_boxes_beside_pictures(squares: Squares, pictures: Path, clip: Path, tmp_path: Path) -> None:
    (pictures / "mon" / "clip.mp4").symlink_to(clip)
    out = tmp_path / "out"
    found = detect_files(squares, pictures, out, min_score=0.0)
    names = ["a.jpg", "detections.json", "mon/a.jpg", "mon/clip.mp4", "tue/none.jpg"]
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == names
    drawn, original = frames_of(out / "mon" / "clip.mp4"), frames_of(clip)
    assert (len(drawn), rate_of(out / "mon" / "clip.mp4")) == (12, 10.0)
    frames = [each for each in found if each.frame]
    assert {each.drawn for each in frames} == {out / "mon" / "clip.mp4"}
    for picture, frame, each in zip(drawn, original, frames, strict=True):
        assert each.detections is not None
        assert each.picture is None  # a list of them would not fit
        expected = np.asarray(draw(frame, each.detections, min_score=0.0)).astype(int)
        assert np.abs(picture - expected).mean() < 0.5 * np.abs(picture - frame.astype(int)).mean()
    # another run into the same folder overwrites none of them
    for given, there in ((clip, "clip.mp4"), (pictures / "a.png", "a.jpg")):
        (tmp_path / "new").mkdir(exist_ok=True)
        (tmp_path / "new" / there).write_text("mine")
        with pytest.raises(FileExistsError, match=rf"new/{there} is there already; choose another folder, nothing"):
            detect_files(squares, given, tmp_path / "new")
        assert (tmp_path / "new" / there).read_text() == "mine"


def test_several_videos_of_one_name(squares: Squares, tmp_path: Path) -> None:
    for name, number in (("x/a.avi", 3), ("y/a.mp4", 5)):
        (tmp_path / name).parent.mkdir()
        film(tmp_path / name, moving(number))
    detect_files(squares, [tmp_path / "x" / "a.avi", tmp_path / "y" / "a.mp4"], tmp_path / "out")
    assert len(frames_of(tmp_path / "out" / "a.mp4")) == 3
    assert len(frames_of(tmp_path / "out" / "a-2.mp4")) == 5
    detect_files(squares, tmp_path / "x", tmp_path / "other", results=tmp_path / "r.csv", crops=tmp_path / "crops")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["a.mp4"]


def test_what_is_in_the_way_of_an_iterator_is_left_alone(squares: Squares, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.jpg").write_text("mine")
    found = detect_files(squares, iter([("a.png", painted((0, 1, 1))), ("b.png", painted())]), tmp_path / "out")
    assert str(found[0].error) == (
        f"a.png: the picture with its boxes cannot be written ({tmp_path}/out/a.jpg is there already; choose another"
        f" folder, nothing is overwritten); what was found is in {tmp_path}/out/detections.json"
    )
    assert (tmp_path / "out" / "a.jpg").read_text() == "mine"
    assert found[1].drawn == tmp_path / "out" / "b.jpg"


def test_a_video_that_cannot_be_written_is_said_once(
    squares: Squares, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_encoder(self: Any) -> None:
        with self._stack:
            raise OSError("no encoder")

    monkeypatch.setattr(videos.VideoFile, "_begun", no_encoder)
    found = detect_files(squares, [clip, ("a.png", painted())], tmp_path / "out")
    assert [str(each.error) for each in found if each.error] == [
        f"{clip}: the video with its boxes cannot be written ({tmp_path}/out/clip.mp4 cannot be written (no encoder);"
        f" fix that, or choose another folder); what was found is in {tmp_path}/out/detections.json"
    ]
    assert all(each.detections is not None for each in found)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "detections.json"]


def test_what_stops_a_run_leaves_whole_files(
    squares: Squares, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of a video: its drawn part plays, and the results are those of that part."""

    def report(picture: Any) -> None:
        if picture.frame.number == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detect_files(squares, clip, tmp_path / "out", results=tmp_path / "r.csv", report=report)
    assert len(frames_of(tmp_path / "out" / "clip.mp4")) == 7
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 1 + 7 * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "r.csv"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip.mp4"]


def test_a_frame_that_cannot_be_searched_keeps_its_place(
    squares: Squares, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detect = Squares.detect
    numbers = iter(range(100))

    def fails(self: Squares, images: ImageBatch) -> list[Detections]:
        if next(numbers) in (0, 3):  # the batch, and then its third frame alone
            raise RuntimeError("too hard")
        return detect(self, images)

    monkeypatch.setattr(Squares, "detect", fails)
    found = detect_files(squares, clip, tmp_path / "out", batch=12)
    assert [each.frame.number for each in found if each.error and each.frame] == [2]
    assert {each.drawn for each in found} == {tmp_path / "out" / "clip.mp4"}
    assert len(frames_of(tmp_path / "out" / "clip.mp4")) == 12


def test_each_object_in_the_folder_of_its_class(squares: Squares, pictures: Path, clip: Path, tmp_path: Path) -> None:
    crops = tmp_path / "crops" / "train"
    given: list[Any] = [pictures, clip, ("clip-000001.png", painted((0, 8, 8)))]
    found = detect_files(squares, given, crops=crops, frames=2, min_score=0.0)
    assert not any(each.error for each in found)
    assert sorted(path.relative_to(crops).as_posix() for path in crops.rglob("*.png")) == [
        "green/clip-000000_1.png",
        "green/clip-000001_1.png",
        "green/mon/a_1.png",
        "red/a_0.png",
        "red/clip-000000_0.png",
        "red/clip-000001_0-2.png",
        "red/clip-000001_0.png",
        "red/mon/a_0.png",
    ]
    np.testing.assert_array_equal(np.asarray(Image.open(crops / "red" / "a_0.png")), painted((0, 0, 0))[:12, :12])
    folders = read_class_folders(tmp_path / "crops", "train", skip_bad=False)
    assert (list(folders.class_names), len(folders)) == (["green", "red"], 8)
    detect_files(squares, pictures, crops=tmp_path / "best", min_score=0.5)
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["red"]


def test_objects_that_cannot_be_written(squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bad, good) = detect_files(squares, [("x" * 255, painted((0, 1, 1))), painted()], crops=tmp_path / "crops")
    assert str(bad.error).startswith(f"{'x' * 255}: its objects cannot be written ([Errno 36] File name too long")
    assert good.error is None

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left on device"):
        detect_files(squares, painted((0, 1, 1)), crops=tmp_path / "other")
