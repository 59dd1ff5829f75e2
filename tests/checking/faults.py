"""Faults of many kinds, planted in copies of data sets by chance, and whether `check_data` finds them.

`python -m tests.checking.faults BCCD COCO256` prints what was planted and what was found.
"""

import json
import random
import shutil
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rcnnkit.checking.check import Checked, check_data
from rcnnkit.checking.findings import Finding
from rcnnkit.data.layout import find_layout
from rcnnkit.detectors.settings import DetectorSettings

ORIENTATION = 0x0112


@dataclass(frozen=True)
class Fault:
    """What was done to a data set."""

    what: str
    kind: str  # of the finding that has to say so
    names: tuple[str, ...]  # which that finding has to name

    def is_found(self, findings: Iterable[Finding]) -> bool:
        return any(each.kind.name == self.kind and self.explains(each) for each in findings)

    def explains(self, finding: Finding) -> bool:
        said = f"{finding.file} {finding.where} {finding.message}"
        return all(name in said for name in self.names)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def turn(path: Path) -> None:
    """EXIF that turns the picture by 90°; its pixels stay."""
    with Image.open(path) as picture:
        exif = picture.getexif()
        exif[ORIENTATION] = 6
        picture.save(path, quality="keep", exif=exif)


def to_cmyk(path: Path) -> None:
    Image.open(path).convert("CMYK").save(path, quality=95)


def to_16_bits(path: Path) -> Path:
    """A PNG of 12 bits in 16 in the picture's place."""
    grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16
    path.unlink()
    Image.fromarray(grey).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def to_blank(path: Path) -> None:
    picture = Image.open(path)
    Image.new("RGB", picture.size, (90, 90, 90)).save(path)


def shrink(path: Path, new: Path) -> None:
    """Half as large, darker, compressed more."""
    picture = Image.open(path).convert("RGB")
    small = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BICUBIC)
    small.point(lambda value: value * 0.85).save(new, quality=60)


KINDS = {"cut_off": "stops-training", "turn": "turned-picture", "to_cmyk": "cmyk", "to_blank": "blank-picture"}


