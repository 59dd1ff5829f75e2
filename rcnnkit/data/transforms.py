"""Augmentation of training pictures; boxes, where there are any, follow the pixels."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from rcnnkit.backbones.classifier import ClassifierSettings
from rcnnkit.boxes import clip, is_large, scale
from rcnnkit.data.mixing import VISIBLE, Read, mix
from rcnnkit.data.pipelines import read_pipeline
from rcnnkit.images import Preprocessing
from rcnnkit.settings import Factor, NotNegative, Section, Share
from rcnnkit.structures import Array, Proposals, Targets

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would look for a newer version on the network
import albumentations as A

MARKS = np.array([[0.0, 0.0], [1.0, 1.0]])  # two pixels whose way through the pipeline tells that of all others


TRIAL = (600, 800, 3)  # shape of the picture that a pipeline of one's own is tried on before training
NO_PROPOSALS = Proposals(torch.zeros(0, 4), torch.zeros(0))


class AugmentSettings(Section):
    """[augment]: how training pictures are changed at random each time they are seen."""

    flip: Share = 0.5
    """Probability that a picture is mirrored, left to right; 0.5 in the code of all three papers."""
    flip_vertical: Share = 0.0
    """Probability that a picture is turned upside down."""
    crop: Share = 0.0
    """Probability that a picture is cropped at random, without cutting any object."""
    brightness: NotNegative = 0.0
    """Brightness is multiplied by a random factor from 1 − this to 1 + this."""
    contrast: NotNegative = 0.0
    """Contrast is multiplied by a random factor from 1 − this to 1 + this."""
    saturation: NotNegative = 0.0
    """The colours' saturation is multiplied by a random factor from 1 − this to 1 + this."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Hues are turned by a random share of the colour circle, up to this either way."""
    scale: tuple[Factor, Factor] = (1.0, 1.0)
    """The sides of the network's input are multiplied by a random factor between these two."""
    mosaic: Share = 0.0
    """Probability that a picture is made of parts of four, itself and three others (YOLOv4, arXiv:2004.10934)."""
    mixup: Share = 0.0
    """Probability that another picture shines through, with its objects (arXiv:1902.04103)."""
    copy_paste: Share = 0.0
    """Probability that about half of another picture's objects, cut out along their boxes, are pasted into a picture
    where they cover little of its own (arXiv:1708.01642)."""
    pipeline: Path | None = None
    """A file that albumentations.save wrote (.yaml or .json), whose transforms take the place of flips, crop and
    colours. An object of which less than a tenth is left is dropped. A classifier's random part is cut out
    afterwards."""

    @model_validator(mode="after")
    def _scale_ascends(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale = {list(self.scale)} goes from large to small; write the smaller first")
        return self

    @model_validator(mode="after")
    def _pipeline_is_all(self) -> Self:
        steps = ("flip", "flip_vertical", "crop", "brightness", "contrast", "saturation", "hue")
        if self.pipeline and (other := self.first_changed(steps)):
            raise ValueError(f"{other} is what pipeline = {self.pipeline} takes the place of; leave one of them out")
        return self


class SafeCrop(A.BBoxSafeRandomCrop):
    """A random crop that cuts no box: albumentations' rounds its far sides down, which cuts up to a pixel."""

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, tuple[int, int, int, int]]:
        height, width = params["shape"][:2]
        x1, y1, x2, y2 = super().get_params_dependent_on_data(params, data)["crop_coords"]
        return {"crop_coords": (x1, y1, min(x2 + 1, width), min(y2 + 1, height))}


class Augmentation:
    """Crop, flips and colours by albumentations, then the one resize that the network needs.

    Random scale is part of that resize, so that pixels are interpolated once.

    Args:
        settings: how much of each.
        preprocessing: gives the size.
    """

    def __init__(self, settings: AugmentSettings, preprocessing: Preprocessing) -> None:
        self.scale, self.preprocessing = settings.scale, preprocessing
        self.mixed = (settings.mosaic, settings.mixup, settings.copy_paste)
        self.own = settings.pipeline
        if self.own:
            # An object that is cut may be gone. Proposals do not follow: nothing is known of where pixels go.
            boxes = A.BboxParams("pascal_voc", ["index"], min_visibility=VISIBLE, min_area=1)
            self.pipeline = _own_pipeline(self.own, [], boxes)
            self(
                np.zeros((600, 800, 3), dtype=np.uint8), Targets(torch.tensor([[9.0, 9, 99, 99]]), torch.tensor([0])), 0
            )
        else:
            self.pipeline = A.Compose(
                [*([SafeCrop(p=settings.crop)] if settings.crop else []), *_flips_and_colours(settings)],
                bbox_params=A.BboxParams(format="pascal_voc", label_fields=["index"]),
                keypoint_params=A.KeypointParams(format="xy", remove_invisible=False),
            )

    def mix(self, picture: Array, targets: Targets, seed: int, pictures: int, read: Read) -> tuple[Array, Targets]:
        """A picture and its objects with parts of others; see `rcnnkit.data.mixing.mix`."""
        return mix((picture, targets), seed, self.mixed, pictures, read) if any(self.mixed) else (picture, targets)

    def __call__(
        self, picture: Array, targets: Targets, seed: int, proposals: Proposals = NO_PROPOSALS
    ) -> tuple[torch.Tensor, Targets, Proposals]:
        """A picture (H, W, 3) uint8 RGB and its boxes → (3, h, w) uint8, and the boxes in its pixels.

        The same seed gives the same result, in any process. A crop cuts no target, but it cuts proposals, and
        what is left of some is nothing: these are dropped.

        Raises:
            ValueError: a pipeline of one's own fails on the picture, or makes none of 8-bit colours of it.
        """
        self.pipeline.set_random_seed(seed)
        inputs: dict[str, Any] = {
            "image": picture,
            "bboxes": targets.boxes.numpy().astype(np.float64),
            "index": np.arange(len(targets)),
        }
        result = _run(self.pipeline, inputs, self.own) if self.own else self.pipeline(**inputs, keypoints=MARKS)
        picture = result["image"]
        targets = _moved(targets, result["bboxes"], result["index"])
        # Not as bboxes: the crop would cut none of these thousands either, and so leave the picture whole.
        moved = _follow(proposals.boxes, result["keypoints"]) if len(proposals) else proposals.boxes
        boxes = clip(moved, (picture.shape[0], picture.shape[1]))
        large = is_large(boxes, 1e-3)
        low, high = np.log(self.scale)
        rng = np.random.default_rng(seed)
        factor = float(np.exp(rng.uniform(low, high)))
        scales = self.preprocessing.scales or [self.preprocessing.short_side]
        pixels = self.preprocessing.at(scales[rng.integers(len(scales))]).resize(picture, factor)
        old, new = (picture.shape[0], picture.shape[1]), (pixels.shape[1], pixels.shape[2])
        targets = _moved(targets, scale(targets.boxes, old, new).numpy(), np.arange(len(targets)))
        return pixels, targets, Proposals(scale(boxes[large], old, new), proposals.scores[large])


