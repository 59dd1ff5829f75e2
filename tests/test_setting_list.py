"""Every setting explains itself, and the reference in the documents is made of that."""

import re
import runpy
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from rcnnkit.backbones.names import ARCHITECTURES
from rcnnkit.config import Settings
from rcnnkit.setting_list import Setting, list_settings, sections_of, summary
from rcnnkit.settings import Count, Factor, Section, Share

REFERENCE = Path(__file__).parents[1] / "tools" / "settings_reference.py"
SECTIONS = sections_of(Settings)


class Base(Section):
    """Of something else, in [made_up]."""

    size: Count = 3
    """Sides,
    pixels."""
    share: Share = 0.5
    """Of the base."""


class MadeUp(Base):
    """[made_up]: to see how settings
    are shown.
    """

    root: Path
    """A folder."""
    share: Share = 1 / 3
    silent: bool = True
    kind: Literal["one", "other"] | None = None
    """Which."""
    steps: list[Share] = Field(default=[0.5])
    """When."""
    sizes: list[list[Factor]] = Field(default=[])
    """How large."""
    names: str | list[str] = "a"
    """Of what."""
    pair: tuple[Factor, Factor] = (1, 2.0)
    """From and to."""
    seed: Annotated[int, Field(ge=0, lt=8)] = 0
    """Of all."""


def test_settings_in_words() -> None:
    assert SECTIONS.keys() == Settings.model_fields.keys()
    assert summary(MadeUp) == "To see how settings are shown."
    assert list_settings(MadeUp) == [
        Setting("root", "path", "must be given", "A folder."),
        Setting("share", "number from 0 to 1", "0.333333", "Of the base."),
        Setting("silent", "true or false", "true", ""),
        Setting("kind", '"one" or "other"', "not given", "Which."),
        Setting("steps", "list of numbers from 0 to 1", "[0.5]", "When."),
        Setting("sizes", "list of lists of numbers > 0", "[]", "How large."),
        Setting("names", "text or list of texts", '"a"', "Of what."),
        Setting("pair", "2 numbers > 0", "[1, 2]", "From and to."),
        Setting("seed", "whole number ≥ 0, < 8", "0", "Of all."),
        Setting("size", "whole number ≥ 0", "3", "Sides, pixels."),
    ]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_says_what_it_means(section: str) -> None:
    kind = SECTIONS[section]
    listed = list_settings(kind)
    assert {each.name for each in listed} == kind.model_fields.keys()
    assert summary(kind).endswith(".")
    for each in listed:
        assert re.fullmatch(r"\S.{8,}\.", each.meaning), f"{section}.{each.name} does not say what it means"
        for named in re.findall(r"`(\w+)\.(\w+)`", each.meaning):
            assert named[1] in SECTIONS[named[0]].model_fields, f"{section}.{each.name} names {'.'.join(named)}"
        for named in re.findall(r"`(\w+)`", each.meaning):
            assert named in kind.model_fields, f"{section}.{each.name} names {named}"


def test_every_backbone_is_named() -> None:
    (meaning,) = (each.meaning for each in list_settings(SECTIONS["model"]) if each.name == "backbone")
    assert set(ARCHITECTURES) <= set(re.findall(r"\w+", meaning))


def test_the_reference_is_up_to_date() -> None:
    tool = runpy.run_path(str(REFERENCE))
    assert tool["PAGE"].read_text(encoding="utf-8") == tool["page"](), "run `python tools/settings_reference.py`"
    for name, kind in SECTIONS.items():
        assert f"\n## [{name}]\n\n{summary(kind)}\n" in tool["page"]()