class Voc:
    """Plants faults in pictures of Pascal VOC's layout, each in another one."""

    def __init__(self, root: Path, seed: int, splits: tuple[str, str] = ("train", "val")) -> None:
        self.root, self.random, self.splits = root, random.Random(seed), splits
        self.names = self._list(splits[0])
        self.random.shuffle(self.names)
        self.classes = sorted({thing.findtext("name", "") for name in self.names for thing in self._objects(name)})

    def plant(self) -> Iterator[Fault]:
        for change in (self._no_width, self._beyond, self._in_shares, self._swapped_size, self._broken_xml):
            yield Fault(change.__name__, "stops-training", (change(),))
        for file_change in (cut_off, turn, to_cmyk, to_blank, to_16_bits):
            name = self.names.pop()
            file_change(self._picture(name))
            yield Fault(file_change.__name__, KINDS.get(file_change.__name__, "16-bit"), (name,))
        name = self.names.pop()
        self._picture(name).unlink()
        yield Fault("missing", "stops-training", (name,))
        yield Fault("twice", "object-twice", (self._twice(0),))
        yield Fault("nearly twice", "object-twice", (self._twice(1),))
        yield Fault("two classes", "two-classes", (self._two_classes(),))
        yield Fault("many", "too-many-objects", (self._many(),))
        yield Fault("none", "no-objects", (self._none(),))
        yield Fault("same", "same-picture", self._copy(self.splits[0], small=False))
        yield Fault("same in two splits", "same-in-two-splits", self._copy(self.splits[1], small=False))
        yield Fault("similar in two splits", "similar-in-two-splits", self._copy(self.splits[1], small=True))
        yield Fault("spelling", "class-spelt-twice", (self._spelling(),))

    def _list(self, split: str) -> list[str]:
        return (self.root / "ImageSets" / "Main" / f"{split}.txt").read_text().split()

    def _picture(self, name: str) -> Path:
        return next((self.root / "JPEGImages").glob(f"{name}.*"))

    def _xml(self, name: str) -> Path:
        return self.root / "Annotations" / f"{name}.xml"

    def _objects(self, name: str) -> list[ET.Element]:
        return ET.parse(self._xml(name)).getroot().findall("object")

    def _change(self, change: Any) -> str:
        """Change the tree and its largest object; the picture's name."""
        name = self.names.pop()
        tree = ET.parse(self._xml(name))
        root = tree.getroot()
        largest = max(root.findall("object"), key=lambda thing: np.prod(np.subtract(*np.split(corners(thing), 2))))
        change(root, largest)
        tree.write(self._xml(name))
        return name

    def _no_width(self) -> str:
        return self._change(lambda _, thing: set_corners(thing, corners(thing)[[0, 1, 0, 3]]))

    def _beyond(self) -> str:
        return self._change(lambda _, thing: set_corners(thing, np.add(corners(thing), (5000, 0, 5000, 0))))

    def _in_shares(self) -> str:
        return self._change(lambda _, thing: set_corners(thing, corners(thing) / 10_000))

    def _swapped_size(self) -> str:
        def swap(root: ET.Element, _: ET.Element) -> None:
            width, height = root.find("size/width"), root.find("size/height")
            assert width is not None
            assert height is not None
            width.text, height.text = str(int(height.text or 0) + 16), str(int(width.text or 0))

        return self._change(swap)

    def _broken_xml(self) -> str:
        name = self.names.pop()
        self._xml(name).write_text(self._xml(name).read_text()[:-20])
        return name

    def _twice(self, shift: int) -> str:
        def add(root: ET.Element, thing: ET.Element) -> None:
            root.append(copied(thing))
            set_corners(root.findall("object")[-1], corners(thing) - [0, 0, 0, shift])

        return self._change(add)

    def _two_classes(self) -> str:
        def add(root: ET.Element, thing: ET.Element) -> None:
            other = copied(thing)
            name = other.find("name")
            assert name is not None
            name.text = next(each for each in self.classes if each != name.text)
            root.append(other)

        return self._change(add)

    def _many(self) -> str:
        def add(root: ET.Element, thing: ET.Element) -> None:
            width = int(root.findtext("size/width", ""))
            height = int(root.findtext("size/height", ""))
            for thing in root.findall("object"):
                root.remove(thing)
            for i in range(121):
                other = copied(thing)
                x, y = width * (i % 11) // 11 + 1, height * (i // 11) // 11 + 1
                set_corners(other, np.array([x, y, x + width // 12, y + height // 12]))
                root.append(other)

        return self._change(add)

    def _none(self) -> str:
        def clear(root: ET.Element, _: ET.Element) -> None:
            for thing in root.findall("object"):
                root.remove(thing)

        return self._change(clear)

    def _copy(self, split: str, small: bool) -> tuple[str, str]:
        """Under another name, in one of the splits; both names."""
        name = self.names.pop()
        new = f"{name}_again"
        picture = self._picture(name)
        tree = ET.parse(self._xml(name))
        if small:
            shrink(picture, picture.with_name(f"{new}.jpg"))
            for side in ("size/width", "size/height"):
                element = tree.getroot().find(side)
                assert element is not None
                element.text = str(int(element.text or 0) // 2)
            for thing in tree.getroot().findall("object"):
                set_corners(thing, np.maximum(corners(thing) // 2, [1, 1, 3, 3]))
        else:
            shutil.copyfile(picture, picture.with_name(f"{new}{picture.suffix}"))
        tree.write(self._xml(new))
        with (self.root / "ImageSets" / "Main" / f"{split}.txt").open("a") as file:
            file.write(f"\n{new}\n")
        return name, new

    def _spelling(self) -> str:
        def rename(_: ET.Element, thing: ET.Element) -> None:
            name = thing.find("name")
            assert name is not None
            name.text = f" {(name.text or '').swapcase()}_"

        name = self._change(rename)
        return next(
            thing.findtext("name", "").strip() for thing in self._objects(name) if "_" in thing.findtext("name", "")
        )


def corners(thing: ET.Element) -> Any:
    return np.array([float(thing.findtext(f"bndbox/{each}", "")) for each in ("xmin", "ymin", "xmax", "ymax")])


def set_corners(thing: ET.Element, values: Any) -> None:
    for each, value in zip(("xmin", "ymin", "xmax", "ymax"), values, strict=True):
        element = thing.find(f"bndbox/{each}")
        assert element is not None
        element.text = f"{value:g}"


def copied(thing: ET.Element) -> ET.Element:
    return ET.fromstring(ET.tostring(thing))


class Coco:
    """Plants faults in annotations of COCO's format, each in another picture."""

    def __init__(self, root: Path, seed: int, splits: tuple[str, str]) -> None:
        self.root, self.random = root, random.Random(seed)
        self.files = [root / "annotations" / f"instances_{split}.json" for split in splits]
        self.folders = [root / split for split in splits]
        self.content, self.other = (json.loads(file.read_text()) for file in self.files)
        by_picture = defaultdict(list)
        for annotation in self.content["annotations"]:
            by_picture[annotation["image_id"]].append(annotation)
        self.pictures = [image for image in self.content["images"] if image["id"] in by_picture]
        self.random.shuffle(self.pictures)
        self.largest = {
            key: max(them, key=lambda each: each["bbox"][2] * each["bbox"][3]) for key, them in by_picture.items()
        }

    def plant(self) -> Iterator[Fault]:
        for change in (self._no_height, self._beyond, self._in_shares, self._unknown_class):
            image = self.pictures.pop()
            change(self.largest[image["id"]])
            yield Fault(change.__name__, "stops-training", (f"annotation {self.largest[image['id']]['id']} ",))
        for file_change in (cut_off, turn, to_cmyk, to_blank, to_16_bits):
            image = self.pictures.pop()
            if image["width"] == image["height"]:
                image = self.pictures.pop()
            new = file_change(self.folders[0] / image["file_name"])
            image["file_name"] = new.name if new else image["file_name"]
            yield Fault(file_change.__name__, KINDS.get(file_change.__name__, "16-bit"), (image["file_name"],))
        image = self.pictures.pop()
        image["width"], image["height"] = image["height"] + 7, image["width"]
        yield Fault("size", "stops-training", (image["file_name"],))
        image = self.pictures.pop()
        (self.folders[0] / image["file_name"]).unlink()
        yield Fault("missing", "stops-training", (image["file_name"],))
        yield Fault("twice", "object-twice", (self._twice(0),))
        yield Fault("nearly twice", "object-twice", (self._twice(0.5),))
        yield Fault("two classes", "two-classes", (self._twice(0, another_class=True),))
        yield Fault("thin", "thin-box", (self._thin(),))
        yield Fault("none", "no-objects", (self._none(),))
        yield Fault("same", "same-picture", self._copy(0, small=False))
        yield Fault("same in two splits", "same-in-two-splits", self._copy(1, small=False))
        yield Fault("similar in two splits", "similar-in-two-splits", self._copy(1, small=True))
        yield Fault("spelling", "class-spelt-twice", (self._spelling(),))
        for file, content in zip(self.files, (self.content, self.other), strict=True):
            file.write_text(json.dumps(content))

    @staticmethod
    def _no_height(annotation: Any) -> None:
        annotation["bbox"][3] = 0

    @staticmethod
    def _beyond(annotation: Any) -> None:
        annotation["bbox"][0] += 3000

    @staticmethod
    def _in_shares(annotation: Any) -> None:
        annotation["bbox"] = [value / 10_000 for value in annotation["bbox"]]

    @staticmethod
    def _unknown_class(annotation: Any) -> None:
        annotation["category_id"] = 12345

    def _add(self, annotation: Any, **changes: Any) -> None:
        key = max(each["id"] for each in self.content["annotations"]) + 1
        self.content["annotations"].append(annotation | {"id": key} | changes)

    def _twice(self, shift: float, another_class: bool = False) -> str:
        image = self.pictures.pop()
        annotation = self.largest[image["id"]]
        x, y, width, height = annotation["bbox"]
        categories = [each["id"] for each in self.content["categories"]]
        other = next(each for each in categories if each != annotation["category_id"])
        changes = {"category_id": other} if another_class else {}
        self._add(annotation, bbox=[x + shift, y, width - shift, height], **changes)
        return str(image["file_name"])

    def _thin(self) -> str:
        image = self.pictures.pop()
        annotation = self.largest[image["id"]]
        self._add(annotation, bbox=[*annotation["bbox"][:2], 0.75, annotation["bbox"][3]])
        return str(image["file_name"])

    def _none(self) -> str:
        image = self.pictures.pop()
        kept = [each for each in self.content["annotations"] if each["image_id"] != image["id"]]
        self.content["annotations"] = kept
        return str(image["file_name"])

    def _copy(self, split: int, small: bool) -> tuple[str, str]:
        """Under another name, in one of the splits; both names."""
        image = self.pictures.pop()
        content = (self.content, self.other)[split]
        new = f"again_{image['file_name']}"
        source, target = self.folders[0] / image["file_name"], self.folders[split] / new
        size = {"width": image["width"], "height": image["height"]}
        if small:
            shrink(source, target)
            size = {side: value // 2 for side, value in size.items()}
        else:
            shutil.copyfile(source, target)
        content["images"].append({"id": 10**9 + len(content["images"]), "file_name": new} | size)
        return str(image["file_name"]), new

    def _spelling(self) -> str:
        image = self.pictures.pop()
        annotation = self.largest[image["id"]]
        category = next(c for c in self.content["categories"] if c["id"] == annotation["category_id"])
        name = f"{category['name'].title()}-"
        self.content["categories"].append({"id": 9999, "name": name, "supercategory": "none"})
        annotation["category_id"] = 9999
        return name


def of_whole_coco_file(root: Path, split: str, what: str) -> Fault:
    """A fault of all boxes of a file, or of one class in it."""
    file = root / "annotations" / f"instances_{split}.json"
    content = json.loads(file.read_text())
    images = {image["id"]: image for image in content["images"]}
    for each in content["annotations"]:
        x, y, width, height = each["bbox"]
        image = images[each["image_id"]]
        if what == "corners":
            each["bbox"] = [x, y, x + width, y + height]
        elif what == "percent":
            wide, high = image["width"] / 100, image["height"] / 100
            each["bbox"] = [x / wide, y / high, width / wide, height / high]
    file.write_text(json.dumps(content))
    if what == "corners":
        return Fault(what, "stops-training", (file.name, "x1, y1, x2, y2"))
    return Fault(what, "boxes-in-one-corner", (split,))


def of_a_class(root: Path, split: str, name: str, share: float) -> Fault:
    """Most pictures of a VOC list, or all, lose their objects of one class."""
    names = (root / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
    for each in names[: round(len(names) * share)]:
        file = root / "Annotations" / f"{each}.xml"
        tree = ET.parse(file)
        for thing in tree.getroot().findall("object"):
            if thing.findtext("name") == name:
                tree.getroot().remove(thing)
        tree.write(file)
    kind = "class-not-in-training" if share == 1 else "class-shift"
    return Fault(f"class in {1 - share:.0%}", kind, (repr(name),))


def check(root: Path) -> Checked:
    layout = find_layout(root)
    return check_data(layout.root, layout.splits, DetectorSettings())


def copies(bccd: Path, coco256: Path, folder: Path) -> Iterator[tuple[Path, list[Fault]]]:
    """Copies of the two data sets with 43 faults in them."""
    root = shutil.copytree(bccd, folder / "bccd")
    yield root, list(Voc(root, seed=0).plant())
    root = shutil.copytree(coco256, folder / "coco256")
    yield root, list(Coco(root, seed=1, splits=("train2017", "val2017")).plant())
    for what in ("corners", "percent"):
        root = shutil.copytree(coco256, folder / what)
        yield root, [of_whole_coco_file(root, "val2017", what)]
    for name, share in (("WBC", 1.0), ("Platelets", 0.8)):
        root = shutil.copytree(bccd, folder / name)
        yield root, [of_a_class(root, "train", name, share)]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for root, faults in copies(Path(sys.argv[1]), Path(sys.argv[2]), Path(folder)):
            checked = check(root)
            print(f"{root.name}: {len(faults)} planted")
            for fault in faults:
                found = "found" if fault.is_found(checked.findings) else "NOT FOUND"
                print(f"  {fault.what.strip('_'):24} {fault.kind:24} {found:10} {', '.join(fault.names)}")
            for finding in checked.findings:
                if finding.kind.severity != "note" and not any(fault.explains(finding) for fault in faults):
                    print(f"  besides: {finding.kind.severity} {finding.kind.name}: {finding}")


if __name__ == "__main__":
    main()
