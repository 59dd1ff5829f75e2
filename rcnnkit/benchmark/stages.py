"""Where a detector's time goes: calls of its parts, timed while it detects as it does for everybody."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from rcnnkit.detectors.detector import Detector

# In the order in which they are shown. "other" is what no stage claims.
STAGES = ("decode", "resize", "proposals", "backbone", "regions", "heads", "suppression", "drawing", "other")
CALL = "whole call"  # of a contender whose parts are not ours

# (part, its method, stage). What a part calls of other parts is theirs, so the outer ones keep only what is between:
# of a call, resizing and normalising; of `detect`, next to nothing.
PARTS = (
    ("", "forward", "resize"),
    ("", "pool_from_scales", "resize"),
    ("", "detect", "other"),
    ("", "propose", "proposals"),  # R-CNN and Fast R-CNN
    ("rpn", "propose", "proposals"),
    ("", "features", "backbone"),  # R-CNN's windows, put together again after their chunks
    ("backbone", "forward", "backbone"),
    ("", "warp", "regions"),
    ("pool", "forward", "regions"),
    ("", "scores", "heads"),  # R-CNN's SVMs …
    ("", "deltas", "heads"),  # … and ridge regression
    ("head.features", "forward", "heads"),
    ("head.scores", "forward", "heads"),
    ("head.deltas", "forward", "heads"),
    ("head.svms", "forward", "heads"),
    ("", "suppress", "suppression"),
    ("head", "detect", "suppression"),  # scores, thresholds, boxes and NMS
)


class StageClock:
    """Seconds of each stage. A stage inside another one stops the outer one's clock, so that nothing counts twice.

    At every border the device is waited for, so that its work belongs to the stage that asked for it. On a GPU the
    whole is therefore a little longer than without the clock.

    Args:
        device: whose work is timed.
        now: seconds from anywhere on.
    """

    def __init__(self, device: torch.device | str = "cpu", now: Callable[[], float] = time.perf_counter) -> None:
        self.device, self._now = torch.device(device), now
        self.seconds: dict[str, float] = {}
        self.proposals = 0  # how many regions were looked at
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is inside as the stage `name`."""
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def now(self) -> float:
        """The time when the device has done what it was asked for."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return self._now()

    def _charge(self) -> None:
        """What has passed since the last border belongs to the innermost stage."""
        now = self.now()
        if self._open:
            self.seconds[self._open[-1]] = self.seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now


@contextmanager
def timed(detector: Detector, clock: StageClock) -> Iterator[None]:
    """While inside, `detector` tells `clock` when its parts begin and end; its own code runs unchanged."""
    before: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for path, method, stage in PARTS:
            part = _part(detector, path)
            call = getattr(part, method, None)
            if call is not None:  # another kind of detector's
                own = vars(part)
                before.append((own, method, own.get(method)))
                own[method] = _timed(call, stage, clock)
        yield
    finally:
        for own, method, call in before:
            if call is None:  # it was the class's
                del own[method]
            else:
                own[method] = call


def _part(detector: Detector, path: str) -> Any:
    part: Any = detector
    for name in filter(None, path.split(".")):
        part = getattr(part, name, None)
    return part


def _timed(call: Callable[..., Any], stage: str, clock: StageClock) -> Callable[..., Any]:
    @functools.wraps(call)
    def run(*arguments: Any, **options: Any) -> Any:
        with clock.stage(stage):
            result = call(*arguments, **options)
        if stage == "proposals":
            clock.proposals += sum(map(len, result))
        return result

    return run
