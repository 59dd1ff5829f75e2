"""A program on every instruction set: in processes forked from one, which has loaded torch for all of them."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

LEVELS = ["baseline", "avx2", "avx512", "avx512bf16", "amx"]

FORKS = """
import os, sys, torch
program, folder, *levels = sys.argv[1:]
for level in levels:
    if (process := os.fork()) == 0:
        os.environ["RCNNKIT_CPU_LEVEL"] = level
        output = os.open(f"{folder}/{level}", os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        exec(compile(program, "program", "exec"), {"level": level})
        sys.stdout.flush()
        os._exit(0)
    print(level, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""


def on_each_level(program: str) -> dict[str, str]:
    """What the program prints on each level that this CPU has; `level` is a name in it."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", FORKS, program, folder, *LEVELS],
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # a fork copies no threads
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
        )
        printed = {}
        for line in done.stdout.splitlines():
            level, status = line.split()
            said = Path(folder, level).read_text()
            if "does not run here" not in said:
                assert status == "0", (level, said)
                printed[level] = said
    assert "baseline" in printed, done.stderr
    return printed
