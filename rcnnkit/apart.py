"""Readers of files from elsewhere, each in a process of its own.

SciPy's and Python's readers are native code. Damaged or hostile bytes can crash them, keep them busy for ever, or make
them ask for any amount of memory. In a process of its own, with limits, that is one error to the caller.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SECONDS, SECONDS_A_BYTE = 60.0, 1e-6  # a file of 100 MB takes some 3 s
MEMORY, MEMORY_A_BYTE = 4 << 30, 32  # bytes; lists of short numbers take 16 times the room that they have in a pickle
REFUSED = 3  # the exit status of a reader that says on standard error what is wrong


def read_apart(module: str, path: Path, *more: str) -> bytes:
    """What `serve` of `module` hands over about a file.

    Args:
        module: calls `serve` when it is run.
        path: of a regular file.
        more: arguments of its reader, after the path.

    Raises:
        FileNotFoundError, OSError: the file cannot be opened.
        ValueError: the reader refused the file, crashed, or needed more than it may.
    """
    with path.open("rb"):  # the caller's own error, where it may not be
        size = path.stat().st_size
    seconds = SECONDS + SECONDS_A_BYTE * size
    # The same packages as here, and one thread: native libraries set room aside for each.
    paths = os.pathsep.join(each or str(Path.cwd()) for each in sys.path)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    limits = (str(MEMORY + MEMORY_A_BYTE * size), str(seconds))
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-m", module, *limits, str(path.absolute()), *more],
            env=os.environ | threads | {"PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8:backslashreplace"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"it cannot be read within {seconds:.0f} s; it is damaged, so copy it again") from None
    words = answer.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]  # Python may have written before it
    if answer.returncode == REFUSED:
        raise ValueError(*words)
    if answer.returncode < 0:
        raise ValueError(f"it is damaged: reading it crashes the reader (signal {-answer.returncode}); copy it again")
    if answer.returncode:
        raise ValueError(f"its reader failed ({words[0] if words else answer.returncode})")
    return answer.stdout


def serve(read: Callable[..., bytes]) -> None:
    """Be the process of `read_apart`: hand over what `read` gives, or the text of the ValueError that it raises."""
    memory, seconds, path = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
    with suppress(ImportError, OSError, ValueError):  # where there are no such limits, or lower ones already
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1,) * 2)  # should the caller be killed meanwhile
        resource.setrlimit(resource.RLIMIT_AS, (used + memory,) * 2)
    try:
        data = read(path, *sys.argv[4:])
    except ValueError as error:
        text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(error)[:2000])
        sys.stderr.write(f"\n{text}\n")
        sys.exit(REFUSED)
    except MemoryError:
        sys.stderr.write(f"\nit needs more than {memory >> 30} GB to be read\n")
        sys.exit(REFUSED)
    sys.stdout.buffer.write(data)
