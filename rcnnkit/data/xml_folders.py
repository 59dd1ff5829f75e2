"""Annotations in VOC's format without its lists, as LabelImg and Roboflow leave them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rcnnkit.data.checks import Findings, is_picture
from rcnnkit.data.file_names import composed
from rcnnkit.data.records import Dataset, split_folder
from rcnnkit.data.voc_annotations import Annotations
from rcnnkit.defaults import CHECK_PICTURES


def read_xml(
    root: Path, split: str, class_names: Sequence[str] | None = None, *, check_pictures: bool = CHECK_PICTURES
) -> tuple[Dataset, Findings]:
    """Annotations in VOC's format without lists: XML files beside their pictures, or apart.

    The pictures of a split are those in the folder of its name ("val" is "valid" too) and below it. Where there is no
    folder for a split, all are "train". A picture belongs to an annotation by its name, or by <filename>.

    Args, return value and errors are those of `read_voc`; a picture's id is the path of its annotation below `root`.
    """
    base = split_folder(root, split, "*.xml")
    findings = Findings()
    files = {file.relative_to(root).with_suffix("").as_posix(): file for file in sorted(base.rglob("*.xml"))}
    annotations = Annotations(root, files, findings)
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(base.rglob("*")):
        if is_picture(path) and not path.name.startswith("."):
            by_stem[composed(path.stem)].append(path)
    paths: dict[str, Path] = {}
    for name, tree in annotations.trees.items():
        stems = [Path(name).name, Path((tree.findtext("filename") or "").strip().replace("\\", "/")).stem]
        candidates = next((by_stem[key] for stem in stems if (key := composed(stem)) in by_stem), [])
        beside = [path for path in candidates if path.parent == files[name].parent]
        if (picture := annotations.choose(name, beside or candidates)) is not None:
            paths[name] = picture
        elif candidates:
            names = ", ".join(path.relative_to(root).as_posix() for path in candidates)
            findings.add(files[name], "", f"it could be of any of {names}; name one in <filename>")
        else:
            findings.add(files[name], "", f"there is no picture {stems[0]} of any type in {base}; put it there")
    annotated = set(paths.values())
    for path in (path for pictures in by_stem.values() for path in pictures if path not in annotated):
        message = "it is left out; where it shows no object, write an annotation without one"
        findings.warn("a picture without an annotation", path, "", message)
    data = annotations.dataset(f"{root.resolve().name}/{split}", paths, class_names, check_pictures)
    findings.pictures = len(files) - len(data)
    return data, findings
