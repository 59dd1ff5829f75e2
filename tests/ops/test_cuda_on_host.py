"""The CUDA kernels' own source, compiled for the host and run there, against numpy from the definitions.

`cuda_on_host/shim.h` stands in for CUDA: every CUDA thread is a thread. The launchers (`.cu`) need a GPU.
"""

import ctypes
import math
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ops import definitions

HERE = Path(__file__).parent / "cuda_on_host"
KERNELS = Path(__file__).parents[2] / "rcnnkit" / "ops" / "csrc" / "cuda"

KINDS = {"float32": 0, "float64": 1, "bfloat16": 2}
# What a kind's arithmetic is worth on values of about 1: a few roundings, and for bfloat16 one of 2^-8
TOLERANCES = {"float32": 1e-4, "float64": 1e-10, "bfloat16": 1e-2}


def compile_driver(target: Path, *flags: str) -> Path:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        message = "no C++ compiler to build the CUDA kernels for the host with"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    command = [compiler, "-std=c++20", "-pthread", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
    command += [f"-I{KERNELS}", *flags, str(HERE / "driver.cpp"), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return ctypes.CDLL(
        str(compile_driver(tmp_path_factory.mktemp("kernels") / "kernels.so", "-O1", "-shared", "-fPIC"))
    )


# --- calling the kernels ---------------------------------------------------------------------------------------------


def stored(values: np.ndarray, kind: str) -> np.ndarray:
    """As the kernels are given them: bfloat16 is the upper half of a float32, rounded to nearest."""
    if kind != "bfloat16":
        return np.ascontiguousarray(values, kind)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def loaded(values: np.ndarray, kind: str) -> np.ndarray:
    return (values.astype(np.uint32) << 16).view(np.float32) if kind == "bfloat16" else values


def computed_in(kind: str) -> Any:
    return np.float64 if kind == "float64" else np.float32


def laid_out(values: np.ndarray, channels_last: bool) -> np.ndarray:
    """The same (N, C, H, W) numbers with other strides."""
    if not channels_last:
        return np.ascontiguousarray(values)
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def pointer(values: np.ndarray | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if values is None else values.ctypes.data)


def as_map(values: np.ndarray) -> tuple[ctypes.c_void_p, Any]:
    strides = [stride // values.itemsize for stride in values.strides]
    return pointer(values), (ctypes.c_int64 * 8)(*values.shape, *strides)


# --- NMS -------------------------------------------------------------------------------------------------------------


def nms_by_definition(boxes: np.ndarray, threshold: float, groups: np.ndarray | None = None) -> np.ndarray:
    """Which boxes stay; they come best first. Arithmetic in the boxes' own type, one pair at a time."""
    keep = np.ones(len(boxes), bool)
    sides = boxes[:, 2:] - boxes[:, :2]
    for i in range(len(boxes)):
        for j in range(i):
            if not keep[j] or (groups is not None and groups[i] != groups[j]):
                continue
            if not ((sides[i] > 0).all() and (sides[j] > 0).all()):
                continue
            overlap = np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2])
            shared = overlap[0] * overlap[1] if (overlap > 0).all() else boxes.dtype.type(0)
            # `>` compares with the threshold exactly: NumPy would round a Python float to the boxes' type
            iou = float(shared / (sides[i].prod() + sides[j].prod() - shared))
            if iou > threshold:
                keep[i] = False
                break
    return keep


def run_nms(
    kernels: ctypes.CDLL,
    boxes: np.ndarray,
    threshold: float,
    groups: np.ndarray | None = None,
    ranks: np.ndarray | None = None,
    budget: int = 1 << 20,
) -> np.ndarray:
    keep = np.full(len(boxes), 2, np.uint8)
    kind = KINDS[str(boxes.dtype)]
    count, limit = ctypes.c_int64(len(boxes)), ctypes.c_double(threshold)
    arguments = pointer(boxes), pointer(groups), pointer(ranks), pointer(None), ctypes.c_int64(1), count, limit
    kernels.nms(kind, *arguments, ctypes.c_int64(budget), pointer(keep))
    assert keep.max(initial=0) < 2
    return keep.astype(bool)


def random_boxes(rng: np.random.Generator, count: int, dtype: str) -> np.ndarray:
    corner = rng.uniform(0, 100, (count, 2))
    return np.hstack([corner, corner + rng.uniform(-3, 40, (count, 2))]).astype(dtype)


# 64 boxes make a word of a mask. A budget of 300 words allows few row blocks at a time.
@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 129, 300])
@pytest.mark.parametrize("budget", [1 << 20, 300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nms_keeps_what_the_definition_keeps(kernels: ctypes.CDLL, count: int, budget: int, dtype: str) -> None:
    boxes = random_boxes(np.random.default_rng(count), count, dtype)
    keep = run_nms(kernels, boxes, 0.25, budget=budget)
    np.testing.assert_array_equal(keep, nms_by_definition(boxes, 0.25))
    if dtype == "float64":
        assert np.flatnonzero(keep).tolist() == definitions.nms(boxes, -np.arange(count), 0.25)


@pytest.mark.parametrize("budget", [1 << 20, 300])
def test_groups_never_suppress_each_other(kernels: ctypes.CDLL, budget: int) -> None:
    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, 300, "float32")
    groups = np.sort(rng.choice([-5, 0, 1, 2**62], 300, p=[0.5, 0.1, 0.3, 0.1]))
    ranks = rng.permutation(300)  # keep[ranks[i]] is the answer for box i
    keep = run_nms(kernels, boxes, 0.25, groups, ranks, budget)[ranks]
    np.testing.assert_array_equal(keep, nms_by_definition(boxes, 0.25, groups))


@pytest.mark.parametrize("budget", [1 << 20, 300])
def test_rows_of_which_the_device_knows_the_length(kernels: ctypes.CDLL, budget: int) -> None:
    rng = np.random.default_rng(1)
    counts = np.array([130, 0, 64, 1, 65])
    boxes = np.stack([random_boxes(rng, 130, "float32") for _ in counts])
    keep = np.zeros((len(counts), 130), np.uint8)
    sizes = ctypes.c_int64(len(counts)), ctypes.c_int64(130), ctypes.c_double(0.25), ctypes.c_int64(budget)
    kernels.nms(KINDS["float32"], pointer(boxes), pointer(None), pointer(None), pointer(counts), *sizes, pointer(keep))
    for found, row, count in zip(keep.astype(bool), boxes, counts, strict=True):
        np.testing.assert_array_equal(found[:count], nms_by_definition(row[:count], 0.25))
        assert not found[count:].any()


def test_many_small_groups(kernels: ctypes.CDLL) -> None:
    boxes = np.tile(np.array([[0, 0, 9, 9]], np.float32), (260, 1))
    groups = np.arange(260) // 3
    keep = run_nms(kernels, boxes, 0.5, groups, np.arange(260))
    np.testing.assert_array_equal(keep, np.arange(260) % 3 == 0)


def test_nasty_boxes(kernels: ctypes.CDLL) -> None:
    nan, inf = np.nan, np.inf
    boxes = np.array(
        [
            *([0, 0, 9, 9], [0, 0, 9, 9], [nan, 0, 9, 9], [9, 9, 0, 0], [0, 0, 0, 9], [0, 0, 9, nan]),
            *([-inf, -inf, inf, inf], [0, 0, inf, inf], [inf, inf, inf, inf], [0, 0, 1e30, 1e30], [0, 0, 9, 9]),
        ],
        np.float32,
    )
    with np.errstate(all="ignore"):
        expected = nms_by_definition(boxes, 0.5)
    np.testing.assert_array_equal(run_nms(kernels, boxes, 0.5), expected)
    assert expected.tolist() == [True, False] + [True] * 8 + [False]


def test_an_overlap_of_exactly_the_threshold_stays(kernels: ctypes.CDLL) -> None:
    boxes = np.array([[0, 0, 2, 1], [1, 0, 3, 1]], np.float32)  # IoU 1/3
    third, below = np.float32(1) / np.float32(3), np.nextafter(np.float32(1) / np.float32(3), np.float32(0))
    assert run_nms(kernels, boxes, float(third)).tolist() == [True, True]
    assert run_nms(kernels, boxes, float(below)).tolist() == [True, False]


# --- operators on regions --------------------------------------------------------------------------------------------

HEIGHT, WIDTH, CHANNELS = 7, 9, 5
ORDINARY = [[0, 1, 2, 14, 11], [1, 0, 0, 17, 13], [0, 3.3, 1.2, 7.9, 9.6], [1, -5, -4, 8, 6], [0, 10, 9, 40, 30]]
NASTY = [
    [0, 8, 8, 2, 2],  # upside down
    [1, 4, 4, 4, 4],  # a point
    [0, -90, -90, -50, -50],  # outside
    [1, -3000, -2000, 3000, 2500],  # with an adaptive grid of hundreds of samples
    [0, -1e30, 2, 1e30, 9],
]
ABSENT = [[-1, 1, 2, 14, 11], [2, 1, 2, 14, 11], [np.nan, 1, 2, 14, 11]]  # no such picture
NOT_FINITE = [[0, np.nan, 2, 14, 11], [0, 1, -np.inf, 14, np.inf], [1, 1, 2, np.inf, 11]]
ROIS = np.array(ORDINARY + NASTY + ABSENT + NOT_FINITE)
IS_THERE = np.arange(len(ROIS)) < len(ORDINARY) + len(NASTY)

Axis = Callable[[float, float], np.ndarray]  # a region's weights along an axis: (bins, cells)


def maps(seed: int, kind: str, shape: tuple[int, ...] = (2, CHANNELS, HEIGHT, WIDTH)) -> np.ndarray:
    return loaded(stored(np.random.default_rng(seed).uniform(-1, 1, shape), kind), kind)


def run_forward(
    kernels: ctypes.CDLL, name: str, kind: str, input: np.ndarray, rois: np.ndarray, bins: tuple[int, int], *rest: Any
) -> np.ndarray:
    """`rest` are a kernel's arguments between regions and output, or None where those end."""
    output = stored(np.full((len(rois), input.shape[1], *bins), np.nan), kind)
    before = rest[: rest.index(None)] if None in rest else rest
    after = rest[len(before) + 1 :]
    regions = rois.astype(computed_in(kind))
    call = getattr(kernels, name)
    call(KINDS[kind], *as_map(input), pointer(regions), *before, *as_map(output), *after)
    return loaded(output, kind)


def run_backward(
    kernels: ctypes.CDLL, name: str, kind: str, grad: np.ndarray, rois: np.ndarray, channels_last: bool, *rest: Any
) -> np.ndarray:
    into = laid_out(np.zeros((2, CHANNELS, HEIGHT, WIDTH), computed_in(kind)), channels_last)
    regions = rois.astype(computed_in(kind))
    getattr(kernels, name)(KINDS[kind], *as_map(grad), pointer(regions), *rest, *as_map(into))
    return into


def align_weights(
    low: float, high: float, scale: float, bins: int, cells: int, ratio: int, aligned: bool
) -> np.ndarray:
    """RoIAlign along one axis, sample by sample: a bin's mean is weights @ cells."""
    start, size = low * scale - 0.5 * aligned, (high - low) * scale
    size = size if aligned else max(size, 1.0)
    samples = ratio if ratio > 0 else math.ceil(size / bins)
    weights = np.zeros((bins, cells))
    if samples > 10**6:  # each sample weighs nothing
        return weights
    for b in range(bins):
        position = start + b * size / bins + (np.arange(samples) + 0.5) * (size / bins) / max(samples, 1)
        position = position[(position >= -1) & (position <= cells)].clip(0, cells - 1)
        first = np.floor(position).astype(int)
        np.add.at(weights[b], first, (1 - (position - first)) / samples)
        np.add.at(weights[b], np.minimum(first + 1, cells - 1), (position - first) / samples)
    return weights


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("ratio", "aligned"), [(2, False), (0, True), (0, False), (3, True)])
def test_roi_align(kernels: ctypes.CDLL, kind: str, channels_last: bool, ratio: int, aligned: bool) -> None:
    bins, scale = (3, 4), 0.5
    input, grad = maps(0, kind), maps(1, kind, (len(ROIS), CHANNELS, *bins))
    output, gradient = np.zeros(grad.shape), np.zeros(input.shape)
    for r in np.flatnonzero(IS_THERE):
        n, x1, y1, x2, y2 = ROIS[r]
        rows = align_weights(y1, y2, scale, bins[0], HEIGHT, ratio, aligned)
        columns = align_weights(x1, x2, scale, bins[1], WIDTH, ratio, aligned)
        output[r] = rows @ input[int(n)] @ columns.T
        gradient[int(n)] += rows.T @ grad[r] @ columns
    usual = ROIS[: len(ORDINARY)]
    by_definition = definitions.roi_align(input, usual, bins, scale, ratio, aligned)
    np.testing.assert_allclose(output[: len(usual)], by_definition, atol=1e-12)
    options = ctypes.c_double(scale), ratio, aligned
    input, grad = (laid_out(stored(values, kind), channels_last) for values in (input, grad))
    tolerance = TOLERANCES[kind]
    found = run_forward(kernels, "roi_align", kind, input, ROIS, bins, *options)
    np.testing.assert_allclose(found, output, atol=tolerance, rtol=0)
    for deterministic in (False, True):
        found = run_backward(kernels, "roi_align_backward", kind, grad, ROIS, channels_last, *options, deterministic)
        np.testing.assert_allclose(found, gradient, atol=10 * TOLERANCES["float32"], rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("ratio", "aligned"), [(2, False), (0, True), (0, False), (3, True)])
