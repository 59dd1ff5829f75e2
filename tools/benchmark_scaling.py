"""What several processes that train one model spend on talking and waiting, and what many GPUs would.

`python tools/benchmark_scaling.py` trains a Faster R-CNN for some iterations with one and with two processes (gloo on
the CPU), and prints pictures a second and the share of an iteration that goes into communication and into waiting. On
few cores the speed says little; the shares and the bytes are what counts. From the bytes of the gradients, a model of
ring all-reduce tells what 8 and 64 GPUs would spend. docs/numbers/scaling.md has its assumptions.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from measured import write
from torch.nn.parallel import DistributedDataParallel

from rcnnkit.backbones.names import architecture
from rcnnkit.config_files import check_settings
from rcnnkit.data.digits import write_digits
from rcnnkit.detectors.kinds import build
from rcnnkit.training import loop, ranks
from rcnnkit.training.train import train

# Bytes a second that each GPU sends and receives at a time, and seconds for a message to arrive.
LINKS = {
    "NVLink": (300e9, 5e-6),  # of 450 GB/s in each direction between the GPUs of an H100 machine, what NCCL reaches
    "25 Gb/s": (25e9 / 8 * 0.9, 30e-6),  # of Ethernet, what remains beside headers; shared by the GPUs of a machine
}
GPUS_OF_A_MACHINE = 8
BACKWARD = 2 / 3  # of an iteration; gradients are sent while it goes on
FIRST_BUCKET = 25 * 2**20  # bytes; DistributedDataParallel begins to send when so many are there


def ring(size: float, gpus: int, link: str) -> float:
    """Seconds in which a ring adds up `size` bytes of every GPU (Patarasuk and Yuan 2009).

    In 2 (n - 1) steps each GPU sends 1/n of the bytes to the next one. Beyond one machine, the slow link between the
    machines carries the ring's bytes once in each direction, and all GPUs of a machine wait for it.
    """
    speed, delay = LINKS[link]
    return 2 * (gpus - 1) / gpus * size / speed + 2 * (gpus - 1) * delay


def iteration(compute: float, size: float, gpus: int) -> dict[str, float]:
    """Seconds of an iteration that takes one GPU `compute` seconds, as the slower of computing and sending.

    Returns:
        `communication`, `exposed` (not hidden behind the backward pass) and `efficiency`: pictures a second, as a share
        of `gpus` times one GPU's.
    """
    if gpus <= GPUS_OF_A_MACHINE:
        sent = ring(size, gpus, "NVLink")
    else:  # within the machines, then between them, as NCCL's trees and rings of machines do
        sent = ring(size, GPUS_OF_A_MACHINE, "NVLink") + ring(size, gpus // GPUS_OF_A_MACHINE, "25 Gb/s")
    last = FIRST_BUCKET / size * sent  # the bucket that is ready only when the backward pass has ended
    exposed = max(sent - BACKWARD * compute, min(last, sent))
    return {"communication": sent, "exposed": exposed, "efficiency": compute / (compute + exposed)}


def gradient_bytes(backbone: str) -> int:
    """Of a Faster R-CNN with a pyramid and 80 classes: four bytes for each weight that learns."""
    neck = architecture(backbone).necks[0]
    model = {"backbone": backbone, "neck": neck, "pretrained": False, "norm": "batch"}
    made = check_settings({"model": model, "data": {"root": "."}}, "tool")
    with torch.device("meta"):
        detector = build(made, [str(i) for i in range(80)])
    return 4 * sum(weight.numel() for weight in detector.parameters() if weight.requires_grad)


class Clock:
    """Seconds in calls of functions, which go on as they did."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **more: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **more)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

        return timed


