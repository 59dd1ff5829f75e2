"""Visual Genome's region_descriptions.json, versions 1.0 and 1.2: pictures with boxes, each described by a phrase.

    [{"id": 1, "regions": [{"region_id": 1382, "image_id": 1, "phrase": "the clock is green in colour",
                            "x": 421, "y": 57, "width": 82, "height": 139}, …]}, …]

x and y are the upper left corner, in continuous pixels, 0-based. Version 1.0 calls a region's ids `id` and `image`. A
picture is the file whose name without its ending is the `id`, unless image_data.json beside the file has its `url`.
All regions are of one class, "region".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from rcnnkit.data.annotated import Annotated, Annotation, new_id, to_dataset
from rcnnkit.data.checks import Findings
from rcnnkit.data.json_files import numbers, read_json, short
from rcnnkit.data.records import Dataset
from rcnnkit.files import check_new, whole
from rcnnkit.structures import Size
from rcnnkit.text import count
from rcnnkit.vocabulary import Vocabulary, tokens

REGION = "region"  # the only class
IMAGE_DATA = "image_data.json"
LONGEST = 50  # words of a phrase
BOX = ("x", "y", "width", "height")
EXPECTED = (
    "expected a list of pictures, each with its `id` and a list `regions` whose entries have a `phrase`, as in Visual"
    " Genome's region_descriptions.json of version 1.0 or 1.2"
)


def read_regions(
    file: Path, images: Path | None = None, class_names: Sequence[str] | None = None
) -> tuple[Dataset, Findings]:
    """The pictures of a file and their described regions, and everything that is wrong with them.

    Args:
        file: region_descriptions.json, or one like it.
        images: the folder of the pictures; by default they are looked for beside the file and below its folder.
        class_names: by default "region" alone.

    Returns:
        The data set without what is bad; ids of pictures are the file's, as text. And the problems found.

    Raises:
        FileNotFoundError: there is no such file, or none of its pictures is found.
        ValueError: it is not a regular file, or no JSON.
    """
    findings, pictures = Findings(), dict[str, Annotated]()
    content = read_json(file)
    if not isinstance(content, list) or not any(map(_is_described, content)):
        findings.add(file, "", f"this holds {_form(content)}; {EXPECTED}")
        content = []
    named = _files_and_sizes(file.with_name(IMAGE_DATA), findings)
    for index, entry in enumerate(content):
        key = entry.get("id", entry.get("image_id")) if isinstance(entry, dict) else None
        try:
            if key is None or not isinstance(entry.get("regions"), list):
                raise ValueError(f"this is {_form(entry)}; {EXPECTED}")
            picture_id = new_id(key, pictures)
        except ValueError as error:
            findings.add(file, f"picture {index}", str(error))
            findings.pictures += 1
            continue
        name, size = named.get(picture_id, (picture_id, None))
        picture = pictures[picture_id] = Annotated(name, f"picture {key}", size)
        for place, region in enumerate(entry["regions"]):
            try:
                picture.objects.append(_region(region, key, f"picture {key}, region {_id(region, place)}"))
            except ValueError as error:
                findings.add(file, f"picture {key}, region {_id(region, place)}", str(error))
                findings.objects += 1
    classes = class_names if class_names is not None else [REGION]
    return to_dataset(file, pictures, findings, images=images, class_names=classes), findings


def write_regions(dataset: Dataset, file: Path) -> None:
    """Write the boxes and phrases of a data set as Visual Genome's region_descriptions.json of version 1.2.

    An id is the name of the picture, without its ending. A phrase is the words that `rcnnkit.vocabulary` made of it.

    Raises:
        FileExistsError: `file` exists; it is not overwritten.
        FileNotFoundError: there is no such folder.
    """
    check_new(file)
    vocabulary, number = Vocabulary(dataset.words), 0
    entries: list[dict[str, Any]] = []
    for record in dataset.records:
        key, regions = record.path.stem, list[dict[str, Any]]()
        phrases = vocabulary.decode(record.targets.phrases)
        for (x1, y1, x2, y2), phrase in zip(record.targets.boxes.tolist(), phrases, strict=True):
            number += 1
            box = dict(zip(BOX, (x1, y1, x2 - x1, y2 - y1), strict=True))
            regions.append({"region_id": number, "image_id": key, "phrase": phrase, **box})
        entries.append({"id": key, "regions": regions})
    with whole(file) as half:
        half.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")


def check_phrase(phrase: Any, name: str) -> str:
    """A phrase, or a sentence, of 1 to LONGEST words. Raises ValueError of any other value; `name` is its key."""
    words = tokens(phrase) if isinstance(phrase, str) else []
    if not words:
        raise ValueError(f"its {name} is {short(phrase)}, which has no word; describe what is there, or delete it")
    if len(words) > LONGEST:
        raise ValueError(
            f"its {name} has {count(len(words), 'word')} ({short(phrase)}), more than {LONGEST}; shorten it, or delete"
            " it"
        )
    return str(phrase)


def _is_described(entry: Any) -> bool:
    """Whether an entry is a picture with regions that have phrases, or with none at all."""
    regions = entry.get("regions") if isinstance(entry, dict) else None
    return isinstance(regions, list) and all(isinstance(each, dict) and "phrase" in each for each in regions[:1])


def _form(value: Any) -> str:
    """The form of what is not as expected, for people."""
    if isinstance(value, dict):
        return f"an object with {', '.join(list(map(str, value))[:6]) or 'nothing in it'}"
    if isinstance(value, list):
        return f"a list, the first entry of which is {_form(value[0])}" if value else "an empty list"
    return short(value)


def _id(region: Any, place: int) -> Any:
    """What a region calls itself, or its place in the list."""
    return region.get("region_id", region.get("id", f"[{place}]")) if isinstance(region, dict) else f"[{place}]"


def _region(region: Any, key: object, where: str) -> Annotation:
    """A region of the picture `key`. Raises ValueError where something is wrong with it."""
    x, y, width, height = numbers(region, BOX)
    phrase = check_phrase(region.get("phrase"), "phrase")
    other = region.get("image_id", region.get("image", key))
    if str(other) != str(key):
        raise ValueError(f"it is of picture {other}, and is listed with picture {key}; move it there, or delete it")
    written = f"x {x:g}, y {y:g}, width {width:g}, height {height:g}"
    return Annotation(where, REGION, (x, y, x + width, y + height), written, phrase=phrase)


def _files_and_sizes(file: Path, findings: Findings) -> dict[str, tuple[str, Size | None]]:
    """Id → the name of the picture's file and its (height, width), as image_data.json has them, if it is there."""
    if not file.is_file():
        return {}
    try:
        content = read_json(file)
    except ValueError as error:
        findings.add(file, "", str(error).removeprefix(f"{file} "))
        return {}
    named: dict[str, tuple[str, Size | None]] = {}
    for entry in content if isinstance(content, list) else []:
        about = entry if isinstance(entry, dict) else {}
        url, height, width = (about.get(name) for name in ("url", "height", "width"))
        if isinstance(url, str):
            size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
            name = "/".join(PurePosixPath(url).parts[-2:])  # such as VG_100K_2/1.jpg
            named[str(about.get("image_id", about.get("id")))] = (name, size)
    return named
