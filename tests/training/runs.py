"""Settings of the small runs that tests of training make."""

from typing import Any

from rich.console import Console

from rcnnkit.config import Settings
from rcnnkit.config_files import check_settings

Values = dict[str, dict[str, Any]]
QUIET = Console(quiet=True)


def settings(tiny: Values, **train: Any) -> Settings:
    return check_settings(tiny | {"train": tiny["train"] | train}, "test")
