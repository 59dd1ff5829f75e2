"""The settings of a run: those of the detector, and those of its training."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from rcnnkit.data.reading import DataSettings
from rcnnkit.data.transforms import AugmentSettings
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.training.features import FeatureSettings
from rcnnkit.training.schedule import AlternatingSettings, TrainSettings


class Settings(DetectorSettings):
    """Everything that makes a run."""

    data: DataSettings
    features: FeatureSettings = FeatureSettings()
    augment: AugmentSettings = AugmentSettings()
    train: TrainSettings = TrainSettings()
    alternating: AlternatingSettings = AlternatingSettings()

    @model_validator(mode="after")
    def _can_be_trained(self) -> Self:
        if self.head.svms:
            raise ValueError("head.svms = true comes after training: `rcnnkit svms` makes such weights")
        for name, wanted in (
            ("alternating.enabled", self.alternating.enabled),
            ("train.rpn_only", self.train.rpn_only),
        ):
            if wanted and self.model.kind != "faster_rcnn":
                raise ValueError(f'{name} = true is for model.kind = "faster_rcnn"')
        for name, given in (
            ("train.rpn_only", self.train.rpn_only),
            ("train.freeze_backbone", self.train.freeze_backbone),
        ):
            if given and self.alternating.enabled:
                raise ValueError(f"{name} = true is what steps of alternating training set themselves; leave it away")
        for name, without in (
            ("alternating.enabled", self.alternating.enabled),
            ("train.rpn_only", self.train.rpn_only),
        ):
            if self.rpn.box_gradient and without:
                raise ValueError(f"rpn.box_gradient = true is for joint training, not for {name} = true; leave one out")
        if self.train.freeze_backbone and self.model.kind == "rcnn":
            raise ValueError("train.freeze_backbone = true is not for R-CNN; rcnn.fine_tune = false leaves it as it is")
        by_steps = self.alternating.enabled or self.model.kind == "rcnn"
        for name in ("epochs", "patience", "ema", "repeat_threshold", "class_weights"):
            if by_steps and getattr(self.train, name):
                kind = "R-CNN" if self.model.kind == "rcnn" else "alternating training"
                raise ValueError(f"train.{name} is not for {kind}; leave it out")
        if self.alternating.enabled and self.train.optimizer != "sgd":
            raise ValueError(
                'train.optimizer = "adamw" is not for alternating training, whose learning rates are those of "sgd"'
            )
        if self.train.patience and not (self.data.val and not self.train.rpn_only):
            raise ValueError(
                f"train.patience = {self.train.patience} counts evaluations on data.val, of which there is none; give"
                " data.val, or leave train.patience out"
            )
        made_before = self.alternating.enabled or self.model.kind in ("rcnn", "fast_rcnn")
        if made_before and (other := self.augment.first_changed(("pipeline", "mosaic", "mixup", "copy_paste"))):
            raise ValueError(f"augment.{other} is not for proposals made beforehand: they do not follow; leave it out")
        if self.train.class_weights and self.train.rpn_only:
            raise ValueError("train.class_weights is for the head, which train.rpn_only = true leaves as it is")
        if self.model.kind == "classifier":
            of_boxes = ("crop", "scale", "mosaic", "mixup", "copy_paste")
            unused = {"data": ("val_share", "images", "use_difficult"), "augment": of_boxes}
            for section, names in unused.items():
                if other := getattr(self, section).first_changed(names):
                    raise ValueError(f"{section}.{other} is for pictures with boxes; a classifier does without")
        return self
