"""One picture's detections out of those of its tiles, mirrorings and scales: every object once.

A tile's own suppression has dealt with what it found. Here detections of different looks are compared, class by class.
A box that ends where its tile does, inside the picture, may be part of an object. A look that shows the whole of it is
preferred; where none does, as with an object that is larger than the overlap, the parts are put together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rcnnkit.boxes import covered, iou
from rcnnkit.structures import Array, Detections, Size
from rcnnkit.tiles import Part, ViewSettings

# How near to its tile's edge a box is taken for cut: networks place edges to within a share of an object's side.
NEAR_PIXELS, NEAR_SHARE = 2.0, 0.1

Links = dict[int, list[int]]


class Look(NamedTuple):
    """What was found in a part of a picture."""

    part: Part
    found: Detections  # in the pixels of the picture, on the CPU


def merge(looks: Sequence[Look], size: Size, settings: ViewSettings) -> Detections:
    """The objects that are in any of several looks at a picture, each once, best score first.

    An object has the best score of its detections. Its box is that of its best detection in a look that shows it whole.
    Where every look cuts it, the box is the smallest around its best detection in each part.

    Args:
        looks: one at least.
        size: (height, width) of the picture.
        settings: how detections are compared.
    """
    first = looks[0].found
    if len(looks) == 1:
        return first
    boxes, scores, labels = (
        torch.cat([getattr(look.found, name) for look in looks]) for name in ("boxes", "scores", "labels")
    )
    cut = torch.cat([_is_cut(look.found.boxes, look.part, size) for look in looks])
    links = _links(looks, cut, settings)
    order = scores.argsort(descending=True, stable=True).tolist()
    groups = _groups(order, cut.tolist(), links)
    parts = np.repeat(np.arange(len(looks)), [len(look.found) for look in looks])
    merged = _merged(boxes, scores, groups, cut, [looks[i].part for i in parts.tolist()])
    kept = torch.tensor(list(groups), dtype=torch.int64)
    best = merged[1].argsort(descending=True, stable=True)
    return replace(first, boxes=merged[0][best], scores=merged[1][best], labels=labels[kept][best])


def _is_cut(boxes: Tensor, part: Part, size: Size) -> Tensor:
    """(N,) bool: which boxes may go on beyond the part of a picture that they were found in."""
    x1, y1, x2, y2 = part
    inner = torch.tensor([x1 > 0, y1 > 0, x2 < size[1], y2 < size[0]])
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    near = (boxes - torch.tensor(part, dtype=boxes.dtype)).abs() <= NEAR_PIXELS + NEAR_SHARE * sides
    return (near & inner).any(dim=1)


def _links(looks: Sequence[Look], cut: Tensor, settings: ViewSettings) -> Links:
    """For each detection those of other looks that are of the same object."""
    links: Links = defaultdict(list)
    ends = np.cumsum([len(look.found) for look in looks])
    for i, j, zone in _pairs(looks):
        first, second = looks[i].found, looks[j].found
        start, second_start = int(ends[i]) - len(first), int(ends[j]) - len(second)
        same_label = first.labels[:, None] == second.labels
        if not same_label.any():
            continue
        first_cut, second_cut = cut[start : ends[i], None], cut[second_start : ends[j]]
        alike = _overlaps(first.boxes, second.boxes, first_cut, second_cut, zone, settings.merge)
        for a, b in (same_label & (alike >= settings.merge_threshold)).nonzero().tolist():
            links[start + a].append(second_start + b)
            links[second_start + b].append(start + a)
    return links


def _pairs(looks: Sequence[Look]) -> Iterator[tuple[int, int, Part]]:
    """Looks that found something and show some of the same pixels, and which part of the picture these are."""
    full = [i for i, look in enumerate(looks) if len(look.found)]
    parts = np.array([looks[i].part for i in full], dtype=np.int64).reshape(-1, 4)
    for place, i in enumerate(full):
        others: Array = parts[place + 1 :]
        low, high = np.maximum(parts[place, :2], others[:, :2]), np.minimum(parts[place, 2:], others[:, 2:])
        for k in np.flatnonzero((low < high).all(axis=1)).tolist():
            (x1, y1), (x2, y2) = low[k].tolist(), high[k].tolist()
            yield i, full[place + 1 + k], (x1, y1, x2, y2)


def _overlaps(first: Tensor, second: Tensor, first_cut: Tensor, second_cut: Tensor, zone: Part, by: str) -> Tensor:
    """(N, M): how much (N, 4) boxes and (M, 4) boxes overlap, from 0 to 1.

    Args:
        one_cut, other_cut: (N, 1) and (M,) bool, which of them their part of the picture cuts.
        zone: what both parts show.
        by: "iou" or "inside".
    """
    if by == "iou":
        low, high = (torch.tensor(ends * 2, dtype=first.dtype) for ends in (zone[:2], zone[2:]))
        shown = iou(first.maximum(low).minimum(high), second.maximum(low).minimum(high))
        return torch.where(first_cut | second_cut, shown, iou(first, second))
    # A part of an object lies in the object. An object that lies in a part of another one is a different object.
    of_first, of_second = covered(first, second), covered(second, first).T
    either = torch.maximum(of_first, of_second)
    return torch.where(first_cut & ~second_cut, of_first, torch.where(second_cut & ~first_cut, of_second, either))


def _groups(order: Sequence[int], cut: Sequence[bool], links: Links) -> dict[int, list[int]]:
    """Detections of one object each, with the one that stands for it as their key.

    First those that are whole, as by suppression: the best takes those that it is linked to. A cut one joins the best
    whole one that it is linked to, also through one that was taken. The others join each other.

    Args:
        order: all detections, best first.
    """
    owner: dict[int, int] = {}
    place = {index: rank for rank, index in enumerate(order)}
    for index in (i for i in order if not cut[i]):
        if index not in owner:
            owner[index] = index
            owner.update({peer: index for peer in links.get(index, ()) if not cut[peer] and peer not in owner})
    for index in (i for i in order if cut[i]):
        whole = [peer for peer in links.get(index, ()) if not cut[peer]]
        if whole:
            owner[index] = owner[min(whole, key=place.__getitem__)]
    for index in (i for i in order if cut[i]):
        if index in owner:
            continue
        owner[index] = index
        waiting = [index]
        while waiting:
            for peer in links.get(waiting.pop(), ()):
                if peer not in owner:
                    owner[peer] = index
                    waiting.append(peer)
    groups: dict[int, list[int]] = {}
    for index in order:
        groups.setdefault(owner[index], []).append(index)
    return groups


def _merged(
    boxes: Tensor, scores: Tensor, groups: dict[int, list[int]], cut: Tensor, parts: Sequence[Part]
) -> tuple[Tensor, Tensor]:
    """The boxes (G, 4) and scores (G,) of the groups; `parts` are of each detection."""
    merged_boxes, best = boxes[list(groups)].clone(), scores[list(groups)].clone()
    for place, (index, members) in enumerate(groups.items()):
        if len(members) == 1:
            continue
        best[place] = scores[members].max()
        if cut[index]:
            of_part: dict[Part, int] = {}  # the members come best first
            for member in members:
                of_part.setdefault(parts[member], member)
            around = boxes[list(of_part.values())]
            merged_boxes[place] = torch.cat([around[:, :2].amin(dim=0), around[:, 2:].amax(dim=0)])
    return merged_boxes, best
