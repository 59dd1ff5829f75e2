"""Every kind of value that can be a picture comes out as the same RGB, and others are refused."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from rcnnkit.images import Picture, Preprocessing, list_pictures, read_picture, read_pictures
from tests.pictures import noise, written


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


def test_a_batch_in_a_tensor_has_its_channels_first() -> None:
    with pytest.raises(ValueError, match=r"not \(2, 8, 9, 3\); pass tensor\.permute\(0, 3, 1, 2\)"):
        list_pictures(torch.zeros(2, 8, 9, 3))
