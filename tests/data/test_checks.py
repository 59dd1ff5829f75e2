"""Pictures that cannot be used, found without decoding them all."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnnkit.data.checks import check_picture, check_size, picture_sizes, pictures_in


def encoded(format: str, **options: object) -> bytes:
    """60 x 50 pixels of noise, so that there is something to cut off."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF"])
def test_whole_pictures_are_good(tmp_path: Path, format: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(encoded(format))
    assert check_picture(path) is None
    assert picture_sizes([path]) == [(50, 60)]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_truncated_pictures_are_found(tmp_path: Path, format: str, share: float) -> None:
    whole = encoded(format)
    path = tmp_path / "a"
    path.write_bytes(whole[: int(share * len(whole))])
    assert "cannot be read" in check_picture(path)


def test_odd_but_whole_jpegs(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    whole = encoded("JPEG", progressive=True)
    path.write_bytes(whole)
    assert check_picture(path) is None
    path.write_bytes(whole + bytes(1000))  # what some cameras append
    assert check_picture(path) is None
    path.write_bytes(whole + bytes(10_000))  # more than the tail that is searched
    assert check_picture(path) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty (0 bytes)"), (b"not a picture", "cannot be read"), (b"\x89PNG\r\n\x1a\n", "cannot be read")],
)
def test_what_is_no_picture(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert words in check_picture(path)


def test_what_file_managers_leave_behind_is_no_picture(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "._a.JPG", "notes.txt"):
        (tmp_path / name).write_bytes(encoded("PNG"))
    (tmp_path / "dir.jpg").mkdir()
    assert [path.name for path in pictures_in([tmp_path])] == ["a.JPG", "b.png"]
    assert list(pictures_in([tmp_path / "._a.JPG"])) == [tmp_path / "._a.JPG"]  # it was asked for


def test_too_many_pixels_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert check_picture(tmp_path / "a.png") == "the picture has more than 2,000 pixels; cut it into tiles"


def test_a_picture_that_may_not_be_read(forbidden: Path) -> None:
    assert check_picture(forbidden) == (
        "the picture may not be read (permission denied); change its permissions, or ask its owner to do so"
    )


def test_missing_picture(tmp_path: Path) -> None:
    assert "no such picture" in check_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_only_a_turned_picture_may_swap_height_and_width(tmp_path: Path, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded("JPEG", exif=exif))
    assert check_size(path, (50, 60), stored=(50, 60)) is None
    swapped = check_size(path, (60, 50), stored=(50, 60))
    assert swapped is None if turn in (6, 8) else "50 wide and 60 high" in swapped
    assert "61 wide and 50 high" in check_size(path, (50, 61), stored=(50, 60))
