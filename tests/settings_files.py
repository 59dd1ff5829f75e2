"""What tests of settings share."""

from pathlib import Path

import pytest

from rcnnkit.config_files import SettingsError, read_settings

# What does not go with the rest: these are Faster R-CNN's alone.
FASTER_RCNNS = {"alternating.enabled", "train.rpn_only"}


def complaint(path: Path, *overrides: str) -> str:
    with pytest.raises(SettingsError) as error:
        read_settings(path, overrides)
    return str(error.value)
