"""Settings for pictures that nobody has written settings for: chosen from the data and the machine, each with its
reason."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from torchvision.models import WeightsEnum
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_V2_Weights

from rcnnkit import weights
from rcnnkit.backbones.imagenet import first_version
from rcnnkit.backbones.names import architecture
from rcnnkit.backbones.timm import PREFIX
from rcnnkit.boxes import area
from rcnnkit.config import DESCRIBE, Settings
from rcnnkit.config_files import as_toml, check_settings, override, read_settings
from rcnnkit.data.hold_out import hold_out
from rcnnkit.data.layout import Layout, find_layout
from rcnnkit.data.records import BadData, Dataset, few
from rcnnkit.data.sizes import input_sides
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import title_of
from rcnnkit.detectors.settings import PROPOSALS_PER_OBJECT, DetectorSettings
from rcnnkit.downloads import cached, fetch, why_not
from rcnnkit.heads.box_head import HeadSettings
from rcnnkit.heads.captioner import CaptionSettings
from rcnnkit.importing.convert import import_cached
from rcnnkit.memory import free_memory
from rcnnkit.proposals.fit import REACHED, fit_anchors, reach
from rcnnkit.proposals.rpn import RPNSettings
from rcnnkit.text import count
from rcnnkit.training.detection import Detection, read_splits
from rcnnkit.training.phrases import learn_words
from rcnnkit.training.preflight import GB, TIGHT, try_batch
from rcnnkit.training.run import Run
from rcnnkit.training.run_folder import is_run
from rcnnkit.training.schedule import STATED_BATCH, TrainSettings
from rcnnkit.training.start import start as start_model

Kind = Literal["coco", "imagenet", "none", "file"]
STARTS: tuple[Kind, ...] = ("coco", "imagenet", "none")
SUGGESTED = ("faster_rcnn", "densecap")  # kinds of detectors; the first unless the boxes have phrases
COCO = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1

COCOS = "resnet50"  # its backbone
FEW_BAD = 0.01  # share of bad objects that are left out without asking
HELD_OUT = 0.2  # share of the pictures to evaluate on, where there are none for it …
ENOUGH_TO_SPLIT = 10  # … and there are so many
OFTEN = 10  # objects of a class whose size counts
SMALL_SIDE = 30.0  # pixels of the network's input that the median object of the smallest class should have
LARGEST_FACTOR = 1.25  # enlarging more shows nothing new
SIDES = {"cpu": (256, 320, 480), "gpu": (320, 800, 800)}  # shortest sides: the least; the most from scratch, or not
MULTIPLE = 32  # of pixels, that shortest sides are
ASPECT = 1333 / 800  # of the longest side to the shortest
SAID = 0.95  # share of all words in phrases that should be learnt
LOOKED_AT = 20_000  # objects, evenly from all, that anchors are tried on
LOSS = 0.1  # share of objects for which weights' own anchors are given up
ROOM = 1.5  # detections for each object of the fullest picture
FEW_OBJECTS = 32  # in a picture, that a quarter of 128 regions can be
DATA_FILES = (".csv", ".json", ".parquet", ".xml", ".yaml", ".yml")
CHEAP = "small, as iterations have to be cheap on a CPU"
EPOCHS: Mapping[Kind, tuple[int, int, int]] = {  # and the least and most pictures seen
    "coco": (12, 6_000, 400_000),
    "file": (12, 6_000, 400_000),
    "imagenet": (24, 8_000, 1_440_000),  # the most is COCO's 1x schedule
    "none": (36, 8_000, 1_440_000),
}
BYTES_PER_PIXEL = 3000.0  # of the network's input in training with a ResNet-50
# Classes that a mirrored picture would make wrong.
SIDED = {"left", "right", "clockwise", "counterclockwise", "anticlockwise"}


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Settings, and why they are what they are."""

    summary: str  # of the data, such as "read as Pascal VOC: 3 classes; splits train, val"
    values: dict[str, dict[str, Any]]
    notes: dict[str, str]  # section.setting → its reason
    remarks: list[str]  # what was not chosen, or could not be had

    @property
    def settings(self) -> Settings:
        """Raises SettingsError where a setting that was given cannot be used."""
        return check_settings(self.values, "the suggested settings")

    @property
    def toml(self) -> str:
        """As a settings file, each setting with its reason."""
        head = "\n".join(f"# {line}" for line in [self.summary, *self.remarks])
        return f"{head}\n\n{as_toml(self.values, self.notes)}"