def measured(folder: Path, size: int, iterations: int, batch: int) -> None:
    """One process's part; the first prints what it measured."""
    clock = Clock()
    rank = int(os.environ.get("RANK", "0"))
    values = {
        "model": {"backbone": "resnet18", "norm": "batch", "pretrained": False, "fpn_channels": 64},
        "input": {"short_side": 128, "long_side": 128},
        "data": {"root": str(folder / "data"), "workers": 0, "val": ""},
        "train": {"iterations": iterations, "batch": batch, "device": "cpu", "precision": "float32", "loggers": []},
    }
    step = loop.step
    times: list[float] = []

    def stepping(task: Any, given: Any, scaler: Any) -> Any:
        began = time.perf_counter()
        if size > 1:  # how long the others are still busy: what a barrier takes is waiting, not talking
            clock.around("waiting", dist.barrier)()
            began = time.perf_counter()
        losses = step(task, given, scaler)
        times.append(time.perf_counter() - began)
        return losses

    def hook(state: Any, bucket: Any) -> Any:
        """Add up a bucket at once: what that takes is communication, and nothing hides it."""
        tensor = bucket.buffer()
        sent.append(tensor.numel() * tensor.element_size())
        clock.around("gradients", dist.all_reduce)(tensor.div_(size))
        future: torch.futures.Future[Any] = torch.futures.Future()
        future.set_result(tensor)
        return future

    hook.__annotations__.clear()  # torch compares them with its own classes, and these are texts
    sent: list[int] = []
    loop.step = stepping  # type: ignore[assignment]
    ranks.Ranks._reduced = clock.around("counts", ranks.Ranks._reduced)  # type: ignore[method-assign]

    def with_hook(*given: Any, **more: Any) -> DistributedDataParallel:
        made = DistributedDataParallel(*given, **more)
        made.register_comm_hook(None, hook)
        return made

    ranks.DistributedDataParallel = with_hook  # type: ignore[assignment, misc]
    train(check_settings(values, "tool"), folder / f"run-{size}")
    if rank == 0:
        usual = sorted(times[2:])[len(times[2:]) // 2]
        total = sum(times) + clock.seconds.get("waiting", 0.0)
        row = {
            "processes": size,
            "seconds": usual,
            "pictures_per_second": batch / usual,
            "gradients": clock.seconds.get("gradients", 0.0) / total,
            "counts": clock.seconds.get("counts", 0.0) / total if size > 1 else 0.0,
            "waiting": clock.seconds.get("waiting", 0.0) / total,
            "bytes": sum(sent) / iterations,
        }
        (folder / f"{size}.json").write_text(json.dumps(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=12)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--backbones", nargs="*", default=["resnet18", "resnet50", "resnet101"])
    parser.add_argument("--compute", type=float, default=0.25, help="seconds of an iteration on one GPU; for the model")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)  # folder and number of processes
    options = parser.parse_args()
    if options.part:
        measured(Path(options.part[0]), int(options.part[1]), options.iterations, options.batch)
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        write_digits(Path(place, "data"), train=16, val=2, size=(128, 128))
        for size in (1, 2):
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            common = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            command = [sys.executable, __file__, "--part", place, str(size)]
            command += ["--iterations", str(options.iterations), "--batch", str(options.batch)]
            processes = [
                subprocess.Popen(command, env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
                for rank in range(size)
            ]
            statuses = [process.wait() for process in processes]
            if any(statuses):
                raise SystemExit("a process failed")
            rows.append(json.loads(Path(place, f"{size}.json").read_text()))
    for row in rows:
        print(
            f"{row['processes']} processes: {row['pictures_per_second']:.1f} pictures a second; of the time"
            f" {row['gradients']:.0%} adds up gradients ({row['bytes'] / 1e6:.1f} MB an iteration), {row['counts']:.0%}"
            f" counts of samples, {row['waiting']:.0%} waits for the slower one"
        )
    model = []
    for backbone in options.backbones:
        size = gradient_bytes(backbone)
        for gpus in (8, 64):
            found = iteration(options.compute, size, gpus)
            model.append({"backbone": backbone, "gpus": gpus, "bytes": size} | found)
            print(
                f"{backbone}, {gpus} GPUs: {size / 1e6:.0f} MB, {1000 * found['communication']:.1f} ms to add up,"
                f" {1000 * found['exposed']:.1f} ms of it beyond the backward pass; {found['efficiency']:.1%} of the"
                f" speed of {gpus} alone"
            )
    if options.json:
        write(options.json, rows, model=model)


if __name__ == "__main__":
    main()
