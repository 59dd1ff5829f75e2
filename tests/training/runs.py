"""Settings of the small runs that tests of training make, and what ends such a run early."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from rich.console import Console

from rcnnkit.config import Settings
from rcnnkit.config_files import check_settings
from rcnnkit.training import loop

Values = dict[str, dict[str, Any]]
QUIET = Console(quiet=True)


def settings(tiny: Values, **train: Any) -> Settings:
    return check_settings(tiny | {"train": tiny["train"] | train}, "test")


@contextmanager
def killed_in_iteration(number: int) -> Iterator[None]:
    """The run that is made inside ends at the beginning of this iteration, with nothing but its checkpoints left."""
    calls, step = [], loop.step

    def killed(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == number:
            raise KeyboardInterrupt
        return step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            yield
