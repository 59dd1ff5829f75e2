"""rcnnkit settings."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from rcnnkit.cli.options import console

WIDEST = 100  # columns; longer lines are hard to read


def settings(
    section: Annotated[str | None, typer.Argument(help="One section, such as train; by default all of them.")] = None,
) -> None:
    """Explain the settings: what each means, its unit, its default, and where it comes from."""
    from rcnnkit.config import Settings
    from rcnnkit.setting_list import MUST_BE_GIVEN, NOT_GIVEN, list_settings, sections_of, summary
    from rcnnkit.settings import closest_name

    sections = sections_of(Settings)
    if section is not None and section not in sections:
        close = closest_name(section, list(sections))
        hint = f"did you mean {close}? There are" if close else "there are"
        raise ValueError(f"there is no section {section}; {hint} {', '.join(sections)}")
    width = min(console.width, WIDEST)
    for name in sections if section is None else [section]:
        console.print(f"[{name}]", *textwrap.wrap(summary(sections[name]), width), "", sep="\n")
        for setting in list_settings(sections[name]):
            sign = ", " if setting.default in (MUST_BE_GIVEN, NOT_GIVEN) else " = "
            head = f"{name}.{setting.name}{sign}{setting.default}"
            texts = (setting.values, setting.meaning)
            body = [line for text in texts for line in textwrap.wrap(text, width - 4, break_on_hyphens=False)]
            console.print(head, *(f"    {line}" for line in body), "", sep="\n")
