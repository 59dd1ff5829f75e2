"""Selective search against plain numpy written from the papers, and on real pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
import torch

from rcnnkit.boxes import iou
from rcnnkit.data.reading import read_data
from rcnnkit.images import read_picture
from rcnnkit.proposals import selective_search
from rcnnkit.proposals.recall import Coverage, coverage
from rcnnkit.proposals.selective_search import COLOURS, MODES, Hierarchy, Mode, hierarchy
from rcnnkit.structures import Proposals, Targets
from tests.levels import on_each_level

Array = np.ndarray


def picture(height: int = 40, width: int = 56, seed: int = 0) -> Array:
    """Coloured shapes and noise."""
    rng = np.random.default_rng(seed)
    canvas = np.full((height, width, 3), 90, np.uint8)
    for _ in range(6):
        x, y = (int(rng.integers(side)) for side in (width, height))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        cv2.circle(canvas, (x, y), int(rng.integers(4, 14)), colour, -1)
    return np.clip(canvas + rng.normal(0, 6, canvas.shape), 0, 255).astype(np.uint8)


def clear_picture(colour: str, size: int, seed: int = 0) -> Array:
    """Of colours none of whose values in a colour space is near the middle of two bytes, where roundings differ."""
    palette = np.random.default_rng(seed).integers(0, 256, (400, 1, 3)).astype(np.uint8)
    clear = np.all([abs(plane % 1 - 0.5) > 0.02 for plane in planes_of(palette, colour)], axis=0)
    palette = palette[clear].astype(int)
    image = picture(size, size, seed).astype(int)
    nearest = (abs(image[:, :, None] - palette).sum(axis=3)).argmin(axis=2)
    return palette[nearest].astype(np.uint8)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --- from the definition -----------------------------------------------------------------------------------------


def planes_of(image: Array, colour: str) -> list[Array]:
    """float64 planes in 0 … 255, before they are rounded to 8 bits."""
    rgb = image.astype(np.float64)
    r, g, b = np.moveaxis(rgb, 2, 0)
    if colour == "rgb":
        return [r, g, b]
    if colour in ("hsv", "hue"):
        high, low = rgb.max(2), rgb.min(2)
        span = np.where(high > low, high - low, 1)
        sixth = np.select([high == r, high == g], [(g - b) / span, (b - r) / span + 2], (r - g) / span + 4)
        hue = np.where(high > low, sixth % 6, 0) * 255 / 6
        saturation = 255 * (high - low) / np.where(high > 0, high, 1)
        return [hue] if colour == "hue" else [hue, saturation, high]
    if colour == "lab":
        linear = np.where(rgb / 255 <= 0.04045, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
        to_xyz = np.array(
            [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
        )
        t = linear @ (to_xyz / to_xyz.sum(axis=1, keepdims=True)).T
        x, y, z = np.moveaxis(np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116), 2, 0)
        return [(116 * y - 16) * 2.55, 500 * (x - y) + 128, 200 * (y - z) + 128]
    if colour == "rgi":
        total = rgb.sum(2)
        safe = np.where(total > 0, total, 1)
        return [np.where(total > 0, 255 * r / safe, 85), np.where(total > 0, 255 * g / safe, 85), total / 3]
    return [0.299 * r + 0.587 * g + 0.114 * b]


def filtered(plane: Array, rows: Array, columns: Array) -> Array:
    """Correlated with `rows` down and `columns` across, the border repeated; float32, summed in order."""
    radius = len(rows) // 2
    plane = np.pad(plane.astype(np.float32), radius, mode="edge")
    across = np.zeros((plane.shape[0], plane.shape[1] - 2 * radius), np.float32)
    for i, tap in enumerate(columns.astype(np.float32)):
        across += tap * plane[:, i : i + across.shape[1]]
    out = np.zeros((across.shape[0] - 2 * radius, across.shape[1]), np.float32)
    for i, tap in enumerate(rows.astype(np.float32)):
        out += tap * across[i : i + out.shape[0]]
    return out


def gaussian(sigma: float) -> Array:
    taps = np.exp(-0.5 * (np.arange(-4, 5) / sigma) ** 2)
    return taps / taps.sum()


def segments_by_definition(planes: list[Array], k: float) -> Array:
    """Felzenszwalb and Huttenlocher's segmentation: labels (H, W) in raster order; ties in our order."""
    blurred = np.stack([filtered(p, gaussian(0.8), gaussian(0.8)) for p in planes])
    height, width = planes[0].shape
    edges = []
    for y in range(height):
        for dy, dx in ((0, 1), (1, 0), (1, 1), (-1, 1)):
            for x in range(width - dx if 0 <= y + dy < height else 0):
                difference = blurred[:, y, x] - blurred[:, y + dy, x + dx]
                square = np.float32(0)
                for d in difference:
                    square += d * d
                square *= np.float32(3 / len(planes))  # one plane stands for three equal ones
                # lengths are distinguished to 0.1 %: the floating-point bits of square + 2^-14, cut to 9 of mantissa
                bits = int((square + np.float32(2**-14)).view(np.uint32)) >> 14
                middle = np.array([bits << 14 | 1 << 13], np.uint32).view(np.float32)[0]
                length = np.sqrt(middle - np.float32(2**-14)) if bits > 113 << 9 else np.float32(0)
                edges.append((bits, length, y * width + x, (y + dy) * width + x + dx))
    edges.sort(key=lambda edge: edge[0])
    tree = list(range(height * width))
    members = {i: [i] for i in tree}
    limit = dict.fromkeys(tree, np.float32(k))

    def join(a: int, b: int) -> int:
        a, b = (a, b) if len(members[a]) >= len(members[b]) else (b, a)
        for i in members[b]:
            tree[i] = a
        members[a] += members.pop(b)
        return a

    for _, length, p, q in edges:
        a, b = tree[p], tree[q]
        if a != b and length <= limit[a] and length <= limit[b]:
            root = join(a, b)
            limit[root] = length + np.float32(k) / np.float32(len(members[root]))
    for _, _, p, q in edges:
        a, b = tree[p], tree[q]
        if a != b and min(len(members[a]), len(members[b])) < k:
            join(a, b)
    number: dict[int, int] = {}
    return np.array([number.setdefault(root, len(number)) for root in tree]).reshape(height, width)


