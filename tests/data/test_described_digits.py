"""Digits with phrases."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnnkit.data.described_digits import DESCRIBED, describe, write_described_digits
from rcnnkit.data.digits import Scene
from rcnnkit.data.reading import read_data
from rcnnkit.vocabulary import Vocabulary


def scene(*boxes: tuple[float, float, float, float]) -> Scene:
    looks = [("small", "red"), ("large", "blue"), ("small", "white")][: len(boxes)]
    return Scene(np.zeros((1, 1, 3)), np.array(boxes), [7, 3, 0][: len(boxes)], [], np.zeros(0), looks)


def test_phrases() -> None:
    first = (10.0, 10.0, 30.0, 30.0)
    assert describe(scene(first)) == ["small red seven"]
    names = "small red seven", "large blue three"
    for box, here, there in (
        ((35.0, 12.0, 60.0, 40.0), "left of", "right of"),
        ((8.0, 38.0, 30.0, 60.0), "above", "below"),
    ):
        assert describe(scene(first, box)) == [f"{names[0]} {here} a {names[1]}", f"{names[1]} {there} a {names[0]}"]
        assert describe(scene(box, first))[0].startswith(f"small red seven {there} a")  # type: ignore[index]  # a phrase, or the test fails
    assert describe(scene(first, (60.0, 60.0, 90.0, 90.0))) == list(names)  # far
    assert describe(scene(first, (45.0, 10.0, 60.0, 30.0))) is None  # neither near nor far
    assert describe(scene(first, (35.0, 35.0, 60.0, 60.0))) is None  # beside or below
    assert describe(scene(first, (35.0, 10.0, 60.0, 30.0), (10.0, 35.0, 30.0, 50.0))) is None  # two neighbours


def test_what_is_written_is_what_is_seen(tmp_path: Path) -> None:
    write_described_digits(tmp_path / "a", train=3, val=1, size=(96, 96))
    write_described_digits(tmp_path / "b", train=3, val=1, size=(96, 96))
    for file in sorted((tmp_path / "a").rglob("*.*")):
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()
    data = read_data(tmp_path / "a", "train")
    assert len(data) == 3
    assert len(read_data(tmp_path / "a", "val")) == 1
    for record in data.records:
        pixels = np.asarray(Image.open(record.path)).astype(float)
        for (x1, y1, x2, y2), phrase in zip(
            record.targets.boxes.int().tolist(), Vocabulary(data.words).decode(record.targets.phrases), strict=True
        ):
            size, colour, _ = phrase.split()[:3]
            low, high = DESCRIBED.sides[size]
            assert low - 2 <= max(x2 - x1, y2 - y1) <= 1.5 * high  # before it is turned
            away = np.abs(pixels[y1:y2, x1:x2] - DESCRIBED.colours[colour]).max(axis=2)
            assert (away < 60).mean() > 0.1
    with pytest.raises(FileExistsError):
        write_described_digits(tmp_path / "a")
