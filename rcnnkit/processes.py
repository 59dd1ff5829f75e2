"""Processes that work for this one and end with it, whichever way it ends; and what a fork means for threads."""

from __future__ import annotations

import io
import logging
import mmap
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any, TypeVar

import torch
from torch import Tensor

log = logging.getLogger("rcnnkit")
Job = TypeVar("Job")

AHEAD = 2  # jobs that a process has at a time: it begins the next while the last result is waited for
ALIGNED = 64  # bytes; no tensor begins elsewhere
PATIENCE = 1.0  # seconds for a process to end when it is asked to; then it is killed


def map_ahead(
    work: Callable[[Job], Any], jobs: Iterator[Job], count: int, name: str, advice: str
) -> Generator[Any, None, None]:
    """`work` of each of the jobs in turn, done by `count` processes, which end when this generator is closed.

    They are forked, so that they share what `work` holds. Results are pickled, except for arrays and tensors, which
    stay in shared memory.

    Args:
        name, advice: of messages: what a process does, and how it needs less memory.

    Raises:
        ChildProcessError: a process was killed.
        RuntimeError: `work` raised something; with its trace.
    """
    context = multiprocessing.get_context("fork")
    processes: list[ForkProcess] = []
    pipes: list[Connection] = []
    busy: deque[int] = deque()  # the processes whose results come next

    def give(number: int) -> None:
        for job in islice(jobs, 1):
            pipes[number].send(job)
            busy.append(number)

    try:
        with signals_held():  # until the processes know what to do with them
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(work, theirs, os.getpid()), daemon=True)
                process.start()
                theirs.close()
                processes.append(process)
                pipes.append(ours)
        number = 0
        try:
            for number in islice(cycle(range(count)), AHEAD * count):
                give(number)
            while busy:
                number = busy.popleft()
                result = _receive(pipes[number])
                give(number)
                if isinstance(result, _Failure):
                    raise RuntimeError(f"a process that {name} failed:\n{result.trace}")
                yield result
        except (EOFError, ConnectionError):
            how = _end_of(processes[number])
            raise ChildProcessError(
                f"a process that {name} was ended {how}. If the machine ran out of memory, {advice}"
            ) from None
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(PATIENCE)
            if process.is_alive():
                process.kill()
                process.join(PATIENCE)
        for pipe in pipes:
            pipe.close()


def start_worker(parent: int) -> None:
    """To be called first in a process that works for the process `parent`: it ends with that one, and only then.

    A terminal sends Ctrl-C to all processes of a command, and `timeout` or a batch system SIGTERM. Both are for the
    parent, which may have to finish something for which it needs its workers. When the parent itself sends SIGTERM, as
    Python does at its end, or when it is gone, this process ends at once.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # it waits for the thread
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        caught = signal.sigtimedwait({signal.SIGTERM}, 0.5)
        if caught is not None and caught.si_pid == parent:
            break
    os._exit(1)


@contextmanager
def signals_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM come when this is left; in processes that are forked meanwhile, when they ask for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(work: Callable[[Any], Any], pipe: Connection, parent: int) -> None:
    start_worker(parent)
    use_one_thread()  # the processes are the threads
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            result = work(job)
        except Exception:
            result = _Failure(traceback.format_exc().rstrip())
        _send(pipe, result)


@dataclass(frozen=True, slots=True)
class _Failure:
    trace: str


class _Pickler(pickle.Pickler):
    """Tensors become arrays, whose memory pickle leaves out."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return torch.from_numpy, (value.contiguous().numpy(),)
        return NotImplemented


def _send(pipe: Connection, value: Any) -> None:
    """What `_receive` gets at the other end."""
    pickled, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    _Pickler(pickled, protocol=5, buffer_callback=buffers.append).dump(value)
    parts, end = [], 0
    # Memory of no name: nothing of it remains, whoever is killed, and /dev/shm may be small, as in a container.
    descriptor = os.memfd_create("rcnnkit")
    with open(descriptor, "wb", closefd=False) as file:
        for buffer in buffers:
            raw = buffer.raw()
            parts.append((end, end + len(raw)))
            file.seek(end)
            file.write(raw)
            end += -(-len(raw) // ALIGNED) * ALIGNED
    os.truncate(descriptor, max(end, 1))
    pipe.send((pickled.getvalue(), parts))
    send_handle(pipe, descriptor, os.getppid())
    os.close(descriptor)


def _receive(pipe: Connection) -> Any:
    pickled, parts = pipe.recv()
    descriptor = recv_handle(pipe)
    memory = memoryview(mmap.mmap(descriptor, 0))
    os.close(descriptor)
    return pickle.loads(pickled, buffers=[memory[start:end] for start, end in parts])


def _end_of(process: ForkProcess) -> str:
    process.join(PATIENCE)
    code = process.exitcode
    return f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit status {code}"


_threads_before_fork = 0  # of a process that was forked and has not said so yet


def use_one_thread() -> None:
    """Compute on one thread from now on, in torch and in OpenCV."""
    torch.set_num_threads(1)
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(0)  # 1 would wait for the threads of before a fork


def after_fork() -> None:
    """For `os.register_at_fork`: OpenMP's threads are gone, and it would wait for them for ever."""
    global _threads_before_fork
    if (threads := torch.get_num_threads()) > 1:
        _threads_before_fork = threads
        use_one_thread()


def say_forked() -> None:
    """Say, once, that this process computes on one thread; for whatever computes to call."""
    global _threads_before_fork
    if _threads_before_fork and not torch.compiler.is_compiling():
        threads, _threads_before_fork = _threads_before_fork, 0
        if torch.utils.data.get_worker_info():  # which torch gives one thread by itself
            return
        log.warning(
            "this process was forked from one with %d threads, which a fork does not copy, so rcnnkit computes on one"
            ' thread here; start processes by "spawn" to have more',
            threads,
        )
