"""Data sets in VOC's layout for tests."""

from pathlib import Path

from PIL import Image

SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"


def voc_object(corners: tuple, name: str = "cat", extra: str = "") -> str:
    xmin, ymin, xmax, ymax = corners
    box = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
    return f"<object><name>{name}</name>{extra}<bndbox>{box}</bndbox></object>"


def add_picture(root: Path, name: str, *objects: str, size: str = SIZE, suffix: str = ".jpg") -> None:
    """A 40 x 30 picture, its annotation, and its line in train.txt."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("JPEGImages", "Annotations"):
        (root / folder / name).parent.mkdir(exist_ok=True)
    Image.new("RGB", (40, 30)).save(root / "JPEGImages" / f"{name}{suffix}")
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{''.join(objects)}</annotation>")
    with (root / "ImageSets/Main/train.txt").open("a") as file:
        file.write(f"{name}\n")
