"""Settings to align words with the regions of a detector: its own, and those that such a training needs besides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rcnnkit import weights
from rcnnkit.config import Settings
from rcnnkit.config_files import check_settings, override
from rcnnkit.data.layout import find_layout
from rcnnkit.data.records import few
from rcnnkit.detectors.aligner import Aligner
from rcnnkit.detectors.kinds import DETECTORS, title_of
from rcnnkit.detectors.settings import DetectorSettings

# Where [train] leaves its defaults, which are for pictures and not for pairs of a picture and a sentence. With
# momentum, as in the paper, all words may lose their vectors.
TRAIN = {
    "iterations": 3000,
    "batch": 100,
    "optimizer": "adamw",
    "lr_for_16": 1e-3,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup": 20,
    "evaluate_every": 500,
}


def align_settings(
    detector: Path, data: Path, given: Sequence[str] = (), *, images: Path | None = None, skip_bad: bool = False
) -> Settings:
    """The settings that train an aligner on a detector.

    Args:
        detector: its weights.
        data: the folder of COCO's captions, or a file of them.
        given: `section.key=value` settings that override the detector's and the defaults.
        images: the folder of the pictures, where they are not found by themselves.
        skip_bad: leave out bad sentences and pictures.

    Raises:
        FileNotFoundError: there is no such file, or no captions.
        ValueError: the weights are not a detector's, or not described by settings; there are no training pictures.
        SettingsError: a given setting cannot be used.
    """
    about, _ = weights.read_shapes(detector)
    kind = about["kind"]
    if kind == Aligner.kind:
        raise ValueError(f"{detector} holds an aligner; give the weights of the detector that it was trained on")
    if kind not in (*(name.replace("-", "_") for name in DETECTORS), "densecap"):
        raise ValueError(f"{detector} holds a {title_of(kind)}, which finds no regions; give the weights of a detector")
    if weights.needs_into(about["settings"]):
        raise ValueError(
            f"{detector} holds a {title_of(kind)} that no settings describe, so no file can keep an aligner"
        )
    layout = find_layout(data, "captions")
    splits = {"train": "", "val": ""} | dict(layout.splits)
    values: dict[str, dict[str, Any]] = DetectorSettings.of_weights(about["settings"]).model_dump(mode="json")
    values |= {
        "alignment": {"enabled": True},
        "data": {
            "root": str(layout.root),
            "format": "captions",
            **{name: splits[name] for name in ("train", "val")},
            **({"images": str(images)} if images else {}),
            "skip_bad": skip_bad,
        },
        "train": TRAIN | {"init": str(detector)},
    }
    changed = override(values, given, str(detector))
    if not values["data"]["train"]:
        raise ValueError(
            f"{layout.root} has no sentences called train, but {few(list(layout.splits))}; name the file of the"
            " sentences itself, or give data.train"
        )
    return check_settings(values, str(detector), changed)
