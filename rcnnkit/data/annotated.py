"""From what annotation files say of their pictures to checked records, whatever tool wrote them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import torch

from rcnnkit.data.checks import Box, Findings, Shares, check_size, is_picture, picture_sizes
from rcnnkit.data.file_names import composed
from rcnnkit.data.flat import GrowingRecords
from rcnnkit.data.json_files import short
from rcnnkit.data.records import Dataset, Record, check_class_names, few
from rcnnkit.structures import Size, Targets
from rcnnkit.text import count
from rcnnkit.vocabulary import Vocabulary, tokens


@dataclass(slots=True)
class Annotation:
    """One object, as it is written."""

    where: str  # in its file, for messages
    name: str  # of its class
    corners: Box | Callable[[Size], Box]  # x1, y1, x2, y2 in pixels, or how they follow from the (height, width)
    written: str  # the box as the file has it, for messages
    crowd: bool = False
    phrase: str = ""  # that describes it


@dataclass(slots=True)
class Annotated:
    """One picture and what is annotated in it."""

    name: str  # its path, with slashes, as far as the file has it; its last part is the file's name
    where: str  # in the annotation file, for messages
    size: Size | None = None  # (height, width) that the file gives
    file: Path | None = None  # that it is annotated in, where each picture has one of its own
    objects: list[Annotation] = field(default_factory=list)

    def key(self) -> str:
        """The id of its record: its name without the ending of a picture."""
        path = PurePosixPath(self.name)
        return str(path.with_suffix("")) if is_picture(Path(path)) else self.name


def to_dataset(
    source: Path,
    pictures: Mapping[str, Annotated],
    findings: Findings,
    *,
    name: str = "",
    images: Path | None = None,
    class_names: Sequence[str],
) -> Dataset:
    """The good pictures and objects; what is bad goes to `findings`, with all that is left out for it.

    Args:
        source: the annotation file, or the folder of all.
        pictures: by the ids of their records.
        name: of the data set, for messages; by default that of `source`, with its folder's.
        images: the folder of the pictures; by default they are looked for beside `source` and below its folder, or
            the one above where that is called annotations.
        class_names: the classes, in the order of their labels.

    Raises:
        FileNotFoundError: none of its pictures is found.
        ValueError: a class is named twice.
    """
    check_class_names(class_names)
    labels = {composed(class_name): label for label, class_name in enumerate(class_names)}
    paths = find_pictures(pictures, source, images, findings)
    sizes = dict(zip(paths, picture_sizes(paths.values()), strict=True))
    records, shares = GrowingRecords(), Shares()
    strangers: dict[str, list[Annotation]] = defaultdict(list)
    words = sorted({word for each in pictures.values() for thing in each.objects for word in tokens(thing.phrase)})
    vocabulary = Vocabulary(words)
    for key, size in sizes.items():
        picture = pictures[key]
        file = picture.file or source
        if isinstance(size, str):
            findings.add(paths[key], "", size)
            continue
        annotated = picture.size or size
        if picture.size and (wrong := check_size(paths[key], picture.size, size)):
            plain = [annotation.corners for annotation in picture.objects if not callable(annotation.corners)]
            if not findings.size(wrong, picture.size, size, plain, file, picture.where):
                continue
            annotated = size
        boxes: list[Box] = []
        good: list[Annotation] = []
        places: dict[tuple[object, ...], str] = {}
        for annotation in picture.objects:
            if composed(annotation.name) not in labels:
                strangers[annotation.name].append(annotation)
                continue
            try:
                box = annotation.corners(annotated) if callable(annotation.corners) else annotation.corners
                if not callable(annotation.corners) and shares.take(
                    box, annotated, file, annotation.where, annotation.written
                ):
                    continue
                box = findings.box(box, annotated, annotation.written, file, annotation.where)
            except ValueError as error:
                findings.add(file, annotation.where, str(error))
                continue
            place = (annotation.name, annotation.phrase, *box)
            if (first := places.setdefault(place, annotation.where)) != annotation.where:
                message = f"its box and class are those of {first} too; delete one"
                findings.warn("an object that is annotated twice", file, annotation.where, message)
            boxes.append(box)
            good.append(annotation)
        findings.objects += len(picture.objects) - len(good)
        targets = Targets(
            torch.tensor(boxes).reshape(-1, 4),
            torch.tensor([labels[composed(annotation.name)] for annotation in good], dtype=torch.int64),
            crowd=torch.tensor([annotation.crowd for annotation in good], dtype=torch.bool),
            phrases=vocabulary.encode([annotation.phrase for annotation in good]),
        )
        records.append(Record(key, paths[key], annotated, targets))
    if shares.tell(source, findings):
        records = GrowingRecords()
    for stranger, uses in sorted(strangers.items()):
        findings.add_stranger(source, stranger, len(uses), f"in {uses[0].where}", class_names)
    findings.pictures += len(pictures) - len(records)
    name = name or f"{source.resolve().parent.name}/{source.stem}"
    return Dataset(name, records.all(), class_names, list(range(1, len(class_names) + 1)), words)


def new_id(key: object, pictures: Mapping[str, Annotated]) -> str:
    """The id of one more picture, as text. Raises ValueError where it is not one, or another picture has it, too."""
    if not isinstance(key, int | str) or isinstance(key, bool):
        raise ValueError(f"its id is {short(key)}, expected a number or a text; correct it")
    if str(key) in pictures:
        raise ValueError(f"the id {key} is that of another picture, too; list each picture once, with all it has")
    return str(key)


def names_of(pictures: Mapping[str, Annotated]) -> list[str]:
    """The classes of all objects, sorted."""
    return sorted({each.name for picture in pictures.values() for each in picture.objects})


def find_pictures(
    pictures: Mapping[str, Annotated], source: Path, images: Path | None, findings: Findings
) -> dict[str, Path]:
    """Where each picture is: at its path from the folder, or by as much of its path as tells it from others.

    Raises:
        FileNotFoundError: there is none of them.
    """
    folder = images or (source if source.is_dir() else source.parent)
    if images is None and folder.name == "annotations" and source.is_file():
        folder = folder.parent  # pictures are beside it then
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; give the one of the pictures as data.images or --images")
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if is_picture(path) and not path.name.startswith("."):
            for known in {composed(path.name), composed(path.stem)}:
                by_name[known].append(path)
    paths: dict[str, Path] = {}
    missing: list[Annotated] = []
    for key, picture in pictures.items():
        places = (folder / picture.name, folder / "images" / picture.name)
        if (direct := next((path for path in places if is_picture(path) and path.is_file()), None)) is not None:
            paths[key] = direct
            continue
        candidates = by_name.get(composed(PurePosixPath(picture.name).name), [])
        if (chosen := _chosen(candidates, picture)) is not None:
            paths[key] = chosen
        elif candidates:
            several = f"it could be any of {few([str(path) for path in candidates])}"
            findings.add(picture.file or source, picture.where, f"picture {picture.name}: {several}; correct its path")
        else:
            missing.append(picture)
    if not paths and pictures:
        first = next(iter(pictures.values())).name
        raise FileNotFoundError(
            f"{source}: none of its {count(len(pictures), 'picture')} was found in {folder} (the first is {first});"
            " give their folder as data.images in settings, or --images on the command line"
        )
    for picture in missing:
        findings.add(
            picture.file or source,
            picture.where,
            f"picture {picture.name}: it is not in {folder}; correct its path",
        )
    _leave_out_twice(paths, pictures, source, findings)
    return paths


def _chosen(candidates: Sequence[Path], picture: Annotated) -> Path | None:
    """The only candidate, or the only one that has most of the folders in the picture's name."""
    if picture.file:
        candidates = [path for path in candidates if path.parent == picture.file.parent] or candidates
    folders = [composed(part) for part in reversed(PurePosixPath(picture.name).parts[:-1])]
    for deep in range(len(folders) + 1):
        if len(candidates) <= 1:
            break
        if deep == len(folders):
            return None
        inside = [path for path in candidates if composed(path.parts[-2 - deep]) == folders[deep]]
        candidates = inside or candidates
    return candidates[0] if len(candidates) == 1 else None


def _leave_out_twice(
    paths: dict[str, Path], pictures: Mapping[str, Annotated], source: Path, findings: Findings
) -> None:
    """Take pictures that have several names out of `paths`: each may have some of the objects only."""
    used = Counter(paths.values())
    for path in [path for path, number in used.items() if number > 1]:
        keys = [key for key, other in paths.items() if other == path]
        several = few([pictures[key].where for key in keys])
        findings.add(source, several, f"these are all the same picture, {path}; list it once, with all its objects")
        for key in keys:
            del paths[key]
