"""What every section of the settings is made of."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Below1 = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]
Factor = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """The settings of one part. They stand beside its class, which takes them as an argument."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    renamed: ClassVar[Mapping[str, str]] = {}  # settings by their names in older files

    @model_validator(mode="before")
    @classmethod
    def _old_names_are_taken(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for old, name in cls.renamed.items():
            if old in values and name in values:
                raise ValueError(f"{name} and {old}, its old name, are both given; keep {name}")
        return {cls.renamed.get(name, name): value for name, value in values.items()}

    def first_changed(self, names: Sequence[str]) -> str | None:
        """The first of these settings that is not at its default."""
        fields = type(self).model_fields
        return next((name for name in names if getattr(self, name) != fields[name].default), None)


class MatchSettings(Section):
    """Which boxes stand for an object, and which for background; see `match`."""

    foreground_iou: Share
    """A box whose IoU with an object is at least this stands for that object."""
    background_iou: Share
    """A box whose IoU with every object is below this is background. What lies between the two is not learnt from."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.background_iou > self.foreground_iou:
            raise ValueError(
                f"background_iou = {self.background_iou} is above foreground_iou = {self.foreground_iou};"
                " what overlaps more than one must not be less than the other"
            )
        return self


# What other libraries call a setting, where its own name is not close enough to be found.
ELSEWHERE = {
    "batch_size": "train.batch",
    "ims_per_batch": "train.batch",
    "learning_rate": "train.lr_for_16",
    "base_lr": "train.lr_for_16",
    "lr0": "train.lr_for_16",
    "max_iter": "train.iterations",
    "epoch": "train.epochs",
    "max_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "total_epochs": "train.epochs",
    "ema_decay": "train.ema",
    "oversample_thr": "train.repeat_threshold",
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


def closest_name(name: str, names: Sequence[str], cutoff: float = 0.6) -> str | None:
    """The one of `names` that `name` is most like, capitals or not, if one is as like as `cutoff`, 0 to 1."""
    lower = {each.lower(): each for each in names}
    return next((lower[each] for each in difflib.get_close_matches(name.lower(), lower, n=1, cutoff=cutoff)), None)


def explain(error: Any, sections: type[BaseModel]) -> str:
    """One of pydantic's errors in words: the setting by its name, its value, and what it may be.

    Args:
        error: an entry of `ValidationError.errors()`.
        sections: the model with all sections, whose settings are suggested in place of unknown ones.
    """
    path = [str(part) for part in error["loc"]]
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        name = path[-1].lower()
        close = ELSEWHERE.get(name) or _closest_setting(key, sections)
        return f"{key} is not a setting" + (f"; did you mean {close}?" if close else "")
    if error["type"] == "missing":
        return f"{key} is missing; give it in the file or as {key}=…"
    if error["type"] == "value_error":  # of our own validators, whose texts begin with the setting's name
        return ".".join([*path, str(error["ctx"]["error"])])
    message = f"{key} = {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
    if error["type"] == "literal_error":
        close = closest_name(str(error["input"]), re.findall("'(.*?)'", error["ctx"]["expected"]), cutoff=0.5)
        message += f"; did you mean {close}?" if close else ""
    return message


def _closest_setting(key: str, sections: type[BaseModel]) -> str | None:
    """The setting whose name or old name is most like that of `key`: in its own section first, then in any."""
    section, _, name = key.rpartition(".")
    candidates: list[tuple[str, str, str]] = []  # section, name or old name, and what it is called
    for title, field in sections.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, Section)
        candidates.append(("", title, title))
        called = {alias: alias for alias in field.annotation.model_fields} | dict(field.annotation.renamed)
        candidates += [(title, alias, f"{title}.{new}") for alias, new in called.items()]
    for keys in ([candidate for candidate in candidates if candidate[0] == section], candidates):
        names = {alias: new for _, alias, new in reversed(keys)}
        if close := closest_name(name, list(names)):
            return names[close]
    return None
