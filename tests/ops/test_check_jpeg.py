"""Parts of a JPEG that are missing are found; whole ones, of whatever make, are good."""

import io
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from rcnnkit.ops import check_jpeg

END = b"\xff\xd9"


def smooth(height: int = 120, width: int = 150, mode: str = "RGB") -> Image.Image:
    """Waves and a little noise, so that blocks differ in length."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([128 + 100 * np.sin(x / 9), 128 + 100 * np.cos(y / 7), 128 + 60 * np.sin((x + y) / 5)], axis=2)
    noise = np.random.default_rng(0).integers(-9, 10, waves.shape)
    return Image.fromarray((waves + noise).astype(np.uint8)).convert(mode)


def encoded(picture: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


def damage(data: bytes) -> str | None:
    return check_jpeg(np.frombuffer(data, np.uint8).copy())


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("restarts", [{}, {"restart_marker_blocks": 1}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_whole_pictures_are_good(progressive: bool, restarts: dict[str, int], mode: str) -> None:
    for height, width in ((1, 1), (8, 8), (37, 53), (120, 150)):
        for options in ({"quality": 20}, {"quality": 98, "optimize": True}, {"quality": 75, "subsampling": 0}):
            options = options if mode == "RGB" else options | {"subsampling": -1}
            picture = smooth(height, width, mode)
            assert damage(encoded(picture, progressive=progressive, **restarts, **options)) is None


def test_other_whole_pictures_are_good() -> None:
    grey, black = Image.new("RGB", (200, 100), (128, 128, 128)), Image.new("RGB", (200, 100))
    for picture in (grey, black):
        assert damage(encoded(picture)) is None
        assert damage(encoded(picture, optimize=True)) is None  # long runs of zero bytes
    plain = encoded(smooth())
    assert damage(plain + bytes(5000)) is None  # what cameras append
    assert damage(plain[:-2]) is None  # all but the end marker
    assert damage(plain[:-2] + bytes(7) + END) is None  # filled up to a multiple of eight
    several = io.BytesIO()
    smooth().save(several, "MPO", save_all=True, append_images=[smooth(60, 60)])
    assert damage(several.getvalue()) is None
    assert damage(several.getvalue()[:-500]) is None  # the second picture is not looked at


def test_all_real_pictures_are_good(bccd: Path, coco256: Path) -> None:
    files = [*bccd.glob("JPEGImages/*.jpg"), *coco256.glob("*2017/*.jpg")]
    assert len(files) == 364 + 256
    assert [path for path in files if check_jpeg(np.fromfile(path, np.uint8))] == []


def test_blocks_that_are_there_are_counted() -> None:
    whole = encoded(smooth(64, 80, "L"), restart_marker_blocks=1)  # 8 × 10 blocks, with a marker behind each
    marks = [match.end() for match in re.finditer(rb"\xff[\xd0-\xd7]", whole)]
    assert len(marks) == 79
    for read in (1, 10, 79):
        assert damage(whole[: marks[read - 1]] + END) == f"its data end after {read} of 80 blocks"
        assert damage(whole[: marks[read - 1]]) == f"its data end after {read} of 80 blocks"
    swapped = whole[: marks[4]] + whole[marks[5] :]  # the sixth block and its marker
    assert damage(swapped) == "its data end after 6 of 80 blocks"


@pytest.mark.parametrize("progressive", [False, True])
def test_a_picture_cut_and_closed_is_found(progressive: bool) -> None:
    whole = encoded(smooth(), progressive=progressive)
    start = whole.index(b"\xff\xda") + 14  # behind the header of the first scan
    for cut in np.linspace(start, len(whole) - 12, 60).astype(int):
        assert damage(whole[:cut].rstrip(b"\xff") + END), cut


def test_a_progressive_picture_without_its_later_scans() -> None:
    whole = encoded(smooth(), progressive=True)
    scans = [match.start() for match in re.finditer(b"\xff\xda", whole)]
    second = whole.rindex(b"\xff\xc4", 0, scans[1])  # with its table
    assert damage(whole[:second] + END) == "its later scans are missing: of its pixels it holds only 1 scan"


def test_data_left_over_are_found() -> None:
    whole = encoded(smooth())
    left = np.random.default_rng(0).integers(0, 255, 20, dtype=np.uint8).tobytes()
    assert damage(whole[:-2] + left + END) == "its data are damaged: some are left over when all blocks are read"
    assert damage(whole[:-2] + bytes(8) + END) == "its data are damaged: some are left over when all blocks are read"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 95}])
def test_zeroed_bytes_are_found(options: dict[str, object]) -> None:
    whole = encoded(smooth(400, 500), **options)
    for start in range(1500, len(whole) - 1300, 997):
        assert damage(whole[:start] + bytes(1024) + whole[start + 1024 :]), start


def test_whatever_libjpeg_warns_of_is_found(capfd: pytest.CaptureFixture[str]) -> None:
    """A witness: OpenCV's libjpeg, which writes "Corrupt JPEG data" on the terminal, and decodes all the same."""
    rng = np.random.default_rng(0)
    warned = 0
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 3}, {"quality": 95, "subsampling": 0}):
        whole = np.frombuffer(encoded(smooth(), **options), np.uint8)
        for _ in range(60):
            broken = whole.copy()
            at, length = int(rng.integers(700, len(whole) - 40)), int(rng.integers(1, 40))
            broken[at : at + length] = rng.integers(0, 256, length)
            found = check_jpeg(broken)
            cv2.imdecode(broken, cv2.IMREAD_COLOR)
            if "Corrupt JPEG data" in capfd.readouterr().err:
                warned += 1
                assert found
    assert warned > 100


def test_whatever_the_bytes_are_it_returns() -> None:
    """Headers too; an answer is all that is wanted."""
    rng = np.random.default_rng(0)
    for options in ({}, {"progressive": True, "restart_marker_blocks": 2}):
        whole = np.frombuffer(encoded(smooth(), **options), np.uint8)
        for _ in range(300):
            broken = whole[: rng.integers(0, len(whole) + 1)].copy()
            for at in rng.integers(0, 700, 8):
                broken[at : at + 1] = rng.integers(0, 256)
            check_jpeg(broken)
    assert damage(b"") is None
    assert damage(b"not a JPEG at all") is None