def histograms_by_definition(planes: list[Array], mask: Array) -> tuple[Array, Array]:
    """Colour and texture of the pixels in a mask, each summing to 1."""
    colour = np.concatenate([np.bincount(25 * p[mask].astype(int) // 256, minlength=25) for p in planes])
    smooth = gaussian(1.0)
    slope = np.arange(-4, 5) * smooth
    texture = []
    for plane in planes:
        dx, dy = filtered(plane, smooth, slope), filtered(plane, slope, smooth)
        for angle in range(0, 360, 45):
            response = np.cos(np.radians(angle)) * dx + np.sin(np.radians(angle)) * dy
            bins = np.minimum(np.maximum(response[mask], 0) * 10 / 102, 9).astype(int)
            texture.append(np.bincount(bins, minlength=10))
    return colour / colour.sum(), np.concatenate(texture) / np.sum(texture)


def similarity_by_definition(planes: list[Array], a: Array, b: Array, letters: str) -> float:
    """Of two regions, given as masks."""
    (colour_a, texture_a), (colour_b, texture_b) = (histograms_by_definition(planes, m) for m in (a, b))
    ys, xs = np.nonzero(a | b)
    around = (np.ptp(ys) + 1) * (np.ptp(xs) + 1)
    parts = {
        "C": np.minimum(colour_a, colour_b).sum(),
        "T": np.minimum(texture_a, texture_b).sum(),
        "S": 1 - (a.sum() + b.sum()) / a.size,
        "F": 1 - (around - a.sum() - b.sum()) / a.size,
    }
    return float(sum(parts[letter] for letter in letters))


def masks(found: Hierarchy) -> list[Array]:
    """The pixels of every region."""
    labels = found.labels.numpy()
    regions = [labels == i for i in range(labels.max() + 1)]
    for a, b in found.merges.tolist():
        regions.append(regions[a] | regions[b])
    return regions


def touch(a: Array, b: Array) -> bool:
    """Whether two regions share a side of a pixel."""
    down, across = (a[1:] & b[:-1]) | (b[1:] & a[:-1]), (a[:, 1:] & b[:, :-1]) | (b[:, 1:] & a[:, :-1])
    return bool(down.any() or across.any())


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("k", [20, 60])
def test_the_segmentation_is_the_papers(colour: str, k: float) -> None:
    image = clear_picture(colour, 40)
    planes = [np.floor(p + 0.5).clip(0, 255).astype(np.uint8) for p in planes_of(image, colour)]
    expected = segments_by_definition(planes, k)
    labels = hierarchy(image, colour, k).labels.numpy()
    assert 1 < labels.max() + 1 < labels.size / k + 1
    assert (labels == expected).all()


@pytest.mark.parametrize("letters", ["CTSF", "TSF", "C", "T", "S", "F"])
@pytest.mark.parametrize("colour", ["lab", "intensity"])
def test_the_most_similar_neighbours_are_merged(colour: str, letters: str) -> None:
    image = clear_picture(colour, 48, seed=3)
    planes = [np.floor(p + 0.5).clip(0, 255).astype(np.uint8) for p in planes_of(image, colour)]
    found = hierarchy(image, colour, 30, letters)
    regions = masks(found)
    count = len(found.merges) + 1
    assert count > 8
    living = set(range(count))
    for i, ((a, b), similarity) in enumerate(zip(found.merges.tolist(), found.similarities.tolist(), strict=True)):
        assert {a, b} <= living
        assert similarity == pytest.approx(similarity_by_definition(planes, regions[a], regions[b], letters), abs=2e-3)
        pairs = [(p, q) for p in living for q in living if p < q and touch(regions[p], regions[q])]
        best = max(similarity_by_definition(planes, regions[p], regions[q], letters) for p, q in pairs)
        assert similarity >= best - 2e-3  # of fixed-point histograms
        living = living - {a, b} | {count + i}


def test_regions_of_a_hierarchy_nest() -> None:
    found = hierarchy(picture(90, 120), "hsv", 50)
    count = len(found.merges) + 1
    assert len(found.boxes) == len(found.sizes) == 2 * count - 1
    assert found.boxes[-1].tolist() == [0, 0, 120, 90]
    assert int(found.sizes[-1]) == 120 * 90 == int(found.sizes[:count].sum())
    for i, mask in enumerate(masks(found)):
        ys, xs = np.nonzero(mask)
        assert found.boxes[i].tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert int(found.sizes[i]) == mask.sum() >= 50


# --- proposals -----------------------------------------------------------------------------------------------------


def test_every_box_once_inside_the_picture_and_in_order() -> None:
    image = picture(150, 200)
    found = selective_search(image)
    boxes = found.boxes
    assert len({tuple(box) for box in boxes.tolist()}) == len(boxes) > 50
    assert [0, 0, 200, 150] in boxes.tolist()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes[:, 2] <= 200).all()
    assert (boxes[:, 3] <= 150).all()
    assert all(a >= b for a, b in pairwise(found.scores.tolist()))
    every = {tuple(b) for colour, k, s in MODES["fast"] for b in hierarchy(image, colour, k, s).boxes.tolist()}
    assert {tuple(box) for box in boxes.tolist()} == every


def test_large_regions_tend_to_come_first() -> None:
    areas = []
    for seed in range(20):
        boxes = selective_search(picture(150, 200, seed), seed=seed).boxes
        areas.append([float((b[:, 2:] - b[:, :2]).prod(1).mean()) for b in boxes.tensor_split(2)])
    first, second = np.mean(areas, axis=0)
    assert first > 1.5 * second


def test_the_same_seed_gives_the_same_boxes_on_any_number_of_threads() -> None:
    image = picture(150, 200)
    for mode in ("fast", "quality"):
        with threads(1):
            expected = selective_search(image, mode, seed=7)
        for count in (2, 3, 5):
            with threads(count):
                found = selective_search(image, mode, seed=7)
            assert found.boxes.equal(expected.boxes)
            assert found.scores.equal(expected.scores)
    other = selective_search(image, "quality", seed=8)
    assert not other.boxes.equal(expected.boxes)
    assert {tuple(b) for b in other.boxes.tolist()} == {tuple(b) for b in expected.boxes.tolist()}


def test_every_instruction_set_gives_the_same_boxes() -> None:
    code = (
        "import hashlib, numpy as np; from rcnnkit.proposals import selective_search\n"
        "image = np.random.default_rng(0).integers(0, 256, (12, 17, 3)).astype(np.uint8).repeat(9, 0).repeat(9, 1)\n"
        "found = selective_search(image, 'quality')\n"
        "print(len(found), hashlib.sha256(found.boxes.numpy().tobytes() + found.scores.numpy().tobytes()).hexdigest())"
    )
    assert len({*on_each_level(code).values()}) == 1


def test_small_boxes_are_left_out() -> None:
    image = picture(150, 200)
    every = selective_search(image)
    sides = (every.boxes[:, 2:] - every.boxes[:, :2]).min(dim=1).values
    assert selective_search(image, min_side=20).boxes.equal(every.boxes[sides >= 20])
    assert (sides < 20).any()
    assert not len(selective_search(image, min_side=151))


def test_a_resized_picture_gets_its_boxes_back() -> None:
    image = picture(150, 200)
    small = cv2.resize(image, (100, 75), interpolation=cv2.INTER_AREA)
    found = selective_search(image, width=100)
    assert found.boxes.equal(selective_search(small).boxes * 2)
    assert selective_search(image, width=200).boxes.equal(selective_search(image).boxes)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 2), (3, 1)])
