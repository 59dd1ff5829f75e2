"""One wheel for every torch: python tools/check_wheel.py TORCH_VERSION

Builds the wheel beside the torch that is installed here, installs it in a fresh virtual environment beside another
torch, and runs the operators' tests there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> int:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pip = [sys.executable, "-m", "pip", "-q"]
        subprocess.run([*pip, "install", "scikit-build-core>=0.11", "ninja"], check=True)
        build: list[str | Path] = ["wheel", "--no-build-isolation", "--no-deps", "-w", folder / "wheel", ROOT]
        subprocess.run([*pip, *build], check=True)
        (wheel,) = (folder / "wheel").glob("*.whl")
        print(f"built {wheel.name}", flush=True)
        if not wheel.name.startswith("rcnnkit-") or "-py3-none-" not in wheel.name:
            raise SystemExit("the wheel is bound to a Python or an ABI")
        if "rcnnkit/py.typed" not in zipfile.ZipFile(wheel).namelist():
            raise SystemExit("the wheel does not say that it has types: rcnnkit/py.typed is missing")
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        python = folder / "venv" / "bin" / "python"
        others = ["numpy", "pytest", "pytest-xdist", "opencv-python-headless"]
        subprocess.run([python, "-m", "pip", "install", "-q", f"torch=={sys.argv[1]}", *others], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", wheel], check=True)
        # Away from the checkout, so that the installed package is what is tested.
        shutil.copytree(ROOT / "tests" / "ops", folder / "tests" / "ops")
        shutil.copy(ROOT / "pyproject.toml", folder)
        kernels = "tests/ops/test_cuda_on_host.py"  # compiles sources, whatever the torch
        tests = ["-m", "pytest", "-q", "-m", "not slow and not gpu", "--ignore", kernels, "tests/ops"]
        return subprocess.run([python, *tests], cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main())
