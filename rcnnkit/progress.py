"""How far long work is, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Report = Callable[[str, int, int], None]  # what is done, how many of it, and of how many


def silent(name: str, step: int, total: int) -> None:
    """Shows nothing."""


def reported(items: Collection[Item], name: str, report: Report) -> Iterator[Item]:
    """The items one by one; each is reported when the next is asked for."""
    report(name, 0, len(items))
    for done, item in enumerate(items, 1):
        yield item
        report(name, done, len(items))
