import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rcnnkit.backbones.names import ARCHITECTURES
from rcnnkit.benchmark.measure import memory
from rcnnkit.benchmark.measure.contenders import Contender, untrained
from rcnnkit.benchmark.measure.memory import check_memory, estimate, peaks
from rcnnkit.benchmark.options import Options
from rcnnkit.data.reading import read_data
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.structures import Proposals

OPTIONS = Options(device="cpu", max_proposals=100, threads=1)
CONTENDERS = untrained("resnet18", ["a", "b"])
SIZE = (600, 800)
# Of every family one, with every neck that it has.
NETWORKS = [
    (name, neck)
    for name, network in ARCHITECTURES.items()
    for neck in network.necks
    if name not in ("vgg19", "resnet34", "resnet101", "resnet152")
]


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: contender.name)
def test_an_estimate_has_the_weights_and_grows_with_the_work(contender: Contender) -> None:
    detector = contender.load("meta", 100)
    least = estimate(detector, SIZE, 1)
    assert least > 2 * sum(value.nbytes for value in detector.state_dict().values())
    if contender.name == "rcnn":  # one picture after the other, and one chunk of windows after the other
        assert estimate(detector, SIZE, 4) == least
    else:
        maps = 4 * 64 * 320 * 416  # bytes of the widest one of a picture
        assert estimate(detector, SIZE, 4) - least > 3 * 4 * maps
    assert estimate(contender.load("meta", 2000), SIZE, 1) > least


def test_a_convolution_by_hand() -> None:
    """ResNet's first convolution is the widest: its output has 64 maps of half the picture's sides."""
    fast = CONTENDERS[1].load("meta", 100)
    weights = sum(value.nbytes for value in fast.state_dict().values())
    widest, pixels = 64 * 320 * 416, 3 * 640 * 832
    maps = sum(256 * (640 // s) * (832 // s) for s in (4, 8, 16, 32)) + 256 * 10 * 13
    # A norm reads and writes what the convolution wrote.
    expected = 2 * weights + 4 * (2 * 2 * widest + pixels + 2 * maps + 2 * 100 * 256 * 49)
    assert estimate(fast, SIZE, 1) == expected


@pytest.mark.parametrize(("backbone", "neck"), NETWORKS)
def test_regions_take_as_many_bytes_as_pooled_ones(backbone: str, neck: str) -> None:
    """Each more is estimated at twice what a region of a real map takes, as it is copied."""
    values = {"model": {"kind": "fast_rcnn", "backbone": backbone, "neck": neck}, "input": {"short_side": 64}}
    contender = Contender("fast-rcnn", DetectorSettings.model_validate(values), ("a",))
    few, more = (estimate(contender.load("meta", count), (64, 64), 2) for count in (10, 17))
    detector = contender.load("meta")
    assert isinstance(detector, FastRCNN)
    maps = [torch.rand(one.shape) for one in detector.backbone(torch.empty(2, 3, 64, 64, device="meta"))]
    proposals = [Proposals(torch.tensor([[0.0, 0, 40, 50]] * 7), torch.ones(7))] * 2
    assert more - few == 2 * detector.pool(maps, proposals).nbytes


@pytest.mark.parametrize(("backbone", "layer"), [("alexnet", "pool5"), ("alexnet", "fc7"), ("resnet18", "fc7")])
def test_windows_take_as_many_bytes_as_their_features(backbone: str, layer: str) -> None:
    values: dict[str, Any] = {"model": {"kind": "rcnn", "backbone": backbone}}
    values["rcnn"] = {"layer": layer, "batch": 4, "size": 96}
    contender = Contender("rcnn", DetectorSettings.model_validate(values), ("a",))
    few, more = (estimate(contender.load("meta", count), SIZE, 1) for count in (10, 17))
    detector = contender.load("cpu")
    assert isinstance(detector, RCNN)
    with torch.no_grad():
        features = detector.compute_features(torch.rand(3, 60, 60), torch.tensor([[0.0, 0, 40, 50]] * 7))
    assert more - few == 2 * sum(values.nbytes for values in features.values())


def test_the_largest_of_several_scales_counts() -> None:
    settings = CONTENDERS[1].settings

    def needs(**changes: Any) -> float:
        changed = settings.model_copy(update={"input": settings.input.model_copy(update=changes)})
        return estimate(replace(CONTENDERS[1], settings=changed).load("meta"), SIZE, 1)

    assert needs(short_side=100, scales=(100, 200)) == needs(short_side=200) > needs(short_side=100)


def test_too_little_memory_says_how_much_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 300_000_000)
    with pytest.raises(
        ValueError, match=r"R-CNN needs about \d\.\d GB on cpu for 1 of these pictures at a time, and 0.3"
    ):
        check_memory(CONTENDERS, [(100, 100), (600, 800)], OPTIONS)
    monkeypatch.setattr(memory, "free_memory", lambda device: None)  # nobody says: nothing to refuse
    check_memory(CONTENDERS, [(600, 800)], OPTIONS)


def test_a_process_of_its_own_tells_its_peak(digits: Path) -> None:
    records = read_data(digits, "train").records[:1]
    measured = peaks(CONTENDERS[0], records, replace(OPTIONS, max_proposals=20))
    assert measured.device is None
    assert measured.process is not None
    low = estimate(CONTENDERS[0].load("meta", 20), (96, 96), 1)
    assert low < measured.process < low + 2e9


def test_a_process_that_fails_is_told(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OSError, match="the memory of R-CNN could not be measured: exit status 1"):
        peaks(CONTENDERS[0], read_data(digits, "train").records[:1], OPTIONS)
