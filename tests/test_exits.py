"""Every way out of a training ends all its processes within seconds, with the right exit status."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rcnnkit import weights
from rcnnkit.config_files import check_settings, write_settings

SECONDS = 60.0  # a few on a machine that has nothing else to do; a process that hangs takes for ever

# Every way is a fork of one process, which has loaded torch; it goes on as if it were the command or a user's script.
WAYS_OUT = """
import gc, os, sys, time
from pathlib import Path

import timm
from rcnnkit import cli
from rcnnkit.config_files import read_settings
from rcnnkit.data import loading
from rcnnkit.data.reading import read_data
from rcnnkit.data.transforms import Augmentation
from rcnnkit.training import alternating, classification, detection, loop, rcnn_stages
from tensorboard.compat.proto import event_pb2

folder, *ways = sys.argv[1:]
names, way = {}, None
gc.collect()
gc.freeze()  # what is there already stays shared
for each in ways:
    if (process := os.fork()) == 0:
        way = each
        os.setsid()
        output = os.open(f"{folder}/{way}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        break
    names[process] = each
    print(each, process, flush=True)
while way is None and names:
    process, status = os.wait()
    print(names.pop(process), os.waitstatus_to_exitcode(status), flush=True)

step, evaluate, read, main = loop.step, detection.look, loading.read_picture, os.getpid()
settings = Path(folder, "evaluated.toml" if way and "evaluation" in way else "settings.toml")

def stepping(*arguments):
    iteration = arguments[0].run.progress.iteration
    if iteration == 1:
        if way == "loop":
            raise RuntimeError("CUDA out of memory")
        print("ready", flush=True)
        while not Path(folder, f"{way}.acted").exists():
            time.sleep(0.05)
    return step(*arguments)

def evaluating(*arguments, **options):
    if way == "evaluation":
        raise RuntimeError("CUDA out of memory")
    print("ready", flush=True)
    time.sleep(600)  # until it is stopped

def reading(*arguments, **options):
    if way == "worker" and os.getpid() != main:
        raise AssertionError("a bug in a worker")
    return read(*arguments, **options)

if way in ("script", "script-error"):
    settings = read_settings(settings)
    records = read_data(settings.data.root, "train").records
    augmentation = Augmentation(settings.augment, settings.input)
    pictures = loading.Pictures(records, augmentation, False)
    batches = loading.load_batches(pictures, loading.draws(records, 2, 0), workers=2)
    print(len(next(batches).paths), flush=True)
    if way == "script-error":
        raise KeyError("mine")
elif way:
    loop.step, detection.look, loading.read_picture = stepping, evaluating, reading
    sys.argv = ["rcnnkit", "train", str(settings), "--out", f"{folder}/{way}"]
    cli.main()
"""

GOES_ON = "stopped after {} iterations; continue with rcnnkit train {}/settings.toml train.resume={}"


def living(session: int) -> list[int]:
    """The processes of a session, without those that have ended and nobody has asked about."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, own = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(own) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def to_all(process: int, number: int) -> None:
    os.killpg(process, number)  # as a terminal does, and `timeout`


# What is done to a training that says "ready", its exit status, and what it says in the end.
WAYS: dict[str, tuple[Callable[[int], None] | None, int, str]] = {
    "loop": (None, 1, "RuntimeError: CUDA out of memory"),
    "worker": (None, 1, "AssertionError: a bug in a worker"),
    "evaluation": (None, 1, "RuntimeError: CUDA out of memory"),
    "in-evaluation": (lambda process: to_all(process, signal.SIGTERM), 143, GOES_ON),
    "ctrl-c": (lambda process: to_all(process, signal.SIGINT), 130, GOES_ON),
    "sigterm": (lambda process: os.kill(process, signal.SIGTERM), 143, GOES_ON),
    "sigterm-to-all": (lambda process: to_all(process, signal.SIGTERM), 143, GOES_ON),
    "worker-killed": (
        lambda process: os.kill(children(process)[0], signal.SIGKILL),
        1,
        "error: a process that reads pictures was ended by SIGKILL. If the machine ran out of memory, set"
        " data.workers lower, which is how many there are",
    ),
    "killed": (lambda process: os.kill(process, signal.SIGKILL), -9, "ready"),
    "script": (None, 0, "2"),
    "script-error": (None, 1, "KeyError: 'mine'"),
}


def test_every_way_out_ends_all_processes(tiny: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    tiny["data"] |= {"workers": 2}
    for name, options in {"settings": {}, "evaluated": {"evaluate_every": 1}}.items():
        train = tiny["train"] | {"iterations": 1000, "save_every": 1000} | options
        write_settings(check_settings(tiny | {"train": train}, "test"), tmp_path / f"{name}.toml")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "500"}
    command = [sys.executable, "-c", WAYS_OUT, str(tmp_path), *WAYS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as forks:
        assert forks.stdout
        processes = dict(forks.stdout.readline().split() for _ in WAYS)
        try:
            for way, (act, _, said) in WAYS.items():
                process, file = int(processes[way]), tmp_path / f"{way}.txt"
                if act:
                    while "ready" not in file.read_text() and living(process):
                        time.sleep(0.05)
                    act(process)
                    (tmp_path / f"{way}.acted").touch()
                while said.partition("{")[0] not in file.read_text() and living(process):
                    time.sleep(0.05)
                began = time.monotonic()
                while left := living(process):
                    assert time.monotonic() - began < SECONDS, (way, left, file.read_text())
                    time.sleep(0.05)
            ended = dict(forks.stdout.readline().split() for _ in WAYS)
        finally:
            for process in map(int, processes.values()):
                for each in living(process):
                    os.kill(each, signal.SIGKILL)
    for way, (_, status, said) in WAYS.items():
        run, output = tmp_path / way, (tmp_path / f"{way}.txt").read_text()
        assert int(ended[way]) == status, (way, output)
        done = "" if said != GOES_ON else weights.read(run / "last.safetensors")[0]["training"]["iteration"]
        assert said.format(done, run, run) in output.splitlines(), (way, output)
        assert (run / ".lock").exists() == (way == "killed")
    assert weights.read(tmp_path / "worker-killed" / "last.safetensors")[0]["training"]["iteration"] in (2, 3)


FORKED = """
import multiprocessing, os, sys, time
import numpy as np
import torch
from rcnnkit.config_files import check_settings
from rcnnkit.detectors.kinds import build
from rcnnkit.inference import prepare
from rcnnkit.ops import nms
from rcnnkit.proposals.selective_search import selective_search

torch.set_num_threads(2)
torch.manual_seed(0)
tiny = {"model": {"backbone": "resnet18", "norm": "batch"}, "input": {"short_side": 128, "long_side": 160}}
tiny |= {"rpn": {"post_nms": 100}, "head": {"hidden": 64}}
detector = build(check_settings(tiny | {"data": {"root": "none"}}, "test"), ["a", "b"]).eval()
prepared = prepare(detector, "float32")
picture = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
boxes = torch.rand(2000, 4, generator=torch.Generator().manual_seed(0)).sort(dim=1).values

def compute():
    found = [each(picture).boxes for each in (detector, prepared)]
    small = selective_search(picture[:60, :80].copy(), "single").boxes
    return [*found, small, nms(boxes, boxes[:, 0], 0.5)]

before = compute()
assert len(before[0]) and len(before[1])

def child():
    for one, other in zip(before, compute(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-2, rtol=1e-4)
    print("same on", torch.get_num_threads(), flush=True)

process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join(60)  # on a busy machine; a child that waits for threads waits for ever
alive = process.is_alive()
process.kill()
if not alive and os.fork() == 0:
    child()
    os._exit(0)
if not alive:
    os.wait()
print(torch.get_num_threads(), process.exitcode, alive)
"""


def test_after_a_fork_one_thread_gives_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        timeout=300,
        check=True,
    )
    assert done.stdout.splitlines() == ["same on 1", "same on 1", "2 0 False"]
    line = (
        "this process was forked from one with 2 threads, which a fork does not copy, so rcnnkit computes on one"
        ' thread here; start processes by "spawn" to have more'
    )
    assert done.stderr.splitlines().count(line) == 2  # once a process
