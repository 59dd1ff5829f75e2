"""Pictures that wait together become one call of the detector."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from rcnnkit.structures import Array, Detections

Result = TypeVar("Result")
Detect = Callable[[Sequence[Array]], list[Detections]]


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    picture: Array
    kind: Hashable
    answer: asyncio.Future[Detections]
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """Calls a detector in a thread of its own, with pictures of one kind together.

    The oldest picture comes first, with others of its kind. It waits for them for `delay` at most, unless the detector
    is busy anyway.

    Args:
        detect: of B pictures.
        kind: of a picture; a batch has one kind. Answers then do not depend on what else is in a batch.
        batch: pictures of a call, at most.
        delay: seconds.
        done: is called with how many pictures each call had, and its seconds.
    """

    def __init__(
        self,
        detect: Detect,
        kind: Callable[[Array], Hashable],
        batch: int,
        delay: float,
        done: Callable[[int, float], object],
    ) -> None:
        self.detect, self.kind, self.batch, self.delay, self.done = detect, kind, batch, delay, done
        self.busy_since: float | None = None  # of the clock `time.monotonic`
        self._jobs: list[_Job] = []
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "detector")

    async def __call__(self, picture: Array) -> Detections:
        """What is in a picture. Raises what the detector raises of it alone. Who stops waiting is left out."""
        job = _Job(picture, self.kind(picture), asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._arrived.set()
        return await job.answer

    async def alone(self, work: Callable[[], Result]) -> Result:
        """What `work` gives in the detector's thread, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def run(self) -> None:
        """Serve until it is cancelled."""
        try:
            while True:
                await self._call(await self._next())
        finally:
            self._thread.shutdown(wait=False)

    async def _next(self) -> list[_Job]:
        """The next batch."""
        while True:
            self._jobs = [job for job in self._jobs if not job.answer.done()]
            seconds = self.delay - (time.monotonic() - self._jobs[0].since) if self._jobs else None
            if self._jobs:
                together = [job for job in self._jobs if job.kind == self._jobs[0].kind][: self.batch]
                if len(together) == self.batch or (seconds is not None and seconds <= 0):
                    self._jobs = [job for job in self._jobs if job not in together]
                    return together
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), seconds)

    async def _call(self, jobs: Sequence[_Job]) -> None:
        loop, start = asyncio.get_running_loop(), time.monotonic()
        self.busy_since = start
        try:
            answers = await loop.run_in_executor(self._thread, self.detect, [job.picture for job in jobs])
        except Exception as error:
            if len(jobs) > 1:  # one of them may be at fault, or all together take too much memory: each alone
                for job in jobs:
                    await self._call([job])
            elif not jobs[0].answer.done():
                jobs[0].answer.set_exception(error)
            return
        finally:
            self.busy_since = None
        self.done(len(jobs), time.monotonic() - start)
        for job, detections in zip(jobs, answers, strict=True):
            if not job.answer.done():
                job.answer.set_result(detections)
