"""Settings from a short TOML file and the command line, and back into a file."""

from __future__ import annotations

import logging
import os
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import tomli_w
from pydantic import ValidationError

from rcnnkit.config import Settings
from rcnnkit.data.file_names import is_there
from rcnnkit.files import check_regular
from rcnnkit.settings import explain
from rcnnkit.text import visible

LENGTHS = {"epochs", "iterations"}  # of [train]; the command line's takes the place of the file's
PATHS = [  # section, name: the settings that are paths
    (section, name)
    for section, field in Settings.model_fields.items()
    for name, setting in getattr(field.annotation, "model_fields", {}).items()
    if Path in (setting.annotation, *get_args(setting.annotation))
]
NO_NOTES: Mapping[str, str] = MappingProxyType({})
log = logging.getLogger("rcnnkit")


class SettingsError(ValueError):
    """A setting that cannot be used; the text names the file, the key, the value and the fix."""


def read_settings(file: Path, overrides: Sequence[str] = ()) -> Settings:
    """Settings from a TOML file and `section.key=value` overrides, whose values are TOML too.

    Paths in the file are relative to it, paths in overrides to the current folder.

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
    for old, section in Settings.renamed.items():
        if old in values and section not in values:  # both are an error, which is found below
            values[section] = values.pop(old)
    _rebase(values, file)
    changed = override(values, overrides, str(file))
    return check_settings(values, str(file), changed)


def override(values: dict[str, Any], overrides: Sequence[str], source: str) -> set[str]:
    """Put `section.key=value` settings, whose values are TOML, into nested values; which they are.

    Args:
        source: where `values` come from, for errors.

    Raises:
        SettingsError: one is not of that form.
    """
    keys: set[str] = set()
    for assignment in overrides:
        try:
            assignment.encode()
        except UnicodeEncodeError:  # a path of other bytes
            raise SettingsError(f"{assignment} is not UTF-8, as the run's settings.toml has to be; rename it") from None
        key, equals, text = assignment.partition("=")
        section, _, name = key.strip().partition(".")
        section = Settings.renamed.get(section, section)
        if not (equals and section and name) or "." in name:
            raise SettingsError(f"{assignment!r} is not of the form section.key=value, such as train.batch=8")
        if not isinstance(values.setdefault(section, {}), dict):
            raise SettingsError(f"{source}: {section} must be a section, [{section}]")
        renamed = _renamed(section)
        name = renamed.get(name, name)
        others = {old: value for old, value in values[section].items() if renamed.get(old, old) != name}
        values[section] = others | {name: _value(text)}
        keys.add(f"{section}.{name}")
        if section == "train" and name in LENGTHS:
            for other in LENGTHS - {name}:
                if f"train.{other}" not in keys:
                    values[section].pop(other, None)
    return keys


def _rebase(values: dict[str, Any], file: Path) -> None:
    """Turn paths that are relative to a settings file into paths from the current folder."""
    for section, name in PATHS:
        value = values[section].get(name) if isinstance(values.get(section), dict) else None
        if not isinstance(value, str) or not value or Path(value).is_absolute():
            continue
        path = _tidy(file.parent / value)
        if not is_there(path) and is_there(Path(value)):  # where earlier versions looked, also from the folders of runs
            log.warning(
                '%s: %s.%s = "%s" was found in the current folder, not beside this file, and is read from there; write'
                " paths in a settings file relative to that file",
                *(file, section, name, value),
            )
        else:
            values[section][name] = str(path)


def _tidy(path: Path) -> Path:
    """The path without `..`, unless links to folders make that another place."""
    tidy = Path(os.path.normpath(path))
    return tidy if tidy.resolve() == path.resolve() else path


def _not_a_folder(folder: Path) -> str:
    """What to do instead of naming a folder where settings are read from."""
    if (folder / "settings.toml").is_file():
        return (
            f"{folder} is the folder of a run; to continue it: rcnnkit train {folder / 'settings.toml'}"
            f" train.resume={folder}"
        )
    return (
        f"{folder} is a folder, and settings are a file; if your pictures are in the folder, `rcnnkit suggest"
        f" {folder} > mine.toml` writes settings for them"
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


def check_settings(values: dict[str, Any], source: str, overridden: Collection[str] = ()) -> Settings:
    """Settings from nested values.

    Args:
        values: section → setting → value.
        source: where they come from, for errors, except …
        overridden: … of those that the command line gave, as section.setting.

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
            lines.append(visible(f"{'the command line' if blamed in overridden else source}: {text}"))
        raise SettingsError("\n".join(lines)) from None


def write_settings(settings: Settings, file: Path, notes: Mapping[str, str] = NO_NOTES) -> None:
    """Every setting, resolved, as TOML that `read_settings` reads back to the same, wherever it is started.

    Args:
        notes: as `as_toml` takes them.
    """
    file.write_text(as_toml(resolved(settings, exclude_none=True), notes), encoding="utf-8")


def resolved(settings: Settings, *, exclude_none: bool = False) -> dict[str, dict[str, Any]]:
    """Section → setting → value, as JSON has them; paths are absolute."""
    values = settings.model_dump(mode="json", exclude_none=exclude_none)
    for section, name in PATHS:
        if path := getattr(getattr(settings, section), name):
            values[section][name] = str(_tidy(path.absolute()))
    return values


def as_toml(values: Mapping[str, Mapping[str, Any]], notes: Mapping[str, str] = NO_NOTES) -> str:
    """Sections of settings as TOML, a line each.

    Args:
        notes: section.setting → what is written beside it as a comment.
    """
    sections = []
    for section, settings in values.items():
        lines = [f"[{section}]"]
        for name, value in settings.items():
            note = visible(notes.get(f"{section}.{name}", ""))
            lines.append(f"{name} = {_inline(value)}" + (f"  # {note}" if note else ""))
        sections.append("\n".join(lines) + "\n")
    return "\n".join(sections)


def _inline(value: Any) -> str:
    """In one line, where tomli_w gives an array a line for each of its values, and a table a section of its own."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_inline(name)} = {_inline(each)}' for name, each in value.items())}}}"
    return tomli_w.dumps({"value": value}).partition(" = ")[2].rstrip("\n")
