"""MATLAB's .mat files, read by SciPy in a process of its own: some damaged ones crash its reader."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from rcnnkit.apart import read_apart, serve
from rcnnkit.files import check_regular
from rcnnkit.pickles import unpickle


def read_mat(path: Path, *names: str) -> dict[str, Any]:
    """Those of the named variables that a file has: cells as flat lists, texts, arrays of numbers.

    Raises:
        FileNotFoundError, OSError: it cannot be opened.
        ValueError: no regular file; damaged; of MATLAB's format 7.3; or a variable holds anything else.
    """
    check_regular(path)
    content: dict[str, Any] = unpickle(io.BytesIO(read_apart(__name__, path, *names)))
    return content


def _repickled(path: Path, *names: str) -> bytes:
    """The variables as a pickle that `rcnnkit.pickles` reads, which runs nothing."""
    from scipy.io import loadmat  # only this process needs it

    try:
        content = loadmat(path, variable_names=names)
    except NotImplementedError:
        raise ValueError("it is in MATLAB's format 7.3; load it there and save it with -v7") from None
    except MemoryError:
        raise
    except Exception as error:  # of as many kinds as there are ways to be damaged
        raise ValueError(f"it is no whole .mat file ({error or type(error).__name__}); copy it again") from None
    return pickle.dumps({name: _plain(content[name]) for name in names if name in content}, 4)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_plain(each) for each in value.ravel()]
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return "".join(value.ravel())
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return np.ascontiguousarray(value)
    raise ValueError(f"it holds a {type(value).__name__} where cells, texts and numbers are read")


if __name__ == "__main__":
    serve(_repickled)
