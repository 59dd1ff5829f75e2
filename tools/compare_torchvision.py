"""rcnnkit's Faster R-CNN beside torchvision's: same pictures, size, backbone, machine and minutes.

    python tools/compare_torchvision.py CONFIG [section.key=value …] [--iterations N …] [--seeds S …]

Trains ours as CONFIG says, then torchvision's `FasterRCNN` with the same ResNet and an FPN for as many seconds,
both from scratch, each in a process of its own, and scores both on a split that neither was chosen on.
torchvision's gets one-cycle SGD, horizontal flips, the same autocast and a batch of its own (`--batch`);
everything else is its default.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import measured
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from rcnnkit import weights
from rcnnkit.config import Settings
from rcnnkit.config_files import read_settings
from rcnnkit.data.loading import Pictures, draws, load_batches
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Dataset
from rcnnkit.data.transforms import Augmentation, AugmentSettings
from rcnnkit.evaluation.report import Evaluation, evaluate
from rcnnkit.images import Array
from rcnnkit.precision import autocast, pick_dtype
from rcnnkit.structures import Detections
from rcnnkit.training.detection import read_splits
from rcnnkit.training.train import train


class AsOurs(nn.Module):
    """torchvision's detector, answering as ours does."""

    def __init__(self, model: TorchvisionFasterRCNN, data: Dataset, device: torch.device) -> None:
        super().__init__()
        self.model, self.data, self.device = model, data, device

    def forward(self, pictures: list[Array]) -> list[Detections]:
        batch = [torch.from_numpy(p).permute(2, 0, 1).to(self.device).float() / 255 for p in pictures]
        return [
            Detections(
                found["boxes"].float(),
                found["scores"].float(),
                found["labels"] - 1,
                self.data.class_names,
                self.data.category_ids,
            )
            for found in self.model(batch)
        ]


def train_torchvision(settings: Settings, seconds: float, lr: float, size: int) -> tuple[nn.Module, dict[str, Any]]:
    """Train for so long; one cycle: 30 % up from lr / 25 on a cosine, then down to nothing."""
    training, _ = read_splits(settings.data)
    device = weights.pick_device(settings.train.device)
    dtype = pick_dtype(settings.train.precision, device)
    torch.manual_seed(settings.train.seed)
    body = resnet_fpn_backbone(
        backbone_name=settings.model.backbone, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    shape = settings.input
    classes = len(training.class_names) + 1
    model = TorchvisionFasterRCNN(body, classes, min_size=shape.short_side, max_size=shape.long_side).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    source = Pictures(training.records, Augmentation(AugmentSettings(flip=0.5), shape), settings.data.use_difficult)
    batch_draws = draws(training.records, size, settings.train.seed)
    batches = load_batches(source, batch_draws, workers=settings.data.workers)
    iterations = 0
    began = time.perf_counter()
    while (share := (time.perf_counter() - began) / seconds) < 1:
        if share < 0.3:
            now = lr * (1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * share / 0.3)) / 2)
        else:
            now = lr * (1 + math.cos(math.pi * (share - 0.3) / 0.7)) / 2
        for group in optimizer.param_groups:
            group["lr"] = now
        batch = next(batches)
        pictures = [p.to(device).float() / 255 for p in batch.pictures]
        targets = [{"boxes": t.boxes.to(device), "labels": t.labels.to(device) + 1} for t in batch.targets]
        with autocast(device, dtype):
            loss = torch.stack(list(model(pictures, targets).values())).sum()
        if not loss.isfinite():
            raise RuntimeError(f"torchvision's loss is {loss.item()} after {iterations} iterations; lower --lr")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        iterations += 1
    spent = time.perf_counter() - began
    return AsOurs(model, training, device).eval(), {
        "seconds": spent,
        "iterations": iterations,
        "pictures": iterations * size,
    }