class _Choices:
    """Settings that are chosen one after another, unless they were given."""

    def __init__(self, overrides: Sequence[str]) -> None:
        self.values: dict[str, dict[str, Any]] = {
            section: {} for section in ("data", "model", "input", "rpn", "head", "augment", "train")
        }
        self.notes: dict[str, str] = {}
        self.given: dict[str, dict[str, Any]] = {}
        override(self.given, overrides, "the command line")
        for section, values in self.given.items():
            self.values.setdefault(section, {}).update(values)
            self.notes |= {f"{section}.{name}": "as you gave it" for name in values}

    def choose(self, key: str, value: Any, reason: str) -> Any:
        """The value that counts: what was given, or else this one."""
        section, _, name = key.partition(".")
        if name in self.given.get(section, {}):
            return self.given[section][name]
        self.values.setdefault(section, {})[name] = value
        self.notes[key] = reason
        return value

    def get(self, key: str, default: Any) -> Any:
        section, _, name = key.partition(".")
        return self.values.get(section, {}).get(name, default)

    @property
    def settings(self) -> Settings:
        return check_settings(self.values, "the suggested settings")


def is_data(path: Path) -> bool:
    """Whether a path is for `suggest`: a folder that is not a run's, or a file that is not of settings."""
    return path.suffix.lower() in DATA_FILES if path.is_file() else path.is_dir() and not is_run(path)


def settings_of(
    source: Path, overrides: Sequence[str] = (), *, start: str | None = None, minutes: float | None = None
) -> tuple[Settings, Suggestion | None]:
    """The settings in a file; or those that are chosen for a data set, and why.

    Args and errors are those of `read_settings` and `suggest`; besides:

    Raises:
        ValueError: `start` or `minutes` is given, and `source` is a file of settings.
    """
    if is_data(source):
        suggestion = suggest(source, overrides, start=start, minutes=minutes)
        return suggestion.settings, suggestion
    for flag, value, setting in (("--start", start, "train.init"), ("--minutes", minutes, "train.iterations")):
        if value is not None:
            raise ValueError(f"{flag} {value} is for a data set, and {source} is not one; set {setting} instead")
    return read_settings(source, overrides), None


def suggest(
    data: Path | str, given: Sequence[str] = (), *, start: str | None = None, minutes: float | None = None
) -> Suggestion:
    """Settings of a Faster R-CNN for a data set, from what is in it and what this machine can do; of a DenseCap where
    the boxes have phrases.

    Args:
        data: the data set's folder or annotation file, in any format that `find_layout` knows.
        given: `section.key=value` settings that are not to be chosen; others are chosen to go with them.
        start: "coco", "imagenet", "none" or a weights file; by default the first of these that can be had.
        minutes: that the training may take; by default as long as such data need.

    Raises:
        FileNotFoundError, ValueError: there is no data set, several, no training pictures, or too much of it is bad.
        OSError: the weights that `start` asks for cannot be had.
        SettingsError: a given setting cannot be used.
    """
    choices, remarks = _Choices(given), list[str]()
    layout = find_layout(Path(data), choices.get("data.format", "auto"))
    kind = choices.get("model.kind", "captioner" if layout.format == "captions" else SUGGESTED[0])
    if kind not in SUGGESTED:
        raise ValueError(
            f'settings are suggested for {" and ".join(map(title_of, SUGGESTED))}, not for model.kind = "{kind}"; write'
            " a settings file"
        )
    training, validation = _choose_data(choices, layout)
    _choose_kind(choices, training)
    device = weights.pick_device(choices.get("train.device", "auto"))
    gpu = device.type == "cuda"
    origin = _choose_start(choices, start, gpu, remarks)
    _choose_network(choices, origin, gpu)
    _choose_size(choices, training, origin, gpu)
    _choose_anchors(choices, training, origin)
    _choose_counts(choices, [each for each in (training, validation) if each], gpu)
    _choose_augmentation(choices, training, remarks)
    _choose_batch(choices, device, len(training))
    _choose_schedule(choices, training, origin, minutes)
    splits = ", ".join(layout.splits)
    classes = count(len(training.class_names), "class")
    summary = f"read as {layout.title}: {count(len(training), 'training picture')}, {classes}; splits: {splits}"
    return Suggestion(summary, {n: v for n, v in choices.values.items() if v}, choices.notes, remarks)


