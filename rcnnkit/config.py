"""The settings of a run: those of the detector, and those of its training."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import model_validator

from rcnnkit.data.reading import DataSettings
from rcnnkit.data.transforms import AugmentSettings
from rcnnkit.detectors.densecap import DenseCap
from rcnnkit.detectors.describer import Describer
from rcnnkit.detectors.kinds import KINDS
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.heads.adversary import AdversarySettings
from rcnnkit.training.features import FeatureSettings
from rcnnkit.training.schedule import AlternatingSettings, TrainSettings

DESCRIBE = tuple(name for name, kind in KINDS.items() if issubclass(kind.model, Describer))
NOT_MIRRORED = [(name, "flip") for name in DESCRIBE]  # kinds whose pictures are not mirrored by default


class Settings(DetectorSettings):
    """Everything that makes a run."""

    renamed: ClassVar = {"features": "feature_store"}  # sections

    data: DataSettings
    feature_store: FeatureSettings = FeatureSettings()
    augment: AugmentSettings = AugmentSettings()
    adversary: AdversarySettings = AdversarySettings()
    train: TrainSettings = TrainSettings()
    alternating: AlternatingSettings = AlternatingSettings()

    @model_validator(mode="before")
    @classmethod
    def _described_pictures_are_not_mirrored(cls, values: Any) -> Any:
        """Where left is right, phrases are wrong."""
        sections = values if isinstance(values, dict) else {}
        model, augment = sections.get("model"), sections.get("augment", {})
        if not isinstance(model, dict) or not isinstance(augment, dict) or model.get("kind") not in DESCRIBE:
            return values
        return values | {"augment": {"flip": 0.0} | augment}

    @model_validator(mode="after")
    def _can_be_trained(self) -> Self:
        if self.head.svms and not self.alignment.enabled:
            raise ValueError("head.svms = true comes after training: `rcnnkit svms` makes such weights")
        kind, alternating, rpn_only = KINDS[self.model.kind], self.alternating.enabled, self.train.rpn_only
        for name, is_set in (("alternating.enabled", alternating), ("train.rpn_only", rpn_only)):
            if is_set and not kind.has_rpn:
                raise ValueError(f'{name} = true is for model.kind = "faster_rcnn"')
        for name, is_set in (("train.rpn_only", rpn_only), ("train.freeze_backbone", self.train.freeze_backbone)):
            if is_set and alternating:
                raise ValueError(f"{name} = true is set by the steps of alternating training themselves; leave it out")
        for name, is_set in (("alternating.enabled", alternating), ("train.rpn_only", rpn_only)):
            if self.rpn.box_gradient and is_set:
                raise ValueError(f"rpn.box_gradient = true is for joint training, not for {name} = true; leave one out")
        if alternating and kind.model is DenseCap:
            raise ValueError(
                'alternating.enabled = true is for model.kind = "faster_rcnn", not for "densecap"; leave it out'
            )
        in_stages = self.model.kind == "rcnn"
        if self.train.freeze_backbone and in_stages:
            raise ValueError("train.freeze_backbone = true is not for R-CNN; set rcnn.fine_tune = false instead")
        for name in ("epochs", "patience", "ema", "repeat_threshold", "class_weights"):
            if (in_stages or alternating) and getattr(self.train, name):
                raise ValueError(
                    f"train.{name} is not for {kind.title if in_stages else 'alternating training'}; leave it out"
                )
        if alternating and self.train.optimizer != "sgd":
            raise ValueError(
                'train.optimizer = "adamw" is not for alternating training, whose learning rates are those of "sgd"'
            )
        if self.train.patience and not (self.data.val and not rpn_only):
            raise ValueError(
                f"train.patience = {self.train.patience} counts evaluations on data.val, of which there is none; give"
                " data.val, or leave train.patience out"
            )
        made_before = alternating or kind.model.takes_proposals
        if made_before and (setting := self.augment.first_changed(("pipeline", "mosaic", "mixup", "copy_paste"))):
            raise ValueError(
                f"augment.{setting} is not for proposals made beforehand, which would not follow; leave it out"
            )
        if self.input.tile and (in_stages or alternating):
            kinds = kind.title if in_stages else "alternating training"
            raise ValueError(
                f"input.tile = {self.input.tile} is not for {kinds}, which looks at whole pictures; leave it out, and"
                " set it when you detect"
            )
        if self.train.class_weights and rpn_only:
            raise ValueError("train.class_weights is for the head, which train.rpn_only = true does not train")
        if self.model.kind == "classifier":
            of_boxes = ("crop", "scale", "mosaic", "mixup", "copy_paste")
            unused = {"data": ("val_share", "images", "use_difficult"), "augment": of_boxes}
            for section, names in unused.items():
                if setting := getattr(self, section).first_changed(names):
                    raise ValueError(f"{section}.{setting} is for pictures with boxes; leave it out for a classifier")
        return self

    @model_validator(mode="after")
    def _alignment_has_a_detector(self) -> Self:
        if not self.alignment.enabled:
            return self
        if not (self.train.init or self.train.resume):
            raise ValueError(
                "alignment.enabled = true needs a trained detector; give its weights as train.init, or use `rcnnkit"
                " align`"
            )
        if self.alternating.enabled:
            raise ValueError("alternating.enabled = true trains a detector, which alignment.enabled = true does not")
        kind = self.model.kind
        unused = {
            "train": (
                *("accumulate", "checkpointing", "rpn_only", "freeze_backbone", "backbone_lr"),
                *("repeat_threshold", "class_weights"),
            ),
            "augment": [name for name in AugmentSettings.model_fields if (kind, name) not in NOT_MIRRORED],
            "adversary": list(AdversarySettings.model_fields),
        }
        for section, names in unused.items():
            if other := getattr(self, section).first_changed(names):
                raise ValueError(
                    f"{section}.{other} is for the training of detectors, and alignment.enabled = true leaves the"
                    " detector as it is; leave it out"
                )
        return self

    @model_validator(mode="after")
    def _adversary_has_regions(self) -> Self:
        kind = self.adversary.kind
        if kind == "none":
            return self
        if self.model.kind not in ("fast_rcnn", "faster_rcnn"):
            raise ValueError(
                f'adversary.kind = "{kind}" changes the pooled regions of model.kind = "fast_rcnn" and "faster_rcnn",'
                f' which "{self.model.kind}" does not have; leave it out'
            )
        for name, is_set in (
            ("alternating.enabled", self.alternating.enabled),
            ("train.rpn_only", self.train.rpn_only),
        ):
            if is_set:
                raise ValueError(
                    f'adversary.kind = "{kind}" is for the joint training of all parts, not for {name} = true; leave'
                    " one out"
                )
        if self.model.pool_size == 1:
            raise ValueError(
                f'adversary.kind = "{kind}" has nothing to choose in regions of 1 × 1 cell, which model.pool_size = 1'
                " makes; set that to 2 or more, or to 0 for the network's own"
            )
        return self
