"""The server under load, its command, its workers and its end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import torch

from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import build
from rcnnkit.exporting.agreement import Limits, difference
from rcnnkit.memory import held_memory
from rcnnkit.serving.limits import ServerLimits
from rcnnkit.serving.server import SLOW_START, Served, check_libraries, run_server
from rcnnkit.structures import Detections
from rcnnkit.weights import load, save
from tests.exporting.conftest import settings
from tests.serving.answers import detections
from tests.serving.conftest import huge_png, jpeg, serving

REQUESTS, TOGETHER, EARLIER = 500, 16, 96
SIZES = [(90, 120), (97, 61), (64, 64)]
SAME = Limits(0.05, 0.5, 10)


def test_load(detector: Detector) -> None:
    """Good and bad requests beside each other: each good one is answered as the detector does, each bad one refused."""
    import httpx

    good = [jpeg(*size, seed) for seed, size in enumerate(SIZES)]
    wanted = [detector(data) for data in good]
    bad = {
        good[0][:1000]: (400, "cannot be decoded"),
        huge_png(): (413, "2,500,000,000 pixels, more than 50,000,000"),
        b"<html>no picture</html>": (400, "no known kind of picture"),
        b"": (400, "is empty"),
        bytes(70_000): (413, "70,000 bytes, more than 65,536"),
    }
    queue = [*good, *bad] * (REQUESTS // 8 + 1)

    here = threading.local()  # a connection for each thread; httpx would take longer than the server

    def ask(port: int, data: bytes) -> int:
        if not hasattr(here, "client"):
            here.client = HTTPConnection("127.0.0.1", port, timeout=60)
        here.client.request("POST", "/detect", data)
        answer = here.client.getresponse()
        said = json.loads(answer.read())
        if data in bad:
            status, reason = bad[data]
            assert (answer.status, reason in said["detail"]) == (status, True), said
        else:
            assert answer.status == 200, said
            assert difference(wanted[good.index(data)], detections(said), SAME) == ""
        return answer.status

    limits = ServerLimits(delay=2, megabytes=1 / 16, waiting=TOGETHER)
    with serving(detector, limits) as (address, _), httpx.Client(base_url=address, timeout=60) as client:

        def asked(number: int) -> Counter[int]:
            with ThreadPoolExecutor(TOGETHER) as threads:
                return Counter(threads.map(lambda data: ask(httpx.URL(address).port or 80, data), queue[:number]))

        asked(EARLIER)  # until all that is kept is there
        before = held_memory()
        statuses = asked(REQUESTS)
        after = held_memory()
        counted = client.get("/metrics").text
        assert client.get("/health").status_code == 200
    assert statuses == {200: 189, 400: 187, 413: 124}
    assert before
    assert after
    assert after - before < 16 * 2**20
    numbers = dict(line.rsplit(" ", 1) for line in counted.splitlines() if not line.startswith("#"))
    pictures, calls = (float(numbers[f"rcnnkit_batch_pictures_{part}"]) for part in ("sum", "count"))
    assert pictures == 189 + 36
    assert calls < 0.7 * pictures  # they went together
    assert float(numbers["rcnnkit_requests_waiting"]) == 0


def test_requests_that_have_begun_are_answered_at_the_end(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    from rcnnkit.serving.application import _Service

    def slowly(_: object, pictures: list[Any]) -> list[Detections]:
        time.sleep(1.0)
        return detector(pictures)

    monkeypatch.setattr(_Service, "detect", slowly)
    picture = jpeg(64, 64)
    with serving(detector, ServerLimits(batch=1, delay=0)) as (address, server), ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(httpx.post, f"{address}/detect", content=picture, timeout=60) for _ in range(3)]
        time.sleep(1.5)  # all have been connected by then, also on a busy machine
        server.should_exit = True
        answers = [each.result() for each in asked]
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/health")


def test_what_is_wrong_is_said_before_it_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            OSError, match=rf"127.0.0.1:{port} cannot be listened at \(Address already in use\); choose"
        ):
            run_server(Served(tmp_path / "none"), "127.0.0.1", port, 1)
    with pytest.raises(FileNotFoundError, match="none"):
        run_server(Served(tmp_path / "none"), "127.0.0.1", port, 1)
    monkeypatch.setattr("rcnnkit.serving.server.find_spec", lambda name: None if name == "uvicorn" else True)
    with pytest.raises(ValueError, match=r"a server needs uvicorn, not installed here: pip install 'rcnnkit\[serve\]'"):
        check_libraries()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made_from = settings(input={"short_side": 320, "long_side": 480})
    file = tmp_path_factory.mktemp("weights") / "w.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save(build(made_from, ["cat", "dog"]).eval(), made_from, file)
    return file


@contextmanager
def command(weights: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`rcnnkit serve` in a process, and its address."""
    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "rcnnkit", "serve", str(weights), "--port", str(port), *options]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                if httpx.get(f"{address}/health", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.2)
        yield address, process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.slow  # three processes that import torch
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_several_workers_and_their_end(weights: Path, number: int) -> None:
    import httpx

    picture = jpeg(240, 320)
    with command(weights, "--workers", "2", "--device", "cpu") as (address, process):
        with ThreadPoolExecutor(8) as threads:

            def post(_: int) -> Any:
                return httpx.post(f"{address}/detect", content=picture, timeout=60)

            assert {answer.status_code for answer in threads.map(post, range(40))} == {200}
            text = httpx.get(f"{address}/metrics").text
            assert 'rcnnkit_requests_total{status="200"} 40.0' in text.splitlines()  # of both
            assert "rcnnkit_requests_waiting 0.0" in text.splitlines()
            asked = [threads.submit(post, i) for i in range(6)]
            time.sleep(0.05)
            process.send_signal(number)
            done = [each.result() for each in asked if not isinstance(each.exception(), httpx.TransportError)]
        assert {answer.status_code for answer in done} <= {200}
        assert process.wait(60) == 0
        said = process.communicate()[0]
    assert said.splitlines() == [f"serving {weights} at {address}"]


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(weights: Path) -> None:
    import httpx
    import psutil

    with command(weights, "--workers", "2", "--device", "cpu") as (address, process):
        picture = jpeg(240, 320)
        workers = [
            child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())
        ]
        assert len(workers) == 2
        os.kill(workers[0].pid, signal.SIGKILL)
        deadline = time.monotonic() + 120
        answered = 0
        while answered < 20:
            assert time.monotonic() < deadline
            try:
                answered += httpx.post(f"{address}/detect", content=picture, timeout=60).status_code == 200
            except httpx.TransportError:
                time.sleep(0.1)
        process.terminate()
        assert process.wait(2 * SLOW_START) == 0  # it ends when the new worker has loaded torch


def _rate(work: Callable[[], int]) -> float:
    begun = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - begun)


@pytest.mark.slow
def test_throughput(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers at least 0.9 as many pictures a second as the detector called in batches of 8, in turns."""
    import httpx

    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    data = [jpeg(240, 320, seed) for seed in range(48)]
    detector = load(weights, "cpu")

    def library() -> int:
        return sum(len(detector(data[i : i + 8])) for i in range(0, len(data), 8))

    with (
        command(weights, "--device", "cpu") as (address, _),
        httpx.Client(timeout=60) as client,
        ThreadPoolExecutor(TOGETHER) as threads,
    ):

        def post(picture: bytes) -> int:
            return int(client.post(f"{address}/detect", content=picture).status_code == 200)

        def server() -> int:
            return sum(threads.map(post, data))

        library(), server()
        ratios = sorted(_rate(server) / _rate(library) for _ in range(5))
    print(f"throughput, server to library: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    assert ratios[2] >= 0.9
