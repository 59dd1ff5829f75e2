"""Pictures that cannot be used, found without decoding them all."""

import io
import logging
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rcnnkit.data.checks import (
    Box,
    Findings,
    check_box,
    check_picture,
    check_size,
    fixed_box,
    fixing,
    picture_size,
    picture_sizes,
    pictures_in,
)
from rcnnkit.decoding import plain_jpeg_size


def encoded(format: str, **options: object) -> bytes:
    """60 x 50 pixels of noise, so that there is something to cut off."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def said(problem: str | None) -> str:
    assert problem is not None
    return problem


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
    assert "cannot be read" in said(check_picture(path))


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
    assert words in said(check_picture(path))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_jpegs_with_parts_missing_in_the_middle_are_found(tmp_path: Path, options: dict[str, object]) -> None:
    whole, path = encoded("JPEG", **options), tmp_path / "a.jpg"
    half = len(whole) // 2
    for damaged in (whole[:half] + b"\xff\xd9", whole[:half] + bytes(300) + whole[half + 300 :]):
        path.write_bytes(damaged)
        assert "cannot be read (its data " in said(check_picture(path))


def test_only_regular_files_are_pictures(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    for irregular in (tmp_path / "a.jpg", Path("/dev/zero")):
        assert said(check_picture(irregular)) == "the picture is not a regular file; copy what it gives into one"
    (tmp_path / "b.jpg").mkdir()
    assert said(check_picture(tmp_path / "b.jpg")) == "the picture is a folder; put a picture file in its place"


def test_pictures_of_a_folder_and_its_sub_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is not taken is counted, but for results and what is in hidden folders."""
    for name in ("b.png", "a.JPG", "._a.JPG", "notes.txt", "old.txt", "list", "c.jfif", "d.ppm", "e.avif", "f.jp2"):
        (tmp_path / name).write_bytes(encoded("PNG"))
    for folder in ("dir.jpg", ".git", "sub/deep", "found"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "z.png").write_bytes(encoded("PNG"))
    (tmp_path / "sub" / "again").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with caplog.at_level(logging.INFO, "rcnnkit"):
        taken = pictures_in([tmp_path], tmp_path / "found")
    expected = ["a.JPG", "b.png", "c.jfif", "d.ppm", "dir.jpg/z.png", "e.avif", "f.jp2", "sub/deep/z.png"]
    assert [path.relative_to(tmp_path).as_posix() for path in taken] == expected
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: 8 pictures taken, 6 other things left out: 2 .txt, 1 .png that is not a regular file,"
        " 1 hidden picture, 1 link to a folder, 1 without an ending"
    ]
    assert pictures_in([tmp_path / "._a.JPG"]) == [tmp_path / "._a.JPG"]  # it was asked for
    caplog.clear()
    assert len(pictures_in([tmp_path / "sub" / "deep"])) == 1
    assert not caplog.records


def test_too_many_pixels_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    monkeypatch.setenv("RCNNKIT_MAX_PIXELS", "2999")
    assert check_picture(tmp_path / "a.png") == (
        "the picture has 60 × 50 pixels, more than 2,999; cut it into tiles, or set the environment variable"
        " RCNNKIT_MAX_PIXELS to more"
    )


def test_a_picture_that_may_not_be_read(forbidden: Path) -> None:
    assert check_picture(forbidden) == (
        "the picture may not be read (permission denied); change its permissions, or ask its owner to do so"
    )


