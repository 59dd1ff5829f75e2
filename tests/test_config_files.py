"""Settings in files and on the command line: what is read is what was written."""

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from rcnnkit.config import Settings
from rcnnkit.config_files import SettingsError, as_toml, check_settings, read_settings, write_settings
from rcnnkit.heads.alignment import AlignmentSettings
from rcnnkit.heads.captioner import CaptionSettings
from tests.settings_files import FASTER_RCNNS, complaint

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


def test_defaults(toml: Path) -> None:
    settings = read_settings(toml)
    assert settings.data.root == toml.parent / "here"
    assert settings.model.backbone == "resnet50"
    assert settings.rpn.nms_iou == 0.7
    assert settings.head.delta_weights == (10, 10, 5, 5)
    assert settings.input.short_side == 800
    assert (settings.train.batch, settings.train.lr_for_16) == (16, 0.02)  # "for 16 pictures"


def test_the_file_decides_and_the_command_line_has_the_last_word(toml: Path) -> None:
    toml.write_text('[data]\nroot = "here"\n[train]\nlr = 0.5\nbatch = 2\n')
    settings = read_settings(toml, ["train.lr_for_16=0.25", "train.lr_for_16=0.125", "head.nms_iou=0.25"])
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
def test_overrides(toml: Path, override: str, expected: object) -> None:
    section, name = override.partition("=")[0].strip().split(".")
    assert getattr(getattr(read_settings(toml, [override]), section), name) == expected


def test_the_command_lines_length_takes_the_place_of_the_files(toml: Path) -> None:
    toml.write_text('[data]\nroot = "here"\n[train]\niterations = 5\n')
    assert read_settings(toml, ["train.epochs=3"]).train.epochs == 3
    toml.write_text('[data]\nroot = "here"\n[train]\nepochs = 3\n')
    train = read_settings(toml, ["train.iterations=5"]).train
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
            if f"{section}.{name}" in FASTER_RCNNS or (section, name) in (
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


def test_defaults_survive_too(toml: Path, tmp_path: Path) -> None:
    write_settings(read_settings(toml), tmp_path / "again.toml")
    assert read_settings(tmp_path / "again.toml") == read_settings(toml)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_our_own_files_read(path: Path) -> None:
    read_settings(path, ["data.root=anywhere"])


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
