"""How much memory can still be had."""

from pathlib import Path

import pytest
import torch

from rcnnkit import memory

CPU = torch.device("cpu")


def test_a_containers_limit_counts_and_cached_files_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory.free_memory(CPU)
    assert whole is not None
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    assert memory.free_memory(CPU) == pytest.approx(whole, rel=0.5)  # no container
    for name, text in (("max", "100000000"), ("current", "90000000"), ("stat", "anon 1\ninactive_file 70000000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.free_memory(CPU) == 80_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory(CPU) == pytest.approx(whole, rel=0.5)


def test_a_peak_can_be_forgotten() -> None:
    held = torch.ones(30_000_000)  # 120 MB
    high = memory.peak_memory()
    del held
    memory.forget_peak()
    now, low = memory.held_memory(), memory.peak_memory()
    assert high is not None
    assert low is not None
    assert now is not None
    assert high - low > 100_000_000
    assert low == pytest.approx(now, rel=0.1)
