"""The settings of an experiment: typed, with every default, read from a short TOML file."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rcnnkit.backbones.by_name import TRAITS, BackboneName, Neck
from rcnnkit.backbones.imagenet import imagenet_normalisation
from rcnnkit.backbones.resnet import Norm
from rcnnkit.backbones.window import Layer
from rcnnkit.files import check_regular
from rcnnkit.images import Preprocessing
from rcnnkit.terminal import visible

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Factor = Annotated[float, Field(gt=0)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]

# Where objects are many: suppression leaves several proposals of each.
PROPOSALS_PER_OBJECT = 3


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _changed(section: BaseModel, names: Sequence[str]) -> str | None:
    """The first of these settings that is not at its default."""
    defaults = type(section).model_fields
    return next((name for name in names if getattr(section, name) != defaults[name].default), None)


def _thresholds_ordered(section: Any) -> Any:
    if section.background_iou > section.foreground_iou:
        raise ValueError(
            f"background_iou = {section.background_iou} is above foreground_iou = {section.foreground_iou};"
            " what overlaps more than one must not be less than the other"
        )
    return section


class ModelSettings(Section):
    """[model]: the parts of the detector."""

    detector: Literal["faster_rcnn", "fast_rcnn", "rcnn", "classifier"] = "faster_rcnn"
    backbone: BackboneName = "resnet50"
    # "fpn" or "c4" (one map of stride 16, stage 4 per region) with a ResNet; "none" with the others: one map of stride
    # 16, fc6 and fc7 (or GoogLeNet's last inceptions) per region. VGGs have "none" or "fpn".
    neck: Neck = "fpn"
    norm: Norm = "frozen"  # from scratch: "batch" or, of ResNets, "group"; "none" where the network has none
    norm_eps: NotNegative = 1e-5  # of a ResNet's norms; torchvision's first Faster R-CNN on COCO was trained with 0
    stride_in_1x1: bool = False  # of a ResNet's bottlenecks: the paper's and Caffe's; torchvision's is in the 3×3
    pretrained: bool = False  # ImageNet weights, by torchvision, and with them their input.mean and input.std
    # From the first layers on; 2: stem and stage 1, or VGG16's conv1_1 to conv2_2, as the papers' code.
    frozen_stages: Annotated[int, Field(ge=0, le=5)] = 0
    fpn_channels: Positive = 256
    fpn_norm: Norm = "none"  # and of the head's convolutions, where head.convs
    pool: Literal["roi_align", "roi_pool"] = "roi_align"
    pool_size: Count = 0  # 0: 7 with an FPN or VGG, 14 with C4 or GoogLeNet, 6 with the others
    sampling_ratio: Count = 2  # 0: as many samples as a bin has cells
    aligned: bool = False

    @model_validator(mode="before")
    @classmethod
    def _defaults_are_the_backbones(cls, values: Any) -> Any:
        if isinstance(values, dict) and (traits := TRAITS.get(str(values.get("backbone")))):
            return {"neck": traits.necks[0], "norm": traits.norms[0]} | values
        return values

    @model_validator(mode="after")
    def _parts_fit(self) -> ModelSettings:
        traits = TRAITS[self.backbone]
        for key, value, choices in (("neck", self.neck, traits.necks), ("norm", self.norm, traits.norms)):
            if value not in choices:
                known = " or ".join(f'"{choice}"' for choice in choices)
                raise ValueError(f'{key} = "{value}" does not go with {self.backbone}, which has {known}')
        if self.pretrained:
            try:
                imagenet_normalisation(self.backbone)
            except ValueError as error:
                raise ValueError(f"pretrained = true: {error}") from None
        if self.fpn_norm == "group" and self.fpn_channels % 32:
            raise ValueError(
                f'fpn_channels = {self.fpn_channels} cannot be cut into the 32 groups of fpn_norm = "group"'
            )
        left = "stage 4" if self.neck == "c4" else ""
        if self.backbone in ("googlenet", "googlenet_lrn") and self.detector in ("fast_rcnn", "faster_rcnn"):
            left = "the last inceptions"
        if left and self.frozen_stages > 4:
            raise ValueError(f"frozen_stages = 5 would freeze {left}, the per-region head; 4 at most")
        return self


class RPNSettings(Section):
    """[rpn]: see `rcnnkit.proposals.rpn.RPN`."""

    anchor_sizes: list[list[Annotated[float, Field(gt=0)]]] = []  # a list per map; empty: 32 to 512
    anchor_ratios: list[Annotated[float, Field(gt=0)]] = Field(default=[0.5, 1.0, 2.0], min_length=1)
    hidden: Count = 0
    convs: Positive = 1
    pre_nms: Positive = 1000
    post_nms: Positive = 1000
    train_pre_nms: Positive = 2000
    train_post_nms: Positive = 2000
    nms_iou: Share = 0.7
    min_side: NotNegative = 1e-3
    foreground_iou: Share = 0.7
    background_iou: Share = 0.3
    samples: Positive = 256
    foreground_share: Share = 0.5
    beta: NotNegative = 1 / 9
    anchors: Literal["torchvision", "detectron2"] = "torchvision"  # whose rounding: see `RPN`

    _ordered = model_validator(mode="after")(_thresholds_ordered)


class HeadSettings(Section):
    """[head]: see `rcnnkit.heads.box_head.BoxHead`."""

    hidden: Count = 0  # of fc6 and fc7; 0: 1024 with an FPN, otherwise the network's own
    convs: Count = 0  # with an FPN: so many 3×3 convolutions and fc6 alone, in place of fc6 and fc7
    fc6_rank: Count = 0  # of their weights, where truncated SVD has split them in two; 0: whole
    fc7_rank: Count = 0
    class_agnostic: bool = False
    unnamed: Count = 0  # scores of no class, which count in the softmax alone: torchvision's "N/A" on COCO
    foreground_iou: Share = 0.5
    background_iou: Share = 0.5
    background_low: Share = 0.0  # what overlaps every object less is not learnt from; Fast R-CNN: 0.1
    samples: Positive = 512
    foreground_share: Share = 0.25
    delta_weights: tuple[Factor, Factor, Factor, Factor] = (10, 10, 5, 5)
    measured_targets: bool = False  # normalise box targets by their own mean and deviation, class by class, besides
    svms: bool = False  # score by the margins of SVMs, which `rcnnkit svms` trains, in place of the softmax
    beta: NotNegative = 1 / 9
    score_threshold: float = 0.05
    nms_iou: Share = 0.5
    max_detections: Count = 100  # of a picture; 0: all
    min_side: NotNegative = 1e-2

    _ordered = model_validator(mode="after")(_thresholds_ordered)

    @model_validator(mode="after")
    def _background_is_a_range(self) -> HeadSettings:
        if self.background_low and self.background_low >= self.background_iou:
            raise ValueError(
                f"background_low = {self.background_low} leaves nothing below background_iou = {self.background_iou}"
            )
        return self


class ProposalSettings(Section):
    """[proposals]: where the regions of R-CNN and Fast R-CNN come from. Faster R-CNN makes its own: see [rpn]."""

    # precomputed: whatever `folder` holds, and to detect with, what the caller gives
    method: Literal["selective_search", "sliding_windows", "precomputed"] = "selective_search"
    mode: Literal["single", "fast", "quality"] = "fast"  # of selective search
    min_side: Count = 20  # pixels; smaller boxes are dropped
    max_width: Count = 0  # wider pictures are made this wide for the search; 0: none. R-CNN's demo: 500
    seed: Count = 0
    folder: Path | None = None  # where they are kept between runs; by default proposals/ and the name of data.root
    train_count: Positive = 2000  # the best of a picture, to train with …
    count: Positive = 2000  # … and to detect with


class RCNNSettings(Section):
    """[rcnn]: see `rcnnkit.detectors.rcnn.RCNN`; the values are the paper's and its released code's."""

    size: Count = 0  # sides of a warped window, pixels; 0: 227 with alexnet and caffenet, 224 with the others
    context: Count = 16  # pixels of it, on each side, that show what is around the region
    square: bool = False  # windows keep their shape: the tightest square around the region
    layer: Layer = "fc7"  # whose features the SVMs see
    scores: Literal["svm", "softmax"] = "svm"
    box_regression: bool = True
    # fine-tuning
    fine_tune: bool = True
    samples: Positive = 128  # windows in a batch …
    foreground_share: Share = 0.25  # … and how many of them are objects
    foreground_iou: Share = 0.5
    classifier_lr: Factor = 10.0  # learning rate of the new layer, as a multiple
    # SVMs
    background_iou: Share = 0.3  # negatives of a class have less with all its objects
    c: Factor = 1e-3
    bias: Factor = 10.0  # the constant feature
    positive_weight: Factor = 2.0
    mining: bool = True  # False: the first picture's negatives are all
    add_above: float = -1.0001  # negatives that score more join the training set …
    evict_below: float = -1.2  # … and leave it when they score less after a training
    retrain_after: Count = 2000  # new negatives
    passes: Positive = 1  # over the pictures
    # box regression
    near_iou: Annotated[float, Field(ge=0, lt=1)] = 0.6  # windows with more are regressed to their object
    ridge: Factor = 1000.0
    # detecting
    batch: Positive = 128  # windows at a time
    score_threshold: float = -1.0
    nms_iou: Share = 0.3
    max_detections: Count = 100  # of a class, before suppression; 0: all


class ClassifierSettings(Section):
    """[classifier]: see `rcnnkit.backbones.classifier.Classifier`; the sizes are those of torchvision's presets."""

    resize: Positive = 256  # pixels of a picture's shorter side, before …
    crop: Positive = 224  # … its middle is cut out, so many pixels each way
    # Training cuts a random part out instead: its share of the picture's area and its width ÷ height, from and to.
    area: tuple[PositiveShare, PositiveShare] = (0.08, 1.0)
    ratio: tuple[Factor, Factor] = (3 / 4, 4 / 3)
    label_smoothing: Share = 0.0  # probability that is shared out among all classes, the right one too

    @model_validator(mode="after")
    def _sizes_fit(self) -> ClassifierSettings:
        for name in ("area", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} = {[low, high]} goes from large to small; write the smaller first")
        if self.crop > self.resize:
            raise ValueError(f"crop = {self.crop} is more than resize = {self.resize} leaves of a picture")
        return self


