"""Other processes that hold a training up are noticed."""

import logging
import os
import time

import pytest

from rcnnkit.training import neighbours
from rcnnkit.training.neighbours import Load, Neighbours, others

BEFORE = Load(1000, 400, 100)


@pytest.mark.parametrize(
    ("after", "share"),
    [
        (Load(3000, 420, 1080), 0.5),  # of 2000 ticks, 20 are idle and 980 ours: 1000 are others'
        (Load(3000, 400, 2100), 0.0),  # all ours
        (Load(3000, 1400, 600), 0.0),  # half of the machine is idle
        (Load(3000, 400, 2500), 0.0),  # ours are counted a little later
        (BEFORE, 0.0),
    ],
)
def test_the_share_of_others(after: Load, share: float) -> None:
    assert others(BEFORE, after) == pytest.approx(share)


def test_it_is_said_once_and_only_after_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    second = os.sysconf("SC_CLK_TCK") * 2
    loads = [
        Load(0, 0, 0),
        Load(second, 0, second / 2),
        Load(40 * second, 0, 20 * second),
        Load(99 * second, 0, 20 * second),
    ]
    monkeypatch.setattr(neighbours, "load", lambda: loads.pop(0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with caplog.at_level(logging.WARNING, "rcnnkit"):
        watch = Neighbours()
        watch.look()
        assert not caplog.messages
        watch.look()
        watch.look()
    (said,) = caplog.messages
    assert said == "other processes take 1.0 of the 2 cores; training is much slower than it would be alone"


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="only Linux tells the load")  # noqa: PTH110
def test_this_processs_own_work_is_its_own() -> None:
    before = neighbours.load()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    after = neighbours.load()
    assert before is not None
    assert after is not None
    seconds = (after.ours - before.ours) / os.sysconf("SC_CLK_TCK")
    assert 0.25 < seconds < 5
    assert after.total - after.idle > before.total - before.idle


def test_elsewhere_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "load", lambda: None)
    Neighbours().look()
