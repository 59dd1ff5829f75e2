"""Settings that do not go together are refused with what to change."""

from pathlib import Path
from typing import Any, get_args

import pytest

from rcnnkit.config_files import SettingsError, check_settings, read_settings, write_settings
from rcnnkit.detectors.kinds import KINDS
from rcnnkit.detectors.settings import ModelSettings
from tests.settings_files import FASTER_RCNNS, complaint


def test_a_run_has_one_length(toml: Path) -> None:
    toml.write_text('[data]\nroot = "here"\n[train]\niterations = 5\nepochs = 3\n')
    assert complaint(toml) == f"{toml}: train.epochs = 3 and iterations = 5 are both given; keep one"
    assert complaint(toml, "train.epochs=3", "train.iterations=4") == (
        "the command line: train.epochs = 3 and iterations = 4 are both given; keep one"
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"train": {"patience": 2, "evaluate_every": 0}}, "train.patience = 2 counts evaluations; set train.evaluate_"),
        (
            {"train": {"patience": 2}, "data": {"val": ""}},
            "train.patience = 2 counts evaluations on data.val, of which",
        ),
        ({"train": {"patience": 2, "rpn_only": True}}, "train.patience = 2 counts evaluations on data.val, of which"),
        ({"train": {"epochs": 2}, "model": {"kind": "rcnn"}}, "train.epochs is not for R-CNN; leave it out"),
        ({"train": {"ema": 0.9}, "alternating": {"enabled": True}}, "train.ema is not for alternating training; leave"),
        ({"train": {"optimizer": "adamw"}, "alternating": {"enabled": True}}, 'train.optimizer = "adamw" is not for'),
        ({"train": {"accumulate": 3, "batch": 2}}, "train.accumulate = 3 is more than the batch = 2 can be cut into"),
        ({"train": {"class_weights": {"a": 0}}}, "train.class_weights.a = 0: input should be greater than 0"),
        ({"train": {"class_weights": {"a": 2}, "rpn_only": True}}, "train.class_weights is for the head, which"),
        ({"augment": {"mosaic": 0.5}, "model": {"kind": "fast_rcnn"}}, "augment.mosaic is not for proposals made befo"),
        ({"augment": {"mixup": 0.5}, "alternating": {"enabled": True}}, "augment.mixup is not for proposals made befo"),
        ({"augment": {"pipeline": "a.yaml", "hue": 0.1}}, "augment.hue is what pipeline = a.yaml takes the place of"),
        ({"train": {"ema": 1}}, "train.ema = 1: input should be less than 1"),
        ({"train": {"loggers": ["wandb", "wandb"]}}, "train.loggers = ['wandb', 'wandb'] has one of them twice"),
    ],
)
def test_settings_of_training_that_do_not_go_together(values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        check_settings(values | {"data": {"root": "here"} | values.get("data", {})}, "test")
    assert said in str(error.value)


def test_parts_that_do_not_go_together(toml: Path) -> None:
    assert "fpn_channels = 48 cannot be cut into the 32 groups" in complaint(
        toml, "model.fpn_norm=group", "model.fpn_channels=48"
    )
    assert "frozen_stages = 5 would freeze stage 4" in complaint(toml, "model.neck=c4", "model.frozen_stages=5")
    whole = ["model.backbone=googlenet", "model.frozen_stages=5"]
    assert "frozen_stages = 5 would freeze the last inceptions" in complaint(toml, *whole)
    assert read_settings(toml, [*whole, "model.kind=rcnn"]).model.frozen_stages == 5


def test_a_single_map_backbone_has_no_neck_and_no_norm(toml: Path) -> None:
    model = read_settings(toml, ["model.backbone=vgg16"]).model
    assert (model.neck, model.norm) == ("none", "none")
    assert 'neck = "c4" does not go with vgg16, which has "none" or "fpn"' in complaint(
        toml, "model.backbone=vgg16", "model.neck=c4"
    )
    assert 'norm = "batch" does not go with alexnet, which has "none"' in complaint(
        toml, "model.backbone=alexnet", "model.norm=batch"
    )
    assert 'neck = "none" does not go with resnet50, which has "fpn" or "c4"' in complaint(toml, "model.neck=none")
    assert 'norm = "group" does not go with googlenet, which has "frozen" or "batch" or "sync"' in complaint(
        toml, "model.backbone=googlenet", "model.norm=group"
    )


CLASSIFIER = "model.kind=classifier"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["classifier.area=[0.5, 0.1]"], "classifier.area = [0.5, 0.1] goes from large to small"),
        (["classifier.area=[0, 1]"], "classifier.area.0 = 0: input should be greater than 0"),
        (["classifier.crop=300"], "classifier.crop = 300 is larger than resize = 256; set crop lower"),
        (["classifier.crop=32", "model.backbone=alexnet"], "classifier.crop = 32 is less than the 63 pixels"),
        (["input.short_side=256"], "input.short_side is a detector's; a classifier has classifier.resize"),
        (["augment.scale=[1, 2]"], "augment.scale is for pictures with boxes"),
        (["data.use_difficult=true"], "data.use_difficult is for pictures with boxes"),
    ],
)
def test_what_a_classifier_cannot_use(toml: Path, overrides: list[str], said: str) -> None:
    assert said in complaint(toml, CLASSIFIER, *overrides)
    read_settings(toml, [CLASSIFIER, "input.mean=[0.5, 0.5, 0.5]", "augment.flip_vertical=0.5"])


