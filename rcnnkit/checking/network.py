"""Objects as a detector sees them: their sizes at its input against its anchors and maps, and their number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from rcnnkit.checking.boxes import SAME
from rcnnkit.checking.findings import CROWDED, TINY, TOO_MANY, UNREACHED, Finding
from rcnnkit.checking.objects import Objects
from rcnnkit.detectors.detector import Detector, Limit
from rcnnkit.detectors.kinds import KINDS, build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.evaluation.crowding import most_in_a_tile
from rcnnkit.proposals.fit import REACHED, fit_anchors, reach
from rcnnkit.structures import Array
from rcnnkit.text import count

LOOKED_AT = 20_000  # objects that anchors are laid on, evenly from all
NOTED = 0.05  # share of the objects that is worth a word
ENOUGH = 10  # objects that are worth a warning
MANY = 0.3  # share of the objects that no anchor reaches, from which on it is a warning
OTHER_SIDES = (1.25, 1.5, 2.0, 3.0, 0.75, 0.5)  # times the input's size, that may suit the anchors more


def input_sides(objects: Objects, settings: DetectorSettings) -> Tensor:
    """(N, 2) widths and heights of the objects without crowds, pixels of the network's input."""
    unique, inverse = np.unique(objects.sizes, axis=0, return_inverse=True)
    enlarged = [settings.input.enlargement((height, width)) for height, width in unique.tolist()]
    factors = np.array(enlarged).reshape(-1, 2)[inverse.reshape(-1)][:, ::-1]
    plain = ~objects.crowd
    sides = (objects.boxes[:, 2:] - objects.boxes[:, :2]) * factors[objects.pictures]
    return torch.from_numpy(np.ascontiguousarray(sides[plain], dtype=np.float32))


def check_sizes(objects: Objects, settings: DetectorSettings, split: str, training: bool) -> Iterator[Finding]:
    """Objects that fall between the cells of the finest map; in training, those that no anchor reaches, too."""
    sides = input_sides(objects, settings)
    if not len(sides) or KINDS[settings.model.kind].network == "whole":
        return
    finest = settings.model.strides[0]
    places = np.flatnonzero(~objects.crowd)[(sides < finest).all(dim=1).numpy()].tolist()
    if places:
        kind = TINY.at("warning") if len(places) >= max(ENOUGH, NOTED * len(sides)) else TINY
        area = np.prod(objects.boxes[places, 2:] - objects.boxes[places, :2], axis=1)
        smallest = places[int(area.argmin())]
        message = (
            f"objects below {finest} × {finest} pixels at the network's input (input.short_side ="
            f" {settings.input.short_side}): {len(places):,} of {len(sides):,}; this is the smallest:"
            f" {objects.written(smallest)}{_in_tiles(objects, settings, len(places))}"
        )
        yield Finding(kind, split, objects.file(smallest), objects.name(smallest), message, objects.box(smallest))
    if training and KINDS[settings.model.kind].has_rpn:
        yield from _unreached(objects, sides, settings, split)


