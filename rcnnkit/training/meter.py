"""The mean losses and the speed of some iterations."""

from __future__ import annotations

import time


class Meter:
    """Losses and speed since it was made."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.steps = self.things = 0
        self.sums: dict[str, float] = {}

    def add(self, losses: dict[str, float], things: int) -> None:
        self.steps += 1
        self.things += things
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.seconds = time.perf_counter() - self.began

    def means(self) -> dict[str, float]:
        return {name: value / self.steps for name, value in self.sums.items()}

    @property
    def speed(self) -> float:
        """Things a second."""
        return self.things / self.seconds
