"""A mistake in settings gets an answer: a name that there is not, a value that cannot be, something missing."""

from pathlib import Path

import pytest

from rcnnkit.config_files import SettingsError, read_settings
from rcnnkit.settings import ELSEWHERE
from tests.settings_files import complaint


@pytest.mark.parametrize("override", ["train.lr", "lr=1", "=1", ".lr=1", "train.=1", "train.lr.x=1", "", "train.lr:1"])
def test_bad_overrides(toml: Path, override: str) -> None:
    with pytest.raises(SettingsError) as error:
        read_settings(toml, [override])
    assert "the command line: " in str(error.value) or "section.key=value, such as train.batch=8" in str(error.value)
    assert override.partition("=")[0].strip(".") in str(error.value)


def test_a_misspelt_key_is_answered_with_the_right_one(toml: Path) -> None:
    assert (
        complaint(toml, "rpn.nms_iuo=0.5")
        == "the command line: rpn.nms_iuo is not a setting; did you mean rpn.nms_iou?"
    )
    assert complaint(toml, "train.learning_rte=1").startswith("the command line: train.learning_rte is not a setting")
    assert "did you mean train.iterations?" in complaint(toml, "train.iteration=5")


def test_a_key_in_the_wrong_section_is_answered_with_the_right_one(toml: Path) -> None:
    assert complaint(toml, "model.lr=1") == "the command line: model.lr is not a setting; did you mean train.lr_for_16?"
    toml.write_text('[data]\nroot = "here"\n[trian]\nlr = 1\n')
    assert complaint(toml) == f"{toml}: trian is not a setting; did you mean train?"
    toml.write_text('backbone = "resnet18"\n[data]\nroot = "here"\n')
    assert complaint(toml) == f"{toml}: backbone is not a setting; did you mean model.backbone?"


@pytest.mark.parametrize(("name", "ours"), ELSEWHERE.items())
def test_what_others_call_a_setting(toml: Path, name: str, ours: str) -> None:
    section, own = ours.split(".")
    assert own in type(getattr(read_settings(toml), section)).model_fields
    for key in (f"train.{name}", f"model.{name.upper()}"):
        assert complaint(toml, f"{key}=1") == f"the command line: {key} is not a setting; did you mean {ours}?"


def test_far_from_every_key_there_is_no_suggestion(toml: Path) -> None:
    assert complaint(toml, "model.xyzzy=1") == "the command line: model.xyzzy is not a setting"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.lr_for_16=fast", "train.lr_for_16 = 'fast': input should be a valid number"),
        ("train.lr_for_16=-1", "train.lr_for_16 = -1: input should be greater than 0"),
        ("train.lr_for_16=nan", "train.lr_for_16 = nan: input should be"),
        ("train.lr_for_16=inf", "train.lr_for_16 = inf: input should be a finite number"),
        ("train.batch=2.5", "train.batch = 2.5: input should be a valid integer"),
        ("train.batch=0", "train.batch = 0: input should be greater than 0"),
        ("train.clip_norm=inf", "train.clip_norm = inf: input should be a finite number"),
        ("rpn.nms_iou=1.5", "rpn.nms_iou = 1.5: input should be less than or equal to 1"),
        ("rpn.nms_iou=nan", "rpn.nms_iou = nan"),
        ("rpn.anchor_sizes=[[16, -2]]", "rpn.anchor_sizes.0.1 = -2: input should be greater than 0"),
        ("rpn.anchor_sizes=[[inf]]", "rpn.anchor_sizes.0.0 = inf"),
        ("rpn.anchor_ratios=[]", "rpn.anchor_ratios = []"),
        ("head.delta_weights=[1, 1, 1]", "head.delta_weights"),
        ("head.delta_weights=[1, 1, 1, 0]", "head.delta_weights.3 = 0"),
        ("input.std=[1, 1, 0]", "input.std.2 = 0: input should be greater than 0"),
        ("input.mean=[0, 0, nan]", "input.mean.2 = nan"),
        (
            "model.backbone=resnet19",
            'model.backbone = "resnet19": there is no backbone "resnet19"; did you mean resnet',
        ),
        ("model.backbone=resnet51", "; did you mean resnet50?"),
        ("model.backbone=VGG_16", "; did you mean vgg16?"),
        ("model.backbone=zf", "; did you mean zfnet?"),
        ("model.kind=faster", "; did you mean faster_rcnn?"),
        (
            "model.norm=none",
            'norm = "none" does not go with resnet50, which has "frozen" or "batch" or "sync" or "group"',
        ),
        ("augment.scale=[0.5]", "augment.scale"),
        ("augment.scale=[2, 0.5]", "augment.scale = [2.0, 0.5] goes from large to small; write the smaller first"),
        ("augment.hue=0.6", "augment.hue = 0.6: input should be less than or equal to 0.5"),
        ("data.workers=-2", "data.workers = -2"),
    ],
)
def test_a_wrong_value_is_named_with_file_key_and_reason(toml: Path, override: str, said: str) -> None:
    message = complaint(toml, override)
    assert message.startswith("the command line: ")
    assert said in message


def test_every_mistake_is_told_at_once(toml: Path) -> None:
    lines = complaint(toml, "train.lr_for_16=fast", "train.batch=0", "rpn.nms_iuo=1").splitlines()
    assert len(lines) == 3
    assert all(line.startswith("the command line: ") for line in lines)


def test_what_is_missing_is_named(toml: Path) -> None:
    toml.write_text("")
    assert complaint(toml) == f"{toml}: data is missing; give it in the file or as data=…"
    toml.write_text("[data]\n")
    assert complaint(toml) == f"{toml}: data.root is missing; give it in the file or as data.root=…"


def test_a_section_that_is_none(toml: Path) -> None:
    toml.write_text('train = 5\n[data]\nroot = "here"\n')
    assert "train must be a section, [train]" in complaint(toml, "train.lr_for_16=1")
    assert "train = 5" in complaint(toml)
