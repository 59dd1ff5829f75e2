"""Pictures come out upright, however they are stored."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rcnnkit.decoding import open_picture, sizes
from rcnnkit.images import read_picture
from tests.pictures import ORIENTATION, chunk, noise, upright, written

LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


def oriented(path: Path, orientation: int, format: str = "JPEG") -> np.ndarray:
    """Write four coloured quarters, 16 × 32, with that tag; return what is stored."""
    stored = np.zeros((16, 32, 3), dtype=np.uint8)
    stored[:8, :16], stored[:8, 16:], stored[8:, :16] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"JPEG": {"quality": 98}, "MPO": {"quality": 98}} | LOSSLESS
    more: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", (9, 9))]} if format == "MPO" else {}
    Image.fromarray(stored).save(path, format, exif=exif, **options[format], **more)
    return stored


def near(read: np.ndarray, expected: np.ndarray) -> bool:
    """Up to JPEG's ringing at the edges."""
    return read.shape == expected.shape and np.abs(read.astype(int) - expected).mean() < 8


@pytest.mark.parametrize("format", ["JPEG", "MPO", *LOSSLESS])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed_whatever_the_format(tmp_path: Path, orientation: int, format: str) -> None:
    """By path and as a PIL picture; and where annotations speak of the picture as stored, that is what there is."""
    path = tmp_path / "a"
    stored = oriented(path, orientation, format)
    shown = upright(stored, orientation)
    with open_picture(path) as picture:
        assert sizes(picture) == ((16, 32), shown.shape[:2], orientation)
    decoded = Image.open(path)
    decoded.load()
    for kind in (path, Image.open(path), decoded):
        assert near(read_picture(kind), shown)
    assert near(read_picture(path, shown.shape[:2]), shown)
    if orientation >= 5:
        assert shown.shape[:2] == (32, 16)
        assert near(read_picture(path, (16, 32)), stored)


def test_a_size_that_the_picture_does_not_have_is_refused(tmp_path: Path) -> None:
    for format in ("JPEG", "TIFF"):
        oriented(tmp_path / "a", 6, format)
        said = (
            f"the annotation says 33 wide and 16 high, but {tmp_path / 'a'} is 16 wide and 32 high; correct the size,"
            " or put back the picture that was annotated"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
            read_picture(tmp_path / "a", (16, 33))


def test_orientation_behind_the_pixels_of_a_png(tmp_path: Path) -> None:
    """Where the format allows it, and Pillow sees it only when it has decoded them."""
    stored, exif = noise(16, 32), Image.Exif()
    exif[ORIENTATION] = 6
    path = written(tmp_path / "a.png", Image.fromarray(stored))
    data = path.read_bytes()
    path.write_bytes(data[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + data[-12:])
    with open_picture(path) as picture:
        assert sizes(picture) == ((16, 32), (32, 16), 6)
    for kind in (path, Image.open(path)):
        np.testing.assert_array_equal(read_picture(kind), upright(stored, 6))
    np.testing.assert_array_equal(read_picture(path, (16, 32)), stored)


def test_orientation_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    stored = noise(16, 32)
    for exif in (b"Exif\0\0XX*\0broken", b"Exif\0\0II*\0\xff\xff\xff\xff"):
        file = io.BytesIO()
        Image.fromarray(stored).save(file, "JPEG", quality=98, exif=exif)
        (tmp_path / "a.jpg").write_bytes(file.getvalue())
        assert read_picture(tmp_path / "a.jpg").shape == (16, 32, 3)
    for number in (0, 9, 77):
        oriented(tmp_path / "b.jpg", number)
        assert read_picture(tmp_path / "b.jpg").shape == (16, 32, 3)


def test_a_quarter_turned_square_cannot_be_told_and_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    stored = np.zeros((16, 16, 3), dtype=np.uint8)
    stored[:8] = 250
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif, quality=98)
    assert np.abs(read_picture(tmp_path / "a.jpg", (16, 16)).astype(int) - upright(stored, 6)).mean() < 8


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_tiff_is_upright_as_a_pil_picture(tmp_path: Path, mode: str, turn: int) -> None:
    """Pillow maps the pixels of some from their file."""
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 4), dtype=np.uint8)
    pixels[:, :, 3] = 255
    Image.fromarray(pixels, "RGBA").convert(mode).save(tmp_path / "a.tif", exif=exif)
    expected = read_picture(tmp_path / "a.tif")
    assert expected.shape[:2] == ((64, 40) if turn >= 5 else (40, 64))
    with Image.open(tmp_path / "a.tif") as picture:
        assert np.array_equal(read_picture(picture), expected)
