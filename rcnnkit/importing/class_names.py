"""Errors about the class names that go with somebody else's weights."""

from __future__ import annotations


def names_needed(source: str, count: int) -> ValueError:
    """`source` has so many classes and does not say which."""
    which = "their names" if count != 1 else "its name"
    return ValueError(f"{source} has {_counted(count)} and does not say which; give {which} with --classes")


def other_number(source: str, count: int, given: int) -> ValueError:
    """`source` has `count` classes, and `given` names."""
    names = "1 name was" if given == 1 else f"{given} names were"
    return ValueError(f"{source} knows {_counted(count)}, {names} given")


def _counted(count: int) -> str:
    return "1 class" if count == 1 else f"{count} classes"
