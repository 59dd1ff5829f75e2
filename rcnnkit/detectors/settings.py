"""The settings that are kept with the weights: what a detector is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import ValidationError, model_validator

from rcnnkit.backbones.architecture import NetworkSettings
from rcnnkit.backbones.classifier import ClassifierSettings
from rcnnkit.backbones.names import architecture
from rcnnkit.backbones.spatial_transformer import TransformerSettings
from rcnnkit.detectors.rcnn import RCNNSettings
from rcnnkit.heads.alignment import AlignmentSettings
from rcnnkit.heads.box_head import HeadSettings
from rcnnkit.heads.captioner import CaptionSettings
from rcnnkit.heads.region_pool import PoolSettings
from rcnnkit.images import Preprocessing
from rcnnkit.proposals.methods import ProposalSettings
from rcnnkit.proposals.rpn import RPNSettings
from rcnnkit.settings import Section, explain

# Where objects are many: suppression leaves several proposals of each.
PROPOSALS_PER_OBJECT = 3


class ModelSettings(PoolSettings, NetworkSettings):
    """[model]: which detector (or the classifier to start one from), and its parts."""

    renamed: ClassVar = {"detector": "kind"}

    kind: Literal["faster_rcnn", "fast_rcnn", "rcnn", "densecap", "captioner", "classifier"] = "faster_rcnn"
    """Faster R-CNN (arXiv:1506.01497), Fast R-CNN (arXiv:1504.08083), R-CNN (arXiv:1311.2524), DenseCap
    (arXiv:1511.07571), which describes what it finds, a captioner, which describes whole pictures (arXiv:1412.2306), or
    a classifier of whole pictures, from which each of them can start."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_are_the_backbones(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(name := values.get("backbone"), str):
            return values
        try:
            network = architecture(name)
        except (ImportError, ValueError) as error:
            raise ValueError(f'backbone = "{name}": {error}') from None
        # A captioner looks at the whole picture, of which a pyramid would make several maps to choose one from.
        necks = [neck for neck in network.necks if neck != "fpn" or values.get("kind") != "captioner"]
        return {"neck": [*necks, network.necks[0]][0], "norm": network.norms[0]} | values

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        network = architecture(self.backbone)
        for key, value, choices in (("neck", self.neck, network.necks), ("norm", self.norm, network.norms)):
            if value not in choices:
                known = " or ".join(f'"{choice}"' for choice in choices)
                raise ValueError(f'{key} = "{value}" does not go with {self.backbone}, which has {known}')
        if self.kind == "captioner" and self.neck == "fpn":
            without = [neck for neck in network.necks if neck != "fpn"]
            fix = f'set neck = "{without[0]}"' if without else "choose another backbone, such as resnet18"
            raise ValueError(f'neck = "fpn" does not go with kind = "captioner", which sees one map; {fix}')
        if self.pretrained:
            try:
                network.normalisation()
            except ValueError as error:
                raise ValueError(f"pretrained = true: {error}") from None
        if self.fpn_norm == "group" and self.fpn_channels % 32:
            raise ValueError(
                f'fpn_channels = {self.fpn_channels} cannot be cut into the 32 groups of fpn_norm = "group"'
            )
        by_region = network.last_stage if self.neck != "fpn" and self.kind not in ("rcnn", "classifier") else ""
        most = network.stages - bool(by_region)
        if self.frozen_stages > most:
            would = f"would freeze {by_region}, the per-region head" if by_region else "are more stages than there are"
            raise ValueError(f"frozen_stages = {self.frozen_stages} {would}; {most} at most with {self.backbone}")
        return self


