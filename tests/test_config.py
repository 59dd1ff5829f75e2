"""Settings: what is read is what was written, and a mistake gets an answer."""

import os
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from rcnnkit.config import Settings
from rcnnkit.config_files import SettingsError, as_toml, check_settings, read_settings, write_settings
from rcnnkit.detectors.kinds import KINDS
from rcnnkit.detectors.settings import ModelSettings
from rcnnkit.heads.alignment import AlignmentSettings
from rcnnkit.heads.captioner import CaptionSettings
from rcnnkit.settings import ELSEWHERE

CONFIGS = Path(__file__).parents[1] / "configs"

# Every setting, none of them at its default.
EVERYTHING = """
[model]
kind = "fast_rcnn"
backbone = "googlenet"
neck = "none"
norm = "batch"
norm_eps = 0
stride_in_1x1 = true
pretrained = true
frozen_stages = 2
fpn_channels = 32
fpn_norm = "group"
pool = "roi_pool"
pool_size = 5
sampling_ratio = 0
aligned = true

[proposals]
method = "precomputed"
mode = "quality"
min_side = 3
max_width = 500
seed = 5
folder = "boxes"
train_count = 300
count = 200

[rpn]
anchor_sizes = [[16, 24.5], [32, 48]]
anchor_ratios = [1.0, 3]
hidden = 24
convs = 2
pre_nms = 10
post_nms = 11
train_pre_nms = 12
train_post_nms = 13
nms_iou = 0.65
min_side = 2
foreground_iou = 0.6
background_iou = 0.2
samples = 64
foreground_share = 0.3
beta = 1.0
anchor_layout = "detectron2"

[head]
hidden = 48
fc6_rank = 4
fc7_rank = 5
class_agnostic = true
unnamed = 2
foreground_iou = 0.55
background_iou = 0.45
background_low = 0.1
samples = 99
foreground_share = 0.125
delta_weights = [1, 2, 3, 4]
measured_targets = true
beta = 0.25
score_threshold = 0.01
nms_iou = 0.3
max_detections = 7
min_side = 1

[transformer]
kind = "affine"
hidden = 16
localisation_lr = 0.5

[classifier]
resize = 72
crop = 64
area = [0.2, 0.9]
ratio = [0.5, 2]
label_smoothing = 0.1

[rcnn]
size = 64
context = 4
square = true
layer = "pool5"
scorer = "softmax"
box_regression = false
fine_tune = false
samples = 20
foreground_share = 0.4
foreground_iou = 0.6
classifier_lr = 2
background_iou = 0.2
c = 0.01
bias = 5
positive_weight = 3
mining = false
add_above = -0.9
evict_below = -1.1
retrain_after = 100
passes = 2
near_iou = 0.7
ridge = 100
batch = 16
score_threshold = -0.5
nms_iou = 0.4
max_detections = 50

[feature_store]
folder = "somewhere"
disk_gb = 1.5
memory_gb = 0

[input]
short_side = 120
long_side = 200
scales = [100, 120]
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
divisor = 32
resizing = "detectron2"
tile = 640
tile_overlap = 96
tile_whole = true
test_flip = true
merge = "inside"
merge_threshold = 0.6

[data]
root = "some/folder"
format = "coco"
train = "a.json"
val = "held out"
images = "pictures"
class_names = ["cat", "déjà vu \\"quoted\\""]
use_difficult = true
skip_bad = true
check_pictures = false
workers = 0

[augment]
flip = 0.25
flip_vertical = 0.75
crop = 0.1
brightness = 0.2
contrast = 0.3
saturation = 0.4
hue = 0.05
scale = [0.5, 2.0]

[adversary]
kind = "both"
start = 0.1
pretrain = 0.4
every = 3
cells = 10
candidates = 30
min_drop = 0.2
weight = 0.5
degrees = 20
blocks = 2
hidden = 64

[train]
iterations = 100
batch = 3
lr_for_16 = 1e-3
momentum = 0.8
nesterov = true
weight_decay = 0.0005
schedule = "cosine"
steps = [0.1, 0.2, 0.3]
warmup = 9
warmup_from = 0.01
clip_norm = 0.0
precision = "bf16"
device = "cpu"
seed = 17
freeze_backbone = true
checkpointing = true
log_every = 3
evaluate_every = 7
save_every = 4
save_minutes = 2.5
accumulate = 3
optimizer = "adamw"
betas = [0.8, 0.9]
backbone_lr = 0.1
ema = 0.99
repeat_threshold = 0.1
class_weights = { RBC = 2.0, "white cell" = 0.5 }
patience = 2
validation_losses = false
loggers = ["trackio"]
resume = "runs/a"
init = "b.safetensors"

[alternating]
rpn_iterations = 90
rpn_batch = 3
rpn_lr_for_16 = 0.25
head_iterations = 80
head_batch = 4
head_lr_for_16 = 0.125
head_steps = [0.5]
"""
# What does not go with the rest: these are Faster R-CNN's alone.
LEFT_OUT = {"alternating.enabled", "train.rpn_only"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my.toml"
    path.write_text('[data]\nroot = "here"\n')
    return path


def complaint(path: Path, *overrides: str) -> str:
    with pytest.raises(SettingsError) as error:
        read_settings(path, overrides)
    return str(error.value)


def test_defaults(file: Path) -> None:
    settings = read_settings(file)
    assert settings.data.root == file.parent / "here"
    assert settings.model.backbone == "resnet50"
    assert settings.rpn.nms_iou == 0.7
    assert settings.head.delta_weights == (10, 10, 5, 5)
    assert settings.input.short_side == 800
    assert (settings.train.batch, settings.train.lr_for_16) == (16, 0.02)  # "for 16 pictures"


def test_the_file_decides_and_the_command_line_has_the_last_word(file: Path) -> None:
    file.write_text('[data]\nroot = "here"\n[train]\nlr = 0.5\nbatch = 2\n')
    settings = read_settings(file, ["train.lr_for_16=0.25", "train.lr_for_16=0.125", "head.nms_iou=0.25"])
    assert (settings.train.lr_for_16, settings.train.batch, settings.head.nms_iou) == (0.125, 2, 0.25)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.lr_for_16=1e-3", 0.001),
        ("train.lr_for_16=1", 1.0),
        ("train.batch = 4", 4),
        ("train.nesterov=true", True),
        ("model.backbone=resnet18", "resnet18"),
        ('model.backbone="resnet18"', "resnet18"),
        ("model.backbone='resnet18'", "resnet18"),
        ("data.root=/some where/über=all", Path("/some where/über=all")),
        ("data.train=2007_trainval", "2007_trainval"),
        ("data.val=", ""),
        ("train.steps=[0.5, 0.75]", [0.5, 0.75]),
        ("train.steps=[]", []),
        ("rpn.anchor_sizes=[[8], [16.5, 32]]", [[8], [16.5, 32]]),
        ("augment.scale=[0.5,2]", (0.5, 2)),
        ("data.class_names=['a', 'b']", ["a", "b"]),
    ],
)
def test_overrides(file: Path, override: str, expected: object) -> None:
    section, name = override.partition("=")[0].strip().split(".")
    assert getattr(getattr(read_settings(file, [override]), section), name) == expected


