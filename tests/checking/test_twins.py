import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from rcnnkit.checking.looks import SIDE, Look, look_at
from rcnnkit.checking.twins import Twin, _candidates, _codes, find_twins, similar

RANDOM = np.random.default_rng(0)


def scene(seed: int) -> np.ndarray:
    """Blobs of several sizes, (240, 320, 3)."""
    random = np.random.default_rng(seed)
    picture = np.full((240, 320, 3), random.integers(60, 200, 3), np.uint8)
    for _ in range(25):
        centre = tuple(map(int, random.integers(0, (320, 240))))
        colour = tuple(map(int, random.integers(0, 256, 3)))
        cv2.circle(picture, centre, int(random.integers(5, 50)), colour, -1)
    return picture


def written(path: Path, picture: np.ndarray, quality: int = 95) -> Look:
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return look_at(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: cv2.resize(picture, (160, 120), interpolation=cv2.INTER_AREA),
        lambda picture: cv2.resize(picture, (640, 480)),
        lambda picture: np.clip(picture * 1.2 + 10, 0, 255).astype(np.uint8),
        lambda picture: cv2.GaussianBlur(picture, (5, 5), 0),
        lambda picture: picture[4:, 5:],
        lambda picture: cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR),
    ],
    ids=["half", "double", "brighter", "blurred", "cut", "grey"],
)
def test_changed_copies_are_twins(change, tmp_path: Path) -> None:
    looks = [written(tmp_path / f"{i}.jpg", scene(i)) for i in range(12)]
    looks.append(written(tmp_path / "copy.jpg", change(scene(5)), quality=60))
    assert find_twins(looks, [0] * 12 + [1]) == [Twin(5, 12, same=False)]


def test_the_same_bytes_are_twins_and_blank_pictures_are_not_similar(tmp_path: Path) -> None:
    blank = np.full((64, 64, 3), 90, np.uint8)
    looks = [
        written(tmp_path / "0.jpg", scene(0)),
        written(tmp_path / "1.jpg", blank),
        written(tmp_path / "2.jpg", scene(0)),
        written(tmp_path / "3.jpg", blank, quality=40),
        written(tmp_path / "4.jpg", scene(0)),
    ]
    # The fourth has a copy in its own split, which is compared with the other one.
    assert find_twins(looks, [0, 0, 1, 0, 1]) == [Twin(0, 2, same=True), Twin(2, 4, same=True)]
    assert find_twins([], []) == []
    assert find_twins(looks[:1], [0]) == []


def test_codes_that_differ_in_six_bits_are_always_brought_together() -> None:
    codes = RANDOM.integers(0, 256, (300, 8)).astype(np.uint8)
    bits = np.unpackbits(codes, axis=1)
    for i in range(150):
        bits[150 + i] = bits[i]
        bits[150 + i, RANDOM.choice(64, i % 7, replace=False)] ^= 1
    codes = np.packbits(bits, axis=1)
    first, second = _candidates(codes, np.zeros(300, np.int64))
    found = set(zip(first.tolist(), second.tolist(), strict=True))
    assert {(i, 150 + i) for i in range(150)} <= found
    distances = (bits[:, None] != bits[None]).sum(axis=2)
    assert found <= {(i, j) for i, j in itertools.combinations(range(300), 2) if distances[i, j] <= 10}


def test_codes_are_those_of_a_cosine_transform() -> None:
    small = RANDOM.integers(0, 256, (3, SIDE, SIDE)).astype(np.uint8)
    for one, code in zip(small, _codes(small), strict=True):
        transformed = cv2.dct(one.astype(np.float32))
        low = transformed[:8, :8].flatten()
        low[0] = transformed[0, 8]
        assert np.packbits(low > np.median(low)).tolist() == code.tolist()


def test_of_many_frames_of_one_scene_each_has_a_twin() -> None:
    base = cv2.resize(RANDOM.integers(20, 220, (8, 8)).astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    frames = (base + RANDOM.integers(0, 2, (300, SIDE, SIDE))).astype(np.uint8)
    pairs = list(similar(frames, [0] * 150 + [1] * 150))
    assert {i for pair in pairs for i in pair} == set(range(300))
    assert {j for i, j in pairs if i < 150 <= j} == set(range(150, 300))
    assert len(pairs) < 300 * 8


def test_no_pictures_and_one() -> None:
    assert list(similar(np.zeros((0, SIDE, SIDE), np.uint8), [])) == []
    assert list(similar(np.zeros((1, SIDE, SIDE), np.uint8), [0])) == []