def test_missing_picture(tmp_path: Path) -> None:
    assert "no such picture" in said(check_picture(tmp_path / "a.jpg"))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_a_turned_picture_may_be_annotated_as_stored_or_as_shown(tmp_path: Path, turn: int, format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / "a"
    path.write_bytes(encoded(format, exif=exif))
    shown = (60, 50) if turn in (6, 8) else (50, 60)
    assert picture_sizes([path]) == [shown]
    assert check_size(path, shown, shown) is None
    assert check_size(path, (50, 60), shown) is None
    swapped = check_size(path, (60, 50), shown)
    assert swapped is None if turn in (6, 8) else "50 wide and 60 high" in said(swapped)
    assert "61 wide and 50 high" in said(check_size(path, (50, 61), shown))


@pytest.mark.parametrize(
    ("box", "fixed"),
    [
        ((10, 5, 45, 20), (10, 5, 40, 20)),  # beyond the right edge
        ((-4, -2, 10, 33), (0, 0, 10, 30)),
        ((30, 20, 10, 5), (10, 5, 30, 20)),  # corners in the wrong order
        ((45, 20, 10, 5), (10, 5, 40, 20)),  # both
        ((30, 5, 55, 20), None),  # more of it lies outside
        ((50, 5, 60, 20), None),
        ((10, 5, 10, 20), None),  # no width
        ((10, 5, math.nan, 20), None),
        ((10, 5, math.inf, 20), None),
    ],
)
def test_boxes_that_have_one_clear_answer(box: Box, fixed: Box | None) -> None:
    assert fixed_box(box, (30, 40)) == fixed
    with pytest.raises(ValueError, match=r"."):
        check_box(box, (30, 40), "the box")
    with fixing():
        findings = Findings()
    if fixed is None:
        with pytest.raises(ValueError, match="the box"):
            findings.box(box, (30, 40), "the box", Path("a.json"), "object 1")
        assert (findings, findings.fixed) == ([], {})
    else:
        assert findings.box(box, (30, 40), "the box", Path("a.json"), "object 1") == fixed
        assert list(findings.fixed) == findings
        assert findings.fixed[findings[0]] == "x1 {:g}, y1 {:g}, x2 {:g}, y2 {:g}".format(*fixed)
    with pytest.raises(ValueError, match="the box"):
        Findings().box(box, (30, 40), "the box", Path("a.json"), "object 1")


@pytest.mark.parametrize(
    ("annotated", "boxes", "clear"),
    [
        ((40, 31), [(0, 0, 40, 30)], True),
        ((40, 31), [(0, 0, 40, 31)], False),  # a box of the other size
        ((60, 80), [(0, 0, 4, 3)], False),  # the picture may have been halved after it was annotated
        ((0, 80), [], True),
    ],
)
def test_sizes_that_have_one_clear_answer(annotated: tuple[int, int], boxes: list[Box], clear: bool) -> None:
    with fixing():
        findings = Findings()
    assert findings.size("another size", annotated, (30, 40), boxes, Path("a.json"), "picture a") is clear
    assert list(findings.fixed.values()) == ["40 wide and 30 high"] * clear
    assert [str(each) for each in findings] == ["a.json: picture a: another size"]
    assert Findings().size("another size", annotated, (30, 40), boxes, Path("a.json"), "picture a") is False


def test_plain_jpegs_are_seen_as_pillow_sees_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    colour = Image.fromarray(random.integers(0, 255, (37, 50, 3), np.uint8))
    turn = Image.Exif()
    turn[0x0112] = 6
    plain: list[tuple[Image.Image, dict[str, Any]]] = [
        (colour, {}),
        (colour.convert("L"), {}),
        (colour, {"progressive": True}),
        (colour, {"restart_marker_rows": 1, "comment": b"taken in the rain"}),
        (colour, {"subsampling": 0, "quality": 100, "optimize": True}),
    ]
    others: list[tuple[Image.Image, dict[str, Any]]] = [
        (colour.convert("CMYK"), {}),
        (colour, {"exif": turn}),
        (colour, {"icc_profile": b"x" * 200}),
        (colour, {"qtables": [[300] * 64]}),  # of 16 bits
    ]
    for number, (picture, options) in enumerate([*plain, *others]):
        path = tmp_path / f"{number}.jpg"
        picture.save(path, **options)
        data = np.fromfile(path, np.uint8)
        size = (50, 37) if "exif" in options else (37, 50)
        assert plain_jpeg_size(data) == (size if number < len(plain) else None), options
        assert picture_size(path) == size
        assert plain_jpeg_size(data[:-90]) is None  # without its end
        assert plain_jpeg_size(np.concatenate([data[:20], data[-64:]])) is None
    data = np.fromfile(tmp_path / "0.jpg", np.uint8)
    for end in range(0, 700, 7):  # wherever a header breaks off
        assert plain_jpeg_size(np.concatenate([data[:end], np.array([0xFF, 0xD9], np.uint8)])) in (None, (37, 50))
    middle = len(data) // 2
    data[middle : middle + 40] = 0xFF
    assert plain_jpeg_size(data) == (37, 50)
    data.tofile(tmp_path / "damaged.jpg")
    assert "the picture cannot be read (its data " in str(picture_size(tmp_path / "damaged.jpg"))
    monkeypatch.setenv("RCNNKIT_MAX_PIXELS", "1000")
    assert plain_jpeg_size(np.fromfile(tmp_path / "0.jpg", np.uint8)) is None
