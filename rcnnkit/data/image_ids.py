"""COCO's own numbers of pictures, which results files go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from rcnnkit.data.json_files import read_json
from rcnnkit.data.records import few
from rcnnkit.text import count

Ids = Mapping[str, int | str]


def read_image_ids(file: Path) -> dict[str, int | str]:
    """file_name → id of each picture in a file of COCO's format; it may be one without annotations.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not in COCO's format.
    """
    values = read_json(file)
    images = values.get("images") if isinstance(values, dict) else None
    if not isinstance(images, list):
        raise ValueError(f"{file} has no list of images; name a file in COCO's format")
    ids: dict[str, int | str] = {}
    for i, entry in enumerate(images):
        name, number = (entry.get(key) if isinstance(entry, dict) else None for key in ("file_name", "id"))
        if not isinstance(name, str) or not isinstance(number, int | str) or isinstance(number, bool):
            raise ValueError(f"{file}: images[{i}] needs a file_name and an id; correct it")
        ids[PurePath(name).as_posix()] = number
    return ids


def ids_of(pictures: Sequence[Path], ids: Ids) -> list[int | str]:
    """The id of each picture, by the end of its path: of `val/a.jpg` and `a.jpg` the longer name goes first.

    Raises:
        ValueError: some pictures have none.
    """
    picture_ids: list[int | str] = []
    missing = []
    for path in pictures:
        parts = path.parts
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        name = next((end for end in ends if end in ids), None)
        if name is None:
            missing.append(str(path))
        else:
            picture_ids.append(ids[name])
    if missing:
        raise ValueError(
            f"no id is known of {count(len(missing), 'picture')}: {few(missing)}; leave them out, or name the file that"
            " lists them"
        )
    return picture_ids