def test_background_needs_a_range(toml: Path) -> None:
    assert "background_low = 0.5 leaves nothing below background_iou = 0.5" in complaint(
        toml, "head.background_low=0.5"
    )


def test_convolutions_in_the_head_go_with_a_pyramid(toml: Path) -> None:
    assert read_settings(toml, ["head.convs=4"]).head.convs == 4
    assert 'head.convs = 4 goes with model.neck = "fpn", not "c4"' in complaint(toml, "head.convs=4", "model.neck=c4")
    assert "head.convs = 4 has no layers to split" in complaint(toml, "head.convs=4", "head.fc6_rank=5")


@pytest.mark.parametrize("key", sorted(FASTER_RCNNS))
def test_a_gradient_of_boxes_is_for_joint_training(toml: Path, key: str) -> None:
    assert read_settings(toml, ["rpn.box_gradient=true", "model.pool=roi_align"]).rpn.box_gradient
    said = complaint(toml, "rpn.box_gradient=true", "model.pool=roi_align", f"{key}=true")
    assert f"rpn.box_gradient = true is for joint training, not for {key} = true; leave one out" in said


@pytest.mark.parametrize("key", sorted(FASTER_RCNNS))
def test_what_is_faster_rcnns_alone(toml: Path, tmp_path: Path, key: str) -> None:
    settings = read_settings(toml, [f"{key}=true"])
    write_settings(settings, tmp_path / "again.toml")
    assert read_settings(tmp_path / "again.toml") == settings != read_settings(toml)
    assert f'{key} = true is for model.kind = "faster_rcnn"' in complaint(toml, f"{key}=true", "model.kind=fast_rcnn")


def test_svms_come_after_training(toml: Path) -> None:
    assert "head.svms = true comes after training" in complaint(toml, "head.svms=true")


def test_targets_are_measured_for_fast_rcnn_alone(toml: Path) -> None:
    assert "head.measured_targets = true goes with" in complaint(toml, "head.measured_targets=true")


@pytest.mark.parametrize("section", ["rpn", "head"])
def test_background_cannot_begin_above_foreground(section: str) -> None:
    with pytest.raises(SettingsError, match=rf"{section}\.background_iou = 0\.6 is above foreground_iou = 0\.5"):
        check_settings({"data": {"root": "x"}, section: {"background_iou": 0.6, "foreground_iou": 0.5}}, "test")


@pytest.mark.parametrize("section", ["head", "rcnn"])
def test_no_limit_of_detections_is_0(section: str) -> None:
    made = check_settings({"data": {"root": "d"}, section: {"max_detections": 0}, "model": {"norm": "batch"}}, "s.toml")
    assert getattr(made, section).max_detections == 0
    with pytest.raises(
        SettingsError, match=rf"{section}\.max_detections = -1: input should be greater than or equal to 0"
    ):
        check_settings({"data": {"root": "d"}, section: {"max_detections": -1}}, "s.toml")


def test_every_kind_is_in_the_table() -> None:
    assert sorted(KINDS) == sorted(get_args(ModelSettings.model_fields["kind"].annotation))