class ClassifierAugmentation:
    """A random part of a picture at the classifier's size (arXiv:1409.4842, section 6), flips and colours.

    Args:
        settings: flips and colours; `crop` and `scale` are not for classifiers.
        classifier: the sizes.
    """

    def __init__(self, settings: AugmentSettings, classifier: ClassifierSettings) -> None:
        size = (classifier.crop, classifier.crop)
        # A part larger than that is averaged over areas: no pixel is skipped.
        part = A.RandomResizedCrop(size, classifier.area, classifier.ratio, area_for_downscale="image")
        self.own = settings.pipeline
        self.pipeline = (
            _own_pipeline(self.own, [part], None) if self.own else A.Compose([part, *_flips_and_colours(settings)])
        )
        if self.own:
            self(np.zeros(TRIAL, dtype=np.uint8), 0)

    def __call__(self, picture: Array, seed: int) -> torch.Tensor:
        """(H, W, 3) uint8 RGB → (3, crop, crop) uint8. The same seed gives the same result, in any process. Raises as
        `Augmentation`."""
        self.pipeline.set_random_seed(seed)
        inputs = {"image": picture}
        result = _run(self.pipeline, inputs, self.own) if self.own else self.pipeline(**inputs)
        return torch.from_numpy(np.ascontiguousarray(result["image"])).permute(2, 0, 1)


def _own_pipeline(file: Path, steps: list[A.BasicTransform], boxes: A.BboxParams | None) -> A.Compose:
    """What the file describes, and `steps` after it. Raises as `read_pipeline`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Got processor")  # where no step of it moves boxes
        return A.Compose([*read_pipeline(file), *steps], bbox_params=boxes)


def _run(pipeline: A.Compose, inputs: dict[str, Any], file: Path) -> dict[str, Any]:
    """What a pipeline of one's own makes of a picture. Raises ValueError where that is none that can be learnt from."""
    height, width = inputs["image"].shape[:2]
    try:
        result: dict[str, Any] = pipeline(**inputs)
    except Exception as error:  # of any transform, and of any kind
        said = " ".join(str(error).split())
        raise ValueError(f"{file} fails on a picture of {width} × {height} pixels: {said}") from None
    picture = result["image"]
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(
            f"{file} makes something else of a picture than 8-bit colours (height, width, 3); leave out transforms such"
            " as Normalize and ToTensorV2, which rcnnkit does itself"
        )
    return result


def _flips_and_colours(settings: AugmentSettings) -> list[A.BasicTransform]:
    steps = [A.HorizontalFlip(p=settings.flip)]  # always there: Compose warns where no step moves boxes
    if settings.flip_vertical:
        steps.append(A.VerticalFlip(p=settings.flip_vertical))
    if settings.brightness or settings.contrast or settings.saturation or settings.hue:
        colours = {
            "brightness": (1 - min(1, settings.brightness), 1 + settings.brightness),
            "contrast": (1 - min(1, settings.contrast), 1 + settings.contrast),
            "saturation": (1 - min(1, settings.saturation), 1 + settings.saturation),
            "hue": (-settings.hue, settings.hue),
        }
        steps.append(A.ColorJitter(**colours, p=1))
    return steps


def _follow(boxes: torch.Tensor, marks: Array) -> torch.Tensor:
    """(N, 4) boxes moved as the pixels of MARKS were, which lie at `marks` now: flips, shifts."""
    direction = (marks[1] - marks[0]) / (MARKS[1] - MARKS[0])  # -1 where it was flipped
    # A pixel's own coordinates are those of its centre, half a pixel from where a box around it begins.
    shift = marks[0] + 0.5 - direction * (MARKS[0] + 0.5)
    moved = boxes * torch.tensor([*direction, *direction]).float() + torch.tensor([*shift, *shift]).float()
    return torch.cat([moved[:, :2].minimum(moved[:, 2:]), moved[:, :2].maximum(moved[:, 2:])], dim=1)


def _moved(targets: Targets, boxes: Array, index: Array) -> Targets:
    """Those of `targets` that `index` names, at new places; areas are the boxes' own."""
    kept = targets[torch.as_tensor(np.asarray(index, dtype=np.int64))]
    new = torch.as_tensor(np.asarray(boxes, dtype=np.float32).reshape(-1, 4))
    return replace(kept, boxes=new, areas=torch.zeros(0))
