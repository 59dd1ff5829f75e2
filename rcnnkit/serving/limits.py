"""What a server takes on. Nothing is imported: `rcnnkit serve --help` shows the defaults."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Of one worker.

    Up to twice `batch` pictures are in memory at a time, so a worker needs room for `2 · batch · pixels · 3` bytes in
    the worst case, and for `waiting · megabytes`.
    """

    batch: int = 8  # pictures that the detector looks at in one call
    delay: float = 5.0  # milliseconds that a picture waits for others of its size
    megabytes: float = 32.0  # of a request
    megapixels: float = 50.0  # of a picture
    waiting: int = 64  # requests at a time; those beyond are refused
    seconds: float = 30.0  # for a request, from its first byte to its answer

    @property
    def bytes(self) -> int:
        return int(self.megabytes * 2**20)

    @property
    def pixels(self) -> int:
        return int(self.megapixels * 1e6)
