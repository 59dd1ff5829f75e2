"""Pickles of arrays and plain containers, read without running anything that they name.

A pickle is a program: it may import any function and call it. Here each name that numpy's arrays need stands for a
small class of this file, every other name is refused, and arrays are put together from their bytes. Without running
anything it could still name one list twice within another, 60 deep, or a key that takes for ever to hash: files are
read in a process of their own, which hands over what is plain and of bounded size.
"""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from rcnnkit.apart import read_apart, serve
from rcnnkit.files import check_regular

DEEPEST = 100  # containers within containers
UNFOLDED = 10_000_000  # bytes, besides those of the file itself, that its content may have with every repetition
DIMENSIONS = 32  # of an array
NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
# What broken or hostile bytes make an unpickler raise.
BROKEN = (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)


def read_pickle(path: Path | str) -> Any:
    """Numbers, texts, lists, tuples, dicts and numeric arrays from a pickle of Python 2 or 3.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no regular file, no whole pickle, holds anything else, is nested more than 100 deep, or
            repeats its parts to many times its size; nothing of it has run.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    check_regular(path)
    try:
        return unpickle(io.BytesIO(read_apart(__name__, path)))
    except ValueError as error:
        raise ValueError(f"{path} is not read: {error}") from None


def unpickle(file: IO[bytes], unfolded: float = math.inf) -> Any:
    """The same from an open file, here and now: broken bytes may take this process along.

    Args:
        unfolded: bytes that the content may have, with every repetition of its parts.

    Raises:
        ValueError: as `read_pickle`.
    """
    try:
        # latin1 keeps the bytes of Python 2's arrays, which were texts there
        return _Plain(unfolded)(_Unpickler(file, encoding="latin1").load())
    except (*BROKEN, RecursionError) as error:
        raise ValueError(str(error) or type(error).__name__) from None


def _repickled(path: Path) -> bytes:
    """A file's content as a pickle without any surprise."""
    with path.open("rb") as file:
        return pickle.dumps(unpickle(file, UNFOLDED + 4 * path.stat().st_size), 4)


class _Standin:
    """Holds what a pickle says of one object. Slots, so that a pickle can hang nothing else on it."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise ValueError("its objects are not what they say")


class _Dtype(_Standin):
    """numpy.dtype("f4", …), then its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def real(self) -> np.dtype[Any]:
        if self.code not in NUMBERS or self.order not in ("<", ">", "|", "="):
            name = (
                f"{self.order}{self.code}" if isinstance(self.order, str) and isinstance(self.code, str) else "things"
            )
            raise ValueError(f"it holds an array of {name[:20]}, which are not numbers")
        return np.dtype(self.order + self.code)


class _Array(_Standin):
    """numpy's _reconstruct(ndarray, (0,), b"b"), then shape, type and bytes; or its _frombuffer(bytes, type, …)."""

    __slots__ = ("array",)

    def __init__(self, data: Any = None, dtype: Any = None, shape: Any = (), order: Any = "C", *_: Any) -> None:
        # _reconstruct gives the content later; an array that never gets any is refused.
        self.array: Any = _array(data, dtype, shape, order == "F") if isinstance(dtype, _Dtype) else _Name()

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.array = data if isinstance(data, list) else _array(data, dtype, shape, fortran)  # a list: of objects


class _Scalar(_Standin):
    """numpy.core.multiarray.scalar(type, bytes)."""

    __slots__ = ("array",)

    def __init__(self, dtype: _Dtype, data: Any) -> None:
        self.array: Any = _array(data, dtype, (), False).item()


class _Bytes(_Standin):
    """_codecs.encode(text, "latin1"), as Python 3 writes bytes into old pickles; bytes() where there are none."""

    __slots__ = ()

    def __new__(cls, text: str = "", codec: str = "latin1") -> Any:
        return text.encode("latin1")


class _Number(_Standin):
    """detectron2's BoxMode(0)."""

    __slots__ = ()

    def __new__(cls, value: Any) -> Any:
        return int(value)


class _Name(_Standin):
    """numpy.ndarray, which is named but never called."""

    __slots__ = ()


_STANDINS: dict[tuple[str, str], type] = {
    ("__builtin__", "bytes"): _Bytes,
    ("_codecs", "encode"): _Bytes,
    ("collections", "OrderedDict"): dict,
    ("detectron2.structures.boxes", "BoxMode"): _Number,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Name,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _Scalar,
    ("numpy.core.numeric", "_frombuffer"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,  # numpy 2's
    ("numpy._core.multiarray", "scalar"): _Scalar,
    ("numpy._core.numeric", "_frombuffer"): _Array,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        try:
            return _STANDINS[module, name]
        except KeyError:
            raise ValueError(
                f"it asks for {module}.{name}, and only arrays and plain containers are admitted: a pickle can run code"
            ) from None


def _array(data: Any, dtype: _Dtype, shape: Any, fortran: Any) -> np.ndarray:
    data = data.encode("latin1") if isinstance(data, str) else data
    real = dtype.real()
    # Checked before it is printed or multiplied: it may be anything.
    if len(shape) > DIMENSIONS or not all(isinstance(n, int) and 0 <= n < 2**63 for n in shape):
        raise ValueError("it holds an array without a valid shape")
    if math.prod(shape) * real.itemsize != len(data):
        raise ValueError(f"it holds an array of shape {shape} that does not fit its {len(data)} bytes")
    return np.ndarray(shape, real, data, order="F" if fortran else "C")


class _Plain:
    """Puts arrays in the place of what stood for them. What comes several times is done once, and counted each time.

    Args:
        unfolded: bytes that the result may have, with every repetition.
    """

    def __init__(self, unfolded: float) -> None:
        self.unfolded = unfolded
        # By id, which stays its own as the unpickled content stays alive: what it becomes, its bytes and its height.
        self.done: dict[int, tuple[Any, int, int]] = {}

    def __call__(self, value: Any) -> Any:
        return self._made(value, 0)[0]

    def _made(self, value: Any, depth: int) -> tuple[Any, int, int]:
        if value is None or isinstance(value, int | float):
            return value, 1, 0
        if isinstance(value, str | bytes):
            return value, 1 + len(value), 0
        if (entry := self.done.get(id(value))) is None:
            entry = self.done[id(value)] = self._anew(value, depth)
        if entry[1] > self.unfolded:
            raise ValueError("it repeats its parts to many times its size; written without repetitions it can be read")
        if depth + entry[2] > DEEPEST:
            raise ValueError(f"its lists or dicts lie more than {DEEPEST} deep within each other")
        return entry

    def _anew(self, value: Any, depth: int) -> tuple[Any, int, int]:
        if isinstance(value, _Array | _Scalar):
            return self._made(value.array, depth)
        if isinstance(value, np.ndarray):
            return value, 1 + value.nbytes, 0
        if not isinstance(value, dict | list | tuple):
            raise ValueError("it holds something that is not a number, text, array or container")
        if depth > DEEPEST:  # a circle, for one
            return None, 1, 1
        if isinstance(value, list | tuple) and set(map(type, value)) <= {int, float}:  # most of what is large
            return value, 1 + len(value), 1
        inner = value if not isinstance(value, dict) else [each for pair in value.items() for each in pair]
        parts = [self._made(each, depth + 1) for each in inner]
        made: Any = [each for each, _, _ in parts]
        made = dict(zip(made[::2], made[1::2], strict=True)) if isinstance(value, dict) else type(value)(made)
        return made, 1 + sum(size for _, size, _ in parts), 1 + max((height for _, _, height in parts), default=0)


if __name__ == "__main__":
    serve(_repickled)
