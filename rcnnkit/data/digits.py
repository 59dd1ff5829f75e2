"""The embedded digits: real handwritten digits in cluttered scenes, written as VOC and as COCO data.

The objects are scikit-learn's `load_digits`: 1,797 scans of 8 x 8 pixels, 16 grey levels (Alpaydin and
Kaynak, "Optical Recognition of Handwritten Digits", UCI 1998). They come with scikit-learn, so that a
detector can be trained and tried without any download.

No scan is in both splits: of each class the first three quarters are for training, the rest, which
other people wrote, is held out. No digit is hidden by another: at most a quarter of its pixels are
covered, and its box is as tight around what is seen as around the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from rcnnkit.data.coco import write_coco
from rcnnkit.data.records import Dataset, Record
from rcnnkit.data.voc_writing import write_voc
from rcnnkit.files import check_free
from rcnnkit.structures import Array, Size, Targets

# Without 1, 2, 5, 8 and 9: at 8 x 8 pixels their scans are often taken for 7, 3, 3, 3 and 4, even by eye.
CLASSES = (0, 3, 4, 6, 7)
SPLITS = ("train", "val")
TRAINING_SHARE = 0.75  # of each class's scans

OBJECTS = (2, 8)  # a picture, both included
SIDE = (16.0, 60.0)  # pixels of a digit's longer side, drawn log-uniformly
TURN = 20.0  # degrees to either side, at most; beyond 90 a 6 would become a 9
MAX_COVERED = 0.25  # of a digit's pixels, by digits drawn later
NEAR = 0.25  # how often a digit is put beside another on purpose, so that boxes overlap
TRIES = 30  # places tried for one digit before the picture does without it
VISIBLE = 0.3  # opacity from which a pixel counts as drawn
CONTRAST = 85.0  # grey levels between a digit and what it lies on, at least
BORDER = 3  # empty pixels around a scan, for bicubic interpolation to fade into

BRIGHTNESS = np.array([0.299, 0.587, 0.114])  # of red, green and blue to the eye (ITU-R BT.601)


@dataclass(frozen=True, slots=True)
class Style:
    """How digits are drawn. Names of sizes and colours are for those who describe a scene."""

    turn: float = TURN  # degrees to either side, at most
    objects: tuple[int, int] = OBJECTS
    sides: Mapping[str, tuple[float, float]] = field(default_factory=lambda: {"any": SIDE})
    colours: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)  # any, where none are named
    contrast: float = CONTRAST


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One picture and what was drawn into it, in the order of drawing."""

    pixels: Array  # (H, W, 3) uint8
    boxes: Array  # (N, 4) float32 xyxy, tight around the pixels drawn
    digits: list[int]  # N values 0…9
    scans: list[int]  # N indices into load_digits
    masks: Array  # (N, H, W) bool: each digit's pixels, including covered ones
    looks: list[tuple[str, str]] = field(default_factory=list)  # N names of sizes and colours, of the style


def write_digits(
    root: Path,
    *,
    train: int = 256,
    val: int = 64,
    size: Size = (160, 160),
    classes: Sequence[int] = CLASSES,
    turn: float = TURN,
    seed: int = 0,
) -> None:
    """Draw pictures of digits and write them with annotations in both formats; same seed, same bytes.

    JPEGImages, Annotations and ImageSets/Main/{train,val}.txt are Pascal VOC's layout;
    annotations/instances_{train,val}.json describe the same pictures in COCO's format. In both the
    classes are called by their digit, in ascending order, with category ids 1…K.

    Args:
        root: a folder that does not exist or is empty.
        train: pictures for training.
        val: pictures held out.
        size: (height, width) of each picture, at least 96 pixels either way.
        classes: the digits to draw, each 0…9.
        turn: degrees by which digits are turned to either side, at most.
        seed: of everything that is drawn.

    Raises:
        FileExistsError: `root` is not empty.
        ValueError: a number of pictures below 1, a size below 96, classes other than 0…9 once each, or a turn that is
            not between 0 and 180.
    """
    root = Path(root)
    check_free(root)
    if train < 1 or val < 1:
        raise ValueError(f"train = {train} and val = {val} pictures; each must be at least 1")
    if min(size) < 96:
        raise ValueError(f"size = {tuple(size)} is too small for digits of up to 60 pixels; give at least 96")
    if not classes or len(set(classes)) < len(classes) or not set(classes) <= set(range(10)):
        raise ValueError(f"classes = {tuple(classes)}; expected different digits, each 0…9")
    if not 0 <= turn <= 180:
        raise ValueError(f"turn = {turn} degrees; give 0 to 180")

    classes = sorted(classes)
    folder = root / "JPEGImages"
    folder.mkdir(parents=True)
    number = 0
    for split, pictures in zip(SPLITS, (train, val), strict=True):
        records = []
        for _ in range(pictures):
            number += 1
            # A generator for each picture: it stays the same whatever the number of pictures before it.
            scene = draw_scene(np.random.default_rng((seed, number)), scan_indices(split, classes), size, Style(turn))
            path = folder / f"{number:06d}.jpg"
            Image.fromarray(scene.pixels).save(path, quality=95)
            labels = [classes.index(digit) for digit in scene.digits]
            targets = Targets(torch.from_numpy(scene.boxes), torch.tensor(labels, dtype=torch.int64))
            records.append(Record(number, path, size, targets))
        names = [str(digit) for digit in classes]
        data = Dataset(f"digits/{split}", records, names, list(range(1, len(names) + 1)))
        write_voc(data, root, split)
        write_coco(data, root / "annotations" / f"instances_{split}.json")


