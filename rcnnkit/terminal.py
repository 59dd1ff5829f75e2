"""What is printed: any text on any terminal, whatever names the files have and hold."""

from __future__ import annotations

import copy
import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rich.console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.text import Text

from rcnnkit.progress import Report
from rcnnkit.text import count, set_in, visible


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
    copy_ = copy.copy(console)
    copy_.__class__ = Console
    copy_._markup = copy_._highlight = copy_._emoji = False
    copy_.soft_wrap = True
    assert isinstance(copy_, Console)
    return copy_


@contextmanager
def progress(console: Console, *, transient: bool = False) -> Iterator[Report]:
    """Shows what is reported, as a bar for each thing that is done.

    Args:
        transient: the bars vanish at the end. Others leave a line for every tenth of the work where the console is a
            file or a pipe. Of a total of 0, which means that it is not known, the bar only moves.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    bar = Progress(*columns, *times, console=console, transient=transient, disable=not console.is_terminal)
    tasks: dict[str, TaskID] = {}

    def report(name: str, step: int, total: int) -> None:
        if name not in tasks:
            tasks[name] = bar.add_task(visible(name, console.encoding), total=total or None)
        bar.update(tasks[name], completed=step, total=total or None)
        if not (console.is_terminal or transient) and step and total and step * 10 // total > (step - 1) * 10 // total:
            console.print(f"{name}: {step} of {count(total, 'picture')}")

    with bar:
        yield report


class Formatter(logging.Formatter):
    """Log messages for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return set_in(super().format(record))


def escape_what_streams_lack() -> None:
    """What is printed by others, such as the help, fails on no terminal either."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