class FeatureSettings(Section):
    """[features]: where R-CNN keeps what the network makes of its windows; see `rcnnkit.training.features`."""

    folder: Path | None = None  # by default features/ in the run's folder
    disk_gb: NotNegative = 200.0  # what does not fit is computed again when it is needed; VOC2007 with fc7: 85
    memory_gb: NotNegative = 4.0  # of decoded pictures, 12 bytes a pixel; others are decoded each time


class DetectorSettings(Section):
    """What is kept with the weights."""

    model: ModelSettings = ModelSettings()
    proposals: ProposalSettings = ProposalSettings()
    rpn: RPNSettings = RPNSettings()
    head: HeadSettings = HeadSettings()
    rcnn: RCNNSettings = RCNNSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    input: Preprocessing = Preprocessing()

    @model_validator(mode="before")
    @classmethod
    def _pretrained_weights_bring_their_normalisation(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(given := values.get("input", {}), dict):
            return values
        try:
            model = ModelSettings.model_validate(values.get("model", {}))
        except ValidationError:  # which is told of by the section itself
            return values
        if not model.pretrained:
            return values
        mean, std = imagenet_normalisation(model.backbone)
        return values | {"input": {"mean": mean, "std": std} | given}

    @model_validator(mode="after")
    def _pretrained_weights_keep_it(self) -> DetectorSettings:
        if not self.model.pretrained:
            return self
        trained = dict(zip(("mean", "std"), imagenet_normalisation(self.model.backbone), strict=True))
        for name, value in trained.items():
            if getattr(self.input, name) != value:
                raise ValueError(
                    f"input.{name} = {list(getattr(self.input, name))}, but the ImageNet weights of"
                    f" {self.model.backbone} were trained with {list(value)}; leave it out, or set model.pretrained ="
                    " false"
                )
        return self

    @model_validator(mode="after")
    def _targets_can_be_measured(self) -> DetectorSettings:
        if self.head.measured_targets and self.model.detector != "fast_rcnn":
            raise ValueError(
                'head.measured_targets = true goes with model.detector = "fast_rcnn" alone: the targets are measured'
                " on proposals made before training"
            )
        return self

    @model_validator(mode="after")
    def _convolutions_have_a_pyramid(self) -> DetectorSettings:
        if self.head.convs and self.model.neck != "fpn":
            raise ValueError(f'head.convs = {self.head.convs} goes with model.neck = "fpn", not "{self.model.neck}"')
        if self.head.convs and (self.head.fc6_rank or self.head.fc7_rank):
            raise ValueError(f"head.convs = {self.head.convs} has no layers to split; leave fc6_rank and fc7_rank at 0")
        return self

    @model_validator(mode="after")
    def _windows_fit(self) -> DetectorSettings:
        if self.model.detector != "rcnn":
            return self
        name, size, context = self.model.backbone, self.window_size, self.rcnn.context
        traits = TRAITS[name]
        if self.rcnn.layer == "fc6" and not traits.fc6:
            raise ValueError(f'rcnn.layer = "fc6" is not in {name}, which has "pool5" and "fc7"')
        if size < traits.smallest:
            raise ValueError(f"rcnn.size = {size} is less than the {traits.smallest} pixels that {name} can look at")
        if 2 * context >= size:
            raise ValueError(f"rcnn.context = {context} leaves nothing of a window of rcnn.size = {size} pixels")
        return self

    @model_validator(mode="after")
    def _pictures_fit(self) -> DetectorSettings:
        if self.model.detector != "classifier":
            return self
        name, crop, smallest = self.model.backbone, self.classifier.crop, TRAITS[self.model.backbone].smallest
        if crop < smallest:
            raise ValueError(f"classifier.crop = {crop} is less than the {smallest} pixels that {name} can look at")
        if other := _changed(self.input, ("short_side", "long_side", "scales", "divisor")):
            raise ValueError(f"input.{other} is a detector's; a classifier has classifier.resize and classifier.crop")
        return self

    @property
    def window_size(self) -> int:
        """Sides of what a whole network looks at, pixels: R-CNN's windows, or a classifier's pictures."""
        if self.model.detector == "classifier":
            return self.classifier.crop
        return self.rcnn.size or TRAITS[self.model.backbone].window


def with_max_detections(settings: DetectorSettings, count: int) -> DetectorSettings:
    """The same with another `max_detections`, 0 for no limit, and with proposals enough for so many objects.

    Where there is no limit, the proposals are as many as before, and bound the detections.
    """
    least = PROPOSALS_PER_OBJECT * count
    rpn, proposals = settings.rpn, settings.proposals
    new: dict[str, dict[str, int]] = {
        "head": {"max_detections": count},
        "rcnn": {"max_detections": count},
        "rpn": {"pre_nms": max(rpn.pre_nms, least), "post_nms": max(rpn.post_nms, least)},
        "proposals": {"count": max(proposals.count, least)},
    }
    sections = {name: getattr(settings, name).model_copy(update=values) for name, values in new.items()}
    return settings.model_copy(update=sections)


class DataSettings(Section):
    """[data]: where the pictures and boxes are; paths are relative to the current folder."""

    root: Path  # a VOC folder, or what COCO's JSON files lie under
    # A list in ImageSets/Main, also of a folder below root ("VOC2007/trainval"), or a .json file below root; several
    # of them, with the same classes, are learnt from together.
    train: str | Annotated[list[str], Field(min_length=1)] = "train"
    val: str = "val"  # "" for none
    images: Path | None = None  # the pictures of COCO JSON files, where they are not found
    class_names: list[str] | None = None  # by default all names in the annotations
    use_difficult: bool = False  # learn from VOC's difficult objects too
    skip_bad: bool = False  # leave bad annotations and pictures out, and say how many
    workers: Annotated[int, Field(ge=-1)] = -1  # processes that read pictures; -1: one a core, at most 8


class AugmentSettings(Section):
    """[augment]: what training pictures go through; a share is a probability."""

    flip: Share = 0.5  # left to right
    flip_vertical: Share = 0.0
    crop: Share = 0.0  # a random crop that cuts no object
    brightness: NotNegative = 0.0
    contrast: NotNegative = 0.0
    saturation: NotNegative = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    scale: tuple[Factor, Factor] = (1.0, 1.0)  # of the input's sides: from, to

    @model_validator(mode="after")
    def _scale_ascends(self) -> AugmentSettings:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale = {list(self.scale)} goes from large to small; write the smaller first")
        return self


class TrainSettings(Section):
    """[train]: stochastic gradient descent."""

    iterations: Positive = 90_000
    batch: Positive = 16
    lr: Annotated[float, Field(gt=0)] = 0.02  # for 16 pictures; scaled with the batch
    momentum: Share = 0.9
    nesterov: bool = False
    weight_decay: NotNegative = 1e-4  # not on biases and norms
    schedule: Literal["steps", "cosine"] = "steps"
    steps: list[Share] = [2 / 3, 8 / 9]  # lr falls to a tenth at these shares of the iterations
    warmup: Count = 1000  # iterations of linear warm-up …
    warmup_from: Share = 1e-3  # … from this share of lr
    clip_norm: NotNegative = 10.0  # of all gradients together; 0: none
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"  # auto: bf16 where the machine has it
    device: str = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    rpn_only: bool = False  # of Faster R-CNN, the region proposal network alone; its head stays as it is
    freeze_backbone: bool = False  # all of it, its norms' statistics too
    log_every: Positive = 20  # iterations
    evaluate_every: Count = 5000  # iterations; 0: only at the end
    save_every: Positive = 1000  # iterations between checkpoints
    resume: Path | None = None  # a run's folder, or its last.safetensors
    init: Path | None = None  # weights to start from


class AlternatingSettings(Section):
    """[alternating]: Faster R-CNN in four steps; these stand in for [train]'s iterations, batch and lr, and by default
    are the paper's for VOC2007, which go with train.steps = [0.75].
    """

    enabled: bool = False
    rpn_iterations: Positive = 80_000  # of steps 1 and 3
    rpn_batch: Positive = 1
    rpn_lr: Factor = 0.016  # for 16 pictures
    head_iterations: Positive = 40_000  # of steps 2 and 4
    head_batch: Positive = 2
    head_lr: Factor = 0.008
    head_steps: list[Share] | None = None  # as train.steps, which it stands in for; by default the same


class Settings(DetectorSettings):
    """Everything that makes a run."""

    data: DataSettings
    features: FeatureSettings = FeatureSettings()
    augment: AugmentSettings = AugmentSettings()
    train: TrainSettings = TrainSettings()
    alternating: AlternatingSettings = AlternatingSettings()

    @model_validator(mode="after")
    def _can_be_trained(self) -> Settings:
        if self.head.svms:
            raise ValueError("head.svms = true comes after training: `rcnnkit svms` makes such weights")
        for name, wanted in (
            ("alternating.enabled", self.alternating.enabled),
            ("train.rpn_only", self.train.rpn_only),
        ):
            if wanted and self.model.detector != "faster_rcnn":
                raise ValueError(f'{name} = true is for model.detector = "faster_rcnn"')
        for name, given in (
            ("train.rpn_only", self.train.rpn_only),
            ("train.freeze_backbone", self.train.freeze_backbone),
        ):
            if given and self.alternating.enabled:
                raise ValueError(f"{name} = true is what steps of alternating training set themselves; leave it away")
        if self.train.freeze_backbone and self.model.detector == "rcnn":
            raise ValueError("train.freeze_backbone = true is not for R-CNN; rcnn.fine_tune = false leaves it as it is")
        if self.model.detector == "classifier":
            unused = {"data": ("images", "use_difficult"), "augment": ("crop", "scale")}
            for section, names in unused.items():
                if other := _changed(getattr(self, section), names):
                    raise ValueError(f"{section}.{other} is for pictures with boxes; a classifier does without")
        return self


class SettingsError(ValueError):
    """A setting that cannot be used; the text names the file, the key, the value and the fix."""


def read_settings(file: Path, overrides: Sequence[str] = ()) -> Settings:
    """Settings from a TOML file and `section.key=value` overrides, whose values are TOML too.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a regular file.
        PermissionError: it may not be read.
        SettingsError: broken TOML, an unknown key, a value of the wrong type or range.
    """
    check_regular(file)
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))  # Windows' editors write a byte-order mark
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: no such settings file") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8 text ({error}); save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"{file} is not TOML: {error}") from None
    for override in overrides:
        try:
            override.encode()
        except UnicodeEncodeError:  # a path of other bytes
            raise SettingsError(f"{override} is not UTF-8, as the run's settings.toml has to be; rename it") from None
        key, equals, text = override.partition("=")
        section, dot, name = key.strip().partition(".")
        if not equals or not dot or "." in name:
            raise SettingsError(f"{override!r} is not of the form section.key=value, such as train.lr=0.01")
        if not isinstance(values.setdefault(section, {}), dict):
            raise SettingsError(f"{file}: {section} must be a section, [{section}]")
        values[section][name] = _value(text)
    return check_settings(values, str(file))


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()  # a bare word is a string


