"""COCO's captions: sentences of whole pictures.

    {"images": [{"id": 9, "file_name": "000000000009.jpg", "height": 480, "width": 640}, …],
     "annotations": [{"id": 1, "image_id": 9, "caption": "A red cup on a table."}, …]}

Each sentence is an object as large as its picture, of the only class, "picture".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rcnnkit.data.annotated import Annotated, Annotation, new_id, to_dataset
from rcnnkit.data.checks import Box, Findings
from rcnnkit.data.json_files import read_json, short
from rcnnkit.data.records import Dataset
from rcnnkit.data.visual_genome import check_phrase
from rcnnkit.structures import Size

PICTURE = "picture"  # the only class
EXPECTED = (
    "expected COCO's captions: an object with the lists `images` and `annotations`, whose entries have a `caption`"
)


def read_captions(
    file: Path, images: Path | None = None, class_names: Sequence[str] | None = None
) -> tuple[Dataset, Findings]:
    """The pictures of a file and their sentences, and everything that is wrong with them.

    Args:
        file: captions_train2017.json, or one like it.
        images: the folder of the pictures; by default they are looked for beside the file and below its folder.
        class_names: by default "picture" alone.

    Returns:
        The data set without what is bad; ids of pictures are the file's, as text. And the problems found.

    Raises:
        FileNotFoundError: there is no such file, or none of its pictures is found.
        ValueError: it is not a regular file, or no JSON.
    """
    findings, pictures = Findings(), dict[str, Annotated]()
    content = read_json(file)
    parts = [content.get(part) if isinstance(content, dict) else None for part in ("images", "annotations")]
    if not all(isinstance(part, list) for part in parts):
        findings.add(file, "", f"this holds {short(content)}; {EXPECTED}")
        parts = [[], []]
    for index, entry in enumerate(parts[0] or []):
        key, name = (entry.get(each) if isinstance(entry, dict) else None for each in ("id", "file_name"))
        try:
            if key is None or not isinstance(name, str) or not name:
                raise ValueError(f"{short(entry)} needs an `id` and a `file_name`")
            pictures[new_id(key, pictures)] = Annotated(name.replace("\\", "/"), f"image {key}", _size(entry))
        except ValueError as error:
            findings.add(file, f"images[{index}]", str(error))
            findings.pictures += 1
    for index, entry in enumerate(parts[1] or []):
        key = entry.get("image_id") if isinstance(entry, dict) else None
        where = f"annotation {entry.get('id', index) if isinstance(entry, dict) else index}"
        try:
            if str(key) not in pictures:
                raise ValueError(f"its image_id is {short(key)}, which is no picture of this file; correct it")
            caption = check_phrase(entry.get("caption"), "caption")
        except ValueError as error:
            findings.add(file, where, str(error))
            findings.objects += 1
            continue
        pictures[str(key)].objects.append(Annotation(where, PICTURE, _whole, "all of the picture", phrase=caption))
    known = class_names if class_names is not None else [PICTURE]
    return to_dataset(file, pictures, findings, images=images, class_names=known), findings


def _size(entry: dict[str, Any]) -> Size | None:
    height, width = entry.get("height"), entry.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) and height and width else None


def _whole(size: Size) -> Box:
    return 0.0, 0.0, float(size[1]), float(size[0])