def _choose_data(choices: _Choices, layout: Layout) -> tuple[Dataset, Dataset | None]:
    choices.choose("data.root", str(layout.root.absolute()), f"read as {layout.title}")
    if "train" not in layout.splits and not choices.get("data.train", None):
        raise ValueError(f"{layout.root} has no training pictures, but {few(list(layout.splits))}; give data.train")
    choices.choose("data.train", layout.splits.get("train"), "what is learnt from")
    if val := layout.splits.get("val"):
        choices.choose("data.val", val, "what the weights are evaluated on; the best are kept")
    else:
        choices.choose(
            "data.val", "", f"there are no pictures to evaluate on; of {ENOUGH_TO_SPLIT} or more, some are held out"
        )
    try:
        training, validation = read_splits(choices.settings.data, announce=False)
    except BadData as error:
        data = choices.settings.data.model_copy(update={"skip_bad": True})
        try:
            training, validation = read_splits(data, announce=False)
        except (OSError, ValueError):  # more is wrong than can be left out
            raise error from None
        objects = training.objects + (validation.objects if validation else 0)
        if len(error.problems) > FEW_BAD * objects:
            raise
        reason = f"leaves out what has {count(len(error.problems), 'problem')}, in {objects:,} objects"
        choices.choose("data.skip_bad", True, reason)
    if validation is None and len(training) >= ENOUGH_TO_SPLIT and not choices.get("data.val_share", 0.0):
        reason = "this share is kept out of training to evaluate on; data.split_seed chooses it"
        choices.choose("data.val_share", HELD_OUT, reason)
        if share := choices.settings.data.val_share:
            return hold_out(training, share, choices.settings.data.split_seed)
    return training, validation


def _choose_kind(choices: _Choices, training: Dataset) -> None:
    """A DenseCap where the boxes have phrases; it learns so many of their words that little is left out."""
    if training.words:
        choices.choose("model.kind", "densecap", "the boxes have phrases")
    if choices.get("model.kind", SUGGESTED[0]) != "densecap":
        return
    if not training.words:
        raise ValueError(f'{training.name} has no phrases, which model.kind = "densecap" learns from; leave it out')
    counts = training.words_of()
    for least in range(CaptionSettings().minimum_count, 0, -1):
        share = sum(number for number in counts.values() if number >= least) / counts.total()
        if share >= SAID:
            break
    choices.choose("captions.minimum_count", least, f"words that occur so often are {share:.1%} of all that is said")


@dataclass(frozen=True, slots=True)
class _Start:
    """What a training begins with."""

    kind: Kind
    settings: DetectorSettings | None = None  # of a weights file
    classifier: bool = False  # it has a backbone alone


