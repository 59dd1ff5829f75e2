"""How fast a training step is beside another process that keeps a core busy, by how OpenMP's threads wait.

    python tools/benchmark_busy.py [--out busy.json] [--repeats 3]

The step is a ResNet-18's on 128 windows of 64 × 64 pixels, forward and backward, in float32 and in bf16. Every row is a
process of its own, since OpenMP reads its settings once. Wall and processor seconds of a step, medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CASES: Mapping[str, Mapping[str, str]] = {
    "as it is": {},
    "GOMP_SPINCOUNT=20000": {"GOMP_SPINCOUNT": "20000"},
    "GOMP_SPINCOUNT=2000": {"GOMP_SPINCOUNT": "2000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "KMP_BLOCKTIME=0": {"KMP_BLOCKTIME": "0"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
KEPT_BUSY = "while True: pass"


def measure(repeats: int) -> dict[str, list[float]]:
    """In this process: (wall, processor) seconds of a step in each precision, alone and beside a busy core."""
    import torch
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model, windows = resnet18(num_classes=21), torch.rand(128, 3, 64, 64)

    def step(dtype: torch.dtype) -> tuple[float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
            loss = model(windows).float().square().mean()
        loss.backward()
        return time.perf_counter() - wall, time.process_time() - processor

    found = {}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        step(dtype)
        for where in ("alone", "beside"):
            other = subprocess.Popen([sys.executable, "-c", KEPT_BUSY]) if where == "beside" else None
            try:
                time.sleep(0.2)
                times = [step(dtype) for _ in range(repeats)]
            finally:
                if other:
                    other.kill()
                    other.wait()
            found[f"{name}, {where}"] = [statistics.median(each) for each in zip(*times, strict=True)]
    return found


def row(name: str, found: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    values: dict[str, Any] = {"": name}
    for case, (wall, processor) in found.items():
        values |= {f"{case}, s": wall, f"{case}, processor s": processor}
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a JSON file for the rows")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--one", action="store_true", help="measure in this process, as it was started")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.repeats)))
        return
    rows = []
    for name in options.cases:
        unset = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}
        command = [sys.executable, __file__, "--one", "--repeats", str(options.repeats)]
        done = subprocess.run(command, env={**unset, **CASES[name]}, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(row(name, json.loads(done.stdout)))
        print(name, *(f"{key} {value:.2f}" for key, value in rows[-1].items() if key), sep="\n  ", flush=True)
    if options.out:
        import measured

        measured.write(options.out, rows)


if __name__ == "__main__":
    main()
