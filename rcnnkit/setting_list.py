"""The settings in words, for the command line and for the reference in the documents."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rcnnkit.settings import Section

MUST_BE_GIVEN, NOT_GIVEN = "must be given", "not given"
WORDS = {
    bool: ("true or false", "true or false"),
    int: ("whole number", "whole numbers"),
    float: ("number", "numbers"),
    str: ("text", "texts"),
    Path: ("path", "paths"),
}
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}  # by pydantic's names of limits


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting."""

    name: str
    values: str  # what it may be, such as "number from 0 to 1"
    default: str  # as TOML, or MUST_BE_GIVEN or NOT_GIVEN
    meaning: str  # with its unit and its source; "" where the source of rcnnkit says nothing


def sections_of(settings: type[Section]) -> dict[str, type[Section]]:
    """The sections that settings are composed of, by their names."""
    annotations = ((name, field.annotation) for name, field in settings.model_fields.items())
    return {name: kind for name, kind in annotations if isinstance(kind, type) and issubclass(kind, Section)}


def summary(section: type[Section]) -> str:
    """What a section is about: the docstring of its class, without the section's name."""
    words = re.sub(r"^\[\w+\]: ", "", " ".join((section.__doc__ or "").split()))
    return words[:1].upper() + words[1:]


def list_settings(section: type[Section]) -> list[Setting]:
    """The settings of a section: first those of its own class, then those of the classes that it is made of.

    The meaning of a setting is the string below it in the source. It is read here and not by pydantic
    (`use_attribute_docstrings`), which would parse the source whenever rcnnkit is imported.
    """
    meanings: dict[str, str] = {}
    fields = section.model_fields
    for each in section.__mro__[: section.__mro__.index(Section)]:
        for name, meaning in _annotated(each):
            if name in fields:
                meanings[name] = meanings.get(name) or meaning
    return [
        Setting(name, _values(fields[name].annotation, fields[name].metadata), _default(fields[name]), meaning)
        for name, meaning in meanings.items()
    ]


def _annotated(section: type) -> Iterator[tuple[str, str]]:
    """The names that a class annotates, and the string below each, "" where there is none."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(node, ast.ClassDef)
    for statement, below in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            said = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
            yield statement.target.id, " ".join(str(said).split())


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return MUST_BE_GIVEN
    return NOT_GIVEN if field.default is None else _toml(field.default)


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value)  # an empty table is {} in both


def _values(kind: Any, limits: Sequence[Any] = (), many: bool = False) -> str:
    """A type in words: of one value, or of many."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _values(parts[0], [limit for field in parts[1:] for limit in field.metadata], many)
    if origin in (Union, UnionType):
        return " or ".join(_values(part, limits, many) for part in parts if part is not NoneType)
    if origin is Literal:
        *first, last = map(json.dumps, parts)
        return f"{', '.join(first)} or {last}"
    if origin is tuple and Ellipsis not in parts:
        return f"{len(parts)} {_values(parts[0], many=True)}"
    if origin is dict:
        return f"table of {_values(parts[1], many=True)}"
    if origin in (list, tuple):
        return f"list{'s' * many} of {_values(parts[0], many=True)}"
    return WORDS[kind][many] + _range(limits)


def _range(limits: Sequence[Any]) -> str:
    bounds = {sign: getattr(limit, name) for limit in limits for name, sign in SIGNS.items() if hasattr(limit, name)}
    if bounds.keys() == {"≥", "≤"}:
        return f" from {bounds['≥']} to {bounds['≤']}"
    return ",".join(f" {sign} {bound}" for sign, bound in bounds.items())
