"""Pickles of arrays and plain containers, read without running anything that they name.

A pickle is a program: it may import any function and call it. Here each name that numpy's arrays need stands for a
small class of this file, every other name is refused, and arrays are put together from their bytes.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
# What broken or hostile bytes make an unpickler raise.
BROKEN = (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)


def read_pickle(path: Path | str) -> Any:
    """Numbers, texts, lists, tuples, dicts and numeric arrays from a pickle of Python 2 or 3.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no whole pickle, or holds anything else; nothing of it has run.
    """
    try:
        with Path(path).open("rb") as file:
            # latin1 keeps the bytes of Python 2's arrays, which were texts there
            return _plain(_Unpickler(file, encoding="latin1").load())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (*BROKEN, MemoryError, RecursionError) as error:
        raise ValueError(f"{path} is not read: {error or type(error).__name__}") from None


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
            raise ValueError(f"it holds an array of {self.order}{self.code}, which are no numbers")
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
    if not all(isinstance(n, int) and n >= 0 for n in shape) or math.prod(shape) * real.itemsize != len(data):
        raise ValueError(f"it holds an array of shape {shape} that does not fit its {len(data)} bytes")
    return np.ndarray(shape, real, data, order="F" if fortran else "C")


def _plain(value: Any) -> Any:
    """The same with arrays in the place of what stood for them."""
    if isinstance(value, _Array | _Scalar):
        return _plain(value.array)
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(each) for each in value)
    if value is None or isinstance(value, str | bytes | int | float | np.ndarray):
        return value
    raise ValueError("it holds something that is no number, text, array or container")
