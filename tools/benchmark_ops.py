"""The operators beside torchvision's: python tools/benchmark_ops.py [--device cuda] [--threads N] [--json FILE]

Each row is measured in turns (ours, torchvision's, a plain copy), so that a machine that drifts favours none.
`copy` is the time that a copy of as many bytes takes as the operator has to read and write once; the floor is what
the CPU operators are asked to reach.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import measured
import torch
import torch.nn.functional as F
import torchvision
from rich.console import Console
from rich.table import Table
from torch import Tensor

from rcnnkit import ops
from rcnnkit.ops.conv2d import multiplies_in_tiles


@dataclass(frozen=True)
class Case:
    name: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    moved: int  # bytes read and written at least
    floor: float = 0  # times as fast as torchvision's
    prepare: Callable[[], Any] = lambda: None  # before each call, not timed


def uniform_boxes(count: int, generator: torch.Generator, height: float = 600, width: float = 1000) -> Tensor:
    """(N, 4) xyxy with centres and sides uniform over the picture."""
    centre = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    side = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) / 2 + 8
    return torch.cat([centre - side / 2, centre + side / 2], dim=1)


def clustered_boxes(count: int, generator: torch.Generator) -> Tensor:
    """As a region proposal network gives them: many boxes about each of 60 objects, and some anywhere."""
    objects = uniform_boxes(60, generator)
    side = (objects[:, 2:] - objects[:, :2]).repeat(1, 2)
    chosen = torch.randint(60, (count,), generator=generator)
    boxes = objects[chosen] + torch.randn(count, 4, generator=generator) * 0.12 * side[chosen]
    boxes = torch.cat([torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])], dim=1)
    boxes[::10] = uniform_boxes(len(boxes[::10]), generator)
    return boxes


def nms_cases(device: torch.device, generator: torch.Generator) -> list[Case]:
    cases = []
    for name, count, boxes, iou, floor in (
        ("nms, 12,000 uniform boxes", 12_000, uniform_boxes, 0.7, 30),
        ("nms, 12,000 clustered boxes", 12_000, clustered_boxes, 0.7, 10),
        ("nms, 2,000 uniform boxes", 2_000, uniform_boxes, 0.7, 10),
    ):
        box, score = boxes(count, generator).to(device), torch.rand(count, generator=generator).to(device)
        cases.append(
            Case(
                name,
                partial(ops.nms, box, score, iou),
                partial(torchvision.ops.nms, box, score, iou),
                28 * count,
                floor,
            )
        )
    box, score = uniform_boxes(6_000, generator).to(device), torch.rand(6_000, generator=generator).to(device)
    group = torch.randint(20, (6_000,), generator=generator).to(device)
    cases.append(
        Case(
            "batched_nms, 6,000 boxes, 20 classes",
            lambda: ops.batched_nms(box, score, group, 0.5),
            lambda: torchvision.ops.batched_nms(box, score, group, 0.5),
            36 * 6_000,
            5,
        )
    )
    return cases


def region_cases(device: torch.device, generator: torch.Generator, layout: torch.memory_format) -> list[Case]:
    cases = []
    for op, count, channels, height, width, floors in (
        ("roi_align", 300, 512, 37, 62, (8, 25)),
        ("roi_align", 1000, 256, 75, 125, (8, 25)),
        ("roi_pool", 2000, 512, 37, 62, (8, 4)),
    ):
        feature = torch.randn(1, channels, height, width, generator=generator).to(device)
        feature = feature.contiguous(memory_format=layout)
        scale = height / 600
        boxes = uniform_boxes(count, generator)
        rois = torch.cat([torch.zeros(count, 1), boxes], dim=1).to(device)
        grad = torch.randn(count, channels, 7, 7, generator=generator).to(device)
        arguments = (7, scale, 2) if op == "roi_align" else (7, scale)
        forward = [getattr(module, op) for module in (ops, torchvision.ops)]
        name = f"{op} 7×7, {count} regions, {channels} × {height} × {width}"
        result, indices = grad.nbytes, grad.nbytes if op == "roi_pool" else 0
        cases.append(
            Case(
                name,
                partial(forward[0], feature, rois, *arguments),
                partial(forward[1], feature, rois, *arguments),
                feature.nbytes + result,
                floors[0],
            )
        )
        leaf = feature.clone(memory_format=torch.preserve_format).requires_grad_()
        outputs = [f(leaf, rois, *arguments) for f in forward]
        cases.append(
            Case(
                f"{op}'s gradient, {count} regions",
                partial(torch.autograd.grad, outputs[0], leaf, grad, retain_graph=True),
                partial(torch.autograd.grad, outputs[1], leaf, grad, retain_graph=True),
                feature.nbytes + result + indices,
                floors[1],
            )
        )
        if op == "roi_align":
            asking = rois.clone().requires_grad_()
            with_boxes = ops.roi_align(leaf, asking, *arguments)
            cases.append(
                Case(
                    f"{op}'s gradient, {count} regions, boxes too; theirs: without",
                    partial(torch.autograd.grad, with_boxes, (leaf, asking), grad, retain_graph=True),
                    partial(torch.autograd.grad, outputs[0], leaf, grad, retain_graph=True),
                    2 * feature.nbytes + result,
                    1 / 1.5,
                )
            )
    return cases


def layer_cases(device: torch.device, generator: torch.Generator) -> list[Case]:
    """Layers of a ResNet-50 with FPN at 800 pixels and of a ResNet-18's windows; ours are for CPUs alone."""
    if device.type != "cpu":
        return []
    cases: list[Case] = []

    def maps(dtype: torch.dtype, *shape: int) -> Tensor:
        values = torch.randn(shape, generator=generator).to(dtype)
        return values.contiguous(memory_format=torch.channels_last)

    for dtype, floors in (
        (torch.float32, (2.0, 2.0, 1.5, 1.5, 1.0, 1.5)),
        (torch.bfloat16, (1.5, 1.5, 1.0, 1.5, 1.0, 1.5)),
    ):
        type_ = str(dtype)[6:]
        shapes = ((1, 256, 200, 272), (1, 128, 100, 136), (1, 512, 25, 34), (128, 256, 14, 14))
        for (batch, channels, height, width), floor in zip(shapes, floors, strict=False):
            input, offset = maps(dtype, batch, channels, height, width), torch.zeros(channels)
            weight, theirs = maps(torch.float32, channels, channels, 3, 3), offset.to(dtype)
            plain = weight.to(dtype)
            if dtype == torch.bfloat16 and multiplies_in_tiles():  # as prepared layers choose
                name, floor = "conv2d 3×3", min(floor, 1.0)  # torch multiplies in tiles, too
                ours = partial(ops.conv2d, input, ops.conv2d_weights(weight, dtype), offset, (3, 3), 1, 1)
            else:
                name, ours = "conv3x3", partial(ops.conv3x3, input, ops.winograd_weights(weight, dtype), offset)
            cases.append(
                Case(
                    f"{name} {type_}, {batch} × {channels} × {height} × {width}",
                    ours,
                    partial(F.conv2d, input, plain, theirs, padding=1),
                    2 * input.nbytes + plain.nbytes,
                    floor,
                )
            )
        input, residual = maps(dtype, 1, 64, 200, 272), maps(dtype, 1, 256, 200, 272)
        weight, offset = maps(torch.float32, 256, 64, 1, 1), torch.zeros(256)
        panels, plain, theirs = ops.conv2d_weights(weight, dtype), weight.to(dtype), offset.to(dtype)
        cases.append(
            Case(
                f"conv2d 1×1, addition, ReLU {type_}, 64 → 256 × 200 × 272",
                partial(ops.conv2d, input, panels, offset, (1, 1), relu=True, residual=residual),
                partial(added_relu, input, plain, theirs, residual),
                input.nbytes + 2 * residual.nbytes,
                floors[4],
            )
        )
        input = maps(dtype, 128, 64, 112, 112)
        cases.append(
            Case(
                f"max_pool2d {type_}, 128 × 64 × 112 × 112",
                partial(ops.max_pool2d, input, 3, 2, 1),
                partial(F.max_pool2d, input, 3, 2, 1),
                input.nbytes * 5 // 4,
                floors[5],
            )
        )
    return cases


