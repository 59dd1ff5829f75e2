"""Any text made visible, whatever names files have and hold."""

from __future__ import annotations

import re

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


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode("ascii")


def count(number: int, thing: str) -> str:
    """`1 picture`, `2 pictures`, `3 classes`, `1,000 pictures`."""
    plural = "es" if thing.endswith("s") else "s"
    return f"{number:,} {thing}{plural if number != 1 else ''}"


def scored(name: str, score: float) -> str:
    """A name or phrase with its score, `4: 0.78`: with a space alone, a class called 4 would look like 40.78."""
    return f"{name}: {score:.2f}"


def set_in(text: str) -> str:
    """A message that may have several lines, visible; all but the first are set in, so that none looks like another."""
    first, *rest = map(visible, text.expandtabs(4).split("\n"))
    return "\n".join([first, *(line if line.startswith("  ") else f"  {line}" for line in rest)])
