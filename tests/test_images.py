"""Pictures of every kind come out as the same upright RGB, and bad ones name themselves."""

import io
import math
import os
import re
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import EpsImagePlugin, Image, PngImagePlugin
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from rcnnkit.decoding import open_picture, sizes
from rcnnkit.images import Picture, Preprocessing, list_pictures, read_picture, read_pictures

ORIENTATION = 0x0112  # EXIF's tag


def noise(height: int = 6, width: int = 9, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def written(path: Path, picture: Image.Image, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def test_every_kind_of_picture_is_the_same_picture(tmp_path: Path) -> None:
    pixels = noise()
    path = written(tmp_path / "a.png", Image.fromarray(pixels))
    kinds: list[Picture] = [
        path,
        str(path),
        Image.fromarray(pixels),
        pixels,
        pixels[:, ::-1][:, ::-1],  # not contiguous
        pixels / 255,
        (pixels / 255).astype(np.float32),
        pixels.astype(np.uint16) * 257,
        (pixels.astype(np.uint16) * 257).astype(">u2"),
        (pixels / 255).astype(">f4"),
        path.read_bytes(),
        bytearray(path.read_bytes()),
        memoryview(path.read_bytes()),
        io.BytesIO(path.read_bytes()),
        torch.tensor(pixels).permute(2, 0, 1),
        torch.tensor(pixels).permute(2, 0, 1) / 255,
        (torch.tensor(pixels).permute(2, 0, 1) / 255).requires_grad_(),
    ]
    for kind in kinds:
        read = read_picture(kind)
        assert read.dtype == np.uint8
        assert read.flags.c_contiguous
        np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_tensors(dtype: torch.dtype) -> None:
    picture = torch.tensor([0, 0.5, 1], dtype=dtype).reshape(3, 1, 1)
    assert read_picture(picture).tolist() == [[[0, 128, 255]]]


def test_grey_is_repeated(tmp_path: Path) -> None:
    grey = noise()[:, :, 0]
    expected = np.repeat(grey[:, :, None], 3, axis=2)
    path = written(tmp_path / "g.png", Image.fromarray(grey))
    for kind in (path, Image.fromarray(grey), grey, grey[:, :, None], torch.tensor(grey)[None]):
        np.testing.assert_array_equal(read_picture(kind), expected)


def test_of_16_bits_the_upper_8_are_kept(tmp_path: Path) -> None:
    deep = np.array([[0, 255, 256, 511], [512, 32768, 65279, 65535]], dtype=np.uint16)
    expected = np.repeat(np.array([[0, 0, 1, 1], [2, 128, 254, 255]], dtype=np.uint8)[:, :, None], 3, axis=2)
    path = written(tmp_path / "d.png", Image.fromarray(deep))
    assert Image.open(path).mode.startswith("I")
    for kind in (path, Image.open(path), deep):
        np.testing.assert_array_equal(read_picture(kind), expected)
    cv2.imwrite(str(tmp_path / "c.png"), np.stack([deep, deep // 2, deep * 0], axis=2))  # BGR
    colour = read_picture(tmp_path / "c.png")
    np.testing.assert_array_equal(colour[:, :, 2], expected[:, :, 0])
    np.testing.assert_array_equal(colour[:, :, 0], 0)


def test_grey_of_32_bits(tmp_path: Path) -> None:
    """In a PIL picture and in a TIFF: whole numbers are 16 bits, others lie in [0, 1]."""
    whole = np.array([[0, 255, 256], [4660, 65535, 70]], dtype=np.int32)
    real = np.array([[0, 0.5, 1], [0.25, 0.999, 0.003]], dtype=np.float32)
    for array, expected in ((whole, whole >> 8), (real, np.round(real * 255))):
        picture = Image.fromarray(array)
        picture.save(tmp_path / "a.tif")
        for found in (read_picture(picture), read_picture(tmp_path / "a.tif")):
            np.testing.assert_array_equal(found, np.repeat(expected[:, :, None], 3, axis=2))
    for array, words in ((whole + 1, "goes from 0 to 65535, not 1 to 65536"), (real * 2, r"lie in \[0, 1\], this one")):
        picture = Image.fromarray(array)
        picture.save(tmp_path / "b.tif")
        with pytest.raises(ValueError, match=words):
            read_picture(picture)
        with pytest.raises(ValueError, match=rf"b\.tif cannot be decoded .*{words}"):
            read_picture(tmp_path / "b.tif")


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    pixels = noise()
    alpha = np.random.default_rng(1).integers(0, 256, pixels.shape[:2], dtype=np.uint8)
    rgba = np.dstack([pixels, alpha])
    path = written(tmp_path / "a.png", Image.fromarray(rgba))
    for kind in (path, Image.fromarray(rgba), rgba):
        np.testing.assert_array_equal(read_picture(kind), pixels)


def test_palette_and_black_and_white(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), mode="P")
    picture.putpalette([255, 0, 0, 0, 200, 0, 0, 0, 7])
    path = written(tmp_path / "p.png", picture)
    expected = [[[255, 0, 0], [0, 200, 0]], [[0, 0, 7], [0, 200, 0]]]
    assert read_picture(path).tolist() == read_picture(picture).tolist() == expected
    mask = np.array([[True, False]])
    path = written(tmp_path / "1.png", Image.fromarray(mask))
    for kind in (mask, Image.fromarray(mask), path):
        assert read_picture(kind).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "gif"])
def test_one_pixel(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"a.{suffix}", Image.new("RGB", (1, 1), (255, 255, 255)))
    assert read_picture(path).tolist() == [[[255, 255, 255]]]


def test_jpeg_is_near_the_pixels(tmp_path: Path) -> None:
    smooth = np.zeros((32, 48, 3), dtype=np.uint8)
    smooth[..., 0] = np.linspace(0, 255, 48)
    smooth[..., 1] = np.linspace(0, 255, 32)[:, None]
    path = written(tmp_path / "a.jpg", Image.fromarray(smooth), quality=98, subsampling=0)
    assert np.abs(read_picture(path).astype(int) - smooth).max() <= 4


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """What EXIF's table says (row 0, column 0 of what is stored are these sides of what is seen)."""
    return {
        1: lambda a: a,  # top, left
        2: lambda a: a[:, ::-1],  # top, right
        3: lambda a: a[::-1, ::-1],  # bottom, right
        4: lambda a: a[::-1],  # bottom, left
        5: lambda a: a.transpose(1, 0, 2),  # left, top
        6: lambda a: a[::-1].transpose(1, 0, 2),  # right, top
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
        8: lambda a: a[:, ::-1].transpose(1, 0, 2),  # left, bottom
    }[orientation](stored)


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


FORMATS = {
    "JPEG": ["1", "L", "RGB", "CMYK", "YCbCr"],
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
    "DIB": ["1", "L", "P", "RGB", "RGBA"],
    "GIF": ["1", "L", "LA", "P", "RGB", "RGBA"],
    "PPM": ["1", "L", "RGB", "RGBA", "I;16", "I", "F"],
    "TIFF": ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"],
    "WEBP": ["L", "LA", "P", "RGB", "RGBA"],
    "AVIF": ["L", "LA", "P", "RGB", "RGBA"],
    "JPEG2000": ["L", "LA", "RGB", "RGBA", "YCbCr", "I;16"],
}
EXACT = {"PNG", "BMP", "DIB", "PPM", "TIFF"}  # what is read is what was written; the others lose some


def in_mode(mode: str) -> Image.Image:
    """A picture of 37 × 53 pixels in one of Pillow's modes; of alpha, all values come."""
    y, x = np.mgrid[:37, :53]
    colours = np.stack([4 * x, 6 * y, 2 * (x + y)], axis=2).astype(np.uint8)
    plain, alpha = Image.fromarray(colours), Image.fromarray(noise(37, 53)[:, :, 0])
    if mode in ("LA", "RGBA"):
        picture = plain.convert(mode)
        picture.putalpha(alpha)
        return picture
    deep = {"I;16": colours[..., 0] * np.uint16(257), "I": colours[..., 0] * np.int32(257), "F": colours[..., 0] / 255}
    if mode in deep:
        return Image.fromarray(deep[mode].astype(np.float32) if mode == "F" else deep[mode])
    return plain.quantize(17).convert(mode) if mode in ("P", "PA") else plain.convert(mode)


@pytest.mark.parametrize(("format", "mode"), [(format, mode) for format in FORMATS for mode in FORMATS[format]])
def test_a_path_a_pil_picture_and_an_array_are_the_same(tmp_path: Path, format: str, mode: str) -> None:
    picture = in_mode(mode)
    for options in ({}, {"transparency": 3}) if mode == "P" and format in ("PNG", "GIF") else ({},):
        path = written(
            tmp_path / ("a.pfm" if mode == "F" and format == "PPM" else "a"), picture, format=format, **options
        )
        by_path = read_picture(path)
        decoded = read_picture(Image.open(path))
        assert by_path.shape == (37, 53, 3)
        # Two builds of libjpeg-turbo give the same bytes; of libraries with another transform each may round by 1.
        assert np.abs(by_path.astype(int) - decoded).max() <= (2 if format == "JPEG" else 0)
        np.testing.assert_array_equal(read_picture(decoded), decoded)
        if format in EXACT:
            np.testing.assert_array_equal(by_path, read_picture(picture))
        else:
            assert np.abs(by_path.astype(int) - read_picture(picture)).mean() < 9  # GIF: 256 colours
        if mode in ("L", "RGB", "I;16"):  # as NumPy sees the written picture
            np.testing.assert_array_equal(read_picture(np.asarray(picture)), read_picture(picture))


def test_pngs_of_every_kind_by_path_and_by_pil(tmp_path: Path) -> None:
    """OpenCV decodes those, so each way that it could go its own is tried."""
    pixels = noise(37, 53) // 64 * 80
    colours, grey, path = Image.fromarray(pixels), Image.fromarray(pixels[:, :, 0]), tmp_path / "a.png"
    significant = PngImagePlugin.PngInfo()
    significant.add(b"sBIT", bytes([5, 6, 5]))
    frames = {"save_all": True, "append_images": [Image.new("RGB", (53, 37))]}
    for picture, options in (
        (colours, {"transparency": (80, 80, 80)}),
        (grey, {"transparency": 80}),
        (colours, {"gamma": 0.3}),
        (colours, {"pnginfo": significant}),
        (colours, frames),
        (colours, frames | {"default_image": True}),
    ):
        written(path, picture, **options)
        for kind in (path, Image.open(path)):
            np.testing.assert_array_equal(read_picture(kind), read_picture(picture))
    deep = np.random.default_rng(0).integers(0, 65536, (37, 53, 4), dtype=np.uint16)
    for channels in (3, 4):
        cv2.imwrite(str(path), deep[:, :, :channels])  # BGR
        for kind in (path, Image.open(path)):
            np.testing.assert_array_equal(read_picture(kind), deep[:, :, 2::-1] >> 8)


def test_numbers_that_are_no_pixels_are_refused(tmp_path: Path) -> None:
    """Colour of 32 bits each, which OpenCV would make black or white of."""
    colours = np.random.default_rng(0).random((6, 9, 3), dtype=np.float32)
    for name in ("a.tif", "a.pfm"):
        cv2.imwrite(str(tmp_path / name), colours)
        with pytest.raises(ValueError, match=r"cannot be decoded \(no known kind of picture\)"):
            read_picture(tmp_path / name)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("options", [{"format": "JPEG"}, {"format": "JPEG", "progressive": True}, {"format": "PNG"}])
def test_truncated_files_are_refused_by_name(tmp_path: Path, options: dict, share: float) -> None:
    file = io.BytesIO()
    Image.fromarray(noise(100, 120)).save(file, **options)
    path = tmp_path / "cut"
    path.write_bytes(file.getvalue()[: int(share * len(file.getvalue()))])
    with pytest.raises(ValueError, match=r"cut.*copy the picture again"):
        read_picture(path)


def test_a_jpeg_cut_just_behind_its_thumbnail_is_refused(tmp_path: Path) -> None:
    # The thumbnail in the EXIF block has an end-of-image marker of its own.
    file, small = io.BytesIO(), io.BytesIO()
    Image.fromarray(noise(8, 8)).save(small, "JPEG")
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + small.getvalue()
    Image.fromarray(noise(100, 120)).save(file, "JPEG", exif=exif)
    path = tmp_path / "cut.jpg"
    path.write_bytes(file.getvalue()[: len(exif) + 2000])
    with pytest.raises(ValueError, match=r"cut\.jpg"):
        read_picture(path)


def test_a_png_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "bit.png", Image.fromarray(noise(50, 50)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"bit\.png"):
        read_picture(path)


def test_what_is_no_picture_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("this is not a picture")
    (tmp_path / "noise.png").write_bytes(np.random.default_rng(0).bytes(500))
    with pytest.raises(ValueError, match=r"empty\.jpg is empty; copy the picture again"):
        read_picture(tmp_path / "empty.jpg")
    with pytest.raises(ValueError, match=r"text\.jpg cannot be decoded \(no known kind of picture\); copy the picture"):
        read_picture(tmp_path / "text.jpg")
    with pytest.raises(ValueError, match=r"noise\.png cannot be decoded"):
        read_picture(tmp_path / "noise.png")
    with pytest.raises(FileNotFoundError, match=r"missing\.jpg: no such picture"):
        read_picture(tmp_path / "missing.jpg")
    with pytest.raises(ValueError, match="is a folder; name the pictures in it"):
        read_picture(tmp_path)


def chunk(kind: bytes, data: bytes) -> bytes:
    """One of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def test_more_pixels_than_the_limit_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(32_000, 32_000))  # 3 GB
    fix = "cut it into tiles, or set the environment variable RCNNKIT_MAX_PIXELS to more"
    said = f"{path} has 1,024,000,000 pixels, more than 178,956,970; {fix}"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        read_picture(path)
    path.write_bytes(png_claiming(13_378, 13_377))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    said = f"{path} has 13378 × 13377 pixels, more than 178,956,970; {fix}"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        read_picture(path)


def test_the_limit_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.png", Image.fromarray(noise(20, 30)))
    monkeypatch.setenv("RCNNKIT_MAX_PIXELS", "600")
    assert read_picture(path).shape == (20, 30, 3)
    monkeypatch.setenv("RCNNKIT_MAX_PIXELS", "599")
    with pytest.raises(ValueError, match=r"a\.png has 30 × 20 pixels, more than 599; cut it"):
        read_picture(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's, which the user's stands in for
    monkeypatch.setenv("RCNNKIT_MAX_PIXELS", "600")
    assert read_picture(path).shape == (20, 30, 3)
    for bad in ("many", "0", "-1", "1e9"):
        monkeypatch.setenv("RCNNKIT_MAX_PIXELS", bad)
        with pytest.raises(ValueError, match=f"RCNNKIT_MAX_PIXELS is '{bad}', expected a whole number above 0"):
            read_picture(path)


def test_other_formats_are_not_opened_whatever_they_are_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[object] = []

    def ghostscript(*given: object, **more: object) -> None:
        run.append(given)
        raise OSError

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    for name in ("a.png", "a.jpg", "a.eps"):
        (tmp_path / name).write_bytes(eps)
        with pytest.raises(ValueError, match=r"cannot be decoded \(no known kind of picture\)"):
            read_picture(tmp_path / name)
    assert run == []
    with pytest.raises(OSError):  # noqa: PT011 - Pillow alone does start it
        Image.open(tmp_path / "a.png").load()
    assert len(run) == 1


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", Path("/dev/zero")):
        with pytest.raises(ValueError, match=f"{path} is not a regular file; copy what it gives into one"):
            read_picture(path)


def test_a_jpeg_of_which_a_part_is_missing_is_refused(tmp_path: Path) -> None:
    """Decoders make it grey, and at most write a warning."""
    file, path = io.BytesIO(), tmp_path / "half.jpg"
    Image.fromarray(noise(100, 120)).save(file, "JPEG")
    whole = file.getvalue()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + b"\xff\xd9")
    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == (100, 120, 3)
    with pytest.raises(ValueError, match=r"half\.jpg cannot be decoded \(its data end after \d+ of 56 blocks\); copy"):
        read_picture(path)
    path.write_bytes(whole[:middle] + bytes(500) + whole[middle + 500 :])
    with pytest.raises(ValueError, match=r"half\.jpg cannot be decoded \(its data "):
        read_picture(path)
    path.write_bytes(whole + bytes(1000))  # what some cameras append
    np.testing.assert_array_equal(read_picture(path), read_picture(Image.open(io.BytesIO(whole))))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.01, 1.01, 200])
def test_floats_beyond_the_unit_range_are_refused(bad: float) -> None:
    picture = np.full((4, 4, 3), 0.5, dtype=np.float32)
    picture[2, 1, 0] = bad
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\].*divide by 255"):
        read_picture(picture)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        read_picture(torch.tensor(picture).permute(2, 0, 1))
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        Preprocessing()([torch.tensor(picture).permute(2, 0, 1)])


def test_floats_that_rounding_left_outside_the_unit_range() -> None:
    picture = np.array([[[-0.0009, 1.0000001, 1.0009]]])
    assert read_picture(picture).tolist() == [[[0, 255, 255]]]
    assert read_picture(torch.tensor(picture).permute(2, 0, 1)).tolist() == [[[0, 255, 255]]]
    with pytest.raises(ValueError, match=r"this one spans \[0, 1\.00101\]; .*clip what a resize took beyond"):
        read_picture(np.array([[[0, 0, 1.00101]]]))


def test_open_files_give_their_rest(tmp_path: Path) -> None:
    path = written(tmp_path / "a.png", Image.fromarray(noise()))
    with path.open("rb") as file:
        np.testing.assert_array_equal(read_picture(file), noise())
        with pytest.raises(ValueError, match=r"a\.png is empty, or read to its end already; call its seek\(0\) first"):
            read_picture(file)
        file.seek(0)
        np.testing.assert_array_equal(read_picture(file), noise())
    with pytest.raises(ValueError, match=r"a\.png cannot be read \(read of closed file\); open it again, in mode 'rb'"):
        read_picture(file)
    with pytest.raises(TypeError, match=r"the StringIO given gives str and not bytes; open it in mode 'rb'"):
        read_picture(io.StringIO("text"))  # type: ignore[arg-type]  # a file of text
    with pytest.raises(ValueError, match="the BytesIO given cannot be decoded"):
        read_picture(io.BytesIO(b"x"))
    with pytest.raises(ValueError, match="the picture of 3 bytes cannot be decoded"):
        read_picture(b"GIF")


def test_a_pil_picture_whose_file_was_closed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.png", Image.fromarray(noise()))
    with Image.open(path) as closed:
        pass
    with pytest.raises(ValueError, match="cannot be decoded") as error:
        read_picture(closed)
    assert str(error.value) == (
        f"the PIL picture {path} cannot be decoded (its file was closed before its pixels were read); pass its path, or"
        " call its load() while its file is open"
    )
    with Image.open(path) as closed:
        closed.load()  # as the message advises
    np.testing.assert_array_equal(read_picture(closed), noise())


NO_PICTURES: list[tuple[Any, type[Exception], str]] = [
    (
        None,
        TypeError,
        "None is not a picture; cv2.imread returns it for a file that it cannot read, so pass the path itself",
    ),
    (
        7,
        TypeError,
        "a value of type int is not a picture; pass a path, bytes, an open file, a PIL picture, an array",
    ),
    ({}, TypeError, "a value of type dict is not a picture; pass a path"),
    (
        [[0]],
        TypeError,
        "a value of type list is not a picture; pass several pictures as one flat list, and pixels as an",
    ),
    ("", ValueError, "'' is not a path; give the path of a picture"),
    (
        "https://a.org/b.jpg",
        ValueError,
        "https://a.org/b.jpg is a URL, and nothing is downloaded here; pass it to rcnnkit.detect_each or `rcnnkit",
    ),
    (Path("https://a.org/b.jpg"), ValueError, "https:/a.org/b.jpg is a URL, and"),
    ("data:image/png;base64," + "A" * 9999, ValueError, "data:image/png;base64," + "A" * 78 + "… is a URL, and"),
    (
        "iVBO" * 2000,
        ValueError,
        "a text of 8,000 letters that begins with 'iVBOiVBOiVBOiVBOiVBO' is not a path; if it is",
    ),
    (np.array(["a.jpg"]), ValueError, "an array of <U5 holds no pixels; pass its elements as a list: array.tolist()"),
    (
        np.zeros((2, 4, 5, 3), np.uint8),
        ValueError,
        "(H, W, 4), not (2, 4, 5, 3); of a batch pass each picture: list(batch)",
    ),
    (np.zeros((3, 4, 5), np.uint8), ValueError, "(H, W, 4), not (3, 4, 5); pass array.transpose(1, 2, 0)"),
    (torch.zeros(2, 3, 4, 5), ValueError, "(1, H, W), not (2, 3, 4, 5); of a batch pass each picture: list(batch)"),
    (torch.zeros(4, 5, 3), ValueError, "(1, H, W), not (4, 5, 3); pass tensor.permute(2, 0, 1)"),
    (torch.zeros(4, 5), ValueError, "(1, H, W), not (4, 5); pass tensor[None]"),
    (torch.zeros(4, 5, 6), ValueError, "(1, H, W), not (4, 5, 6); leave out alpha: tensor[:3]"),
    (np.zeros((4, 5, 3), np.int64), ValueError, "not int64; if its values go from 0 to 255, convert them to uint8"),
]


@pytest.mark.parametrize(("given", "kind", "words"), NO_PICTURES, ids=range(len(NO_PICTURES)))
def test_what_is_given_by_mistake_is_told_with_its_place_and_what_to_give(given, kind, words: str) -> None:
    with pytest.raises(kind) as alone:
        read_picture(given)
    assert words in str(alone.value)
    with pytest.raises(kind) as among:
        read_pictures([noise(), given, noise()])
    assert str(among.value) == f"pictures[1]: {alone.value}"
    with pytest.raises(kind) as only:
        read_pictures([given])
    assert str(only.value) == str(alone.value)


def test_one_picture_or_several() -> None:
    pixels = noise()
    for one in (
        pixels,
        torch.zeros(3, 4, 5),
        "a.jpg",
        Path("a.jpg"),
        b"bytes",
        io.BytesIO(b"x"),
        Image.new("L", (1, 1)),
    ):
        assert list_pictures(one) is None
    named: dict[str, Picture] = {"a": pixels, "b": "b.jpg"}
    ways: list[Iterable[Picture]] = [
        (p for p in named.values()),
        named.values(),
        tuple(named.values()),
        iter(named.values()),
    ]
    for several in ways:
        first, second = list_pictures(several) or []
        assert first is pixels
        assert second == "b.jpg"
    assert list_pictures(iter(())) == []
    for batch in (np.stack([pixels, pixels + 1]), torch.tensor(np.stack([pixels, pixels + 1])).permute(0, 3, 1, 2)):
        first, second = read_pictures(list_pictures(batch) or [])
        np.testing.assert_array_equal(first, pixels)
        np.testing.assert_array_equal(second, pixels + 1)
    with pytest.raises(TypeError, match=r"a dict of pictures has no order to answer in; pass its values"):
        list_pictures(named)
    with pytest.raises(TypeError, match=r"a set of pictures has no order to answer in; pass a list"):
        list_pictures({"a.jpg"})
    with pytest.raises(TypeError, match=r"None is not a picture; cv2\.imread returns it"):
        list_pictures(None)  # type: ignore[arg-type]  # not a picture


def test_other_shapes_and_types_are_refused() -> None:
    for shape in ((4,), (4, 4, 2), (4, 4, 5), (0, 4, 3), (4, 0), (2, 4, 4, 3)):
        with pytest.raises(ValueError, match="a picture array must be"):
            read_picture(np.zeros(shape, np.uint8))
    for shape in ((4, 4), (4, 4, 4), (2, 3, 4, 4)):
        with pytest.raises(ValueError, match="a picture tensor must be"):
            read_picture(torch.zeros(shape))
        with pytest.raises(ValueError, match="a picture tensor must be"):
            Preprocessing()([torch.zeros(shape)])
    with pytest.raises(ValueError, match=r"uint8, uint16 or float in \[0, 1\], not int64"):
        read_picture(np.zeros((4, 4, 3), dtype=np.int64))
    with pytest.raises(ValueError, match="a picture"):
        Preprocessing()([torch.zeros(3, 0, 4)])


def test_the_array_given_is_not_changed_nor_shared() -> None:
    pixels = noise()
    Preprocessing(short_side=6, long_side=9)([pixels])
    np.testing.assert_array_equal(pixels, noise())


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1066)),  # 800/480 = 1.667; 640 · 1.667 = 1066.7
        ((640, 480), (1066, 800)),
        ((300, 600), (666, 1333)),  # 800/300 would make the longer side 1600, so 1333/600 = 2.2217
        ((800, 1333), (800, 1333)),
        ((1600, 1600), (800, 800)),
        ((1, 5000), (1, 1333)),  # 0.27 pixels high: at least one
        ((5000, 1), (1333, 1)),
        ((1, 1), (800, 800)),
    ],
)
def test_sizes_by_hand(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert Preprocessing(short_side=800, long_side=1333).resized(size) == expected


def test_factor_scales_the_sides() -> None:
    assert Preprocessing(short_side=100, long_side=200).resized((100, 150), 0.5) == (50, 75)
    assert Preprocessing(short_side=100, long_side=200).resized((100, 150), 1.25) == (125, 187)


def test_a_shorter_side_of_0_leaves_pictures_as_they_are_unless_they_are_long() -> None:
    as_it_is = Preprocessing(short_side=0, long_side=200)
    assert as_it_is.resized((37, 150)) == (37, 150)
    assert as_it_is.resized((400, 100)) == (200, 50)


def test_sizes_are_torchvisions() -> None:
    theirs = GeneralizedRCNNTransform(80, 133, [0.0] * 3, [1.0] * 3)
    ours = Preprocessing(short_side=80, long_side=133)
    rng = np.random.default_rng(0)
    for height, width in [*rng.integers(2, 300, (60, 2)).tolist(), (97, 97), (3, 299)]:
        if min(height, width) * 133 < max(height, width):
            continue  # torchvision would ask for a side of 0
        resized, _ = theirs.resize(torch.zeros(3, height, width))
        assert ours.resized((height, width)) == tuple(resized.shape[1:])


def test_floats_are_resized_as_torch_does_and_normalised_first() -> None:
    preprocessing = Preprocessing(short_side=20, long_side=50, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2))
    picture = torch.rand(3, 13, 17, generator=torch.Generator().manual_seed(0))
    normal = (picture - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.5, 0.25, 2])[:, None, None]
    expected = F.interpolate(normal[None], size=(20, 26), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(preprocessing.resize(picture), expected)


@pytest.mark.parametrize("short_side", [7, 20, 31, 90])
def test_bytes_are_resized_as_torch_does_within_a_grey_level(short_side: int) -> None:
    preprocessing = Preprocessing(short_side=short_side, long_side=1000)
    picture = noise(31, 45)
    resized = preprocessing.resize(picture)
    assert resized.dtype == torch.uint8
    floats = torch.tensor(picture).permute(2, 0, 1).float()
    expected = F.interpolate(floats[None], size=resized.shape[1:], mode="bilinear", align_corners=False)[0]
    # OpenCV interpolates bytes in fixed point: rounding, and weights of 11 bits
    assert (resized.float() - expected).abs().max() <= 1


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    picture = noise(20, 30)
    resized = Preprocessing(short_side=20, long_side=30).resize(picture)
    np.testing.assert_array_equal(resized.permute(1, 2, 0).numpy(), picture)


def test_batch_normalises_and_pads_with_zeros() -> None:
    preprocessing = Preprocessing(mean=(0.5, 0, 1), std=(0.5, 1, 2), divisor=16)
    one = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None].expand(3, 4, 17)
    two = torch.full((3, 18, 3), 7.0)  # floats from `resize` are normalised already
    images = preprocessing.batch([one, two], [(40, 170), (9, 1)], "cpu")
    assert images.pixels.shape == (2, 3, 32, 32)  # 18 and 17, up to multiples of 16
    assert images.sizes == [(4, 17), (18, 3)]
    assert images.original_sizes == [(40, 170), (9, 1)]
    # (0 − 0.5) / 0.5, (51/255 − 0) / 1, (1 − 1) / 2
    for channel, value in enumerate((-1, 0.2, 0)):
        torch.testing.assert_close(images.pixels[0, channel, :4, :17], torch.full((4, 17), float(value)))
    assert (images.pixels[1, :, :18, :3] == 7).all()
    assert images.pixels[0, :, 4:].eq(0).all()
    assert images.pixels[0, :, :, 17:].eq(0).all()
    assert images.pixels[1, :, 18:].eq(0).all()
    assert images.pixels[1, :, :, 3:].eq(0).all()


@pytest.mark.parametrize("divisor", [1, 32, 64])
def test_padded_sides_are_the_least_multiples(divisor: int) -> None:
    images = Preprocessing(divisor=divisor).batch([torch.zeros(3, 64, 65, dtype=torch.uint8)], [(64, 65)], "cpu")
    expected = tuple(math.ceil(side / divisor) * divisor for side in (64, 65))
    assert images.pixels.shape[2:] == expected


def test_call_with_mixed_sizes_and_kinds(tmp_path: Path) -> None:
    preprocessing = Preprocessing(short_side=16, long_side=40, divisor=8)
    a, b = noise(16, 24), noise(32, 20, seed=1)
    path = written(tmp_path / "a.png", Image.fromarray(a))
    grey = torch.full((1, 8, 30), 0.5)
    images = preprocessing([path, b, grey])
    assert images.original_sizes == [(16, 24), (32, 20), (8, 30)]
    assert images.sizes == [(16, 24), (25, 16), (10, 40)]  # 16/20; 40/30
    assert images.pixels.shape == (3, 3, 32, 40)
    mean, std = (torch.tensor(v)[:, None, None] for v in (preprocessing.mean, preprocessing.std))
    torch.testing.assert_close(images.pixels[0, :, :16, :24], (torch.tensor(a).permute(2, 0, 1) / 255 - mean) / std)
    torch.testing.assert_close(images.pixels[2, :, :10, :40], ((0.5 - mean) / std).expand(3, 10, 40))
    alone = preprocessing([b])
    torch.testing.assert_close(images.pixels[1, :, :25, :16], alone.pixels[0, :, :25, :16])


def test_the_batch_keeps_the_pictures_as_they_were_decoded(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    tensor = torch.tensor(pixels).permute(2, 0, 1)
    images = Preprocessing(short_side=16)([path, pixels, tensor, tensor / 255, Image.fromarray(pixels).convert("L")])
    assert np.shares_memory(images.pictures[1], pixels)  # no copy
    for picture in (images.pictures[0], *images.pictures[2:4]):
        np.testing.assert_array_equal(picture, pixels)
    assert (images.pictures[4].shape, images.pictures[4].dtype) == ((20, 30, 3), np.uint8)


def test_torchvisions_rule_is_exact_for_bytes() -> None:
    array = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    rule = Preprocessing(short_side=64, long_side=1000, resizing="torchvision")
    theirs = GeneralizedRCNNTransform(64, 1000, list(rule.mean), list(rule.std), size_divisible=rule.divisor).eval()
    (expected, _) = theirs([torch.from_numpy(array).permute(2, 0, 1) / 255])
    torch.testing.assert_close(rule([array]).pixels, expected.tensors, atol=1e-6, rtol=0)
    assert (rule([array]).pixels - rule.model_copy(update={"resizing": "opencv"})([array]).pixels).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1067)),  # 1066.67
        ((427, 640), (800, 1199)),  # 1199.06
        ((375, 1000), (500, 1333)),  # 499.88
        ((333, 500), (800, 1201)),  # 1201.2
    ],
)
def test_detectron2s_sides_are_rounded(size: tuple[int, int], expected: tuple[int, int]) -> None:
    rule = Preprocessing(resizing="detectron2")
    assert rule.resized(size) == expected
    assert rule.resized(size[::-1]) == expected[::-1]


def test_detectron2s_rule_averages_where_it_shrinks() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::4] = 200  # a quarter of it; four pixels become one
    rule = Preprocessing(short_side=16, resizing="detectron2")
    middle = rule.resize(stripes)[:, 4:12, 4:12].float()
    assert middle.mean().item() == pytest.approx(50, abs=1)
    assert middle.std() < 20
    expected = Image.fromarray(stripes).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(rule.resize(stripes).permute(1, 2, 0).numpy(), np.asarray(expected))


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


def test_a_batch_in_a_tensor_has_its_channels_first() -> None:
    with pytest.raises(ValueError, match=r"not \(2, 8, 9, 3\); pass tensor\.permute\(0, 3, 1, 2\)"):
        list_pictures(torch.zeros(2, 8, 9, 3))


def test_pictures_one_by_one_and_without_pixels() -> None:
    rng = np.random.default_rng(0)
    preprocessing = Preprocessing(short_side=24, long_side=50, divisor=16)
    array, unit = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), torch.rand(3, 20, 50)  # not rounded to 8 bits
    pictures: list[Picture] = [array, unit]
    for alone, picture in zip(preprocessing.one_by_one(pictures), pictures, strict=True):
        expected = preprocessing([picture])
        assert alone.pixels.equal(expected.pixels)
        assert (alone.sizes, alone.original_sizes) == (expected.sizes, expected.original_sizes)
        np.testing.assert_array_equal(alone.pictures[0], expected.pictures[0])
    together, unseen = preprocessing([array, unit]), preprocessing.unseen([array, unit])
    assert unseen.pixels.shape == (2, 3, 0, 0)
    assert (unseen.sizes, unseen.original_sizes) == (together.sizes, together.original_sizes)
    assert unseen.sizes == [(24, 32), (20, 50)]
    assert all(map(np.array_equal, unseen.pictures, together.pictures))
    for method in (preprocessing.one_by_one, preprocessing.unseen):
        with pytest.raises(ValueError, match=r"^pictures\[1\]: "):
            method([array, unit[0]])