def scan_indices(split: str, classes: Sequence[int] = CLASSES) -> dict[int, list[int]]:
    """For each class, the indices into `load_digits` of the scans that a split draws from.

    Raises:
        ValueError: `split` is neither train nor val.
    """
    if split not in SPLITS:
        raise ValueError(f"the splits are {' and '.join(SPLITS)}, not {split!r}")
    target = _digits()[1]
    indices = {}
    for digit in classes:
        of_class = np.flatnonzero(target == digit).tolist()
        cut = round(TRAINING_SHARE * len(of_class))
        indices[digit] = of_class[:cut] if split == "train" else of_class[cut:]
    return indices


def draw_scene(rng: np.random.Generator, scans: dict[int, list[int]], size: Size, style: Style | None = None) -> Scene:
    """A cluttered background with 2 to 8 digits on it, or as many as the style says.

    Args:
        rng: the source of everything random.
        scans: for each class to draw, the indices into `load_digits` to choose from.
        size: (height, width) of the picture.
        style: how they look; as in `write_digits` by default.
    """
    style = style or Style()
    canvas = background(rng, size)
    masks: list[Array] = []
    digits: list[int] = []
    scan_numbers: list[int] = []
    looks: list[tuple[str, str]] = []
    wanted = int(rng.integers(style.objects[0], style.objects[1] + 1))
    tries = 0
    while len(masks) < wanted and (tries < TRIES * wanted or len(masks) < style.objects[0]):
        tries += 1
        digit = int(rng.choice(list(scans)))
        scan = int(rng.choice(scans[digit]))
        sides = list(style.sides) if len(style.sides) == 1 else [str(rng.choice(list(style.sides)))]
        side = _log_uniform(rng, *style.sides[sides[0]])
        opacity = _place(rng, ink_of(scan, side, rng.uniform(-style.turn, style.turn)), size, masks)
        if opacity is None or not _all_seen([*masks, opacity > VISIBLE]):
            continue
        name, colour = colour_against(rng, canvas[_rectangle(opacity > 0)].reshape(-1, 3), style)
        if colour is None:
            continue
        canvas += opacity[..., None] * (colour - canvas)
        masks.append(opacity > VISIBLE)
        digits.append(digit)
        scan_numbers.append(scan)
        looks.append((sides[0], name))
    canvas += rng.normal(0, rng.uniform(1, 6), canvas.shape)  # the camera's noise lies on everything
    return Scene(
        pixels=canvas.clip(0, 255).round().astype(np.uint8),
        boxes=np.array([tight_box(mask) for mask in masks], dtype=np.float32),
        digits=digits,
        scans=scan_numbers,
        masks=np.array(masks),
        looks=looks,
    )


@cache
def _digits() -> tuple[Array, Array]:
    """(1797, 8, 8) scans in [0, 1] and their (1797,) classes."""
    scans = load_digits()
    return scans.images / 16, scans.target


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def ink_of(scan: int, side: float, degrees: float) -> Array:
    """A scan as a (h, w) float32 opacity mask in [0, 1]: its longer side `side` pixels, then turned."""
    picture = _digits()[0][scan]
    picture = np.pad(picture[_rectangle(picture > 0)], BORDER)
    step = (max(picture.shape) - 2 * BORDER) / side  # scan pixels for each pixel drawn
    turn = np.deg2rad(degrees)
    along, across = step * np.cos(turn), step * np.sin(turn)
    edge = int(side * 1.4) + 8  # a square digit turned by 45 degrees is 1.41 sides wide
    x, y = picture.shape[1] / 2, picture.shape[0] / 2
    start = (x - (along - across) * edge / 2, y - (across + along) * edge / 2)
    warped = Image.fromarray(picture.astype(np.float32)).transform(
        (edge, edge),
        Image.Transform.AFFINE,
        (along, -across, start[0], across, along, start[1]),
        resample=Image.Resampling.BICUBIC,
    )
    # Steeper than the scan's own soft edges, which would be a smear at 60 pixels.
    opacity = ((np.asarray(warped) - 0.2) / 0.4).clip(0, 1)
    opacity = opacity * opacity * (3 - 2 * opacity)
    return opacity[_rectangle(opacity > 0)]


