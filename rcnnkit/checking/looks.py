"""Every picture is looked at once: what its bytes are, how it is stored, and how it looks from afar."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
from PIL import Image, TiffImagePlugin

from rcnnkit.archives import read_file
from rcnnkit.decoding import open_picture, sizes
from rcnnkit.images import read_picture
from rcnnkit.processes import map_ahead
from rcnnkit.progress import Report, silent
from rcnnkit.structures import Array, Size

SIDE = 32  # pixels of the small copy
CHUNK = 32  # pictures that a process looks at in one go
FEW = 256  # pictures that are not worth processes of their own
# OpenCV decodes a JPEG at a half, a quarter or an eighth of its size in less time.
REDUCED = {8: cv2.IMREAD_REDUCED_GRAYSCALE_8, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2}
BITS_PER_SAMPLE = 258  # TIFF's tag


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What is seen of a picture file."""

    digest: bytes  # of its bytes
    mode: str  # Pillow's: RGB, L, CMYK, …
    stored: Size  # (height, width) without EXIF
    turn: int  # EXIF's orientation, 1 to 8
    highest: int  # of 16 bits a channel: its highest value; of others 0
    small: Array  # (SIDE, SIDE) uint8 grey, upright


def look_at(path: Path) -> Look:
    """Raises what `rcnnkit.images.read_picture` raises, where the file was changed since it was checked."""
    data = read_file(path)
    with open_picture(io.BytesIO(data.data)) as picture:
        stored_size, _, turn = sizes(picture)
        mode, deep = picture.mode, _bits(picture, data) == 16
        reducible = picture.format in ("JPEG", "MPO")
    reduction = next((each for each in REDUCED if reducible and min(stored_size) >= each * SIDE), 1)
    grey = _decoded(data, REDUCED.get(reduction, cv2.IMREAD_GRAYSCALE))
    if grey is None:  # a format that only Pillow reads
        grey = cv2.cvtColor(read_picture(path, checked=True), cv2.COLOR_RGB2GRAY)
    highest = 0
    if deep:
        values = _decoded(data, cv2.IMREAD_UNCHANGED)
        highest = 0 if values is None else int(values.max())
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return Look(hashlib.blake2b(data.data, digest_size=16).digest(), mode, stored_size, turn, highest, small)


def look_at_all(paths: Sequence[Path], report: Report = silent) -> list[Look]:
    """`look_at` each of the paths, in their order; many are divided among processes, one for each core."""
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    name = "pictures looked at"
    report(name, 0, len(paths))
    every_look: list[Look] = []
    workers = min(8, os.cpu_count() or 1) if len(paths) > FEW else 0
    advice = "close other programs"
    ahead = map_ahead(_look_at_chunk, iter(chunks), workers, "looks at pictures", advice)
    with closing(ahead if workers else (_look_at_chunk(chunk) for chunk in chunks)) as results:
        for looks in results:
            every_look += looks
            report(name, len(every_look), len(paths))
    return every_look


def _look_at_chunk(paths: Sequence[Path]) -> list[Look]:
    return [look_at(path) for path in paths]


def _decoded(data: Array, flags: int) -> Array | None:
    try:
        return cv2.imdecode(data, flags)
    except cv2.error:  # more pixels than OpenCV takes
        return None


def _bits(picture: Image.Image, data: Array) -> int:
    """Bits of a channel, as far as they are more than 8; Pillow shows colours of 16 as if they had 8."""
    if picture.format == "PNG":
        return int(data[24])  # behind the signature, the head of the first chunk, width and height
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return max(picture.tag_v2.get(BITS_PER_SAMPLE, (8,)))
    return 16 if picture.mode.startswith("I") else 8
