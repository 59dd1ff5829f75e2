"""What may be wrong with a data set: kinds of findings, how bad each is, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rcnnkit.data.checks import Box

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # the worst first


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding.

    An error stops training. A warning is of what makes a detector or its numbers worse. A note describes the data.
    """

    name: str
    severity: Severity
    title: str
    fix: str

    def at(self, severity: Severity) -> Kind:
        """The same, as bad as that."""
        return replace(self, severity=severity)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was found in a data set."""

    kind: Kind
    split: str  # "train", or "" where it is of several
    file: str  # the picture or annotation file
    where: str  # "object 7 (cat)", or "" for the whole file
    message: str  # what is wrong, with the values
    box: Box | None = None  # x1, y1, x2, y2 in pixels of the picture, where it can be drawn
    fixed: str = ""  # what a fixed copy has in its place, where that is clear

    def __str__(self) -> str:
        place = f"{self.file}: {self.where}" if self.where else self.file
        return f"{place}: {self.message}"

    def to_json(self) -> dict[str, Any]:
        """All of it, of plain values."""
        kind = self.kind
        return {
            "kind": kind.name,
            "severity": kind.severity,
            "split": self.split,
            "file": self.file,
            "object": self.where,
            "message": self.message,
            "fix": kind.fix,
            "box": self.box and list(self.box),
        }


def by_kind(findings: Sequence[Finding]) -> list[list[Finding]]:
    """The findings of each kind, and of each severity of it, in their order."""
    groups: dict[Kind, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.kind, []).append(finding)
    return list(groups.values())


# What training refuses
STOPS_TRAINING = Kind(
    "stops-training",
    "error",
    "Faults that stop training",
    "Correct them, or leave them out with data.skip_bad = true. Objects that are left out become background.",
)
UNUSABLE_SPLIT = Kind(
    "unusable-split",
    "error",
    "Nothing of a split can be used",
    "Correct what the messages name. data.skip_bad does not help here, as it would leave nothing.",
)
# Pictures
SAME_PICTURE = Kind(
    "same-picture", "warning", "A file is there twice", "Keep one of the two, with the objects of both."
)
SIMILAR_PICTURE = Kind(
    "similar-picture",
    "note",
    "Pictures are nearly the same",
    "Keep them if they show something new, such as frames of a video. Put all of them into the same split.",
)
SAME_IN_TWO_SPLITS = Kind(
    "same-in-two-splits",
    "warning",
    "A file is in two splits",
    "Delete it in the training split. Otherwise the evaluation measures what the detector has memorised.",
)
SIMILAR_IN_TWO_SPLITS = Kind(
    "similar-in-two-splits",
    "warning",
    "Pictures of two splits are nearly the same",
    "Move them into one split. Otherwise the evaluation measures what the detector has memorised.",
)
SIXTEEN_BITS = Kind(
    "16-bit",
    "warning",
    "Pictures have 16 bits a channel",
    "Only the upper 8 bits are used. Write 8-bit pictures whose brightest pixels are near 255.",
)
CMYK = Kind(
    "cmyk",
    "warning",
    "Pictures have the colours of print (CMYK)",
    "They are converted without a colour profile. Convert them to RGB in a program that knows the profile.",
)
BLANK = Kind("blank-picture", "warning", "Pictures have one colour only", "Delete them, or replace them.")
TURNED = Kind(
    "turned-picture",
    "warning",
    "EXIF rotates a picture, and its boxes may be those of the unrotated one",
    "Look at the drawn boxes. Save the picture upright without EXIF, and correct the boxes if they do not fit.",
)
NO_OBJECTS = Kind(
    "no-objects",
    "note",
    "Pictures have no object",
    "Annotate them if they show objects of the classes. Otherwise they are good negatives.",
)
IN_NO_SPLIT = Kind(
    "in-no-split",
    "note",
    "Pictures are in no split",
    "Annotate them and add them to a split, or leave them: nothing looks at them.",
)
# Objects
OBJECT_TWICE = Kind("object-twice", "warning", "An object is annotated twice", "Delete one of the two.")
OBJECTS_ALIKE = Kind(
    "objects-alike",
    "note",
    "Two objects of a class have nearly the same box",
    "Delete one of the two if it is the same object.",
)
TWO_CLASSES = Kind(
    "two-classes",
    "warning",
    "An object is annotated as two classes",
    "Delete one of the two. A detector learns one class for each box.",
)
THIN_BOX = Kind(
    "thin-box",
    "warning",
    "Boxes are at most 1 pixel wide or high",
    "Delete them unless they are meant. Most are slips of the mouse.",
)
ONE_CORNER = Kind(
    "boxes-in-one-corner",
    "warning",
    "All boxes are in the upper left of their pictures",
    "They may be in percent, or of smaller copies of the pictures. Multiply them by the factor between the two.",
)
READER = Kind("odd-annotation", "warning", "The reader found something odd", "Read its message.")
CONFIDENT_MISTAKE = Kind(
    "confident-mistake",
    "note",
    "A detector is sure of something that is not annotated so",
    "Look at the box. Annotate the object, or correct its class or box. Leave it if the detector is wrong.",
)
# Classes
SPELT_TWICE = Kind(
    "class-spelt-twice", "warning", "A class may be spelt in two ways", "Give the objects of both one name."
)
NOT_IN_TRAINING = Kind(
    "class-not-in-training",
    "warning",
    "A class is in other splits and not in the training split",
    "Split the pictures again, so that each split has pictures of each class.",
)
CLASS_WITHOUT_OBJECTS = Kind(
    "class-without-objects",
    "note",
    "Classes have no object",
    "Annotate some, or remove the class from the list. A detector cannot learn it.",
)
SHIFT = Kind(
    "class-shift",
    "warning",
    "A class is much more frequent in one split than in another",
    "Split the pictures again, at random. Keep pictures of one scene together.",
)
# Objects at the network's input
UNREACHED = Kind(
    "unreached-by-anchors",
    "note",
    "Anchors do not reach objects",
    "Set rpn.anchor_sizes, rpn.anchor_ratios or input.short_side as the message says.",
)
TINY = Kind(
    "tiny-objects",
    "note",
    "Objects are smaller than a cell of the finest map",
    "Raise input.short_side and input.long_side, or look at the pictures in tiles: input.tile.",
)
TOO_MANY = Kind("too-many-objects", "warning", "Pictures hold more objects than a setting allows", "Raise it.")
CROWDED = Kind(
    "crowded-objects",
    "note",
    "Suppression drops objects that overlap others of their class",
    "Raise the setting that the message names.",
)

KINDS = tuple(value for value in list(globals().values()) if isinstance(value, Kind))