@pytest.mark.parametrize("override", ["train.lr", "lr=1", "=1", ".lr=1", "train.=1", "train.lr.x=1", "", "train.lr:1"])
def test_bad_overrides(file: Path, override: str) -> None:
    with pytest.raises(SettingsError) as error:
        read_settings(file, [override])
    assert "the command line: " in str(error.value) or "section.key=value, such as train.batch=8" in str(error.value)
    assert override.partition("=")[0].strip(".") in str(error.value)


def test_a_misspelt_key_is_answered_with_the_right_one(file: Path) -> None:
    assert (
        complaint(file, "rpn.nms_iuo=0.5")
        == "the command line: rpn.nms_iuo is not a setting; did you mean rpn.nms_iou?"
    )
    assert complaint(file, "train.learning_rte=1").startswith("the command line: train.learning_rte is not a setting")
    assert "did you mean train.iterations?" in complaint(file, "train.iteration=5")


def test_a_key_in_the_wrong_section_is_answered_with_the_right_one(file: Path) -> None:
    assert complaint(file, "model.lr=1") == "the command line: model.lr is not a setting; did you mean train.lr_for_16?"
    file.write_text('[data]\nroot = "here"\n[trian]\nlr = 1\n')
    assert complaint(file) == f"{file}: trian is not a setting; did you mean train?"
    file.write_text('backbone = "resnet18"\n[data]\nroot = "here"\n')
    assert complaint(file) == f"{file}: backbone is not a setting; did you mean model.backbone?"


