"""Settings from a short TOML file and the command line, and back into a file."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from rcnnkit.config import Settings
from rcnnkit.files import check_regular
from rcnnkit.settings import explain
from rcnnkit.text import visible

LENGTHS = {"epochs", "iterations"}  # of [train]; the command line's takes the place of the file's


class SettingsError(ValueError):
    """A setting that cannot be used; the text names the file, the key, the value and the fix."""


def read_settings(file: Path, overrides: Sequence[str] = ()) -> Settings:
    """Settings from a TOML file and `section.key=value` overrides, whose values are TOML too.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a regular file.
        PermissionError: it may not be read.
        SettingsError: a folder, broken TOML, an unknown key, a value of the wrong type or range.
    """
    check_regular(file)
    if file.is_dir():
        raise SettingsError(_not_a_folder(file))
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))  # Windows' editors write a byte-order mark
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: no such settings file") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8 text ({error}); save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"{file} is not TOML: {error}") from None
    changed: set[str] = set()
    for override in overrides:
        try:
            override.encode()
        except UnicodeEncodeError:  # a path of other bytes
            raise SettingsError(f"{override} is not UTF-8, as the run's settings.toml has to be; rename it") from None
        key, equals, text = override.partition("=")
        section, _, name = key.strip().partition(".")
        if not (equals and section and name) or "." in name:
            raise SettingsError(f"{override!r} is not of the form section.key=value, such as train.batch=8")
        if not isinstance(values.setdefault(section, {}), dict):
            raise SettingsError(f"{file}: {section} must be a section, [{section}]")
        renamed = _renamed(section)
        name = renamed.get(name, name)
        others = {each: value for each, value in values[section].items() if renamed.get(each, each) != name}
        values[section] = others | {name: _value(text)}
        changed.add(f"{section}.{name}")
        if section == "train" and name in LENGTHS:
            for other in LENGTHS - {name}:
                if f"train.{other}" not in changed:
                    values[section].pop(other, None)
    return check_settings(values, str(file), changed)


def _not_a_folder(folder: Path) -> str:
    """What to do instead of naming a folder where settings are read from."""
    if (folder / "settings.toml").is_file():
        return (
            f"{folder} is the folder of a run; to go on with it: rcnnkit train {folder / 'settings.toml'}"
            f" train.resume={folder}"
        )
    start = tomli_w.dumps({"model": {"pretrained": True}, "data": {"root": str(folder)}}).replace("\n\n", "\n")
    return (
        f"{folder} is a folder, and settings are a file. If your pictures are in the folder, write this into mine.toml:"
        f"\n{start}and run: rcnnkit train mine.toml (`rcnnkit settings` explains all settings)"
    )


def _renamed(section: str) -> Mapping[str, str]:
    """The settings of a section by their names in older files."""
    field = Settings.model_fields.get(section)
    return getattr(field.annotation, "renamed", {}) if field else {}


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()  # a bare word is a string


def check_settings(values: dict[str, Any], source: str, changed: Collection[str] = ()) -> Settings:
    """Settings from nested values.

    Args:
        values: section → setting → value.
        source: where they come from, for errors, except …
        changed: … of those that the command line gave, as section.setting.

    Raises:
        SettingsError: an unknown setting, or a value of the wrong type or range.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = []
        for each in error.errors():
            text = explain(each, Settings)
            blamed = ".".join(text.split(maxsplit=1)[0].split(".")[:2])  # all texts begin with the setting
            lines.append(visible(f"{'the command line' if blamed in changed else source}: {text}"))
        raise SettingsError("\n".join(lines)) from None


def write_settings(settings: Settings, file: Path) -> None:
    """Every setting, resolved, as TOML that `read_settings` reads back to the same."""
    file.write_text(tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
