"""Results of processes come in order and unchanged, and what became of a process is said."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit.processes import map_ahead


def map_all(work: Callable[[int], Any], jobs: int, count: int) -> list[Any]:
    return list(map_ahead(work, iter(range(jobs)), count, "counts", "count less"))


@pytest.mark.parametrize(("jobs", "count"), [(7, 3), (2, 3), (0, 1)])
def test_results_come_in_the_order_of_the_jobs(jobs: int, count: int) -> None:
    results = map_all(lambda job: (job, os.getpid()), jobs, count)
    assert [job for job, _ in results] == list(range(jobs))
    processes = {process for _, process in results}
    assert len(processes) == min(jobs, count)
    assert os.getpid() not in processes
    assert multiprocessing.active_children() == []


def test_tensors_and_arrays_arrive_unchanged() -> None:
    tensors = [
        torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
        torch.tensor(True),
        torch.zeros(0, 4),
        torch.arange(5, dtype=torch.uint8),  # whose odd length shall not move what follows off its place
        torch.tensor([2**60]),
    ]
    arrays = [np.arange(12.0).reshape(3, 4)[:, ::2], np.zeros((0, 2)), np.array("text")]
    ((there, others),) = map_all(lambda _: (tensors, arrays), 1, 1)
    for ours, theirs in zip(tensors, there, strict=True):
        assert theirs.dtype == ours.dtype
        assert theirs.equal(ours)
        theirs.zero_()  # they can be written to
    for array, other in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(other, array, strict=True)


def test_an_error_comes_with_its_trace() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)^a process that counts failed:\nTraceback .*ZeroDivisionError: "):
        map_all(lambda job: 1 // job, 5, 2)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("end", "how"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "by SIGKILL"),
        (lambda: os._exit(3), "with exit status 3"),
    ],
)
def test_a_process_that_ends_is_named(end: Callable[[], None], how: str) -> None:
    words = rf"^a process that counts was ended {how}\. If the machine ran out of memory, count less$"
    with pytest.raises(ChildProcessError, match=words):
        map_all(lambda job: job if job < 3 else end(), 9, 2)
    assert multiprocessing.active_children() == []
