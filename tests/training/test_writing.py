"""Files are written beside what goes on, from copies, and nobody leaves before they are there."""

import threading
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from rcnnkit.training.writing import Writer


def test_what_changes_meanwhile_is_written_as_it_was() -> None:
    writer, go, written = Writer(), threading.Event(), []
    given = {"a": torch.ones(3), "b": torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)}

    def write(tensors: Mapping[str, Tensor]) -> None:
        assert go.wait(10)
        written.append({name: tensor.clone() for name, tensor in tensors.items()})

    writer.write(given, write)
    given["a"].zero_()
    given["b"].add_(1)
    assert written == []
    writer.check()  # nothing is wrong so far
    go.set()
    given["a"] = torch.full((2,), 7)  # of another shape and type
    writer.write(given, write)
    writer.wait()
    assert written[0]["a"].tolist() == [1, 1, 1]
    assert written[0]["b"].flatten().tolist() == list(range(24))
    assert written[1]["a"].tolist() == [7, 7]
    assert written[1]["b"].flatten().tolist() == list(range(1, 25))


def test_errors_are_raised_once_where_somebody_waits() -> None:
    def fail(_: Mapping[str, Tensor]) -> None:
        raise OSError("the disk is full")

    writer = Writer()
    for wait in (writer.wait, lambda: writer.write({}, fail)):
        writer.write({}, fail)
        with pytest.raises(OSError, match="the disk is full"):
            wait()
        writer.wait()
    writer.write({}, fail)
    while writer._thread is not None and writer._thread.is_alive():
        pass
    with pytest.raises(OSError, match="the disk is full"):
        writer.check()


def test_every_way_out_waits(caplog: pytest.LogCaptureFixture) -> None:
    written: list[int] = []

    def late(_: Mapping[str, Tensor]) -> None:
        threading.Event().wait(0.1)
        written.append(1)

    def fail(_: Mapping[str, Tensor]) -> None:
        raise OSError("the disk is full")

    writer = Writer()

    def leave(write: Callable[[Mapping[str, Tensor]], None], error: BaseException | None = None) -> None:
        with writer.finished():
            writer.write({}, write)
            if error is not None:
                raise error

    leave(late)
    assert written == [1]
    with pytest.raises(KeyboardInterrupt):
        leave(late, KeyboardInterrupt())
    assert written == [1, 1]
    with pytest.raises(OSError, match="the disk is full"):
        leave(fail)
    with pytest.raises(ValueError, match="first"):
        leave(fail, ValueError("first"))
    assert "besides, the disk is full" in caplog.text
