"""Fonts for the letters of any text: Pillow's own for ASCII, and for others what there is on the system."""

from __future__ import annotations

import logging
import os
import subprocess
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path

from PIL import ImageFont

log = logging.getLogger("rcnnkit")

FOLDERS = (  # where fonts lie, for systems without fontconfig
    "~/.local/share/fonts",
    "~/.fonts",
    "/usr/local/share/fonts",
    "/usr/share/fonts",
    "~/Library/Fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
    "C:/Windows/Fonts",
)
SUFFIXES = {".ttf", ".otf", ".ttc"}
SECONDS = 20.0  # that fontconfig gets; the first time it looks through all fonts

Run = tuple[str, ImageFont.FreeTypeFont]

_told: set[str] = set()  # letters that no font has; the first ones are reported


def runs(text: str, size: int) -> list[Run]:
    """The text in parts, each with a font that has its letters: one part wherever one font has all.

    A letter that no font has becomes its code point, such as U+732B, and the first of them is reported in the log.

    Args:
        size: of the fonts, pixels.
    """
    if text.isascii():
        return [(text, plain(size))]
    text = unicodedata.normalize("NFC", text)  # é as one letter: fonts have it so more often
    letters = frozenset(map(ord, filter(_is_drawn, text)))
    if (file := _file_with(letters)) is not None:
        return [("".join(x for x in text if _is_drawn(x) or ord(x) in _letters_of(file)), _font(file, size))]
    files = [(letter, _file_with(frozenset({ord(letter)}))) for letter in text if _is_drawn(letter)]
    if missing := "".join(letter for letter, file in files if file is None):
        _tell(missing)
    parts = []
    for file, group in groupby(files, key=lambda pair: pair[1]):
        part = "".join(letter if file else f"U+{ord(letter):04X}" for letter, _ in group)
        parts.append((part, _font(file, size) if file else plain(size)))
    return parts


@lru_cache(64)
def plain(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, which has little but ASCII."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


@lru_cache(64)  # sizes differ from picture to picture
def _font(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)


def _is_drawn(letter: str) -> bool:
    """Whether a font has to have it: joiners and variation selectors only say how others are drawn."""
    return unicodedata.category(letter) != "Cf" and not (0xFE00 <= ord(letter) <= 0xFE0F)


@cache
def _file_with(letters: frozenset[int]) -> str | None:
    return next((file for file in _files(letters) if letters <= _letters_of(file)), None)


def _files(letters: frozenset[int]) -> Iterator[str]:
    """Fonts that may have the letters."""
    import matplotlib  # imported late: most names are ASCII

    yield str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")  # Latin, Greek, Cyrillic, …
    charset = " ".join(f"{letter:x}" for letter in sorted(letters))
    command = ["fc-match", "--format=%{file}", f":charset={charset}"]
    try:
        yield subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        yield from _all_files()


@cache
def _all_files() -> tuple[str, ...]:
    folders = [Path(folder).expanduser() for folder in FOLDERS]
    found = (Path(top, name) for folder in folders for top, _, names in os.walk(folder) for name in sorted(names))
    return tuple(str(path) for path in found if path.suffix.lower() in SUFFIXES)


@cache
def _letters_of(file: str) -> frozenset[int]:
    """The code points that a font has; none where it cannot be used."""
    from matplotlib.ft2font import FT2Font

    try:
        _font(file, 12)  # fonts of pictures, such as emoji in colour, have other sizes only
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def _tell(missing: str) -> None:
    if not _told:
        some = ", ".join(f"{letter} (U+{ord(letter):04X})" for letter in dict.fromkeys(missing[:10]))
        log.warning("no font here has %s: such letters are drawn as code points; install a font that has them", some)
    _told.update(missing)