def _choose_start(choices: _Choices, start: str | None, gpu: bool, remarks: list[str]) -> _Start:
    """The first that can be had of COCO's detector and ImageNet's backbone, or what is wanted."""
    if start is None and (init := choices.get("train.init", None)):
        start = str(init)
    if start is None and choices.get("model.pretrained", None) is not None:
        start = "imagenet" if choices.get("model.pretrained", False) else "none"
    if start not in (None, *STARTS):
        path = Path(str(start))
        if not path.exists():
            raise FileNotFoundError(f"--start {path}: no such file, and not one of {', '.join(STARTS)}")
        choices.choose("train.init", str(path.absolute()), "the weights to start from")
        return _from_file(path, "file")
    backbone = choices.get("model.backbone", "resnet50" if gpu else "resnet18")
    if start == "coco" or (start is None and choices.get("model.backbone", COCOS) == COCOS):
        reason = "" if cached(COCO).with_suffix(".safetensors").exists() else why_not(COCO)
        try:
            _expect(COCO, reason)
            path = import_cached(COCO)
            choices.choose("train.init", str(path), "torchvision's Faster R-CNN, trained on COCO")
            return _from_file(path, "coco")
        except OSError as error:
            if start:
                raise OSError(f"--start coco: {error}; put that file into {cached(COCO).parent}") from None
            remarks.append(f"COCO's weights: {error}")
    if start == "imagenet" or (start is None and not backbone.startswith(PREFIX)):
        entry = first_version(backbone)
        try:
            _expect(entry, why_not(entry))
            fetch(entry)
            choices.choose("model.pretrained", True, "starts from ImageNet's weights")
            return _Start("imagenet")
        except OSError as error:
            if start:
                raise OSError(f"--start imagenet: {error}; put that file into {cached(entry).parent}") from None
            remarks.append(f"ImageNet's weights: {error}")
    if start is None:
        remarks.append("so it starts from scratch, and needs more iterations; --start FILE takes weights from a file")
    return _Start("none")


def _expect(entry: WeightsEnum, reason: str) -> None:
    """Raise OSError if there is a reason why these weights cannot be had."""
    if reason:
        raise OSError(f"they cannot be downloaded from {entry.url} ({reason})")


def _from_file(path: Path, kind: Kind) -> _Start:
    about, _ = weights.read_shapes(path)
    return _Start(kind, DetectorSettings.of_weights(about["settings"]), about["kind"] == "classifier")


def _choose_network(choices: _Choices, start: _Start, gpu: bool) -> None:
    if start.settings is not None:
        as_it_is = "as the weights to start from have it"
        sections = {"model": start.settings.model, "input": start.settings.input}
        if not start.classifier:
            sections |= {"rpn": start.settings.rpn, "head": start.settings.head}
        if start.settings.model.kind in DESCRIBE and choices.settings.model.kind in DESCRIBE:
            sections["captions"] = start.settings.captions
        excluded = {
            "captions": {"words", "minimum_count"},
            "model": {"kind", "pretrained", "frozen_stages"},
            "input": {"short_side", "long_side", "scales", "tile", "tile_overlap", "tile_whole"},
            "rpn": {"pre_nms", "post_nms", "train_pre_nms", "train_post_nms"},
            "head": {"unnamed", "max_detections", "svms", "measured_targets", "samples"},
        }
        for name, section in sections.items():
            values = section.model_dump(mode="json", exclude_defaults=True, exclude=excluded[name])
            for setting, value in values.items():
                choices.choose(f"{name}.{setting}", value, as_it_is)
        choices.choose("model.frozen_stages", 2, "the stem and stage 1 stay as they are: edges look alike everywhere")
    elif start.kind == "imagenet":
        reason = "a GPU computes it fast" if gpu else "on a CPU it takes a third of a ResNet-50's time"
        choices.choose("model.backbone", "resnet50" if gpu else "resnet18", reason)
        choices.choose("model.frozen_stages", 2, "the stem and stage 1 stay as they are: edges look alike everywhere")
    else:
        reason = "a GPU computes it fast" if gpu else "on a CPU it takes a third of a ResNet-50's time"
        choices.choose("model.backbone", "resnet50" if gpu else "resnet18", reason)
        if "batch" in architecture(choices.get("model.backbone", "")).norms:
            choices.choose("model.norm", "batch", "from scratch, norms learn their statistics")
        if choices.settings.model.neck == "fpn":
            choices.choose("model.fpn_norm", "batch", "from scratch, a pyramid learns better with norms")
            if not gpu:
                choices.choose("model.fpn_channels", 128, CHEAP)
                choices.choose("head.hidden", 512, CHEAP)


