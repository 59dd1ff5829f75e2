"""JSON files of annotation tools: read, or said what is wrong with them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypeGuard

from rcnnkit.files import check_regular


def read_json(file: Path) -> Any:
    """What a file holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, or not a regular file.
    """
    check_regular(file)
    if not file.is_file():
        raise FileNotFoundError(f"there is no {file}")
    if not file.stat().st_size:
        raise ValueError(f"{file} is empty (0 bytes); export it again, or delete it")
    try:
        return json.loads(file.read_bytes())
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text ({error}); save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON ({error}); restore the file") from None


def numbers(values: Any, names: tuple[str, ...]) -> list[float]:
    """The values of an object by their names.

    Raises:
        ValueError: one is missing, not a number or not finite.
    """
    floats = []
    for name in names:
        value = values.get(name) if isinstance(values, dict) else None
        if not is_number(value):
            raise ValueError(f"{name} is {short(value)}, expected a number; correct it")
        floats.append(float(value))
    return floats


def is_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def short(value: object) -> str:
    """A JSON value for messages."""
    text = "missing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