def test_a_run_has_one_length(file: Path) -> None:
    file.write_text('[data]\nroot = "here"\n[train]\niterations = 5\nepochs = 3\n')
    assert complaint(file) == f"{file}: train.epochs = 3 and iterations = 5 are both given; keep one"
    assert complaint(file, "train.epochs=3", "train.iterations=4") == (
        "the command line: train.epochs = 3 and iterations = 4 are both given; keep one"
    )


def test_the_command_lines_length_takes_the_place_of_the_files(file: Path) -> None:
    file.write_text('[data]\nroot = "here"\n[train]\niterations = 5\n')
    assert read_settings(file, ["train.epochs=3"]).train.epochs == 3
    file.write_text('[data]\nroot = "here"\n[train]\nepochs = 3\n')
    train = read_settings(file, ["train.iterations=5"]).train
    assert (train.iterations, train.epochs) == (5, None)


def test_epochs_and_mixing_are_written_as_they_were_given(tmp_path: Path) -> None:
    data = {"root": tmp_path / "here"}
    settings = Settings.model_validate({"data": data, "train": {"epochs": 3}})
    write_settings(settings, tmp_path / "a.toml")
    assert "iterations" not in tomllib.loads((tmp_path / "a.toml").read_text())["train"]
    assert read_settings(tmp_path / "a.toml") == settings
    mixed = {"mosaic": 0.1, "mixup": 0.2, "copy_paste": 0.3, "pipeline": tmp_path / "a.yaml"}
    settings = Settings.model_validate({"data": data, "augment": mixed})
    write_settings(settings, tmp_path / "b.toml")
    assert read_settings(tmp_path / "b.toml") == settings


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


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        read_settings(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} is a folder, and settings are a file; if your pictures are in the folder, `rcnnkit suggest"
        f" {tmp_path} > mine.toml` writes settings for them"
    )
    written = tmp_path / "settings.toml"
    written.touch()
    assert complaint(tmp_path) == (
        f"{tmp_path} is the folder of a run; to continue it: rcnnkit train {written} train.resume={tmp_path}"
    )


@pytest.mark.parametrize(("name", "ours"), ELSEWHERE.items())
def test_what_others_call_a_setting(file: Path, name: str, ours: str) -> None:
    section, own = ours.split(".")
    assert own in type(getattr(read_settings(file), section)).model_fields
    for key in (f"train.{name}", f"model.{name.upper()}"):
        assert complaint(file, f"{key}=1") == f"the command line: {key} is not a setting; did you mean {ours}?"


def test_far_from_every_key_there_is_no_suggestion(file: Path) -> None:
    assert complaint(file, "model.xyzzy=1") == "the command line: model.xyzzy is not a setting"


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
def test_a_wrong_value_is_named_with_file_key_and_reason(file: Path, override: str, said: str) -> None:
    message = complaint(file, override)
    assert message.startswith("the command line: ")
    assert said in message


def test_parts_that_do_not_go_together(file: Path) -> None:
    assert "fpn_channels = 48 cannot be cut into the 32 groups" in complaint(
        file, "model.fpn_norm=group", "model.fpn_channels=48"
    )
    assert "frozen_stages = 5 would freeze stage 4" in complaint(file, "model.neck=c4", "model.frozen_stages=5")
    whole = ["model.backbone=googlenet", "model.frozen_stages=5"]
    assert "frozen_stages = 5 would freeze the last inceptions" in complaint(file, *whole)
    assert read_settings(file, [*whole, "model.kind=rcnn"]).model.frozen_stages == 5


