import time
from typing import Any

import pytest
import torch

from rcnnkit.benchmark.results import STAGES
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.stages import StageClock, timed
from rcnnkit.structures import Detections, ImageBatch

PICTURE = torch.rand(3, 90, 110, generator=torch.Generator().manual_seed(0))
NETWORK = {"resize", "proposals", "backbone", "regions", "heads", "suppression", "other"}


class Hands:
    """A clock that goes on by what a test says."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def detector_of(tiny: dict[str, dict[str, Any]], name: str) -> Detector:
    values = {section: dict(tiny[section]) for section in ("model", "rpn", "head", "input")}
    values["model"] |= {"kind": name}
    values["rcnn"] = {"size": 32, "context": 4}
    values["proposals"] = {"count": 30}
    detector = build(DetectorSettings.model_validate(values), ["a", "b"]).eval()
    assert isinstance(detector, Detector)
    return detector


def test_a_stage_inside_another_stops_its_clock() -> None:
    hands = Hands()
    clock = StageClock(now=hands)
    with clock.stage("other"):
        hands.time += 1
        with clock.stage("backbone"):
            hands.time += 10
        hands.time += 2
        with clock.stage("heads"):
            hands.time += 20
            with clock.stage("backbone"):
                hands.time += 5
        with clock.stage("heads"):
            hands.time += 7
    hands.time += 1000  # nobody's
    assert clock.seconds == {"other": 3, "backbone": 15, "heads": 27}


def test_a_stage_that_fails_is_closed() -> None:
    hands = Hands()
    clock = StageClock(now=hands)
    with clock.stage("other"):
        with pytest.raises(ZeroDivisionError), clock.stage("heads"):
            1 / 0  # noqa: B018
        hands.time += 4
    assert clock.seconds == {"other": 4, "heads": 0}


def test_real_seconds_are_counted() -> None:
    clock = StageClock()
    began = time.perf_counter()
    with clock.stage("other"):
        time.sleep(0.03)
        with clock.stage("heads"):
            time.sleep(0.05)
    whole = time.perf_counter() - began
    assert clock.seconds["heads"] >= 0.05
    assert clock.seconds["other"] >= 0.03
    assert 0.9 * whole - 0.1 <= sum(clock.seconds.values()) <= whole


@pytest.mark.parametrize("name", ["rcnn", "fast_rcnn", "faster_rcnn"])
def test_every_part_of_every_detector_is_seen_and_changes_nothing(tiny: dict[str, Any], name: str) -> None:
    detector = detector_of(tiny, name)
    before = {id(part): set(vars(part)) for part in detector.modules()}
    plain = detector(PICTURE)
    clock = StageClock()
    with timed(detector, clock):
        began = time.perf_counter()
        with clock.stage("other"):
            watched = detector(PICTURE)
        whole = time.perf_counter() - began
    assert clock.seconds.keys() == NETWORK
    assert set(STAGES) >= NETWORK
    assert all(seconds > 0 for seconds in clock.seconds.values())
    # A busy machine may stop between the two clocks.
    assert 0.9 * whole - 0.1 <= sum(clock.seconds.values()) <= whole
    assert 0 < clock.proposals <= 50
    torch.testing.assert_close(plain.boxes, watched.boxes, rtol=0, atol=0)
    torch.testing.assert_close(plain.scores, watched.scores, rtol=0, atol=0)
    assert {id(part): set(vars(part)) for part in detector.modules()} == before  # nothing is left of it
    detector(PICTURE)
    assert sum(clock.seconds.values()) <= whole


def test_time_goes_to_the_part_that_takes_it(tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    detector = detector_of(tiny, "faster_rcnn")
    hands = Hands()
    for part, took in (("backbone", 100), ("rpn.convs", 30), ("pool", 7), ("head.layers", 5), ("head.score_layer", 2)):
        module = detector.get_submodule(part)

        def slow(*inputs: Any, call: Any = module.forward, took: float = took) -> Any:
            hands.time += took
            return call(*inputs)

        monkeypatch.setattr(module, "forward", slow)
    clock = StageClock(now=hands)
    with timed(detector, clock), clock.stage("other"):
        detector(PICTURE)
    assert clock.seconds == {
        **dict.fromkeys(("other", "resize", "suppression"), 0),
        "backbone": 100,
        "proposals": 30 * 5,  # the five maps of the FPN
        "regions": 7,
        "heads": 7,
    }


def test_an_error_leaves_the_detector_as_it_was(tiny: dict[str, Any]) -> None:
    detector = detector_of(tiny, "fast_rcnn")
    with pytest.raises(ValueError, match="picture tensor"), timed(detector, StageClock()):
        detector(torch.zeros(7, 3))
    assert "forward" not in vars(detector)
    assert "forward" not in vars(detector.get_submodule("backbone"))


def test_a_new_detector_says_itself_what_is_timed(tiny: dict[str, Any]) -> None:
    class Attention(FastRCNN):
        stages = FastRCNN.stages | {"attention": ("attend",)}

        def attend(self, regions: torch.Tensor) -> torch.Tensor:
            hands.time += 9
            return regions

        def detect(self, images: ImageBatch) -> list[Detections]:
            self.attend(torch.zeros(1))
            return super().detect(images)

    hands = Hands()
    detector = detector_of(tiny, "fast_rcnn")
    detector.__class__ = Attention
    clock = StageClock(now=hands)
    with timed(detector, clock):
        detector(PICTURE)
    assert {stage for stage, seconds in clock.seconds.items() if seconds} == {"attention"}
    assert clock.seconds["attention"] == 9
    assert clock.seconds.keys() > NETWORK - {"other"}


def test_a_part_that_is_not_there_is_an_error(tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    detector = detector_of(tiny, "faster_rcnn")
    monkeypatch.setattr(FasterRCNN, "stages", FasterRCNN.stages | {"heads": ("head.scorse.forward",)})
    with pytest.raises(AttributeError, match="scorse"), timed(detector, StageClock()):
        pass
    assert "forward" not in vars(detector)  # what was wrapped before the error is as it was