def _choose_size(choices: _Choices, training: Dataset, start: _Start, gpu: bool) -> None:
    sides = training.flat.sizes.min(axis=1)
    tile = choices.settings.input.tile
    shortest = float(torch.from_numpy(np.minimum(sides, tile) if tile else sides).float().median())
    name, side = _smallest_class(training, choices.settings.data.use_difficult)
    smallest, scratch, pretrained = SIDES["gpu" if gpu else "cpu"]
    largest = scratch if start.kind == "none" else pretrained
    ideal = SMALL_SIDE / side * shortest
    length = round(min(max(ideal, smallest), LARGEST_FACTOR * shortest, largest) / MULTIPLE) * MULTIPLE or MULTIPLE
    reason = f"half of the {name} are below {side:.0f} pixels, and below {side * length / shortest:.0f} when resized"
    if ideal > largest and length >= largest:
        reason += f"; more would take long on {'a GPU' if gpu else 'a CPU'}"
    length = choices.choose("input.short_side", length, reason)
    choices.choose("input.long_side", max(length, math.floor(length * ASPECT)), "in proportion, as 1333 is to 800")


def _smallest_class(data: Dataset, use_difficult: bool) -> tuple[str, float]:
    """The class whose objects are the smallest, and the median of their areas' square roots, pixels of the pictures."""
    objects = data.flat.objects[data.learnt(use_difficult)]
    roots, labels = area(torch.from_numpy(objects["box"].copy())).sqrt().numpy(), objects["label"]
    sides = {label: roots[labels == label] for label in np.unique(labels).tolist()}
    # A class of a few objects says little, unless there are no others.
    often = {label: each for label, each in sides.items() if len(each) >= OFTEN} or sides
    median, label = min((float(np.median(each)), label) for label, each in often.items())
    return data.class_names[label], median