def test_pictures_without_room(size: tuple[int, int]) -> None:
    image = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)
    for mode in get_args(Mode):
        found = selective_search(image, mode)
        assert [0, 0, size[1], size[0]] in found.boxes.tolist()


def test_a_uniform_picture_is_one_region() -> None:
    found = selective_search(np.full((60, 80, 3), 17, np.uint8), "quality")
    assert found.boxes.tolist() == [[0, 0, 80, 60]]
    one = hierarchy(np.zeros((60, 80, 3), np.uint8))
    assert (len(one.merges), one.labels.max().item(), one.sizes.tolist()) == (0, 0, [4800])


def test_pictures_of_other_kinds() -> None:
    image = picture(60, 80)
    expected = selective_search(image).boxes
    assert selective_search(torch.from_numpy(image).permute(2, 0, 1)).boxes.equal(expected)
    assert selective_search(np.dstack([image, image[:, :, 0]])).boxes.equal(expected)  # RGBA
    assert selective_search((image / 255).astype(np.float32)).boxes.equal(expected)
    assert selective_search(np.asfortranarray(image)).boxes.equal(expected)
    assert selective_search(np.repeat(image, 2, axis=1)[:, ::2]).boxes.equal(expected)
    grey = image[:, :, 1]
    assert selective_search(grey).boxes.equal(selective_search(np.dstack([grey] * 3)).boxes)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\].*divide by 255"):
        selective_search(image.astype(np.float32))


