"""What is printed: any text on any terminal, whatever names the files have and hold."""

from __future__ import annotations

import copy
import io
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import rich.console
from rich.segment import Segment
from rich.text import Text

# What a terminal obeys instead of showing it (C0, DEL, C1), what begins a line or turns the direction of writing, and
# surrogates, which no encoding has: Python keeps the bytes of a file name that is not UTF-8 in them.
OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Signs in our own tables and messages, for terminals without them.
PLAIN = str.maketrans({"≤": "<=", "–": "-", "×": "x", "…": "...", "→": "->", "·": "-", "“": '"', "”": '"'})


def visible(text: str, encoding: str = "utf-8") -> str:
    r"""The text in one line, with escapes such as \n, \x1b and \u202e for what a terminal would obey or cannot show.

    Args:
        encoding: of the terminal; what it lacks is escaped too.
    """
    text = OBEYED.sub(_escape, text)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    return text


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name
        return f"\\x{code - 0xDC00:02x}"
    return found[0].encode("unicode_escape").decode("ascii")


def set_in(text: str) -> str:
    """A message that may have several lines, visible; all but the first are set in, so that none looks like another."""
    first, *rest = map(visible, text.expandtabs(4).split("\n"))
    return "\n".join([first, *(line if line.startswith("  ") else f"  {line}" for line in rest)])


class Console(rich.console.Console):
    """Prints each string as one line and nothing but text: no markup, no emoji codes, no control characters.

    Give several strings and `sep="\\n"` for several lines.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, soft_wrap=True, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Before anything is laid out, so that columns stay straight."""
        return super().render_str(visible(text, self.encoding), **options)

    def render(self, renderable: Any, options: rich.console.ConsoleOptions | None = None) -> Iterator[Segment]:
        """Of whatever was made elsewhere too; rich's own escape sequences are no text."""
        for segment in super().render(renderable, options):
            lines = segment.text.split("\n")
            text = segment.text if segment.control else "\n".join(visible(line, self.encoding) for line in lines)
            yield segment._replace(text=text)


def safe(console: rich.console.Console | None) -> Console:
    """The caller's console, with its file, width and record, as one of ours; by default that of the terminal."""
    if console is None or isinstance(console, Console):
        return console or Console()
    ours = copy.copy(console)
    ours.__class__ = Console
    ours._markup = ours._highlight = ours._emoji = False
    ours.soft_wrap = True
    assert isinstance(ours, Console)
    return ours


class Formatter(logging.Formatter):
    """Log messages for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return set_in(super().format(record))


def escape_what_streams_lack() -> None:
    """What is printed by others, such as the help, fails on no terminal either."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