def train_ours(settings: Settings, folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"val": ""})})
    best = train(settings, folder / "run", console=Console(quiet=True))
    about, _ = weights.read(folder / "run" / "last.safetensors")
    iterations = about["training"]["iteration"]
    spent = {"seconds": about["training"]["seconds"], "iterations": iterations}
    spent["pictures"] = iterations * settings.train.batch
    return weights.load(best, settings.train.device, for_training=True), spent


def measure(which: str, settings: Settings, split: str, seconds: float, lr: float, size: int, queue: Any) -> None:
    """Train and score one detector, in a process of its own so that its memory can be told."""
    with tempfile.TemporaryDirectory() as folder:
        if which == "rcnnkit":
            detector, spent = train_ours(settings, Path(folder))
        else:
            detector, spent = train_torchvision(settings, seconds, lr, size)
    training, _ = read_splits(settings.data)
    about = settings.data
    names = training.class_names
    data = read_data(about.root, split, format=about.format, images=about.images, class_names=names, skip_bad=True)
    device = weights.pick_device(settings.train.device)
    with autocast(device, pick_dtype(settings.train.precision, device)):
        evaluation: Evaluation = evaluate(detector, data, batch_size=1)
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    passes = spent["pictures"] / len(training)
    queue.put(
        {"which": which, "seed": settings.train.seed, "split": data.name, "passes": passes}
        | {"minutes": spent["seconds"] / 60, "iterations": spent["iterations"], "gigabytes": peak / 2**20}
        | {"AP": evaluation.coco.numbers["AP"], "AP50": evaluation.coco.numbers["AP50"]}
        | {"voc_ap_11": evaluation.voc.mean_ap_11, "seconds_per_image": evaluation.seconds_per_image}
    )


def alone(*arguments: Any) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=measure, args=(*arguments, queue))
    process.start()
    while process.is_alive() and queue.empty():
        process.join(1)
    if queue.empty():
        raise SystemExit(f"the {arguments[0]} process ended with {process.exitcode}; its error stands above")
    result: dict[str, Any] = queue.get()
    process.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("settings", nargs="*", metavar="section.key=value")
    parser.add_argument("--iterations", type=int, nargs="+", help="of ours; by default the config's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--torchvision-seeds", type=int, nargs="*", help="by default those of --seeds")
    parser.add_argument("--split", default="test", help="to score on")
    parser.add_argument("--lr", type=float, default=0.02, help="torchvision's highest learning rate")
    parser.add_argument("--batch", type=int, default=4, help="torchvision's")
    parser.add_argument("--json", type=Path, help="write every run's numbers here")
    options = parser.parse_args()
    theirs = options.seeds if options.torchvision_seeds is None else options.torchvision_seeds

    console, results = Console(), []
    for iterations in options.iterations or [read_settings(options.config, options.settings).train.iterations]:
        for seed in options.seeds:
            overrides = [*options.settings, f"train.iterations={iterations}", f"train.seed={seed}"]
            settings = read_settings(options.config, overrides)
            results.append(alone("rcnnkit", settings, options.split, 0.0, options.lr, options.batch))
            console.print(results[-1])
            if seed in theirs:
                seconds = results[-1]["minutes"] * 60
                results.append(alone("torchvision", settings, options.split, seconds, options.lr, options.batch))
                console.print(results[-1])
    table = Table(title=f"{results[0]['split']}, {settings.model.backbone} FPN, {torch.get_num_threads()} CPU threads")
    for column in ("", "seed", "minutes", "passes", "AP", "AP50", "VOC 11-point", "s / picture", "GB"):
        table.add_column(column, justify="left" if not column else "right")
    for r in results:
        numbers = [f"{r[n]:.3f}" for n in ("AP", "AP50", "voc_ap_11", "seconds_per_image")]
        minutes, passes = f"{r['minutes']:.1f}", f"{r['passes']:.1f}"
        table.add_row(r["which"], str(r["seed"]), minutes, passes, *numbers, f"{r['gigabytes']:.1f}")
    console.print(table)
    if options.json:
        measured.write(options.json, [{"": r["which"], **r} for r in results])


if __name__ == "__main__":
    main()
