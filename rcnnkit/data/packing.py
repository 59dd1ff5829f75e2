"""Data sets whose pictures lie in a few large files: tar archives in WebDataset's layout, and COCO's JSON beside."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rcnnkit.archives import bytes_of, read_file
from rcnnkit.data.coco import write_coco
from rcnnkit.data.records import Dataset
from rcnnkit.files import is_free, whole
from rcnnkit.progress import Report, reported, silent
from rcnnkit.structures import Array

BLOCK = 512  # bytes; what tar rounds up to


def pack(splits: Mapping[str, Dataset], out: Path, shard_bytes: int, progress: Report = silent) -> int:
    """Write OUT/SPLIT-000000.tar, … with the pictures of each split as they are, and OUT/SPLIT.json.

    `read_data` reads OUT as a data set in COCO's format, from the archives themselves; pictures keep their ids. A
    picture keeps its name, unless two of a split have the same one or it has a dot, at which WebDataset ends names.

    Args:
        splits: "train", "val", "test" → pictures, of the same classes.
        out: holds nothing yet.
        shard_bytes: of an archive; a picture that is larger gets one of its own.

    Returns:
        How many archives there are.

    Raises:
        FileExistsError: `out` holds something.
        FileNotFoundError, OSError: a picture cannot be read, or an archive cannot be written; nothing is left then.
    """
    if not is_free(out):
        raise FileExistsError(f"{out} is not an empty folder; choose another --out, nothing is overwritten")
    existed, shards = out.exists(), 0
    out.mkdir(parents=True, exist_ok=True)
    try:
        for split, data in splits.items():
            names, paths = _names(data), data.flat.paths
            members: list[Path] = []
            for number, part in enumerate(_parts(paths, shard_bytes)):
                shard = out / f"{split}-{number:06d}.tar"
                with whole(shard) as half, tarfile.open(half, "w", format=tarfile.PAX_FORMAT) as tar:
                    for i in reported(part, shard.name, progress):
                        _add(tar, names[i], read_file(paths[i]))
                members += [shard / names[i] for i in part]
                shards += 1
            records = [replace(record, path=path) for record, path in zip(data.records, members, strict=True)]
            write_coco(replace(data, records=records), out / f"{split}.json")
    except BaseException:
        for path in out.iterdir() if existed else [out]:
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
        raise
    return shards


def _names(data: Dataset) -> list[str]:
    """Of the pictures, in the archives."""
    paths = [Path(path) for path in data.flat.paths]
    stems = Counter(path.stem for path in paths)
    digits = max(6, len(str(len(paths))))
    return [
        path.name if stems[path.stem] == 1 and "." not in path.stem else f"{number:0{digits}d}{path.suffix}"
        for number, path in enumerate(paths)
    ]


def _parts(paths: list[str], shard_bytes: int) -> Iterator[list[int]]:
    """Which pictures go into one archive."""
    part: list[int] = []
    size = 0
    for i, path in enumerate(paths):
        own = BLOCK + -(-bytes_of(path) // BLOCK) * BLOCK
        if part and size + own > shard_bytes:
            yield part
            part, size = [], 0
        part.append(i)
        size += own
    if part:
        yield part


def _add(tar: tarfile.TarFile, name: str, data: Array) -> None:
    """Always the same bytes: no times, no owners."""
    about = tarfile.TarInfo(name)
    about.size = len(data)
    tar.addfile(about, io.BytesIO(data.data))
