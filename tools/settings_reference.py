"""Writes docs/reference/settings.md from the settings themselves: python tools/settings_reference.py."""

from pathlib import Path

from rcnnkit.config import Settings
from rcnnkit.setting_list import MUST_BE_GIVEN, NOT_GIVEN, list_settings, sections_of, summary

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"
BEGINNING = """\
# Settings

A settings file is TOML. It states what differs from the defaults below:

```toml
[data]
root = "data/cells"

[train]
iterations = 10000
batch = 8
```

`rcnnkit train FILE train.batch=4` changes a setting for one run. `rcnnkit settings` prints this page in a terminal, and
`rcnnkit settings train` one section of it. A detector keeps its settings in its weights file; those of `[data]`,
`[feature_store]`, `[augment]`, `[adversary]`, `[train]` and `[alternating]` belong to a run only, which keeps them in
its `settings.toml`.

Sources in parentheses are sections of the papers: R-CNN is arXiv:1311.2524v5, Fast R-CNN arXiv:1504.08083, Faster R-CNN
arXiv:1506.01497v3, FPN arXiv:1612.03144.

<!-- Written by tools/settings_reference.py from the settings in rcnnkit/. Edit the strings there. -->
"""


def page() -> str:
    """The whole page: a table for each section."""
    lines = [BEGINNING]
    for name, section in sections_of(Settings).items():
        lines += [f"## [{name}]", "", summary(section), ""]
        lines += ["| setting | default | what it may be | meaning |", "|---|---|---|---|"]
        for each in list_settings(section):
            default = each.default if each.default in (MUST_BE_GIVEN, NOT_GIVEN) else f"`{each.default}`"
            lines.append(f"| `{each.name}` | {default} | {each.values} | {each.meaning} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