def added_relu(input: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """torch's way to what `ops.conv2d` does in one call."""
    return F.conv2d(input, weight, bias).add_(residual).relu_()


def seconds(call: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    taken = time.perf_counter() - start
    del result
    return taken


def measure(case: Case, device: torch.device, rounds: int) -> dict[str, Any]:
    count = max(case.moved // 8, 1)  # a copy reads and writes
    source = torch.ones(count, dtype=torch.float32, device=device)
    calls = {"ours": case.ours, "torchvision": case.theirs, "copy": lambda: source.clone()}
    for call in calls.values():
        seconds(call, device)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call, device))
    median = {name: statistics.median(t) for name, t in times.items()}
    low, _, high = statistics.quantiles(times["ours"], n=4)
    return {
        "": case.name,
        **{f"{name}_ms": 1e3 * t for name, t in median.items()},
        "spread": (high - low) / median["ours"],
        "ratio": median["torchvision"] / median["ours"],
        "floor": case.floor,
        "over_copy": median["ours"] / median["copy"],
    }


def by_work(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each kind of work; what is of channels-last features has names of its own."""
    merged: dict[str, dict[str, Any]] = {}
    for row in rows:
        last = "_channels_last" if row["group"].startswith("channels-last") else ""
        values = {key + last: value for key, value in row.items() if key not in ("", "group")}
        merged.setdefault(row[""], {"": row[""]}).update(values)
    return list(merged.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="by default torch's")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: there is no GPU that torch can use here")
    if options.threads:
        torch.set_num_threads(options.threads)

    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    console = Console(width=120)
    generator = torch.Generator().manual_seed(0)
    rows = []
    for title, cases in (
        ("boxes", nms_cases(device, generator)),
        ("contiguous features, float32", region_cases(device, generator, torch.contiguous_format)),
        ("channels-last features, float32", region_cases(device, generator, torch.channels_last)),
        ("layers beside torch's, channels-last", layer_cases(device, generator)),
    ):
        if not cases:
            continue
        table = Table(title=f"{title}, {machine}", title_justify="left")
        table.add_column("work")
        for column in ("theirs ms", "ours ms", "± quartiles", "ratio", "floor", "copy ms", "÷ copy"):
            table.add_column(column, justify="right")
        for case in cases:
            row = measure(case, device, options.rounds)
            rows.append({"group": title, **row})
            floor = f"{row['floor']:g}" if device.type == "cpu" else ""
            missed = device.type == "cpu" and row["ratio"] < row["floor"]
            table.add_row(
                case.name,
                f"{row['torchvision_ms']:.2f}",
                f"{row['ours_ms']:.2f}",
                f"{row['spread']:.0%}",
                f"[red]{row['ratio']:.1f}[/]" if missed else f"{row['ratio']:.1f}",
                floor,
                f"{row['copy_ms']:.2f}",
                f"{row['over_copy']:.1f}",
            )
        console.print(table)
    if options.json:
        layers = [row for row in rows if row["group"].startswith("layers")]
        operators = [row for row in rows if row not in layers]
        measured.write(options.json, by_work(operators), layers=by_work(layers), machine=machine)


if __name__ == "__main__":
    main()
