"""How much memory can still be had."""

from pathlib import Path

import pytest
import torch

from rcnnkit.benchmark.measure import machine

CPU = torch.device("cpu")


def test_a_containers_limit_counts_and_cached_files_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = machine.free_memory(CPU)
    assert whole is not None
    monkeypatch.setattr(machine, "GROUP", tmp_path)
    assert machine.free_memory(CPU) == pytest.approx(whole, rel=0.5)  # no container
    for name, text in (("max", "100000000"), ("current", "90000000"), ("stat", "anon 1\ninactive_file 70000000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert machine.free_memory(CPU) == 80_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.free_memory(CPU) == pytest.approx(whole, rel=0.5)
