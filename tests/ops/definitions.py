"""The operators in plain numpy, one number at a time, as their papers state them."""

import math

import numpy as np
import torch


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if not (width > 0 and height > 0):
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def nms(boxes, scores, threshold, groups=None):
    """Greedy suppression, best score first, ties to the lower index, NaN scores before all."""
    boxes, scores = np.asarray(boxes, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    groups = np.zeros(len(boxes)) if groups is None else np.asarray(groups)
    order = sorted(range(len(scores)), key=lambda i: (0, 0) if math.isnan(scores[i]) else (1, -scores[i]))
    keep: list[int] = []
    for i in order:
        if all(groups[i] != groups[j] or not iou(boxes[i], boxes[j]) > threshold for j in keep):
            keep.append(i)
    return keep


def bilinear(plane, y, x):
    """A value between cells; up to one cell outside the border continues, beyond it is 0."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y0, x0 = math.floor(y), math.floor(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    top = plane[y0, x0] * (1 - (x - x0)) + plane[y0, x1] * (x - x0)
    bottom = plane[y1, x0] * (1 - (x - x0)) + plane[y1, x1] * (x - x0)
    return top * (1 - (y - y0)) + bottom * (y - y0)


def roi_align(feature, rois, size, scale, ratio, aligned):
    rows, columns = size
    feature = np.asarray(feature, dtype=np.float64)
    out = np.zeros((len(rois), feature.shape[1], rows, columns))
    for r, (picture, *box) in enumerate(np.asarray(rois, dtype=np.float64)):
        if not np.isfinite(box).all():
            continue
        x1, y1, x2, y2 = (c * scale - (0.5 if aligned else 0) for c in box)
        width, height = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1), max(y2 - y1, 1))
        ny = ratio if ratio > 0 else math.ceil(height / rows)
        nx = ratio if ratio > 0 else math.ceil(width / columns)
        for c in range(feature.shape[1]):
            for p in range(rows):
                for q in range(columns):
                    samples = [
                        bilinear(
                            feature[int(picture), c],
                            y1 + (p + (i + 0.5) / ny) * height / rows,
                            x1 + (q + (j + 0.5) / nx) * width / columns,
                        )
                        for i in range(ny)
                        for j in range(nx)
                    ]
                    out[r, c, p, q] = sum(samples) / max(len(samples), 1)
    return out


def away(x):
    """Rounded, halves away from zero."""
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def roi_pool(feature, rois, size, scale):
    """Values, and the cell (y · width + x) that each comes from, −1 for empty bins."""
    rows, columns = size
    feature = np.asarray(feature, dtype=np.float64)
    _, channels, height, width = feature.shape
    out = np.zeros((len(rois), channels, rows, columns))
    argmax = np.full(out.shape, -1)
    for r, (picture, *box) in enumerate(np.asarray(rois, dtype=np.float64)):
        if not np.isfinite(box).all():
            continue
        x1, y1, x2, y2 = (away(c * scale) for c in box)
        roi_width, roi_height = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
        for p in range(rows):
            for q in range(columns):
                ys = range(max(y1 + p * roi_height // rows, 0), min(y1 - (-(p + 1) * roi_height // rows), height))
                xs = range(max(x1 + q * roi_width // columns, 0), min(x1 - (-(q + 1) * roi_width // columns), width))
                if not len(ys) or not len(xs):
                    continue
                for c in range(channels):
                    best, where = -math.inf, -1
                    for y in ys:
                        for x in xs:
                            if feature[int(picture), c, y, x] > best:
                                best, where = feature[int(picture), c, y, x], y * width + x
                    out[r, c, p, q], argmax[r, c, p, q] = best, where
    return out, argmax


def warp(picture, box, size, context, fill, square):
    """R-CNN's released window layer for one (C, H, W) picture."""
    rows, columns = size
    channels, height, width = picture.shape
    out = np.broadcast_to(np.asarray(fill, dtype=np.float64)[:, None, None], (channels, rows, columns)).copy()
    if not np.isfinite(box).all():
        return out
    half = np.array([(box[2] - box[0]) / 2, (box[3] - box[1]) / 2])
    centre = np.array([box[0], box[1]]) + half
    if square:
        half[:] = half.max()
    taps = []
    for axis, (output, pixels) in enumerate(((columns, width), (rows, height))):
        zoom = output / (output - 2 * context)
        first = away(centre[axis] - half[axis] * zoom)
        last = away(centre[axis] + half[axis] * zoom) - (1 if context == 0 and not square else 0)
        if last < first:
            return out
        before, after = max(0, -first), max(0, last - pixels + 1)
        clipped, stretch = last - first + 1 - before - after, output / (last - first + 1)
        if clipped < 1:
            return out
        target = away(before * stretch)
        pasted = min(away(clipped * stretch), output - target)
        where = {}
        for i in range(pasted):
            position = min(max((i + 0.5) * clipped / pasted - 0.5, 0), clipped - 1)
            low = math.floor(position)
            where[target + i] = (first + before + low, first + before + min(low + 1, clipped - 1), position - low)
        taps.append(where)
    for y, (y0, y1, wy) in taps[1].items():
        for x, (x0, x1, wx) in taps[0].items():
            top = picture[:, y0, x0] * (1 - wx) + picture[:, y0, x1] * wx
            bottom = picture[:, y1, x0] * (1 - wx) + picture[:, y1, x1] * wx
            out[:, y, x] = top * (1 - wy) + bottom * wy
    return out


def random_boxes(count, generator, side=100.0):
    """(N, 4) of all sizes, some partly outside a square of `side`."""
    centre = torch.rand(count, 2, generator=generator) * side * 1.2 - side * 0.1
    half = torch.rand(count, 2, generator=generator) ** 2 * side / 2 + 0.01
    return torch.cat([centre - half, centre + half], dim=1)


def random_rois(count, pictures, generator, side=100.0):
    picture = torch.randint(pictures, (count, 1), generator=generator).float()
    return torch.cat([picture, random_boxes(count, generator, side)], dim=1)


NASTY_BOXES = [
    [0.0, 0.0, 0.0, 0.0],
    [5.0, 5.0, 5.0, 9.0],
    [9.0, 9.0, 3.0, 2.0],
    [-50.0, -50.0, -20.0, -20.0],
    [400.0, 400.0, 500.0, 500.0],
    [-1e30, -1e30, 1e30, 1e30],
    [0.0, 0.0, 1e9, 1e9],
    [3e38, 3e38, 3e38, 3e38],
    [math.nan, 0.0, 5.0, 5.0],
    [0.0, math.nan, 5.0, math.nan],
    [-math.inf, 0.0, math.inf, 5.0],
    [0.0, 0.0, math.inf, math.inf],
    [math.inf, math.inf, -math.inf, -math.inf],
    [1e-30, 1e-30, 2e-30, 2e-30],
]