def check_settings(values: dict[str, Any], source: str) -> Settings:
    """Settings from nested values; `source` is named in errors. Raises SettingsError."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("\n".join(visible(f"{source}: {_explain(e)}") for e in error.errors())) from None


def kept_settings(values: dict[str, Any]) -> DetectorSettings:
    """The settings that a weights file keeps. Nothing is to be fetched: every weight is in the file.

    Raises:
        ValueError: they are not settings of this rcnnkit.
        KeyError, TypeError: `values` are none at all.
    """
    try:
        return DetectorSettings.model_validate(values | {"model": values["model"] | {"pretrained": False}})
    except ValidationError as error:
        raise ValueError("; ".join(map(_explain, error.errors()))) from None


# What other libraries call a setting, where its own name is not close enough to be found.
ELSEWHERE = {
    "batch_size": "train.batch",
    "ims_per_batch": "train.batch",
    "learning_rate": "train.lr",
    "base_lr": "train.lr",
    "lr0": "train.lr",
    "max_iter": "train.iterations",
    "imgsz": "input.short_side",
    "image_size": "input.short_side",
    "min_size": "input.short_side",
    "max_size": "input.long_side",
    "classes": "data.class_names",
    "names": "data.class_names",
    "conf": "head.score_threshold",
    "nms_thresh": "head.nms_iou",
    "max_det": "head.max_detections",
    "amp": "train.precision",
    "weights": "train.init",
}
EPOCHS = ("epoch", "epochs", "max_epochs", "num_epochs", "total_epochs")


def _explain(error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        name = path[-1].lower()
        if name in EPOCHS:
            return f"{key} is not a setting; give train.iterations, which is epochs × training pictures / train.batch"
        close = ELSEWHERE.get(name) or _closest(key)
        return f"{key} is not a setting" + (f"; did you mean {close}?" if close else "")
    if error["type"] == "missing":
        return f"{key} is missing; give it in the file or as {key}=…"
    if error["type"] == "value_error":  # of our own validators, whose texts begin with the setting's name
        return ".".join([*path, str(error["ctx"]["error"])])
    said = f"{key} = {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
    if error["type"] == "literal_error":
        choices = re.findall("'(.*?)'", error["ctx"]["expected"])
        for match in difflib.get_close_matches(str(error["input"]).lower(), choices, n=1, cutoff=0.5):
            said += f"; did you mean {match}?"
    return said


def _closest(key: str) -> str | None:
    """The setting whose name is most like that of `key`: in its own section if there is one, else in any."""
    section, _, name = key.rpartition(".")
    for keys in ([k for k in _keys() if k.rpartition(".")[0] == section], _keys()):
        names = [k.rpartition(".")[2] for k in keys]
        for match in difflib.get_close_matches(name, names, n=1):
            return keys[names.index(match)]
    return None


def _keys() -> list[str]:
    keys = []
    for section, part in Settings.model_fields.items():
        assert isinstance(part.annotation, type)
        keys += [section, *(f"{section}.{name}" for name in part.annotation.model_fields)]
    return keys


def write_settings(settings: Settings, file: Path) -> None:
    """Every setting, resolved, as TOML that `read_settings` reads back to the same."""
    file.write_text(tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