class DetectorSettings(Section):
    """What is kept with the weights."""

    model: ModelSettings = ModelSettings()
    proposals: ProposalSettings = ProposalSettings()
    rpn: RPNSettings = RPNSettings()
    head: HeadSettings = HeadSettings()
    rcnn: RCNNSettings = RCNNSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    transformer: TransformerSettings = TransformerSettings()
    captions: CaptionSettings = CaptionSettings()
    alignment: AlignmentSettings = AlignmentSettings()
    input: Preprocessing = Preprocessing()

    @model_validator(mode="before")
    @classmethod
    def _pretrained_weights_bring_their_normalisation(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(pixels := values.get("input", {}), dict):
            return values
        try:
            model = ModelSettings.model_validate(values.get("model", {}))
        except ValidationError:  # which the section itself reports
            return values
        if not model.pretrained:
            return values
        mean, std = architecture(model.backbone).normalisation()
        return values | {"input": {"mean": mean, "std": std} | pixels}

    @model_validator(mode="after")
    def _pretrained_weights_keep_it(self) -> Self:
        if not self.model.pretrained:
            return self
        trained = dict(zip(("mean", "std"), architecture(self.model.backbone).normalisation(), strict=True))
        for name, value in trained.items():
            if getattr(self.input, name) != value:
                raise ValueError(
                    f"input.{name} = {list(getattr(self.input, name))}, but the ImageNet weights of"
                    f" {self.model.backbone} were trained with {list(value)}; leave it out, or set model.pretrained ="
                    " false"
                )
        return self

    @model_validator(mode="after")
    def _targets_can_be_measured(self) -> Self:
        if self.head.measured_targets and self.model.kind != "fast_rcnn":
            raise ValueError(
                'head.measured_targets = true goes with model.kind = "fast_rcnn" alone: the targets are measured'
                " on proposals made before training"
            )
        return self

    @model_validator(mode="after")
    def _boxes_have_a_gradient(self) -> Self:
        has_rpn = self.model.kind in ("faster_rcnn", "densecap")
        if self.rpn.box_gradient and not (has_rpn and self.model.pool == "roi_align"):
            raise ValueError(
                'rpn.box_gradient = true goes with model.kind = "faster_rcnn" or "densecap", and model.pool ='
                f' "roi_align", not "{self.model.kind}" and "{self.model.pool}"'
            )
        return self

    @model_validator(mode="after")
    def _phrases_are_wanted(self) -> Self:
        other = self.captions.first_changed(list(CaptionSettings.model_fields))
        if other and self.model.kind not in ("densecap", "captioner"):
            raise ValueError(f'captions.{other} is for model.kind = "densecap" or "captioner"; leave it out')
        if self.captions.neighbours and self.model.kind == "captioner":
            raise ValueError(
                'captions.neighbours = true is for model.kind = "densecap"; a captioner sees all of the picture'
            )
        return self

    @model_validator(mode="after")
    def _words_have_regions(self) -> Self:
        if not self.alignment.enabled:
            if other := self.alignment.first_changed(list(AlignmentSettings.model_fields)):
                raise ValueError(f"alignment.{other} is for alignment.enabled = true; leave it out")
            return self
        if self.model.kind in ("captioner", "classifier"):
            raise ValueError(
                f"alignment.enabled = true is for detectors, whose regions words can speak of, and not for model.kind ="
                f' "{self.model.kind}"; give another kind'
            )
        if self.input.tile:
            raise ValueError(
                f"input.tile = {self.input.tile} is not for alignment.enabled = true, which looks at whole pictures;"
                " leave it out"
            )
        return self

    @model_validator(mode="after")
    def _convolutions_have_a_pyramid(self) -> Self:
        if self.head.convs and self.model.neck != "fpn":
            raise ValueError(f'head.convs = {self.head.convs} goes with model.neck = "fpn", not "{self.model.neck}"')
        if self.head.convs and (self.head.fc6_rank or self.head.fc7_rank):
            raise ValueError(f"head.convs = {self.head.convs} has no layers to split; leave fc6_rank and fc7_rank at 0")
        return self

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        if self.model.kind != "rcnn":
            return self
        name, size, context = self.model.backbone, self.window_size, self.rcnn.context
        network = architecture(name)
        if self.rcnn.layer == "fc6" and not network.fc6:
            raise ValueError(f'rcnn.layer = "fc6" is not in {name}, which has "pool5" and "fc7"')
        if size < network.smallest:
            raise ValueError(f"rcnn.size = {size} is less than the {network.smallest} pixels that {name} can look at")
        if self.transformer.kind != "none" and self.rcnn.layer == "pool5" and self.rcnn.box_regression:
            raise ValueError(
                'rcnn.layer = "pool5" does not go with a transformer: boxes are regressed from pool5 of what is not'
                ' transformed; set rcnn.layer = "fc7", or rcnn.box_regression = false'
            )
        if 2 * context >= size:
            raise ValueError(f"rcnn.context = {context} leaves nothing of a window of rcnn.size = {size} pixels")
        return self

    @model_validator(mode="after")
    def _pictures_fit(self) -> Self:
        if self.model.kind != "classifier":
            return self
        name, crop = self.model.backbone, self.classifier.crop
        smallest = architecture(name).smallest
        if crop < smallest:
            raise ValueError(f"classifier.crop = {crop} is less than the {smallest} pixels that {name} can look at")
        if setting := self.input.first_changed(
            ("short_side", "long_side", "scales", "divisor", "tile", "test_flip", "test_scales")
        ):
            raise ValueError(f"input.{setting} is a detector's; a classifier has classifier.resize and classifier.crop")
        return self

    @model_validator(mode="after")
    def _tiles_hold_a_cell(self) -> Self:
        if self.input.test_scales and self.input.scales and self.model.kind == "fast_rcnn":
            raise ValueError(
                "input.test_scales is not for a Fast R-CNN with input.scales, at all of which it detects; leave one out"
            )
        tile, kind = self.input.tile, self.model.kind
        if not tile or kind == "classifier":
            return self
        if kind != "faster_rcnn" and tile <= self.proposals.min_side:
            raise ValueError(
                f"input.tile = {tile} is no larger than proposals.min_side = {self.proposals.min_side}, so that it"
                " holds no proposal; set a larger tile"
            )
        side, cell = min(self.input.resized((tile, tile))), self.model.strides[-1]
        if kind != "rcnn" and side < cell:
            raise ValueError(
                f"input.tile = {tile} is {side} pixels for the network, less than a cell of its coarsest map, {cell};"
                " set a larger tile, or a larger input.short_side"
            )
        return self

    @property
    def window_size(self) -> int:
        """Sides of what a whole network looks at, pixels: R-CNN's windows, or a classifier's pictures."""
        if self.model.kind == "classifier":
            return self.classifier.crop
        return self.rcnn.size or architecture(self.model.backbone).window

    def with_max_detections(self, count: int) -> Self:
        """The same with another `max_detections`, 0 for no limit, and with proposals enough for so many objects.

        Where there is no limit, the proposals are as many as before, and bound the detections.
        """
        least = PROPOSALS_PER_OBJECT * count
        rpn, proposals = self.rpn, self.proposals
        new: dict[str, dict[str, int]] = {
            "head": {"max_detections": count},
            "rcnn": {"max_detections": count},
            "rpn": {"pre_nms": max(rpn.pre_nms, least), "post_nms": max(rpn.post_nms, least)},
            "proposals": {"count": max(proposals.count, least)},
        }
        sections = {name: getattr(self, name).model_copy(update=values) for name, values in new.items()}
        return self.model_copy(update=sections)

    @classmethod
    def of_weights(cls, values: dict[str, Any]) -> DetectorSettings:
        """The settings that a weights file keeps. Nothing is to be fetched: every weight is in the file.

        Raises:
            ValueError: they are not settings of this rcnnkit.
            KeyError, TypeError: `values` are none at all.
        """
        return cls._checked(values | {"model": values["model"] | {"pretrained": False}})

    def with_input(self, values: Mapping[str, Any]) -> Self:
        """The same with other settings of [input]. Raises ValueError where there is no such setting or value."""
        known = {name: getattr(self, name).model_dump() for name in type(self).model_fields}
        return self._checked(known | {"input": known["input"] | values})

    @classmethod
    def _checked(cls, values: Mapping[str, Any]) -> Self:
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ValueError("; ".join(explain(e, cls) for e in error.errors())) from None
