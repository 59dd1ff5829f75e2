"""Files that are written beside training: what goes into them is copied in memory, and a thread does the rest."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

log = logging.getLogger("rcnnkit")
Tensors = Mapping[str, Tensor]


class Writer:
    """Writes one file at a time. Training waits for it only if the next one comes before the last one is written.

    The copies stay allocated, since new memory takes longer to get than to fill.
    """

    def __init__(self) -> None:
        self._copies: dict[str, Tensor] = {}
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def write(self, tensors: Tensors, write: Callable[[Tensors], None]) -> None:
        """Copy the tensors, which may change afterwards, and write the copies beside what comes next.

        Args:
            tensors: on any device.
            write: gets the copies, on the CPU.

        Raises:
            OSError, and whatever else `write` raised the last time.
        """
        self.wait()
        self._copies = {name: _copy(tensor, self._copies.get(name)) for name, tensor in tensors.items()}
        if any(tensor.is_cuda for tensor in tensors.values()):
            torch.cuda.synchronize()
        # Not a daemon: should everything else fail, Python itself waits for it at its end.
        self._thread = threading.Thread(target=self._run, args=(write,), name="checkpoint")
        self._thread.start()

    def _run(self, write: Callable[[Tensors], None]) -> None:
        try:
            write(self._copies)
        except BaseException as error:  # raised where somebody waits for it
            self._error = error

    def check(self) -> None:
        """Raise what went wrong with the last file, if that is known by now."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Until the last file is written. Raises what went wrong with it, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if (error := self._error) is not None:
            self._error = None
            raise error

    @contextmanager
    def finished(self) -> Iterator[None]:
        """Whichever way this is left, the last file is written then. An error on the way out is not hidden."""
        try:
            yield
        except BaseException:
            try:
                self.wait()
            except Exception as error:
                log.error("besides, %s", error)
            raise
        self.wait()


def _layout(tensor: Tensor) -> object:
    return tensor.shape, tensor.dtype, tensor.stride()


def _copy(tensor: Tensor, place: Tensor | None) -> Tensor:
    """In the order that the tensor has in memory, so that it is copied as it lies."""
    tensor = tensor.detach()
    if place is None or _layout(place) != _layout(tensor):
        place = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
    return place.copy_(tensor, non_blocking=True)
