"""Where a detector's time goes: calls of its parts, timed while it detects as it does for everybody."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from operator import attrgetter
from typing import Any

import torch

from rcnnkit.detectors.detector import Detector
from rcnnkit.exporting.runtimes import Exported


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
        time = self.now()
        if self._open:
            self.seconds[self._open[-1]] = self.seconds.get(self._open[-1], 0.0) + time - self._since
        self._since = time


@contextmanager
def timed(
    detector: Detector | Exported, clock: StageClock, observe: Callable[[str, Any], object] | None = None
) -> Iterator[None]:
    """While inside, the methods in `detector.stages` report to `clock` as they begin and end, unchanged.

    Args:
        observe: is called with the stage and what each of its methods returns.
    """
    with ExitStack() as stack:
        for stage, paths in detector.stages.items():
            for path in paths:
                owner, _, method = path.rpartition(".")
                part = attrgetter(owner)(detector) if owner else detector
                own, call = vars(part), getattr(part, method)
                stack.callback(own.update, {method: call}) if method in own else stack.callback(own.pop, method)
                own[method] = _timed(call, stage, clock, observe)
        yield


def _timed(
    call: Callable[..., Any], stage: str, clock: StageClock, observe: Callable[[str, Any], object] | None
) -> Callable[..., Any]:
    @functools.wraps(call)
    def run(*arguments: Any, **options: Any) -> Any:
        with clock.stage(stage):
            result = call(*arguments, **options)
        if stage == "proposals":
            clock.proposals += sum(map(len, result))
        if observe:
            observe(stage, result)
        return result

    return run
