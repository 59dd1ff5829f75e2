"""Frames come in order and at their times; what is damaged says so; new videos run at the speed of the old."""

import itertools
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rcnnkit.detecting import videos
from rcnnkit.detecting.videos import Frame, Video, VideoFile
from tests.detecting.squares import film, frames_of, moving, painted, rate_of


def read(video: Video, most: int | None = None) -> list[tuple[Frame, np.ndarray]]:
    return list(video.frames(most))


def test_each_frame_in_order(clip: Path) -> None:
    video = Video("clip", clip, live=False)
    found = read(video)
    assert [frame.number for frame, _ in found] == list(range(12))
    assert [frame.seconds for frame, _ in found] == pytest.approx([i / 10 for i in range(12)])
    assert {(frame.rate, frame.count, frame.live) for frame, _ in found} == {(10.0, 12, False)}
    for (_, pixels), same, drawn in zip(found, frames_of(clip), moving(12), strict=True):
        np.testing.assert_array_equal(pixels, same)
        assert np.abs(pixels.astype(int) - drawn).mean() < 12  # RGB, and not BGR
    some = read(Video("clip", clip, live=False), 5)
    assert [(frame.number, frame.count) for frame, _ in some] == [(i, 5) for i in range(5)]


def test_what_is_no_video(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileNotFoundError, match=r"^none\.mp4: no such video$"):
        Video("none.mp4", tmp_path / "none.mp4", live=False)
    (tmp_path / "bad.mp4").write_bytes(b"nothing" * 99)
    with pytest.raises(
        ValueError, match=r"^bad\.mp4 cannot be opened as a video; copy it again, or convert it to MP4$"
    ):
        Video("bad.mp4", tmp_path / "bad.mp4", live=False)
    with pytest.raises(OSError, match=r"^camera:77 cannot be opened; connect the camera, or end the program that"):
        Video("camera:77", 77, live=True)
    with pytest.raises(OSError, match=r"^tcp://x cannot be opened; check the address, and that the camera is reached"):
        Video("tcp://x", "tcp://127.0.0.1:1", live=True)
    assert capfd.readouterr().err == ""  # OpenCV and FFmpeg are silent


def test_a_video_that_breaks_off(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
    whole = film(tmp_path / "a.avi", noise)
    data = whole.read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    video, found = Video("cut.avi", tmp_path / "cut.avi", live=False), list[tuple[Frame, np.ndarray]]()
    with pytest.raises(ValueError, match=r"^cut\.avi: only (\d+) of its 20 frames could be read; copy it") as caught:
        found.extend(video.frames())
    assert len(found) == int(str(caught.value).split()[2])
    assert 5 < len(found) < 15
    for (_, pixels), original in zip(found[:-1], frames_of(whole), strict=False):
        np.testing.assert_array_equal(pixels, original)
    assert len(read(Video("cut.avi", tmp_path / "cut.avi", live=False), 5)) == 5  # no more was asked for
    capfd.readouterr()


class Camera:
    """What stands for `cv2.VideoCapture`: a camera that never ends, or gives so many frames."""

    def __init__(self, number: int | None = None) -> None:
        self.left = itertools.count() if number is None else iter(range(number))

    def isOpened(self) -> bool:
        return True

    def get(self, key: int) -> float:
        return {cv2.CAP_PROP_FPS: math.nan, cv2.CAP_PROP_FRAME_COUNT: -1.0}[key]

    def read(self) -> tuple[bool, Any]:
        return next(((True, painted((0, i % 50, 9))) for i in self.left), (False, None))

    def release(self) -> None:
        self.left = iter(())


def test_a_camera_goes_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(100.0, 0.25)
    monkeypatch.setattr(videos.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(videos, "_opened", lambda source: Camera())
    found = read(Video("camera:0", 0, live=True), 3)
    assert [(frame.number, frame.count, frame.rate, frame.live) for frame, _ in found] == [
        (i, 3, videos.USUAL_RATE, True) for i in range(3)
    ]
    assert [frame.seconds for frame, _ in found] == [0.25, 0.5, 0.75]
    monkeypatch.setattr(videos, "_opened", lambda source: Camera(4))
    video, some = Video("camera:0", 0, live=True), list[tuple[Frame, np.ndarray]]()
    with pytest.raises(OSError, match=r"^camera:0 stopped after 4 frames; what was found in these is kept$"):
        some.extend(video.frames())
    assert [frame.number for frame, _ in some] == [0, 1, 2, 3]


def test_a_new_video_has_each_frame(tmp_path: Path, clip: Path) -> None:
    file = VideoFile(tmp_path / "new.mp4", 29.97)
    for frame, pixels in Video("clip", clip, live=False).frames():
        file.add(pixels, frame)
        assert not (tmp_path / "new.mp4").exists()  # nothing half
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["new.mp4"]
    assert rate_of(tmp_path / "new.mp4") == pytest.approx(29.97)
    written = frames_of(tmp_path / "new.mp4")
    assert len(written) == 12
    for one, other in zip(written, frames_of(clip), strict=True):
        assert np.abs(one.astype(int) - other).mean() < 12


def test_frames_of_a_camera_last_as_long_as_they_did(tmp_path: Path) -> None:
    """Of 10 a second: the second one comes after 0.35 s, the next two within one tenth."""
    file = VideoFile(tmp_path / "live.mp4", 10)
    for number, seconds in enumerate((0.0, 0.35, 0.51, 0.58, 0.9)):
        file.add(painted((number % 2, 10, 10)), Frame(number, seconds, 10, 0, live=True))
    file.close()
    brightest = [int(picture[16, 16].argmax()) for picture in frames_of(tmp_path / "live.mp4")]
    assert brightest == [0, 1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_a_video_that_is_not_complete_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = VideoFile(tmp_path / "new.mp4", 10)
    file.add(painted(), Frame(0, 0.0, 10, 1, live=False))
    monkeypatch.setattr(videos, "_opened", lambda source: cv2.VideoCapture())  # as of a file that was cut off
    with pytest.raises(OSError, match=r"new\.mp4 cannot be written \(the file is not complete; is the disk full\?\)"):
        file.close()
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_no_encoder_takes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = VideoFile(tmp_path / "new.mp4", 10)
    with pytest.raises(OSError, match=r"new\.mp4 cannot be written \(OpenCV has no encoder for 1 × 1 pixels\)"):
        file.add(np.zeros((1, 1, 3), np.uint8), Frame(0, 0.0, 10, 1, live=False))
    file.close()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""
