"""How much memory a detector needs: estimated before it runs, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from rcnnkit.benchmark.measure.contenders import Contender
from rcnnkit.benchmark.measure.turns import measure
from rcnnkit.benchmark.options import Options
from rcnnkit.benchmark.results import Memory
from rcnnkit.data.records import Record
from rcnnkit.detectors.detector import Detector
from rcnnkit.memory import free_memory, peak_memory
from rcnnkit.structures import Size, Targets

PROCESS = 900e6  # bytes of a process that has imported torch and the rest, about
GB = 1e9
# What the other process reads: whom to measure, with which pictures, and how.
TASK = TypeAdapter(tuple[Contender, list[tuple[Path, Size]], Options])


def check_memory(contenders: Sequence[Contender], sizes: Sequence[Size], options: Options) -> None:
    """Raise ValueError where a detector will not fit into what is free.

    Args:
        sizes: (height, width) of the pictures.
    """
    device = torch.device(options.device)
    free = free_memory(device)
    largest = max(sizes, key=lambda size: size[0] * size[1])
    process = PROCESS if device.type == "cpu" else 0
    for contender in contenders:
        need = estimate(contender.load("meta", options.max_proposals), largest, options.batch) + process
        if free is not None and need > free:
            raise ValueError(
                f"{contender.title} needs about {need / GB:.1f} GB on {device} for {options.batch} of these pictures"
                f" at a time, and {free / GB:.1f} GB are free; lower --batch or --max-proposals, choose a smaller"
                " --backbone, or close other programs"
            )


def estimate(detector: Detector, size: Size, batch: int) -> float:
    """About how many bytes one detector takes, without the process around it.

    Its weights are there twice for a while, as they were read and prepared for detecting; what flows through the
    backbone counts at its widest, where a layer holds its input and output, and a convolution once more as much in
    its own order of memory; then there are the pixels, and the maps and the regions twice, as they are copied.

    Args:
        detector: on the meta device, where nothing is computed.
        size, batch: (height, width) of a picture, and how many at a time.
    """
    weights = sum(value.nbytes for value in detector.state_dict().values())
    widest = 0

    def see(_: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        nonlocal widest
        widest = max(widest, sum(value.nbytes for value in (*inputs, output) if isinstance(value, Tensor)))

    for module in detector.backbone.modules():
        if not any(module.children()):
            module.register_forward_hook(see)
    with torch.no_grad():
        pixels, features, regions = detector.sketch(size, batch)
    return 2 * (weights + widest) + pixels.nbytes + 2 * sum(value.nbytes for value in (*features, *regions))


def peaks(contender: Contender, records: Sequence[Record], options: Options) -> Memory:
    """The most bytes that a process of its own, and the device, held while it detected in these pictures.

    Raises:
        OSError: the process failed.
    """
    task = TASK.dump_json((contender, [(record.path, record.size) for record in records], options))
    run = subprocess.run([sys.executable, "-m", "rcnnkit.benchmark.measure.memory"], input=task, capture_output=True)
    if run.returncode:
        last = (run.stderr.decode().strip() or f"exit status {run.returncode}").splitlines()[-1]
        raise OSError(f"the memory of {contender.title} could not be measured: {last}")
    return Memory(**json.loads(run.stdout.splitlines()[-1]))


def _peaks_of_this_process(contender: Contender, pictures: list[tuple[Path, Size]], options: Options) -> Memory:
    torch.set_num_threads(options.threads)
    nothing = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    records = [Record(i, path, size, nothing) for i, (path, size) in enumerate(pictures)]
    measure(contender.ready(options), records, options.device)
    on_gpu = options.device.startswith("cuda")
    return Memory(peak_memory(), torch.cuda.max_memory_allocated(options.device) if on_gpu else None)


if __name__ == "__main__":
    print(json.dumps(asdict(_peaks_of_this_process(*TASK.validate_json(sys.stdin.read())))))
