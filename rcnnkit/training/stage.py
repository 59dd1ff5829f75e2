"""A stage of R-CNN's training: its progress, how it stops, and what it kept of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import SafetensorError
from safetensors.numpy import load_file

from rcnnkit.training.features import Array
from rcnnkit.training.run import Run
from rcnnkit.training.stopping import Interrupted, stop_signals


@contextmanager
def stage(
    run: Run, name: str, total: int, step: int, save: Callable[[], None] = lambda: None
) -> Iterator[Callable[[], None]]:
    """A progress bar, and what advances it by one; which also stops after Ctrl-C or SIGTERM, when it has saved."""
    columns = (TextColumn(name), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    remaining = (TextColumn("left"), TimeRemainingColumn())
    bar = Progress(*columns, *remaining, console=run.console, disable=not run.console.is_terminal)
    task, began, start = bar.add_task("", total=total, completed=step), time.perf_counter(), step

    with bar, stop_signals() as stop:

        def advance() -> None:
            nonlocal step
            step += 1
            bar.advance(task)
            if stop.signal and step < total:
                save()
                raise Interrupted(run.last, step, stop.signal, f"of {total} ({name})")

        yield advance
    if step > start:
        seconds = time.perf_counter() - began
        run.say(f"{name}: {seconds:.0f} s")
        run.log({"stage": name, "seconds": round(seconds, 1), "done": step - start})


def read_stage(
    file: Path,
    numbers: Mapping[str, tuple[int, ...]],
    counts: Mapping[str, tuple[int, ...]],
    optional: Mapping[str, tuple[int, ...]],
) -> dict[str, Array]:
    """What a stage kept of itself, by name.

    Args:
        numbers: the shapes of arrays of floats that have to be there; -1 is any length.
        counts: likewise of whole numbers from 0.
        optional: likewise of floats that may be there.

    Raises:
        ValueError: the file is damaged, or holds anything else.
    """
    try:
        state = load_file(file)
        for name, shape in {**numbers, **counts, **optional}.items():
            if name not in state:
                if name in optional:
                    continue
                raise ValueError(f"it has no {name}")
            array = state[name]
            fits = array.ndim == len(shape) and all(n in (-1, m) for n, m in zip(shape, array.shape, strict=True))
            if not fits or array.dtype.kind not in ("iu" if name in counts else "f"):
                raise ValueError(f"its {name} is {array.dtype} {array.shape}")
            if not np.isfinite(array).all() or (name in counts and (array < 0).any()):
                raise ValueError(f"its {name} holds numbers that cannot be")
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({error}); delete it, and this stage begins again") from None
    return state
