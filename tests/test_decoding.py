"""Picture files of every format, and damaged, huge and foreign ones."""

import io
import os
import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, PngImagePlugin

from rcnnkit.images import read_picture
from tests.pictures import chunk, noise, written


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
