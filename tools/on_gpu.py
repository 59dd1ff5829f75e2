"""Everything that only a GPU can tell, in one command: python tools/on_gpu.py --out FOLDER [--only PART …]

It builds the CUDA operators, runs the tests marked `gpu`, and times operators, detecting, training and the three
detectors, each beside torchvision where it has the same. A part that fails or takes too long leaves the others alone.
All parts together are given at most eight minutes.

FOLDER gets a log of every part, the JSON files that the benchmarks write (`python tools/render_numbers.py add` takes
them), and results.json with all of them. A short table comes last. The exit status is 0 if every part succeeded.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measured
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable
TOOLS = ROOT / "tools"
SHOWN = 12  # rows of a part in the last table


@dataclass(frozen=True)
class Part:
    """A command that is run in the repository's root. `{out}` in it is the folder, `{json}` the part's own file."""

    command: Sequence[str]
    limit: int  # seconds


BUILD = (
    f"cmake -S . -B {{out}}/build -G Ninja -DRCNNKIT_CUDA=ON -DPython_EXECUTABLE={PYTHON}"
    " -DCMAKE_CUDA_ARCHITECTURES=native"
    " && cmake --build {out}/build && cp {out}/build/librcnnkit_ops*.so rcnnkit/ops/"
)
NO_SANITIZER = ["-k", "not sanitizer"]  # under it the kernels take minutes
DIGITS = "from rcnnkit.data.digits import write_digits; write_digits(r'{out}/digits', train=64)"
CONFIG = "configs/faster_rcnn_resnet18_fpn_bccd.toml"
DETECTORS = [PYTHON, str(TOOLS / "benchmark_detectors.py")]
ON_CUDA = ["--device", "cuda", "--json", "{json}"]
FAMILY = [
    "--random",
    "--backbone",
    "resnet50",
    "--device",
    "cuda",
    "--limit",
    "10",
    "--split",
    "val",
    "--data",
    "{out}/digits",
]
PARTS: Mapping[str, Part] = {
    "build": Part(["bash", "-c", BUILD], 80),
    "tests": Part([PYTHON, "-m", "pytest", "-q", "-n", "0", "-m", "gpu", "-p", "no:cacheprovider", *NO_SANITIZER], 75),
    "operators": Part([PYTHON, str(TOOLS / "benchmark_ops.py"), "--rounds", "9", *ON_CUDA], 35),
    "detecting": Part([*DETECTORS, "inference", *ON_CUDA], 50),
    "detecting_batch": Part([*DETECTORS, "inference", "--batch", "8", "--turns", "3", *ON_CUDA], 45),
    "detecting_compiled": Part([*DETECTORS, "inference", "--compiled", "--turns", "3", *ON_CUDA], 92),
    "digits": Part([PYTHON, "-c", DIGITS], 20),
    "training": Part([*DETECTORS, "training", CONFIG, "data.root={out}/digits", *ON_CUDA], 30),
    "windows": Part([*DETECTORS, "windows", "--turns", "3", *ON_CUDA], 18),
    "family": Part([PYTHON, "-m", "rcnnkit", "benchmark", "--out", "{out}/family", *FAMILY], 35),
}


def run(name: str, part: Part, out: Path) -> dict[str, Any]:
    """Run a part to its end or limit, and say how that went; all of its output is in FOLDER/NAME.log."""
    places = {"{out}": str(out), "{json}": str(out / f"{name}.json")}
    command = list(part.command)
    for word, value in places.items():
        command = [argument.replace(word, value) for argument in command]
    began = time.perf_counter()
    log = out / f"{name}.log"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "140"}
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = "passed" if process.wait(part.limit) == 0 else f"failed with {process.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with whatever it started
            process.wait()
            status = f"stopped after {part.limit} s"
    lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    return {"status": status, "seconds": time.perf_counter() - began, "last": lines[-1] if lines else ""}


def gathered(out: Path, outcomes: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """All that was found, for results.json."""
    parts: dict[str, Any] = {}
    for name, outcome in outcomes.items():
        file = out / f"{name}.json"
        parts[name] = outcome | ({"result": json.loads(file.read_text(encoding="utf-8"))} if file.exists() else {})
    family = out / "family" / "results.json"
    if "family" in parts and family.exists():
        parts["family"]["result"] = json.loads(family.read_text(encoding="utf-8"))
    return {**measured.conditions(), "parts": parts}


def table(results: Mapping[str, Any]) -> Table:
    """The outcome of each part, and the first rows of what it measured."""
    shown = Table(title=f"{results['processor']}, torch {results['torch']}, {results['date']}", title_justify="left")
    for column in ("part", "outcome", "s", "", "measured"):
        shown.add_column(column, justify="right" if column == "s" else "left")
    for name, part in results["parts"].items():
        rows = part.get("result", {}).get("rows", [])[:SHOWN]
        names = "\n".join(row[""] for row in rows) or part["last"][:60]
        shown.add_row(name, part["status"], f"{part['seconds']:.0f}", names, "\n".join(map(_values, rows)))
    return shown


def _values(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value:.3g}" for key, value in row.items() if isinstance(value, int | float))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a new folder; by default a temporary one")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts, in this order")
    options = parser.parse_args()
    out = (options.out or Path(tempfile.mkdtemp(prefix="rcnnkit-gpu-"))).resolve()
    out.mkdir(parents=True, exist_ok=True)
    console = Console()
    outcomes: dict[str, dict[str, Any]] = {}
    for name in options.only:
        outcomes[name] = run(name, PARTS[name], out)
        console.print(f"{name}: {outcomes[name]['status']}, {outcomes[name]['seconds']:.0f} s", highlight=False)
        # After each part, since the machine may be gone before the last one.
        results = gathered(out, outcomes)
        (out / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")
    console.print(table(results))
    console.print(f"logs and results.json are in {out}")
    return 0 if all(outcome["status"] == "passed" for outcome in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
