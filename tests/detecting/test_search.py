"""Answers come in the order of the pictures, batch after batch, and a bad one stands alone."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import rcnnkit
from rcnnkit.detecting.search import DetectedPicture
from rcnnkit.structures import Detections, ImageBatch
from tests.detecting.squares import Squares, film, moving, painted


def boxes(found: DetectedPicture) -> list[tuple[str, list[float]]]:
    assert found.detections is not None
    names = found.detections.names
    return [(name, box) for name, box in zip(names, found.detections.boxes.tolist(), strict=True)]


def test_pictures_and_frames_in_order(pictures: Path, clip: Path) -> None:
    squares = Squares()
    found = list(rcnnkit.detect_each(squares, [pictures / "mon", clip, pictures / "a.png"], batch=5, frames=7))
    assert [each.name for each in found] == [
        f"{pictures}/mon/a.png",
        *(f"{clip}#{number}" for number in range(7)),
        f"{pictures}/a.png",
    ]
    assert boxes(found[0]) == [("red", [4, 5, 16, 17]), ("green", [40, 30, 52, 42])]
    assert boxes(found[-1]) == [("red", [10, 20, 22, 32])]
    for number, each in enumerate(found[1:-1]):
        (one, red), (two, green) = boxes(each)
        assert (one, two) == ("red", "green")
        assert red == pytest.approx([2 + 3 * number, 4, 14 + 3 * number, 16], abs=1.5)
        assert green == pytest.approx([50 - 3 * number, 30, 62 - 3 * number, 42], abs=1.5)
        assert each.frame is not None
        assert (each.frame.number, each.frame.seconds) == (number, pytest.approx(number / 10))
    assert squares.batches_seen == [5, 4]  # across what they come from
    assert found[3].place == Path("clip-000002")
    np.testing.assert_array_equal(found[-1].picture, painted((0, 10, 20)))
    assert "array" not in repr(found[-1])


def test_memory_is_that_of_a_batch(squares: Squares) -> None:
    """However long the list is: of the pictures that were answered, none is held."""
    alive: weakref.WeakSet[np.ndarray] = weakref.WeakSet()
    most, given, alive_now = 0, 0, list[int]()

    def many() -> Iterator[np.ndarray]:
        nonlocal given
        for _ in range(200):
            given += 1
            picture = painted((0, 1, 1)).view(Followed)
            alive.add(picture)
            yield picture
            del picture

    for answered, found in enumerate(rcnnkit.detect_each(squares, many(), batch=4), 1):
        assert found.detections is not None
        del found
        most = max(most, len(alive))
        assert given - answered < 2 * 4
    assert given == 200
    assert most <= 2 * 4
    del answered
    assert len(squares(many(), batch=4)) == 200  # the call, likewise
    done = rcnnkit.detect_files(squares, many(), report=lambda _: alive_now.append(len(alive)))
    assert (len(done), given) == (200, 600)
    assert max(alive_now) <= 2 * 4


class Followed(np.ndarray):
    """An array that weak references can follow."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # __eq__ took it away


def test_a_bad_one_stands_alone(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squares: Squares
) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"none")
    given = [
        pictures / "a.png",
        "none.png",
        None,
        ("named", np.zeros((2, 2), np.int64)),
        tmp_path / "bad.mp4",
        ("wide", painted(size=(48, 66))),
        painted((1, 1, 1)),
    ]
    detect = Squares.detect

    def fails(self: Squares, images: ImageBatch) -> list[Detections]:
        if (48, 66) in images.original_sizes:
            raise RuntimeError("out of memory\nand more")
        return detect(self, images)

    monkeypatch.setattr(Squares, "detect", fails)
    found = list(rcnnkit.detect_each(squares, given, batch=10))  # type: ignore[arg-type]  # squares find in place of a detector
    assert [each.detections is not None for each in found] == [True, False, False, False, False, False, True]
    assert [str(each.error) for each in found if each.error] == [
        "none.png: no such picture",
        "pictures[2]: None is not a picture; cv2.imread returns it for a file that it cannot read, so pass the path"
        " itself",
        "named: a picture must be uint8, uint16 or float in [0, 1], not int64; if its values go from 0 to 255, convert"
        " them to uint8",
        f"{tmp_path}/bad.mp4 cannot be opened as a video; copy it again, or convert it to MP4",
        "wide: the search failed (out of memory); a smaller picture takes less memory",
    ]
    assert boxes(found[-1]) == [("green", [1, 1, 13, 13])]


def test_a_video_that_breaks_off_keeps_its_frames(tmp_path: Path, squares: Squares) -> None:
    data = film(tmp_path / "a.avi", moving(12)).read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) * 2 // 3])
    *frames, last = rcnnkit.detect_each(squares, [tmp_path / "cut.avi", painted()], batch=3)
    end = frames.pop()
    assert len(frames) > 3
    assert all(each.detections is not None and len(each.detections) == 2 for each in frames)
    assert (end.frame, end.name) == (None, f"{tmp_path}/cut.avi")
    assert str(end.error) == (
        f"{tmp_path}/cut.avi: only {len(frames)} of its 12 frames could be read; copy it again. What was found in"
        " these is kept"
    )
    assert last.detections is not None


def test_what_fails_in_a_generator_comes_after_what_it_gave(squares: Squares) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield painted((0, 1, 1))
        raise KeyError("mine")

    found = rcnnkit.detect_each(squares, broken(), batch=4)
    assert boxes(next(found)) == [("red", [1, 1, 13, 13])]
    with pytest.raises(KeyError, match="mine"):
        next(found)


def test_what_is_wrong_is_found_at_once(squares: Squares, pictures: Path) -> None:
    for arguments, words in (({"batch": 0}, "batch = 0; give 1 or more"), ({"frames": 0}, "frames = 0; give 1 or")):
        with pytest.raises(ValueError, match=words):
            rcnnkit.detect_each(squares, pictures, **arguments)
    with pytest.raises(FileNotFoundError, match="matches no file"):
        rcnnkit.detect_each(squares, [pictures, f"{pictures}/*.gif"])
    with pytest.raises(RuntimeError, match="training mode"):
        rcnnkit.detect_each(Squares().train(), pictures)


def test_detections_are_on_the_cpu(squares: Squares) -> None:
    (found,) = rcnnkit.detect_each(squares, torch.zeros(3, 48, 64, dtype=torch.uint8))
    assert found.detections is not None
    assert found.detections.boxes.shape == (0, 4)
    assert found.detections.boxes.device.type == "cpu"
