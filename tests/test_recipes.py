"""The papers' recipes: each takes two steps on data of its layout, small."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

from rcnnkit import weights
from rcnnkit.config_files import read_settings
from rcnnkit.data.digits import write_digits
from rcnnkit.importing.torchvision_detectors import from_torchvision
from rcnnkit.training.train import train

CONFIGS = Path(__file__).parents[1] / "configs"
RECIPES = sorted(path for name in ("*rcnn_*_voc07*", "faster*_coco_*") for path in CONFIGS.glob(f"{name}.toml"))
# Whose network, detector and data are those of other recipes.
REPEATED = {
    "fast_rcnn_vgg16_voc07",
    "faster_rcnn_vgg16_voc07",
    "faster_rcnn_vgg16_voc07_alternating",
    "faster_rcnn_vgg16_voc0712_alternating",
}

SMALL: dict[str, dict[str, Any]] = {
    "model": {"pretrained": False},
    "rpn": dict.fromkeys(("pre_nms", "post_nms", "train_pre_nms", "train_post_nms"), 20),
    "head": {"hidden": 16, "samples": 16},
    "input": {"short_side": 64, "long_side": 64, "divisor": 32},
    "data": {"workers": 0},
    "train": {"iterations": 2, "batch": 2, "device": "cpu", "precision": "float32"},
}


@pytest.fixture(scope="module")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as VOC2007, VOC2012 and COCO 2017, with these data sets' folders, lists and kinds of ids."""
    root = tmp_path_factory.mktemp("data")
    for year in ("VOC2007", "VOC2012"):
        write_digits(root / year, train=2, val=1, size=(96, 96))
        lists = root / year / "ImageSets" / "Main"
        (lists / "train.txt").rename(lists / "trainval.txt")
        (lists / "val.txt").rename(lists / "test.txt")
    for path in [*(root / "VOC2012" / "JPEGImages").iterdir(), *(root / "VOC2012" / "Annotations").iterdir()]:
        path.rename(path.with_name(f"2008_{path.name}"))
    (root / "VOC2012" / "ImageSets" / "Main" / "trainval.txt").write_text("2008_000001\n2008_000002\n")
    for file in (root / "VOC2012" / "Annotations").iterdir():
        file.write_text(file.read_text().replace("<filename>", "<filename>2008_"))
    for split in ("train", "val"):
        source = root / "VOC2007" / "annotations" / f"instances_{split}.json"
        (root / "annotations").mkdir(exist_ok=True)
        shutil.copy(source, root / "annotations" / f"instances_{split}2017.json")
    shutil.copytree(root / "VOC2007" / "JPEGImages", root / "JPEGImages")
    return root


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(path, marks=pytest.mark.slow if path.stem in REPEATED else ()) for path in RECIPES],
    ids=lambda path: path.stem,
)
def test_two_steps(recipe: Path, devkit: Path, tmp_path: Path) -> None:
    sections: dict[str, dict[str, Any]] = {name: dict(values) for name, values in SMALL.items()}
    sections["data"]["root"] = str(devkit)
    sections["proposals"] = {"folder": str(tmp_path / "proposals")}
    if "resnet" in recipe.stem:
        sections["model"]["norm"] = "batch"  # from scratch
    if "scales" in recipe.read_text():
        sections["input"]["scales"] = [64, 80]
    if recipe.stem.startswith("rcnn"):
        sections["rcnn"] = {"size": 32 if "vgg16" in recipe.stem else 63, "context": 4, "samples": 8}
        sections["proposals"] |= {"train_count": 15, "count": 15}
        del sections["input"]["short_side"]  # 0, as the recipe has it
    if "alternating" in recipe.stem:
        sections["alternating"] = {"rpn_iterations": 2, "head_iterations": 2}
    overrides = [f"{s}.{name}={_toml(value)}" for s, values in sections.items() for name, value in values.items()]
    settings = read_settings(recipe, overrides)
    console = Console(quiet=True)
    detector = weights.load(train(settings, tmp_path / "run", console=console), "cpu")
    assert len(detector.class_names) >= 3
    assert (tmp_path / "run" / "evaluation.json").is_file()


def test_the_file_to_start_from(digits: Path, tmp_path: Path) -> None:
    text = (CONFIGS / "start.toml").read_text()
    assert len(re.findall(r"^\w+ = ", text, re.MULTILINE)) == 8
    small = ["model.pretrained=false", "model.backbone=resnet18", "model.norm=batch", "input.short_side=64"]
    small += [f"data.root={digits}", "data.workers=0", "train.iterations=2", "train.batch=2", "train.device=cpu"]
    assert train(read_settings(CONFIGS / "start.toml", small), tmp_path / "run", console=Console(quiet=True)).exists()


def test_the_file_to_fine_tune_from_coco_is_of_torchvisions_network() -> None:
    """So that its weights fit, and mean the same."""
    theirs = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None)
    _, imported = from_torchvision(theirs, [str(i) for i in range(90)])
    ours = read_settings(CONFIGS / "finetune.toml")
    for section in ("model", "rpn", "head", "input"):
        resolved = getattr(ours, section).model_dump()
        for name, value in getattr(imported, section).model_dump().items():
            # Written out in the one, and what 0 or nothing stands for in the other.
            if (section, name) not in OTHERWISE:
                assert resolved[name] == pytest.approx(value), f"{section}.{name}"


OTHERWISE = {("model", "frozen_stages"), ("model", "pool_size"), ("rpn", "anchor_sizes"), ("head", "hidden")}


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)


def test_there_are_as_many_as_were_promised() -> None:
    assert len(RECIPES) == 18
