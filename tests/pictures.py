"""Made pictures, and what tests of reading them share."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ORIENTATION = 0x0112  # EXIF's tag


def noise(height: int = 6, width: int = 9, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def written(path: Path, picture: Image.Image, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """What EXIF's table says (row 0, column 0 of what is stored are these sides of what is seen)."""
    return {
        1: lambda a: a,  # top, left
        2: lambda a: a[:, ::-1],  # top, right
        3: lambda a: a[::-1, ::-1],  # bottom, right
        4: lambda a: a[::-1],  # bottom, left
        5: lambda a: a.transpose(1, 0, 2),  # left, top
        6: lambda a: a[::-1].transpose(1, 0, 2),  # right, top
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
        8: lambda a: a[:, ::-1].transpose(1, 0, 2),  # left, bottom
    }[orientation](stored)


def chunk(kind: bytes, data: bytes) -> bytes:
    """One of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
