"""Letters of any text, in fonts that have them."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

from rcnnkit.drawing import draw, fonts
from rcnnkit.drawing.canvas import Canvas
from rcnnkit.structures import Detections

DEJAVU = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
CAT = "猫"


@pytest.fixture(autouse=True)
def unknown() -> Iterator[None]:
    """Nothing is remembered of the fonts of another test."""

    def forget() -> None:
        for each in (fonts._file_with, fonts._all_files, fonts._letters_of, fonts._font):
            each.cache_clear()
        fonts._told.clear()

    forget()
    yield
    forget()


@pytest.fixture
def cat_font(tmp_path: Path) -> Path:
    """DejaVu Sans with its A for the letter 猫, and nothing else, alone in its folder."""
    font = TTFont(DEJAVU)
    for table in font["cmap"].tables:
        table.cmap = {ord(CAT): "A"}
    for record in font["name"].names:
        record.string = "Cats"
    file = tmp_path / "fonts" / "below" / "cat.ttf"
    file.parent.mkdir(parents=True)
    font.save(file)
    (file.parent / "broken.ttf").write_bytes(b"no font")
    return file


def without_fontconfig(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(fonts, "FOLDERS", [*map(str, folders)])


def texts(parts: list[fonts.Run]) -> list[tuple[str, str]]:
    return [(text, Path(font.path).name if isinstance(font.path, str) else "plain") for text, font in parts]


def test_plain_names_look_as_with_pillows_font() -> None:
    canvas = Canvas(np.full((60, 200, 3), 90, np.uint8))
    canvas.write((20, 40, 100, 55), "Cat_gj 0.98", (240, 228, 66))
    font = ImageFont.load_default(10)
    assert isinstance(font, ImageFont.FreeTypeFont)
    expected = Image.new("RGB", (200, 60), (90, 90, 90))
    pencil = ImageDraw.Draw(expected)
    ascent, descent = font.getmetrics()
    width, top = int(np.ceil(pencil.textlength("Cat_gj 0.98", font))) + 2, 40 - ascent - descent
    pencil.rectangle((20, top, 20 + width - 1, 39), fill=(240, 228, 66))
    pencil.text((21, top), "Cat_gj 0.98", fill="black", font=font)
    np.testing.assert_array_equal(np.asarray(canvas.image), np.asarray(expected))


@pytest.mark.parametrize("text", ["café Löwe niño straße", "кот γάτα", "cafe\u0301"])
def test_dejavu_has_what_europe_writes(text: str, caplog: pytest.LogCaptureFixture) -> None:
    ((shown, font),) = fonts.runs(text, 12)
    assert set(map(ord, shown)) <= TTFont(DEJAVU).getBestCmap().keys()
    assert font.path == str(DEJAVU)
    assert fonts.runs("cafe\u0301", 12)[0][0] == "caf\xe9"
    assert not caplog.records


def test_letters_that_are_nowhere_are_code_points(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_fontconfig(monkeypatch)
    with caplog.at_level(logging.WARNING, "rcnnkit"):
        assert texts(fonts.runs(f"é{CAT}x", 12)) == [
            ("é", "DejaVuSans.ttf"),
            ("U+732B", "plain"),
            ("x", "DejaVuSans.ttf"),
        ]
        fonts.runs("犬", 12)
    assert caplog.messages == [
        "no font here has 猫 (U+732B): such letters are drawn as code points; install a font that has them"
    ]


def test_fonts_are_found_in_folders(cat_font: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_fontconfig(monkeypatch, cat_font.parents[2] / "none", cat_font.parents[1])
    assert texts(fonts.runs(CAT, 12)) == [(CAT, "cat.ttf")]
    assert texts(fonts.runs(f"{CAT}é", 12)) == [(CAT, "cat.ttf"), ("é", "DejaVuSans.ttf")]


@pytest.mark.skipif(not shutil.which("fc-match"), reason="needs fontconfig's fc-match")
def test_fontconfig_is_asked(cat_font: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = f"<fontconfig><dir>{cat_font.parents[1]}</dir><cachedir>{tmp_path}/cache</cachedir></fontconfig>"
    (tmp_path / "fonts.conf").write_text(settings)
    monkeypatch.setenv("FONTCONFIG_FILE", str(tmp_path / "fonts.conf"))
    monkeypatch.setattr(fonts, "FOLDERS", [])
    assert texts(fonts.runs(CAT, 12)) == [(CAT, "cat.ttf")]
    assert texts(fonts.runs("犬", 12)) == [("U+72AC", "plain")]  # fc-match names a font that lacks it


def test_a_text_in_two_fonts_is_written_side_by_side(cat_font: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As wide as both, and the second begins where the first ends."""
    without_fontconfig(monkeypatch, cat_font.parents[1])

    def columns(text: str) -> np.ndarray:
        canvas = Canvas(np.full((60, 300, 3), 90, np.uint8))
        canvas.write((20, 50, 280, 59), text, (255, 255, 255))
        return np.flatnonzero((np.asarray(canvas.image)[:, :, 0] < 80).any(axis=0))  # where letters are

    both = columns(f"{CAT}é")
    np.testing.assert_array_equal(both, columns("Aé"))  # the same glyphs of one font


@pytest.mark.parametrize(
    "name", ["עברית مرحبا", "👩\u200d🔬 ❤\ufe0f", "\x1b[2J\u202egnp", "हिन्दी ไทย 한국어", "\ud800", "\u0301"]
)
def test_no_name_is_too_strange(name: str) -> None:
    found = Detections(torch.tensor([[20.0, 30, 90, 55]]), torch.tensor([0.9]), torch.tensor([0]), (name,))
    white = np.full((60, 640, 3), 255, np.uint8)
    drawn = np.asarray(draw(white, found))
    assert (drawn[:28] != 255).any()