def test_roi_align_boxes(kernels: ctypes.CDLL, kind: str, channels_last: bool, ratio: int, aligned: bool) -> None:
    bins, scale, step = (3, 4), 0.5, 1e-6
    rois = ROIS + np.random.default_rng(2).uniform(-0.4, 0.4, 5) * [0, 1, 1, 1, 1]  # no sample on a cell's centre
    input, grad = maps(0, kind), maps(1, kind, (len(rois), CHANNELS, *bins))
    expected = np.zeros((len(rois), 5))
    for r in np.flatnonzero(IS_THERE):
        sides = [[rois[r, 2], rois[r, 4], bins[0], HEIGHT], [rois[r, 1], rois[r, 3], bins[1], WIDTH]]

        def value(rows: list, columns: list, r: Any = r) -> float:
            weights = [
                align_weights(low, high, scale, n, cells, ratio, aligned) for low, high, n, cells in (rows, columns)
            ]
            return float((weights[0] @ input[int(rois[r, 0])].astype(float) @ weights[1].T * grad[r]).sum())

        for axis, side in np.ndindex(2, 2):  # the map is linear between two cells, and so is the value
            moved = [list(each) for each in sides]
            moved[axis][side] += step
            expected[r, 1 + 2 * side + (1 - axis)] = (value(moved[0], moved[1]) - value(sides[0], sides[1])) / step
    found = np.full(rois.shape, np.nan, computed_in(kind))
    input, grad = (laid_out(stored(values, kind), channels_last) for values in (input, grad))
    regions = rois.astype(computed_in(kind))
    kernels.roi_align_boxes(
        KINDS[kind],
        *as_map(grad),
        *as_map(input),
        pointer(regions),
        ctypes.c_double(scale),
        ratio,
        aligned,
        pointer(found),
    )
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, atol=1e-6 if kind == "float64" else 2e-4, rtol=1e-5)


