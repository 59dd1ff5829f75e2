"""Any text on any terminal."""

import io
import logging
import sys
import unicodedata

import pytest
import rich.console
from rich.table import Table
from rich.text import Text

from rcnnkit.terminal import Console, Formatter, escape_what_streams_lack, progress, safe
from rcnnkit.text import set_in, visible

OBEYED = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's categories: control characters, surrogates, ends of lines and paragraphs
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # its classes of explicit directions
MARKS = {"\u061c", "\u200e", "\u200f"}  # which are letters of a direction, and are not seen


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("a\x1b[2Jb", "utf-8", r"a\x1b[2Jb"),
        ("cat\nwrote 9 pictures\r\t\x7f", "utf-8", r"cat\nwrote 9 pictures\r\t\x7f"),
        ("\x9b2J", "utf-8", r"\x9b2J"),
        ("gpj.\u202egnp \u2066x\u2069\u200f", "utf-8", r"gpj.\u202egnp \u2066x\u2069\u200f"),
        ("caf\udce9.jpg", "utf-8", r"caf\xe9.jpg"),  # the bytes of a name in Latin-1
        ("\ud800", "utf-8", r"\ud800"),
        ("Löwe 猫 ≤ 100 👩\u200d🔬", "utf-8", "Löwe 猫 ≤ 100 👩\u200d🔬"),
        ("Löwe 猫 ≤ 100", "latin-1", r"Löwe \u732b <= 100"),
        ("Löwe – …", "cp1252", "Löwe – …"),
        ("Löwe – …", "ascii", r"L\xf6we - ..."),
    ],
)
def test_what_is_seen(text: str, encoding: str, shown: str) -> None:
    assert visible(text, encoding) == shown


def test_nothing_that_a_terminal_obeys_is_left() -> None:
    for code in (*range(0x3000), *range(0xD800, 0xE000)):
        letter = chr(code)
        obeyed = unicodedata.category(letter) in OBEYED or unicodedata.bidirectional(letter) in TURNING
        assert (visible(letter) != letter) == (obeyed or letter in MARKS), hex(code)


def test_lines_of_a_message() -> None:
    assert set_in("bad\n  a.xml: no box\nwrote it\x1b\n\tc") == "bad\n  a.xml: no box\n  wrote it\\x1b\n    c"


def printed(encoding: str, *objects: object, **options: object) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding, errors="strict", newline="\n")
    Console(file=file, width=60, **options).print(*objects, sep="\n")
    file.flush()
    return file.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_tables_stay_straight(encoding: str) -> None:
    table = Table(title="caf\udce9: é")
    table.add_column("class")
    table.add_column("≤")
    for name in ("Löwe", "a\x1b[2J\nb", "[red]:cat:", "кот"):
        table.add_row(name, "≤ 100")
    lines = printed(encoding, "first [bold]line[/]", table, "\x1b]0;title\x07").splitlines()
    assert lines[0] == "first [bold]line[/]"
    assert lines[-1] == r"\x1b]0;title\x07"
    assert r"caf\xe9: " in lines[1]
    body = lines[2:-1]
    assert len(body) == 8
    assert len({len(line) for line in body}) == 1
    for shown in (r"a\x1b[2J\nb", "[red]:cat:", visible("Löwe", encoding), visible("кот", encoding), "100"):
        assert any(shown in line for line in body)


def test_colours_are_richs_own() -> None:
    text = Text("x\x1b[2J\nй", style="red")
    shown = printed("latin-1", text, force_terminal=True, color_system="standard")
    assert shown == "\x1b[31mx\\x1b[2J\x1b[0m\n\x1b[31m\\u0439\x1b[0m\n"


def test_a_progress_bar_of_a_name() -> None:
    file = io.TextIOWrapper(io.BytesIO(), "ascii", errors="strict", newline="\n")
    console = safe(rich.console.Console(file=file, force_terminal=True, color_system=None, width=80))
    with progress(console) as report:
        report("кот\x1b[2J", 0, 2)
        report("кот\x1b[2J", 1, 2)
        report("and one that is cut with an ellipsis, as it is too long", 0, 1)
    file.flush()
    assert rb"\u043a" in file.buffer.getvalue()  # as much of it as there are columns
    assert b"1/2" in file.buffer.getvalue()
    assert b"\x1b[2J" not in file.buffer.getvalue()


def test_on_a_console_of_somebody_else() -> None:
    file = io.TextIOWrapper(io.BytesIO(), "ascii", errors="strict", newline="\n")
    theirs = rich.console.Console(file=file, width=20, record=True)
    ours = safe(theirs)
    ours.print("data/[/red] :cat: é\x1b[2J, and more than the width", highlight=False)
    file.flush()
    assert theirs.export_text().startswith("data/[/red] :cat: ")  # what they record, they have
    assert (safe(ours), type(theirs), safe(None).file) == (ours, rich.console.Console, sys.stdout)
    assert file.buffer.getvalue() == rb"data/[/red] :cat: \xe9\x1b[2J, and more than the width" + b"\n"


def test_log_messages() -> None:
    record = logging.LogRecord("rcnnkit", logging.WARNING, "", 0, "%s: bad", ("a\x1b\nINFO all is well",), None)
    assert Formatter("%(levelname)s %(message)s").format(record) == "WARNING a\\x1b\n  INFO all is well: bad"


def test_streams_escape_what_they_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, "ascii", errors="strict", newline="\n"))
    escape_what_streams_lack()
    print("a…")
    sys.stdout.flush()
    assert streams["stdout"].getvalue() == b"a\\u2026\n"
    monkeypatch.setattr(sys, "stdout", None)  # as in a service
    escape_what_streams_lack()
