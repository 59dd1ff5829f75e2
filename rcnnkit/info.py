"""What a weights file is, from its metadata and the shapes of its tensors alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Size

from rcnnkit.detectors.aligner import Aligner
from rcnnkit.detectors.describer import Describer
from rcnnkit.detectors.kinds import KINDS, title_of
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.weights import TRAINING, needs_into, read_shapes

STATISTICS = (
    "running_mean",
    "running_var",
    "num_batches_tracked",
    "target_mean",
    "target_std",
    "feature_mean",
    "feature_std",
)
SHOWN = 12  # classes; the rest is counted


def describe(path: Path | str) -> dict[str, Any]:
    """What `rcnnkit info --as-json` writes: a weights file, without its tensors.

    Raises:
        FileNotFoundError, ValueError: as `rcnnkit.weights.read`; what it says of itself is incomplete or unknown.
    """
    said, shapes = read_shapes(path)
    try:
        return _described(path, said, shapes)
    except KeyError as error:
        raise ValueError(f"{path} does not describe a detector (it has no {error}); save it again") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} does not describe a detector that this rcnnkit knows ({error}); upgrade rcnnkit, or save it again"
        ) from None


def _described(path: Path | str, about: dict[str, Any], shapes: dict[str, Size]) -> dict[str, Any]:
    _settings_of(about["settings"])
    counts = {name: shape.numel() for name, shape in shapes.items() if not name.endswith(STATISTICS)}
    return {
        "file": str(path),
        "bytes": Path(path).stat().st_size,
        "format": about["format"],
        "detector": about["kind"],
        "weights": sum(count for name, count in counts.items() if not name.startswith(TRAINING)),
        "can_be_resumed": any(name.startswith(TRAINING) for name in shapes),
        "classes": [
            {"id": i, "name": str(name)} for i, name in zip(about["category_ids"], about["class_names"], strict=True)
        ],
        "training": dict(about["training"]),
        "origin": dict(about.get("origin", {})),
        "settings": about["settings"],
    }


def summary(description: dict[str, Any]) -> list[str]:
    """What `describe` gives, in lines for people."""
    lines = {
        "file": f"{description['file']}, {description['bytes'] / 1e6:.1f} MB, format {description['format']}",
        "detector": f"{title_of(description['detector'])}, {description['weights'] / 1e6:.2f} M weights",
        **_settings(description["settings"], description["detector"]),
        "classes": _classes(description["classes"]),
        "training": ", ".join(f"{name} {_number(value)}" for name, value in description["training"].items()),
        **{"origin" if name == "source" else name: value for name, value in description["origin"].items()},
    }
    lines["training"] = lines["training"] or "nothing noted"
    if description["can_be_resumed"]:
        lines["training"] += "; can be resumed"
    width = max(map(len, lines))
    return [f"{name:<{width}}  {text}" for name, text in lines.items()]


def _settings_of(values: dict[str, Any]) -> DetectorSettings:
    return DetectorSettings.of_weights(values | {"model": {}} if needs_into(values) else values)


def _settings(values: dict[str, Any], detector: str) -> dict[str, str]:
    settings = _settings_of(values)
    model, pixels = settings.model, settings.input
    necks = {"fpn": f", FPN of {model.fpn_channels} channels", "c4": ", C4", "none": ""}
    norm = "" if model.norm == "none" else f", {model.norm} norm"
    colours = f"mean {_triple(pixels.mean)}, std {_triple(pixels.std)} (RGB, of 1)"
    kind = KINDS[model.kind if detector == Aligner.kind else detector]
    if detector == "classifier":
        size = f"shorter side {settings.classifier.resize}, of which the middle {settings.classifier.crop}"
    else:
        size = f"shorter side {pixels.short_side or 'as it is'}, longer side {pixels.long_side} at most"
        size += f", resized as by {pixels.resizing}"
    if needs_into(values):
        backbone = "built in Python, without settings; load it with rcnnkit.load(FILE, into=detector)"
    else:
        backbone = f"{model.backbone}{'' if kind.network == 'whole' else necks[model.neck]}{norm}"
    lines = {"backbone": backbone, "input": f"{size}; {colours}"}
    if detector == Aligner.kind:
        return {"regions": f"of a {kind.title}"} | lines | {"words": f"{len(settings.alignment.words or ()):,}"}
    describes = issubclass(kind.model, Describer)
    return lines | ({"words": f"{len(settings.captions.words or ()):,}"} if describes else {})


def _classes(classes: list[dict[str, Any]]) -> str:
    more = ", … {name} (id {id})".format(**classes[-1]) if len(classes) > SHOWN else ""
    few = ", ".join(each["name"] for each in classes[: SHOWN - 1 if more else SHOWN])
    return f"{len(classes)}: {few}{more}"


def _triple(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


def _number(value: Any) -> str:
    """As short as a number can be; what is none, as it is."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