def test_a_very_wide_picture() -> None:
    found = selective_search(np.tile(picture(40, 200), (1, 40, 1)))
    assert found.boxes[:, 2].max() == 8000
    with pytest.raises(ValueError, match=r"70000 is too large for selective search; resize it, or pass width=500"):
        selective_search(np.zeros((2, 70000, 3), np.uint8))
    assert selective_search(np.zeros((2, 70000, 3), np.uint8), width=500).boxes.tolist() == [[0, 0, 70000, 2]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mode": "slow"}, "mode = 'slow' is not one of single, fast, quality"),
        ({"min_side": -1}, "min_side = -1"),
        ({"width": -500}, "width = -500"),
        ({"seed": 2**63}, "seed = 9223372036854775808"),
        ({"strategies": []}, "holds none"),
        ({"strategies": [("hsv", 100, "C"), ("hsv", 100.0, "C")]}, "or one twice"),
        ({"strategies": [("yuv", 100, "C")]}, "colour = 'yuv' is not one of rgb, hsv"),
        ({"strategies": [("hsv", 0, "C")]}, "k = 0 must be above 0"),
        ({"strategies": [("hsv", "100", "C")]}, "k = '100' is not a number"),
        ({"strategies": ("hsv", 100, "C")}, "is one strategy; give a list"),
        ({"min_side": 20.5}, "min_side = 20.5 must be a whole number"),
        ({"width": 10**6}, "width = 1000000 must be a whole number from 0 to 65535"),
        ({"strategies": [("hsv", 100, "CX")]}, "similarities = 'CX' must be letters"),
        ({"strategies": [("hsv", 100, "")]}, "similarities = '' must be letters"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        selective_search(picture(), **arguments)


# --- real pictures -------------------------------------------------------------------------------------------------


def covered(
    folder: Path, width: int, *, mirrored: bool = False, top: int | None = None, seed: int = 0, every: int = 1
) -> Coverage:
    """How COCO's training pictures that have objects are covered, at that width; all of them or each third or so."""
    data = read_data(folder, "annotations/instances_train2017.json")
    proposals, targets = [], []
    for record in data.records[::every]:
        if not len(record.targets):
            continue
        image = read_picture(record.path, record.size)
        height = round(image.shape[0] * width / image.shape[1])
        shrinks = width < image.shape[1]
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        factor = torch.tensor([width / record.size[1], height / record.size[0]] * 2)
        found = selective_search(image[:, ::-1] if mirrored else image, seed=seed)
        boxes = found.boxes
        if mirrored:
            boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
        proposals.append(Proposals(boxes[:top], found.scores[:top]))
        targets.append(Targets(record.targets.boxes * factor, record.targets.labels))
    return coverage(proposals, targets, data.class_names, counts=[top or 100_000])


@pytest.mark.slow
def test_recall_on_coco(coco256: Path) -> None:
    """The floors are OpenCV's figures plus what more and smaller start regions bring, less a seed's spread."""
    found = covered(coco256, 500, top=2000)
    assert len(found.areas) == 929
    assert found.recall(2000) >= 0.725
    assert found.recall(2000, min_area=32 * 32) >= 0.95
    assert found.mabo(2000) >= 0.705


def test_a_mirrored_picture_is_covered_alike(coco256: Path) -> None:
    plain, mirrored = (covered(coco256, 250, mirrored=each, every=3) for each in (False, True))
    assert plain.recall(100_000) > 0.5
    assert mirrored.recall(100_000) == pytest.approx(plain.recall(100_000), abs=0.01)


def test_the_authors_boxes_are_covered(selective_search_reference: Path) -> None:
    for name in ("000004", "001551"):
        stored = torch.from_numpy(np.load(selective_search_reference / f"{name}.npy", allow_pickle=False))
        stored[:, 2:] += 1  # they end at the last pixel
        stored = stored[((stored[:, 2:] - stored[:, :2]) >= 20).all(dim=1)]
        assert len(stored) > 1000
        found = selective_search(selective_search_reference / f"{name}.jpg")
        assert iou(stored, found.boxes).max(dim=1).values.mean() >= 0.80