def _place(rng: np.random.Generator, ink: Array, size: Size, masks: list[Array]) -> Array | None:
    """The (H, W) opacity of `ink` somewhere in the picture; None where the place tried was not inside."""
    room = np.array(size) - ink.shape
    corner = rng.integers(0, room + 1)
    if masks and rng.random() < NEAR:
        x1, y1, x2, y2 = tight_box(masks[int(rng.integers(len(masks)))])
        apart = (np.array([y2 - y1, x2 - x1]) + ink.shape) / 2  # of the centres, where the boxes touch
        centre = np.array([y1 + y2, x1 + x2]) / 2 + apart * rng.uniform(-1, 1, 2)
        corner = (centre - np.array(ink.shape) / 2).round().astype(int)
    if (corner < 0).any() or (corner > room).any():
        return None
    opacity = np.zeros(size, dtype=np.float32)
    opacity[corner[0] : corner[0] + ink.shape[0], corner[1] : corner[1] + ink.shape[1]] = ink
    return opacity


def _all_seen(masks: list[Array]) -> bool:
    """Whether every digit shows most of its pixels and its full extent, later ones lying on top."""
    hidden = np.zeros_like(masks[0])
    for mask in reversed(masks):
        seen = mask & ~hidden
        if seen.sum() < (1 - MAX_COVERED) * mask.sum() or tight_box(seen) != tight_box(mask):
            return False
        hidden |= mask
    return True


def colour_against(rng: np.random.Generator, under: Array, style: Style) -> tuple[str, Array | None]:
    """A colour whose brightness differs from nearly all of the (P, 3) pixels under and around a digit, and its name."""
    brightness, name = under @ BRIGHTNESS, ""
    for _ in range(TRIES):
        if style.colours:
            name = str(rng.choice(list(style.colours)))
            colour = np.array(style.colours[name]) + rng.uniform(-15, 15, 3)
        else:
            colour = rng.uniform(0, 255, 3)
            colour += (rng.choice([0, 255]) - colour) * rng.uniform(0, 0.9)  # towards black or white
        if (np.abs(brightness - colour @ BRIGHTNESS) > style.contrast).mean() > 0.9:
            return name, colour
    return name, None


def _rectangle(mask: Array) -> tuple[slice, slice]:
    """The smallest (rows, columns) that hold all of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def tight_box(mask: Array) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 around the pixels of a mask; continuous, so the last pixel's far edge."""
    rows, columns = _rectangle(mask)
    return columns.start, rows.start, columns.stop, rows.stop


def background(rng: np.random.Generator, size: Size) -> Array:
    """(H, W, 3) float clutter, 0…255: a gradient, soft blotches, lines, ellipses and fragments of strokes."""
    height, width = size
    base = rng.uniform(20, 235, 3)
    slope = rng.uniform(-40, 40, (2, 3))
    y, x = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j]
    canvas = base + y[..., None] * slope[0] + x[..., None] * slope[1]
    grid = rng.normal(0, rng.uniform(2, 14), (int(rng.integers(3, 9)), int(rng.integers(3, 9))))
    blotches = Image.fromarray(grid.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    canvas += np.asarray(blotches)[..., None]

    picture = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)

    def point() -> tuple[float, float]:
        return float(rng.uniform(0, width)), float(rng.uniform(0, height))

    def tone(strength: float) -> tuple[int, ...]:
        return tuple(int(v) for v in (base + rng.uniform(-strength, strength, 3)).clip(0, 255))

    for _ in range(int(rng.integers(2, 7))):  # filled: a ring would be a 0
        (x1, y1), (w, h) = point(), rng.uniform(8, 70, 2)
        draw.ellipse((x1 - w / 2, y1 - h / 2, x1 + w / 2, y1 + h / 2), fill=tone(45))
    for _ in range(int(rng.integers(3, 10))):
        draw.line([point(), point()], fill=tone(70), width=int(rng.integers(1, 4)))
    for _ in range(int(rng.integers(2, 7))):  # as bold as a digit, but a piece of stroke only
        (x1, y1), radius, start = point(), rng.uniform(5, 18), rng.uniform(0, 360)
        box = (x1 - radius, y1 - radius, x1 + radius, y1 + radius)
        draw.arc(box, start, start + rng.uniform(40, 140), fill=tone(160), width=int(rng.integers(2, 6)))
    return np.asarray(picture).astype(np.float64)