def _in_tiles(objects: Objects, settings: DetectorSettings, tiny: int) -> str:
    """What tiles would do for so many tiny objects, where pictures are shrunk; else nothing."""
    now, finest = settings.input, settings.model.strides[0]
    tile = now.short_side
    if now.tile or tile < settings.model.strides[-1]:
        return ""
    overlap = min(now.tile_overlap, tile // 5)
    tiled = settings.model_copy(update={"input": now.model_copy(update={"tile": tile, "tile_overlap": overlap})})
    tiny_tiled = int((input_sides(objects, tiled) < finest).all(dim=1).sum())
    if tiny_tiled >= tiny:
        return ""
    smaller = f" with input.tile_overlap = {overlap}" if overlap < now.tile_overlap and now.tile_overlap >= tile else ""
    return (
        f"; input.tile = {tile}{smaller} shows the pictures as large as they are, where {tiny_tiled:,} are below that"
    )


def _unreached(objects: Objects, sides: Tensor, settings: DetectorSettings, split: str) -> Iterator[Finding]:
    strides = settings.model.strides
    step = -(-len(sides) // LOOKED_AT)
    surely = reach(sides[::step], settings.rpn, strides)
    share = float(surely.mean())
    if share > 1 - NOTED:
        return
    worst = int(np.flatnonzero(~objects.crowd)[int(surely.argmin()) * step])
    width, height = sides[int(surely.argmin()) * step].tolist()
    better = fit_anchors(sides[::step], strides)
    advice = "other anchors would reach hardly more objects"
    if better.share > share + 0.01:
        advice = (
            f"rpn.anchor_sizes = {_plain(better.sizes)} with rpn.anchor_ratios = {_plain(better.ratios)} reach"
            f" {better.share:.0%}"
        )
    if side := _other_side(sides[::step], settings, share):
        advice += f"; or with these anchors {side}"
    message = (
        f"{1 - share:.0%} of {count(len(sides), 'object')} are reached by no anchor with an IoU of {REACHED:g} at the"
        f" network's input; this one is {width:.0f} × {height:.0f} pixels there; {advice}"
    )
    kind = UNREACHED.at("warning") if 1 - share >= MANY and len(sides) >= ENOUGH else UNREACHED
    yield Finding(kind, split, objects.file(worst), objects.name(worst), message, objects.box(worst))


def _other_side(sides: Tensor, settings: DetectorSettings, share: float) -> str:
    """The nearest input size at which the anchors reach nearly as many objects as at any, or nothing."""
    shares = {f: float(reach(sides * f, settings.rpn, settings.model.strides).mean()) for f in OTHER_SIDES}
    enough = max(shares.values()) - 0.02
    factor = next(f for f in OTHER_SIDES if shares[f] >= enough)
    if shares[factor] < share + NOTED:
        return ""
    short, long = (round(factor * side) for side in (settings.input.short_side, settings.input.long_side))
    if not short:  # pictures as they are
        return f"pictures {factor:g} times as large reach {shares[factor]:.0%}"
    return f"input.short_side = {short} and input.long_side = {long} reach {shares[factor]:.0%}"


def _plain(values: object) -> str:
    """Numbers as TOML has them, without needless zeros."""
    if isinstance(values, list):
        return f"[{', '.join(map(_plain, values))}]"
    return f"{values:g}"


def limits(settings: DetectorSettings, training: bool) -> list[Limit]:
    """How many objects of a picture the detector of these settings finds at most, setting by setting."""
    model = settings.model.model_copy(update={"pretrained": False})  # whose weights would be fetched
    with torch.device("meta"):
        detector = build(settings.model_copy(update={"model": model}), ["object"])
    return detector.limits(training) if isinstance(detector, Detector) else []


def check_numbers(objects: Objects, settings: DetectorSettings, split: str, training: bool) -> Iterator[Finding]:
    """Pictures that hold more objects than settings let through, and objects that suppression takes for one."""
    plain = ~objects.crowd
    numbers = np.bincount(objects.pictures[plain], minlength=len(objects.dataset))
    most_of_class = _most_of_a_class(objects)
    exceeded: dict[int, list[str]] = {}
    for limit in limits(settings, training):
        of = most_of_class if limit.of_class else numbers
        for picture in np.flatnonzero(of > limit.most).tolist() if limit.most else []:
            record = objects.dataset.records[picture]
            if settings.input.tile and most_in_a_tile(record, limit.of_class, settings.input) <= limit.most:
                continue
            exceeded.setdefault(picture, []).append(f"{limit.setting} = {limit.most}")
    for picture, passed in exceeded.items():
        message = f"it holds {count(int(numbers[picture]), 'object')}, more than {' and '.join(passed)}"
        yield Finding(TOO_MANY, split, str(objects.dataset.records[picture].path), "", message)
    yield from _crowded(objects, settings, split)


def _most_of_a_class(objects: Objects) -> Array:
    """(P,) the most objects of one class in each picture, without crowds."""
    counts = np.zeros(len(objects.dataset), np.int64)
    classes = max(1, len(objects.dataset.class_names))
    plain = ~objects.crowd
    keys, numbers = np.unique(objects.pictures[plain] * classes + objects.labels[plain], return_counts=True)
    np.maximum.at(counts, keys // classes, numbers)
    return counts


def _crowded(objects: Objects, settings: DetectorSettings, split: str) -> Iterator[Finding]:
    name, limit = ("head.nms_iou", settings.head.nms_iou)
    if settings.model.kind == "rcnn":
        name, limit = ("rcnn.nms_iou", settings.rcnn.nms_iou)
    first, second, overlap = objects.overlaps
    overlapping = (overlap > limit) & (overlap < SAME) & (objects.labels[first] == objects.labels[second])
    missed = np.unique(second[overlapping])
    if not len(missed):
        return
    kind = CROWDED.at("warning") if len(missed) >= max(ENOUGH, NOTED * len(objects)) else CROWDED
    i = int(second[overlapping][overlap[overlapping].argmax()])
    message = (
        f"objects that overlap another of their class by an IoU above {name} = {limit:g}, so that one of the two is not"
        f" found: {len(missed):,} of {len(objects):,}; this one overlaps the most, by {overlap[overlapping].max():.2f}"
    )
    yield Finding(kind, split, objects.file(i), objects.name(i), message, objects.box(i))
