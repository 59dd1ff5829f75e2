"""How much memory a detector needs: estimated before it runs, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rcnnkit.benchmark.compare import measure
from rcnnkit.benchmark.contenders import ready
from rcnnkit.benchmark.machine import free_memory, peak_memory
from rcnnkit.benchmark.variants import TITLES, Variant
from rcnnkit.data.records import Record
from rcnnkit.detectors.build import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.structures import Size, Targets

PROCESS = 900e6  # bytes of a process that has imported torch and the rest, about
GB = 1e9


@dataclass(frozen=True, slots=True)
class Load:
    """What a detector is to do, as far as memory is concerned."""

    device: str
    precision: str  # float32, bf16, fp16
    batch: int
    proposals: int  # 0: as many as it was made for
    threads: int


def check_memory(variants: Sequence[Variant], sizes: Sequence[Size], load: Load) -> None:
    """Raise ValueError where a detector will not fit into what is free.

    Args:
        sizes: (height, width) of the pictures.
    """
    device = torch.device(load.device)
    free = free_memory(device)
    largest = max(sizes, key=lambda size: size[0] * size[1])
    process = PROCESS if device.type == "cpu" else 0
    for variant in variants:
        need = estimate(variant, largest, load) + process
        if free is not None and need > free:
            raise ValueError(
                f"{TITLES[variant.name]} needs about {need / GB:.1f} GB on {device} for {load.batch} of these pictures"
                f" at a time, and {free / GB:.1f} GB are free; lower --batch or --proposals, choose a smaller"
                " --backbone, or end what else is running"
            )


def estimate(variant: Variant, size: Size, load: Load) -> float:
    """About how many bytes one detector takes, without the process around it.

    Its weights are there twice for a while, as they were read and prepared for detecting; what flows through the
    backbone counts at its widest, where a layer holds its input and output, and a convolution once more as much in
    its own order of memory; and then there is what stays for the regions.
    """
    detector = _on_meta(variant)
    weights = sum(value.nbytes for value in detector.state_dict().values())
    return 2 * weights + _activations(detector, variant, size, load)


def _on_meta(variant: Variant) -> nn.Module:
    """The detector with shapes and without numbers."""
    model = variant.settings.model.model_copy(update={"pretrained": False})
    settings: DetectorSettings = variant.settings.model_copy(update={"model": model})
    with torch.device("meta"):
        return build(settings, variant.class_names)


def _activations(detector: nn.Module, variant: Variant, size: Size, load: Load) -> float:
    settings, network = variant.settings, detector.get_submodule("backbone").eval()
    count = load.proposals or (settings.rpn.post_nms if variant.name == "faster-rcnn" else settings.proposals.count)
    if variant.name == "rcnn":
        side = settings.window_size
        pixels = torch.empty(min(settings.rcnn.batch, count), 3, side, side, device="meta")
    else:
        height, width = settings.input.resized(size)
        divisor = settings.input.divisor
        shape = (-(-height // divisor) * divisor, -(-width // divisor) * divisor)
        pixels = torch.empty(load.batch, 3, *shape, device="meta")
    widest = 0.0

    def see(_: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        nonlocal widest
        widest = max(widest, 2.0 * sum(each.nbytes for each in (*inputs, output) if isinstance(each, Tensor)))

    for module in network.modules():
        if not any(module.children()):
            module.register_forward_hook(see)
    with torch.no_grad():
        kept = network(pixels)
    if variant.name == "rcnn":  # features of every window, and the copy that joins them
        per_window = sum(each.nbytes for each in kept.values()) / len(pixels)
        return widest + pixels.nbytes + 2 * count * per_window
    pooled = settings.model.pool_size or (14 if settings.model.neck == "c4" else 7)
    regions = load.batch * count * kept[0].shape[1] * pooled**2 * 4
    return widest + 2 * sum(each.nbytes for each in kept) + 2 * regions


def peaks(variant: Variant, records: Sequence[Record], load: Load) -> dict[str, int | None]:
    """The most bytes that a process of its own, and the device, held while it detected in these pictures.

    Raises:
        OSError: the process failed.
    """
    task = {
        "variant": {
            "name": variant.name,
            "settings": variant.settings.model_dump(mode="json"),
            "class_names": variant.class_names,
            "weights": str(variant.weights.absolute()) if variant.weights else None,
        },
        "pictures": [(str(record.path.absolute()), record.size) for record in records],
        "load": {name: getattr(load, name) for name in Load.__slots__},
    }
    run = subprocess.run(
        [sys.executable, "-m", "rcnnkit.benchmark.memory"], input=json.dumps(task), capture_output=True, text=True
    )
    if run.returncode:
        last = (run.stderr.strip() or f"exit status {run.returncode}").splitlines()[-1]
        raise OSError(f"the memory of {TITLES[variant.name]} could not be measured: {last}")
    answer: dict[str, int | None] = json.loads(run.stdout.splitlines()[-1])
    return answer


def _peaks_of_this_process(task: dict[str, Any]) -> dict[str, int | None]:
    load, about = Load(**task["load"]), task["variant"]
    device = torch.device(load.device)
    torch.set_num_threads(load.threads)
    weights = Path(about["weights"]) if about["weights"] else None
    settings = DetectorSettings.model_validate(about["settings"])
    variant = Variant(about["name"], settings, tuple(about["class_names"]), weights)
    detector = variant.load(device, load.proposals)
    contender = ready(variant.name, TITLES[variant.name], detector, load.precision)
    nothing = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    records = [Record(path, Path(path), tuple(size), nothing) for path, size in task["pictures"]]
    measure(contender, records, device)
    on_device = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"process": peak_memory(), "device": on_device}


if __name__ == "__main__":
    print(json.dumps(_peaks_of_this_process(json.load(sys.stdin))))