def pool_cells(low: float, high: float, scale: float, bins: int, cells: int, number: Any) -> list[range]:
    """RoI pooling along one axis, in the type of the kernel: the cells of each bin."""
    limit = 2**28  # a corner so far out moves no bin onto the map
    start, end = (
        int(np.clip(np.copysign(np.floor(np.abs(v) + number(0.5)), v), -limit, limit))
        for v in (number(low) * number(scale), number(high) * number(scale))
    )
    size = number(max(end - start + 1, 1)) / number(bins)
    first = [int(np.floor(number(b) * size)) + start for b in range(bins)]
    last = [int(np.ceil(number(b + 1) * size)) + start for b in range(bins)]
    return [range(min(max(f, 0), cells), min(max(t, 0), cells)) for f, t in zip(first, last, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_roi_pool(kernels: ctypes.CDLL, kind: str, channels_last: bool) -> None:
    bins, scale = (3, 4), 0.5
    input, grad = maps(0, kind), maps(1, kind, (len(ROIS), CHANNELS, *bins))
    input[0, 0] = np.round(input[0, 0])  # ties
    input[0, 1, 2:5, 2:6] = np.nan
    input[1, 2] = -np.inf
    output, gradient = np.zeros(grad.shape), np.zeros(input.shape)
    argmax = np.full(grad.shape, -1, np.int32)
    for r in np.flatnonzero(IS_THERE):
        n, x1, y1, x2, y2 = ROIS[r]
        rows = pool_cells(y1, y2, scale, bins[0], HEIGHT, computed_in(kind))
        columns = pool_cells(x1, x2, scale, bins[1], WIDTH, computed_in(kind))
        for c, i, j in np.ndindex(CHANNELS, *bins):
            cells = [(y, x) for y in rows[i] for x in columns[j]]
            if not cells:
                continue
            best, where = -np.inf, -1
            for y, x in cells:
                if input[int(n), c, y, x] > best:
                    best, where = input[int(n), c, y, x], y * WIDTH + x
            output[r, c, i, j], argmax[r, c, i, j] = best, where
            if where >= 0:
                gradient[int(n), c].flat[where] += grad[r, c, i, j]
    usual = ROIS[: len(ORDINARY)]
    by_definition = definitions.roi_pool(input, usual, bins, scale)
    np.testing.assert_array_equal(output[: len(usual)], by_definition[0])
    np.testing.assert_array_equal(argmax[: len(usual)], by_definition[1])
    input, grad = (laid_out(stored(values, kind), channels_last) for values in (input, grad))
    for with_argmax in (True, False):
        winners = np.full(argmax.shape, 99, np.int32)
        found = run_forward(
            kernels,
            "roi_pool",
            kind,
            input,
            ROIS,
            bins,
            ctypes.c_double(scale),
            None,
            pointer(winners if with_argmax else None),
        )
        np.testing.assert_array_equal(found, output)
        if with_argmax:
            np.testing.assert_array_equal(winners, argmax)
    for deterministic in (False, True):
        found = run_backward(
            kernels, "roi_pool_backward", kind, grad, ROIS, channels_last, pointer(argmax), deterministic
        )
        np.testing.assert_allclose(found, gradient, atol=1e-5, rtol=0)


def warp_weights(
    low: float, high: float, half: float, output: int, context: int, square: bool, pixels: int
) -> np.ndarray:
    """R-CNN's warp along one axis: shown pixels are weights @ picture; a row of zeros shows nothing."""

    def away(x: float) -> int:  # round halves away from zero
        return int(math.copysign(math.floor(abs(x) + 0.5), x))

    weights = np.zeros((output, pixels))
    scale, centre = output / (output - 2 * context), (low + high) / 2
    first, last = away(centre - half * scale), away(centre + half * scale)
    last -= context == 0 and not square
    source, end = max(first, 0), min(last, pixels - 1)
    if last < first or end < source or abs(first) > 2**30 or abs(last) > 2**30:
        return weights
    clipped, stretch = end - source + 1, output / (last - first + 1)
    target = away(max(-first, 0) * stretch)
    shown = min(away(clipped * stretch), output - target)
    for i in range(shown):
        position = min(max((i + 0.5) * clipped / shown - 0.5, 0), clipped - 1)
        left = min(int(position), max(clipped - 2, 0))
        weights[target + i, source + left] += 1 - (position - left)
        weights[target + i, source + min(left + 1, clipped - 1)] += position - left
    return weights


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("context", "square"), [(0, False), (2, False), (0, True), (2, True)])
def test_warp_regions(kernels: ctypes.CDLL, kind: str, channels_last: bool, context: int, square: bool) -> None:
    bins = (12, 10)
    rois = np.concatenate([ROIS * [1, 0.5, 0.5, 0.5, 0.5], [[1, 2, 3, 7, 6]]])
    is_there = np.append(IS_THERE, True)
    input, grad = maps(0, kind), maps(1, kind, (len(rois), CHANNELS, *bins))
    fill = np.arange(CHANNELS, dtype=computed_in(kind)) / 3
    output, gradient = np.empty(grad.shape), np.zeros(input.shape)
    output[:] = fill[:, None, None]
    for r in np.flatnonzero(is_there):
        n, x1, y1, x2, y2 = rois[r].astype(computed_in(kind)).tolist()
        half_width, half_height = (x2 - x1) / 2, (y2 - y1) / 2
        if square:
            half_width = half_height = max(half_width, half_height)
        rows = warp_weights(y1, y2, half_height, bins[0], context, square, HEIGHT)
        columns = warp_weights(x1, x2, half_width, bins[1], context, square, WIDTH)
        shown = np.outer(rows.any(1), columns.any(1))
        output[r] = np.where(shown, rows @ input[int(n)] @ columns.T, output[r])
        by_definition = definitions.warp(
            input[int(n)].astype(np.float64), np.array([x1, y1, x2, y2]), bins, context, fill, square
        )
        if np.abs(rois[r]).max() < 1e9:
            np.testing.assert_allclose(output[r], by_definition, atol=1e-12)
        gradient[int(n)] += rows.T @ grad[r] @ columns
    input, grad = (laid_out(stored(values, kind), channels_last) for values in (input, grad))
    # Positions are float32 whatever the kind
    tolerance = max(TOLERANCES[kind], TOLERANCES["float32"])
    found = run_forward(kernels, "warp_regions", kind, input, rois, bins, pointer(fill), context, square)
    np.testing.assert_allclose(found, output, atol=tolerance, rtol=0)
    if kind == "float64":
        assert (found[~is_there] == output[~is_there]).all()  # the fill, to the last bit
    for deterministic in (False, True):
        options = context, square, deterministic
        found = run_backward(kernels, "warp_regions_backward", kind, grad, rois, channels_last, *options)
        np.testing.assert_allclose(found, gradient, atol=10 * TOLERANCES["float32"], rtol=0)


def test_deterministic_gradients_are_the_same_bit_for_bit(kernels: ctypes.CDLL) -> None:
    rois = np.tile(ROIS[:5], (4, 1))
    grad = stored(maps(1, "float32", (len(rois), CHANNELS, 3, 4)) * 1e3, "float32")
    options = ctypes.c_double(0.5), 0, True, True
    first, *others = (
        run_backward(kernels, "roi_align_backward", "float32", grad, rois, True, *options) for _ in range(3)
    )
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_a_map_of_one_cell(kernels: ctypes.CDLL) -> None:
    input = np.full((1, 1, 1, 1), 3.0, np.float32)
    rois = np.array([[0, 0, 0, 1, 1], [0, -2, -2, 9, 9]])
    found = run_forward(kernels, "roi_align", "float32", input, rois, (1, 1), ctypes.c_double(1), 2, False)
    # Samples at -2 + 11 / 4 and -2 + 33 / 4: of the second region's four only one is on the map
    np.testing.assert_array_equal(found.ravel(), [3, 0.75])
    found = run_forward(kernels, "roi_pool", "float32", input, rois, (1, 1), ctypes.c_double(1), None, pointer(None))
    np.testing.assert_array_equal(found.ravel(), [3, 3])


@pytest.mark.parametrize("shape", [(1, 1, 0, 4), (1, 1, 4, 0), (0, 1, 4, 4)])
def test_maps_without_cells_give_zeros(kernels: ctypes.CDLL, shape: tuple[int, ...]) -> None:
    input, rois = np.zeros(shape, np.float32), np.array([[0.0, 0, 0, 1, 1]])
    scale = ctypes.c_double(1)
    assert not run_forward(kernels, "roi_align", "float32", input, rois, (2, 2), scale, 2, False).any()
    assert not run_forward(kernels, "roi_pool", "float32", input, rois, (2, 2), scale, None, pointer(None)).any()
    fill = pointer(np.ones(1, np.float32))
    assert (run_forward(kernels, "warp_regions", "float32", input, rois, (2, 2), fill, 0, False) == 1).all()


# --- sanitizers ------------------------------------------------------------------------------------------------------


def run_sanitized(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    program = compile_driver(folder / "driver", "-O1", "-g", "-DRCNNKIT_MAIN", *flags)
    return subprocess.run([str(program)], capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_addresses_and_undefined_behaviour(tmp_path: Path) -> None:
    flags = "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"
    done = run_sanitized(tmp_path, *flags)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_no_data_races(tmp_path: Path) -> None:
    done = run_sanitized(tmp_path, "-fsanitize=thread")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("barrier", [0, 1, 2])
def test_each_barrier_is_missed(tmp_path: Path, barrier: int) -> None:
    done = run_sanitized(tmp_path, "-fsanitize=thread", f"-DRCNNKIT_DROP_BARRIER={barrier}")
    assert "data race" in done.stderr