def test_a_single_map_backbone_has_no_neck_and_no_norm(file: Path) -> None:
    model = read_settings(file, ["model.backbone=vgg16"]).model
    assert (model.neck, model.norm) == ("none", "none")
    assert 'neck = "c4" does not go with vgg16, which has "none" or "fpn"' in complaint(
        file, "model.backbone=vgg16", "model.neck=c4"
    )
    assert 'norm = "batch" does not go with alexnet, which has "none"' in complaint(
        file, "model.backbone=alexnet", "model.norm=batch"
    )
    assert 'neck = "none" does not go with resnet50, which has "fpn" or "c4"' in complaint(file, "model.neck=none")
    assert 'norm = "group" does not go with googlenet, which has "frozen" or "batch" or "sync"' in complaint(
        file, "model.backbone=googlenet", "model.norm=group"
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
def test_what_a_classifier_cannot_use(file: Path, overrides: list[str], said: str) -> None:
    assert said in complaint(file, CLASSIFIER, *overrides)
    read_settings(file, [CLASSIFIER, "input.mean=[0.5, 0.5, 0.5]", "augment.flip_vertical=0.5"])


def test_background_needs_a_range(file: Path) -> None:
    assert "background_low = 0.5 leaves nothing below background_iou = 0.5" in complaint(
        file, "head.background_low=0.5"
    )


def test_every_mistake_is_told_at_once(file: Path) -> None:
    lines = complaint(file, "train.lr_for_16=fast", "train.batch=0", "rpn.nms_iuo=1").splitlines()
    assert len(lines) == 3
    assert all(line.startswith("the command line: ") for line in lines)


def test_what_is_missing_is_named(file: Path) -> None:
    file.write_text("")
    assert complaint(file) == f"{file}: data is missing; give it in the file or as data=…"
    file.write_text("[data]\n")
    assert complaint(file) == f"{file}: data.root is missing; give it in the file or as data.root=…"


def test_a_section_that_is_none(file: Path) -> None:
    file.write_text('train = 5\n[data]\nroot = "here"\n')
    assert "train must be a section, [train]" in complaint(file, "train.lr_for_16=1")
    assert "train = 5" in complaint(file)


def test_a_file_that_may_not_be_read(forbidden: Path) -> None:
    with pytest.raises(PermissionError, match=rf"^{forbidden} may not be read \(permission denied\); change its"):
        read_settings(forbidden)


def test_paths_that_toml_cannot_hold(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[data]\nroot = "x"')
    with pytest.raises(SettingsError, match=r"^data\.root=.* is not UTF-8, as the run's settings.toml has to be"):
        read_settings(tmp_path / "a.toml", ["data.root=caf\udce9"])


def test_broken_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.toml: no such settings file"):
        read_settings(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[data\nroot = 1")
    assert complaint(broken).startswith(f"{broken} is not TOML: ")
    broken.write_text("x = " + "[" * 100_000)
    assert complaint(broken).startswith(f"{broken} is not TOML: ")
    broken.write_text('[data]\nroot = "hier"', encoding="utf-16")
    assert complaint(broken).startswith(f"{broken} is not UTF-8 text (")
    assert complaint(broken).endswith("); save it as UTF-8")
    os.mkfifo(tmp_path / "fifo.toml")
    with pytest.raises(ValueError, match=r"fifo\.toml is not a regular file"):
        read_settings(tmp_path / "fifo.toml")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "windows.toml"
    file.write_text('[data]\nroot = "hier"', encoding="utf-8-sig")
    assert read_settings(file).data.root == tmp_path / "hier"


def test_everything_survives_writing_and_reading(tmp_path: Path) -> None:
    full = tmp_path / "full.toml"
    full.write_text(EVERYTHING, encoding="utf-8")
    settings = read_settings(full)
    defaults = check_settings({"data": {"root": "x"}}, "test")
    for section in Settings.model_fields:
        for name in type(getattr(settings, section)).model_fields:
            if f"{section}.{name}" in LEFT_OUT or (section, name) in (
                ("head", "svms"),
                ("rpn", "box_gradient"),
                ("head", "convs"),
                ("input", "test_scales"),  # goes without scales
                ("train", "epochs"),
                ("data", "val_share"),
                ("data", "split_seed"),
                *(("captions", each) for each in CaptionSettings.model_fields),
                *(("alignment", each) for each in AlignmentSettings.model_fields),
                *(("augment", each) for each in ("mosaic", "mixup", "copy_paste", "pipeline")),
            ):
                continue
            value, default = (getattr(getattr(s, section), name) for s in (settings, defaults))
            assert value != default, f"{section}.{name} is to differ from its default in this test"
    write_settings(settings, tmp_path / "again.toml")
    assert read_settings(tmp_path / "again.toml") == settings


def test_convolutions_in_the_head_go_with_a_pyramid(file: Path) -> None:
    assert read_settings(file, ["head.convs=4"]).head.convs == 4
    assert 'head.convs = 4 goes with model.neck = "fpn", not "c4"' in complaint(file, "head.convs=4", "model.neck=c4")
    assert "head.convs = 4 has no layers to split" in complaint(file, "head.convs=4", "head.fc6_rank=5")


@pytest.mark.parametrize("key", sorted(LEFT_OUT))
def test_a_gradient_of_boxes_is_for_joint_training(file: Path, key: str) -> None:
    assert read_settings(file, ["rpn.box_gradient=true", "model.pool=roi_align"]).rpn.box_gradient
    said = complaint(file, "rpn.box_gradient=true", "model.pool=roi_align", f"{key}=true")
    assert f"rpn.box_gradient = true is for joint training, not for {key} = true; leave one out" in said


@pytest.mark.parametrize("key", sorted(LEFT_OUT))
def test_what_is_faster_rcnns_alone(file: Path, tmp_path: Path, key: str) -> None:
    settings = read_settings(file, [f"{key}=true"])
    write_settings(settings, tmp_path / "again.toml")
    assert read_settings(tmp_path / "again.toml") == settings != read_settings(file)
    assert f'{key} = true is for model.kind = "faster_rcnn"' in complaint(file, f"{key}=true", "model.kind=fast_rcnn")


def test_svms_come_after_training(file: Path) -> None:
    assert "head.svms = true comes after training" in complaint(file, "head.svms=true")


def test_targets_are_measured_for_fast_rcnn_alone(file: Path) -> None:
    assert "head.measured_targets = true goes with" in complaint(file, "head.measured_targets=true")


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "project" / "settings" / "mine.toml"
    file.parent.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file.write_text(
        '[data]\nroot = "../data"\nimages = "/pictures"\n[train]\ninit = "start.safetensors"\n'
        '[proposals]\nfolder = "kept"\n[feature_store]\nfolder = "kept too"\n'
    )
    monkeypatch.chdir(tmp_path)
    near = Path("project/settings")
    for given in (file, file.relative_to(tmp_path)):
        base = file.parent if given.is_absolute() else near
        read = read_settings(given, ["train.resume=runs/one"])
        assert read.data.root == base.parent / "data"
        assert read.data.images == Path("/pictures")
        assert read.train.init == base / "start.safetensors"
        assert (read.proposals.folder, read.feature_store.folder) == (base / "kept", base / "kept too")
        assert read.train.resume == Path("runs/one")  # of the command line: relative to the current folder
    write_settings(read, elsewhere / "settings.toml")
    monkeypatch.chdir(elsewhere)  # a run goes on wherever it is started
    again = read_settings(Path("settings.toml"))
    assert again.data.root == tmp_path / "project" / "data"
    assert again.train.resume == tmp_path / "runs" / "one"
    assert again.train.init == file.parent / "start.safetensors"


def test_a_link_to_a_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "mine.toml").write_text('[data]\nroot = "../data"\n')
    root = read_settings(tmp_path / "link" / "mine.toml").data.root
    assert root.resolve() == (tmp_path / "a" / "data").resolve()


def test_paths_of_earlier_versions_are_found_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "cells").mkdir()
    file = tmp_path / "runs" / "settings.toml"
    file.write_text('[data]\nroot = "cells"\n')
    monkeypatch.chdir(tmp_path)
    assert read_settings(file).data.root == Path("cells")
    assert caplog.messages == [
        f'{file}: data.root = "cells" was found in the current folder, not beside this file, and is read from there;'
        " write paths in a settings file relative to that file"
    ]
    (tmp_path / "runs" / "cells").mkdir()
    assert read_settings(file).data.root == tmp_path / "runs" / "cells"


def test_defaults_survive_too(file: Path, tmp_path: Path) -> None:
    write_settings(read_settings(file), tmp_path / "again.toml")
    assert read_settings(tmp_path / "again.toml") == read_settings(file)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_our_own_files_read(path: Path) -> None:
    read_settings(path, ["data.root=anywhere"])


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


def test_a_kind_goes_by_its_old_name_too(tiny: dict[str, dict[str, Any]]) -> None:
    old = tiny | {"model": tiny["model"] | {"detector": "fast_rcnn"}}
    assert check_settings(old, "a.toml").model.kind == "fast_rcnn"
    with pytest.raises(ValueError, match=r"a\.toml: .*kind and detector, its old name, are both given; keep kind"):
        check_settings(old | {"model": old["model"] | {"kind": "rcnn"}}, "a.toml")


def test_learning_rates_go_by_their_old_names_too(tmp_path: Path) -> None:
    file = tmp_path / "old.toml"
    file.write_text('[data]\nroot = "here"\n[train]\nlr = 0.5\n[alternating]\nrpn_lr = 0.25\nhead_lr = 0.125\n')
    read = read_settings(file)
    assert read.train.lr_for_16 == 0.5
    assert (read.alternating.rpn_lr_for_16, read.alternating.head_lr_for_16) == (0.25, 0.125)
    write_settings(read, tmp_path / "new.toml")
    assert "\nlr_for_16 = 0.5\n" in (tmp_path / "new.toml").read_text()
    assert read_settings(tmp_path / "new.toml") == read
    for name in ("lr", "lr_for_16"):  # one setting, whatever each of them calls it
        for path in (file, tmp_path / "new.toml"):
            assert read_settings(path, [f"train.{name}=0.125"]).train.lr_for_16 == 0.125
    assert read_settings(file, ["train.lr=0.1", "train.lr_for_16=0.2"]).train.lr_for_16 == 0.2
    assert complaint(file, "train.lr=fast").startswith("the command line: train.lr_for_16 = 'fast': ")
    file.write_text('[data]\nroot = "here"\n[train]\nlr = 0.5\nlr_for_16 = 0.5\n')
    assert complaint(file) == (f"{file}: train.lr_for_16 and lr, its old name, are both given; keep lr_for_16")


def test_a_section_and_its_settings_go_by_their_old_names_too(tmp_path: Path) -> None:
    file = tmp_path / "old.toml"
    old = '[data]\nroot = "d"\n[features]\nfolder = "kept"\n[rpn]\nanchors = "detectron2"\n[rcnn]\nscores = "softmax"\n'
    file.write_text(old)
    read = read_settings(file)
    assert read.feature_store.folder == tmp_path / "kept"  # relative to the file, as by the new name
    assert (read.rpn.anchor_layout, read.rcnn.scorer) == ("detectron2", "softmax")
    write_settings(read, tmp_path / "new.toml")
    assert read_settings(tmp_path / "new.toml") == read
    for section in ("features", "feature_store"):
        for path in (file, tmp_path / "new.toml"):
            assert read_settings(path, [f"{section}.disk_gb=3"]).feature_store.disk_gb == 3
    assert complaint(file, "features.disk_gb=-3").startswith("the command line: feature_store.disk_gb = -3: ")
    assert check_settings({"data": {"root": "d"}, "features": {"disk_gb": 3}}, "a.toml").feature_store.disk_gb == 3
    file.write_text(f"{old}[feature_store]\ndisk_gb = 3\n")
    assert complaint(file) == f"{file}: feature_store and features, its old name, are both given; keep feature_store"


def test_every_kind_is_in_the_table() -> None:
    assert sorted(KINDS) == sorted(get_args(ModelSettings.model_fields["kind"].annotation))


def test_settings_with_notes_are_read_back(tmp_path: Path) -> None:
    """A line each, whatever is in the values and the notes."""
    values: dict[str, dict[str, Any]] = {
        "data": {"root": "/a  b\n'\"#", "train": ["x", "y # z"]},
        "rpn": {"anchor_sizes": [[16.0], [32.5]]},
        "train": {"batch": 2},
    }
    notes = {"data.root": "of two\nlines", "train.batch": "small", "train.seed": "not written"}
    text = as_toml(values, notes)
    assert "batch = 2  # small\n" in text
    assert "anchor_sizes = [[16.0], [32.5]]\n" in text
    assert r"  # of two\nlines" in text
    assert "not written" not in text
    assert tomllib.loads(text) == values
    made = check_settings(values, "test")
    write_settings(made, tmp_path / "all.toml", notes)
    assert read_settings(tmp_path / "all.toml") == made
    assert "batch = 2  # small\n" in (tmp_path / "all.toml").read_text()
