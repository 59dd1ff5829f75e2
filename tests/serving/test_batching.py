"""Which pictures go through together, and what becomes of those that fail or are no longer waited for."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest
import torch

from rcnnkit.serving.batching import Batcher
from rcnnkit.structures import Array, Detections


def picture(side: int, value: int = 0) -> Array:
    return np.full((side, side, 3), value, np.uint8)


class Detector:
    """Finds one object whose score is the picture's value. Fails of pictures with 255, and takes its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.calls = seconds, list[list[int]]()

    def __call__(self, pictures: Sequence[Array]) -> list[Detections]:
        time.sleep(self.seconds)
        values = [int(each[0, 0, 0]) for each in pictures]
        self.calls.append(values)
        if 255 in values:
            raise RuntimeError("255 is too much")
        return [
            Detections(torch.zeros(1, 4), torch.tensor([float(value)]), torch.zeros(1, dtype=torch.int64))
            for value in values
        ]


def run(
    detector: Detector, work: Callable[[Batcher], Awaitable[None]], batch: int = 4, delay: float = 0.05
) -> list[tuple[int, float]]:
    """Do the work beside a batcher; gives what it told of its calls."""
    told: list[tuple[int, float]] = []

    async def main() -> None:
        batcher = Batcher(detector, len, batch, delay, lambda *call: told.append(call))
        task = asyncio.create_task(batcher.run())
        try:
            await work(batcher)
        finally:
            task.cancel()

    asyncio.run(main())
    return told


async def scores(batcher: Batcher, pictures: Sequence[Array]) -> list[float]:
    return [float(found.scores[0]) for found in await asyncio.gather(*map(batcher, pictures))]


def test_pictures_of_one_kind_go_together() -> None:
    detector = Detector()

    async def work(batcher: Batcher) -> None:
        given = [picture(side, value) for value, side in enumerate((5, 5, 7, 5, 5, 5, 7))]
        assert await scores(batcher, given) == [0, 1, 2, 3, 4, 5, 6]

    told = run(detector, work)
    assert detector.calls == [[0, 1, 3, 4], [2, 6], [5]]  # the oldest first, with others of its kind, 4 at most
    assert [pictures for pictures, _ in told] == [4, 2, 1]
    assert all(seconds < 5 for _, seconds in told)


def test_a_full_batch_does_not_wait() -> None:
    async def work(batcher: Batcher) -> None:
        async with asyncio.timeout(5):
            assert await scores(batcher, [picture(5, value) for value in range(4)]) == [0, 1, 2, 3]

    run(Detector(), work, delay=60)


def test_what_comes_within_the_delay_goes_along() -> None:
    detector = Detector()

    async def work(batcher: Batcher) -> None:
        first = asyncio.create_task(batcher(picture(5, 1)))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, batcher(picture(5, 2)))

    run(detector, work, delay=0.3)
    assert detector.calls == [[1, 2]]


def test_what_waits_for_a_busy_detector_goes_together() -> None:
    detector = Detector(seconds=0.1)

    async def work(batcher: Batcher) -> None:
        first = asyncio.create_task(batcher(picture(5, 1)))
        await asyncio.sleep(0.05)
        assert batcher.busy_since is not None
        await asyncio.gather(first, batcher(picture(5, 2)), batcher(picture(5, 3)))
        assert batcher.busy_since is None

    run(detector, work, delay=0)
    assert detector.calls == [[1], [2, 3]]


def test_one_that_fails_harms_no_other() -> None:
    detector = Detector()

    async def work(batcher: Batcher) -> None:
        answers = await asyncio.gather(*(batcher(picture(5, value)) for value in (1, 255, 3)), return_exceptions=True)
        assert isinstance(answers[1], RuntimeError)
        assert str(answers[1]) == "255 is too much"
        assert [float(each.scores[0]) for each in answers if isinstance(each, Detections)] == [1, 3]
        assert await scores(batcher, [picture(5, 4)]) == [4]

    run(detector, work)
    assert detector.calls == [[1, 255, 3], [1], [255], [3], [4]]


def test_what_nobody_waits_for_is_left_out() -> None:
    detector = Detector(seconds=0.05)

    async def work(batcher: Batcher) -> None:
        tasks = [asyncio.create_task(batcher(picture(5, value))) for value in (1, 2, 3)]
        await asyncio.sleep(0.02)  # 1 is being looked at
        tasks[0].cancel()
        tasks[1].cancel()
        assert float((await tasks[2]).scores[0]) == 3
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]

    run(detector, work, batch=1, delay=0)
    assert detector.calls == [[1], [3]]
