"""Augmentations of one's own: a pipeline that albumentations wrote into a file."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from rcnnkit.files import check_regular

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would look for a newer version on the network
import albumentations as A
from albumentations.core.serialization import from_dict

CONTAINERS = ("Compose", "Sequential", "OneOf", "OneOrOther", "SomeOf", "RandomOrder", "SelectiveChannelTransform")
OWN_FILES = ("TextImage",)  # transforms that open files which their arguments name


def read_pipeline(file: Path) -> list[A.BasicTransform]:
    """The transforms in a file of `albumentations.save`, YAML or JSON.

    Nothing in the file is run: names are looked up among albumentations' own transforms, and the rest are their
    arguments. How boxes are given is up to the caller, so what the file says of that is left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no such file, names something that is no transform of albumentations, or gives a transform
            arguments that it does not take.
    """
    check_regular(file)
    try:
        text = file.read_text(encoding="utf-8")
        values = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except FileNotFoundError:
        raise FileNotFoundError(f"augment.pipeline: there is no {file}") from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read as a pipeline ({error}); write it with albumentations.save") from None
    top = values.get("transform") if isinstance(values, dict) else None
    if not isinstance(top, dict):
        raise ValueError(f'{file} has no "transform"; write it with albumentations.save')
    for described in _described(top, file):
        _check_name(described, file)
    steps = top.get("transforms", []) if _name(top) == "Compose" else [top]
    transforms = []
    for number, step in enumerate(steps, start=1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # albumentations warns of arguments that it does not know
                transforms.append(from_dict({"transform": step}))
        except (TypeError, ValueError, KeyError, Warning) as error:
            said = " ".join(str(error).split())
            raise ValueError(f"{file}: transform {number}, {_name(step)}, cannot be made ({said})") from None
    return transforms


def _described(values: Any, file: Path) -> Iterator[dict[str, Any]]:
    """Every transform in a description, also those within others."""
    if not isinstance(values, dict) or not isinstance(values.get("__class_fullname__"), str):
        raise ValueError(f"{file} lists something that is not a transform; write it with albumentations.save")
    yield values
    if "transforms" in values:
        if not isinstance(values["transforms"], list):
            raise ValueError(
                f"{file}: the transforms of {_name(values)} are not a list; write it with albumentations.save"
            )
        for each in values["transforms"]:
            yield from _described(each, file)


def _name(values: dict[str, Any]) -> str:
    return str(values["__class_fullname__"]).rpartition(".")[2]


def _check_name(values: dict[str, Any], file: Path) -> None:
    full, name = values["__class_fullname__"], _name(values)
    kind = getattr(A, name, None)
    # A plain name, or one within albumentations: others are looked up among what is registered, which anybody can be.
    own = full == name or full.startswith("albumentations.")
    is_transform = isinstance(kind, type) and (issubclass(kind, A.BasicTransform) or name in CONTAINERS)
    if not own or not is_transform or name in OWN_FILES or name == "Lambda":
        raise ValueError(f"{file} names {full}, which is not a transform of albumentations that a file may have")
