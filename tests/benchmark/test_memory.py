import sys
from pathlib import Path

import pytest
import torch

from rcnnkit.benchmark import memory
from rcnnkit.benchmark.memory import Load, check_memory, estimate, peaks
from rcnnkit.benchmark.variants import untrained
from rcnnkit.data.reading import read_data
from rcnnkit.detectors.build import build

LOAD = Load("cpu", "float32", 1, 100, 1)
VARIANTS = untrained("resnet18", ["a", "b"])


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_an_estimate_has_the_weights_and_grows_with_the_work(variant: memory.Variant) -> None:
    least = estimate(variant, (600, 800), LOAD)
    with torch.device("meta"):
        weights = build(variant.settings, ["a", "b"])
    assert least > 2 * sum(value.nbytes for value in weights.state_dict().values())
    more = Load("cpu", "float32", 4, 100, 1)
    if variant.name == "rcnn":  # one picture after the other, and one chunk of windows after the other
        assert estimate(variant, (600, 800), more) == least
    else:
        maps = 4 * 64 * 320 * 416  # bytes of the widest one of a picture
        assert estimate(variant, (600, 800), more) - least > 3 * 4 * maps
    assert estimate(variant, (600, 800), Load("cpu", "float32", 1, 2000, 1)) > least


def test_a_convolution_by_hand() -> None:
    """ResNet's first convolution is the widest: its output has 64 maps of half the picture's sides."""
    fast = VARIANTS[1]
    pixels, widest = 3 * 600 * 800, 64 * 300 * 400
    padded = 3 * 640 * 832, 64 * 320 * 416
    maps = sum(256 * (640 // s) * (832 // s) for s in (4, 8, 16, 32)) + 256 * 10 * 13
    found = memory._activations(memory._on_meta(fast), fast, (600, 800), LOAD)
    # A norm reads and writes what the convolution wrote.
    assert found == pytest.approx(4 * (2 * 2 * padded[1] + 2 * maps + 2 * 100 * 256 * 49), rel=0.01)
    assert found > 4 * 2 * (pixels + widest)


def test_too_little_memory_says_how_much_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 300_000_000)
    with pytest.raises(
        ValueError, match=r"R-CNN needs about \d\.\d GB on cpu for 1 of these pictures at a time, and 0.3"
    ):
        check_memory(VARIANTS, [(100, 100), (600, 800)], LOAD)
    monkeypatch.setattr(memory, "free_memory", lambda device: None)  # nobody says: nothing to refuse
    check_memory(VARIANTS, [(600, 800)], LOAD)


def test_a_process_of_its_own_tells_its_peak(digits: Path) -> None:
    records = read_data(digits, "train").records[:1]
    found = peaks(VARIANTS[0], records, Load("cpu", "float32", 1, 20, 1))
    assert found["device"] is None
    assert found["process"] is not None
    low = estimate(VARIANTS[0], (96, 96), Load("cpu", "float32", 1, 20, 1))
    assert low < found["process"] < low + 2e9


def test_a_process_that_fails_is_told(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OSError, match="the memory of R-CNN could not be measured: exit status 1"):
        peaks(VARIANTS[0], read_data(digits, "train").records[:1], LOAD)