def _choose_anchors(choices: _Choices, training: Dataset, start: _Start) -> None:
    settings = choices.settings
    if settings.rpn.anchor_sizes and start.settings is None:
        return  # given
    sides, strides = input_sides(training, settings.input, settings.data.use_difficult), settings.model.strides
    share = float(reach(sides[:: -(-len(sides) // LOOKED_AT)], settings.rpn, strides).mean())
    fitted = fit_anchors(sides, strides)
    knows = start.settings is not None and not start.classifier
    reached = f"of the objects at an IoU of {REACHED}"
    if share >= fitted.share - (LOSS if knows else 0):
        whose = "those of the weights" if knows else "the defaults"
        choices.choose("rpn.anchor_sizes", settings.rpn.sizes(strides), f"{whose}; they reach {share:.0%} {reached}")
        return
    choices.choose("rpn.anchor_sizes", fitted.sizes, f"reach {fitted.share:.0%} {reached}, and others {share:.0%}")
    if fitted.ratios != settings.rpn.anchor_ratios:
        choices.choose("rpn.anchor_ratios", fitted.ratios, "the objects' own")


def _choose_counts(choices: _Choices, splits: Sequence[Dataset], gpu: bool) -> None:
    objects = max(int(data.fullest().max(initial=0)) for data in splits)
    default = HeadSettings().max_detections
    enough = max(default, math.ceil(objects * ROOM / 50) * 50)
    choices.choose("head.max_detections", enough, f"the fullest picture has {count(objects, 'object')}")
    cheaply = not gpu
    needed = PROPOSALS_PER_OBJECT * objects
    if cheaply and objects <= FEW_OBJECTS:
        choices.choose("head.samples", 128, CHEAP)
    for name, cheap in (("train_pre_nms", 500), ("train_post_nms", 500), ("pre_nms", 500), ("post_nms", 300)):
        default = getattr(RPNSettings(), name)
        value = max(cheap if cheaply else default, math.ceil(needed / 100) * 100)
        if value != default:
            crowded = f"{PROPOSALS_PER_OBJECT} for each object of the fullest picture"
            choices.choose(f"rpn.{name}", value, CHEAP if value == cheap else crowded)


def _choose_augmentation(choices: _Choices, training: Dataset, remarks: list[str]) -> None:
    names = [name.casefold() for name in (training.words or training.class_names)]
    signs = [name for name in names if len(name) == 1 and name.isalnum()]
    sided = [name for name in names if SIDED & set(re.split(r"[^a-z]+", name))]
    if choices.get("model.kind", SUGGESTED[0]) in DESCRIBE:
        sided_word = f": {sided[0]}" if sided else ""
        choices.choose("augment.flip", 0.0, f"mirrored, what phrases say of sides would be wrong{sided_word}")
    elif signs and len(signs) > len(names) / 2:
        choices.choose("augment.flip", 0.0, "the classes are signs, and a mirrored 2 is not a 2")
    elif sided:
        choices.choose("augment.flip", 0.0, f"mirrored, {sided[0]} would be another class")
    if "flip_vertical" not in choices.given.get("augment", {}):
        remarks.append(
            "pictures are not turned upside down, as boxes do not show which way is up; for cells, or from"
            " above, add augment.flip_vertical = 0.5"
        )


def _choose_batch(choices: _Choices, device: torch.device, pictures: int) -> None:
    if device.type == "cpu":
        choices.choose("train.batch", min(2, pictures), "small batches make many steps, and a CPU gains little by more")
        return
    settings = choices.settings
    pixels = settings.input.short_side * settings.input.long_side
    free = free_memory(device) or 0
    batch = max((each for each in (2, 4, 8, 16) if each * pixels * BYTES_PER_PIXEL <= TIGHT * free), default=1)
    batch = min(batch, max(1, pictures // 8))
    reason = f"about {batch * pixels * BYTES_PER_PIXEL / GB:.0f} of {free / GB:.0f} GB of memory"
    choices.choose("train.batch", batch, reason)


def _choose_schedule(choices: _Choices, training: Dataset, start: _Start, minutes: float | None) -> None:
    batch = choices.settings.train.batch
    # Without pretrained weights 0.02 is good for batches of 2; what is to be kept of weights takes less.
    rate = {"none": 0.02 * math.sqrt(batch / 2), "imagenet": 0.02 * batch / STATED_BATCH}.get(
        start.kind, 0.01 * batch / STATED_BATCH
    )
    stated = float(f"{rate * STATED_BATCH / batch:.2g}")
    choices.choose("train.lr_for_16", stated, f"{stated * batch / STATED_BATCH:.3g} for batches of {batch}")
    choices.choose("train.schedule", "cosine", "ends in small steps, however long it is")
    if minutes is None:
        epochs, least, most = EPOCHS[start.kind]
        pictures = min(max(epochs * len(training), least), most)
        iterations = math.ceil(pictures / batch)
        reason = f"{pictures / len(training):,.0f} times each of {len(training):,} pictures"
    else:
        choices.choose("train.iterations", 10**6, "")  # only the last ones count
        seconds = seconds_of(choices.settings)
        iterations = max(1, round(minutes * 60 / seconds))
        reason = f"{minutes:g} min at {seconds:.2g} s each on this machine"
    iterations = choices.choose("train.iterations", iterations, reason)
    choices.choose("train.warmup", min(500, math.ceil(iterations / 10)), "a tenth of the iterations, 500 at most")
    if iterations >= TrainSettings().save_every:
        choices.choose("train.evaluate_every", math.ceil(iterations / 5), "the best of five are kept")
    else:
        choices.choose("train.evaluate_every", 0, "once, at the end")
    if iterations < 2 * TrainSettings().save_every:
        choices.choose("train.save_every", max(1, iterations // 5), "a run that is stopped loses little")


def seconds_of(settings: Settings) -> float:
    """That an iteration takes, measured on the largest batch; with the weights that it starts from."""
    run = Run(settings, Path("runs") / "nowhere", Console(quiet=True), dry=True)
    training, _ = learn_words(run, read_splits(settings.data, announce=False)[0], None)
    task = Detection(run, start_model(run, training, Detector), training, None, None)
    largest, usual = task.largest_batch()
    return try_batch(task, run, largest).iteration(usual, settings.data.workers)
