"""Several processes that train, as torchrun would start them; each is a fork of one that has loaded torch."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SCRIPT = """
import gc, json, os, signal, socket, sys, time, traceback
from pathlib import Path

import sklearn.svm  # which each SVM's process would load anew
import torch

from rcnnkit import cli
from rcnnkit.training import alternating, classification, detection, loop, ranks, rcnn_stages, suggest, train
from tensorboard.compat.proto import event_pb2

folder, jobs = Path(sys.argv[1]), json.loads(sys.argv[2])

def start(name, rank, size, port, variables, arguments, code):
    if process := os.fork():
        return process
    output = os.open(folder / f"{name}-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **variables}
    sys.argv = ["rcnnkit", *arguments]
    status = 1
    try:
        exec(code, globals() | {"rank": rank})
        cli.main()
    except SystemExit as error:
        status = error.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # taking down all modules would copy the memory that the processes share

gc.collect()
gc.freeze()  # what is there already stays shared
for name, size, variables, arguments, code in jobs:  # one after another: there are few cores
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(name, rank, size, port, variables, arguments, code) for rank in range(size)]
    began, ends, told = time.perf_counter(), {}, False
    while len(ends) < size:  # as torchrun: the first failure ends all, which are told so once
        process, status = os.waitpid(-1, os.WNOHANG)
        if process:
            ends[process] = os.waitstatus_to_exitcode(status)
        elif any(ends.values()) and not told:
            told = True
            for process in set(processes) - set(ends):
                os.kill(process, signal.SIGTERM)
        elif time.perf_counter() - began > 100:
            for process in set(processes) - set(ends):
                os.kill(process, signal.SIGKILL)
        else:
            time.sleep(0.05)
    print(json.dumps([name, [ends[process] for process in processes], time.perf_counter() - began]), flush=True)
"""

Job = tuple[str, int, Mapping[str, str], Sequence[str], str]  # name, processes, environment, arguments, code before


def run_jobs(folder: Path, jobs: Sequence[Job], timeout: float = 300) -> dict[str, tuple[list[int], list[str], float]]:
    """Run `rcnnkit` for each job by several processes; by name their exit statuses, what they printed, and seconds."""
    environment = {name: value for name, value in os.environ.items() if name != "RCNNKIT_TRACEBACK"}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-c", SCRIPT, str(folder), json.dumps(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout)
    assert done.returncode == 0, done.stderr
    results = {}
    for name, statuses, seconds in map(json.loads, done.stdout.splitlines()):
        said = [(folder / f"{name}-{rank}.txt").read_text() for rank in range(len(statuses))]
        results[name] = statuses, said, seconds
    return results
