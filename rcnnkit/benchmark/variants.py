"""The three detectors that are compared: trained ones from their files, or untrained ones of one backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from rcnnkit.detectors.build import build
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.weights import load, read

TITLES = {"rcnn": "R-CNN", "fast-rcnn": "Fast R-CNN", "faster-rcnn": "Faster R-CNN"}


@dataclass(frozen=True, slots=True)
class Variant:
    """One detector, not loaded yet."""

    name: str  # one of TITLES
    settings: DetectorSettings
    class_names: tuple[str, ...]
    weights: Path | None = None  # None: untrained

    def load(self, device: torch.device, proposals: int = 0) -> Detector:
        """The detector, ready to detect with at most so many proposals a picture; 0: as many as it was made for."""
        if self.weights:
            detector = load(self.weights, device)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                built = build(self.settings, self.class_names)
            assert isinstance(built, Detector)  # not a classifier
            detector = built.to(device).eval()
        if proposals and isinstance(detector, FasterRCNN):
            detector.rpn.keep = (max(proposals, detector.rpn.keep[0]), proposals)
        elif proposals:
            detector.count = proposals  # type: ignore[assignment]  # R-CNN's and Fast R-CNN's
        return detector


def trained(files: Sequence[Path]) -> list[Variant]:
    """The detectors in these weights files, in the order of their papers.

    Raises:
        FileNotFoundError, ValueError: a file is not there or holds no detector.
        ValueError: one finds no proposals itself; two are of one kind, or they differ in classes or backbone, so that
            they cannot be compared.
    """
    found: dict[str, Variant] = {}
    for file in files:
        about, _ = read(file)
        name = about["detector"].replace("_", "-")
        if name not in TITLES:
            raise ValueError(f"{file} holds a {name}, which is none of {', '.join(TITLES.values())}")
        if name in found:
            raise ValueError(f"{found[name].weights} and {file} both hold a {TITLES[name]}; give one of each kind")
        settings = DetectorSettings.model_validate(about["settings"])
        if name != "faster-rcnn" and settings.proposals.method == "precomputed":
            raise ValueError(
                f'{file} was made for proposals that are given to it (proposals.method = "precomputed"), which are no'
                " part of a benchmark; take one that finds its own"
            )
        found[name] = Variant(name, settings, tuple(about["class_names"]), file)
    variants = [found[name] for name in TITLES if name in found]
    for other in variants[1:]:
        first = variants[0]
        for what, one, two in (
            ("classes", first.class_names, other.class_names),
            ("backbones", (first.settings.model.backbone,), (other.settings.model.backbone,)),
        ):
            if one != two:
                raise ValueError(
                    f"{first.weights} and {other.weights} have different {what} ({', '.join(one)} and"
                    f" {', '.join(two)}); what is compared has to be the same, so train one of them again"
                )
    return variants


def untrained(backbone: str, class_names: Sequence[str]) -> list[Variant]:
    """The three detectors with random weights, at the papers' sizes: windows of 224 or 227 pixels, pictures of 600.

    Raises:
        ValueError: there is no such backbone.
    """
    sections: dict[str, dict[str, Any]] = {
        "rcnn": {"input": {"short_side": 0}},  # windows are cut from the pictures as they are
        "fast-rcnn": {"input": {"short_side": 600, "long_side": 1000}},
        "faster-rcnn": {"input": {"short_side": 600, "long_side": 1000}, "rpn": {"post_nms": 300}},
    }
    variants = []
    for name, section in sections.items():
        values = section | {"model": {"detector": name.replace("-", "_"), "backbone": backbone}}
        try:
            settings = DetectorSettings.model_validate(values)
        except ValidationError as error:
            raise ValueError(f"--backbone {backbone}: {error.errors()[0]['msg'].lower()}") from None
        variants.append(Variant(name, settings, tuple(class_names)))
    return variants
