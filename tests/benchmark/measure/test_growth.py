from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from rcnnkit.benchmark.measure import growth
from rcnnkit.benchmark.measure.contenders import Contender, untrained
from rcnnkit.benchmark.measure.growth import Exactly, measure_growth
from rcnnkit.benchmark.options import Options
from rcnnkit.benchmark.results import Growth, Setting
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.structures import ImageBatch, Proposals

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
OPTIONS = Options(device="cpu", threads=1)


class Few:
    """Three proposals in each picture."""

    def propose(self, images: ImageBatch, features: Any) -> list[Proposals]:
        return [Proposals(torch.tensor([[0.0, 0, 5, 5]] * 3), torch.ones(3))] * len(images)


@pytest.mark.parametrize("count", [1, 3, 50])
def test_every_picture_has_exactly_so_many_proposals(count: int) -> None:
    images = ImageBatch(torch.zeros(2, 3, 64, 64), [(30, 64), (64, 20)], [(30, 64), (64, 20)])
    for proposals, (height, width) in zip(Exactly(Few(), count).propose(images), images.sizes, strict=True):
        assert len(proposals) == count
        assert torch.equal(proposals.boxes[:3], torch.tensor([[0.0, 0, 5, 5]] * min(3, count)))
        sides = proposals.boxes[:, 2:] - proposals.boxes[:, :2]
        assert (sides > 0).all()
        assert (proposals.boxes >= 0).all()
        assert (proposals.boxes[:, 2] <= width).all()
        assert (proposals.boxes[:, 3] <= height).all()


@pytest.fixture
def small(tiny: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Detectors and points that take milliseconds."""

    def small_ones(backbone: str, names: list[str]) -> list[Contender]:
        contenders = []
        for contender in untrained(backbone, names):
            values = {section: tiny[section] for section in ("rpn", "head")} | {
                "model": tiny["model"] | {"kind": contender.settings.model.kind},
                "rcnn": {"size": 32, "context": 4},
            }
            contenders.append(Contender(contender.name, DetectorSettings.model_validate(values), tuple(names)))
        return contenders

    monkeypatch.setattr(growth, "untrained", small_ones)
    monkeypatch.setattr(growth, "VALUES", {"proposals": (5, 20), "classes": (2, 3), "side": (64, 96), "batch": (1, 2)})
    monkeypatch.setattr(growth, "BASE", Setting(proposals=5, classes=2, side=64, batch=1, threads=0))
    monkeypatch.setattr(growth, "REPEATS", 1)


def measured(console: Console) -> tuple[list[Growth], list[str]]:
    """What was measured until each point, and the notes."""
    news = list(measure_growth(PICTURE, "resnet18", OPTIONS, console))
    return [one for one in news if isinstance(one, Growth)], [one for one in news if isinstance(one, str)]


@pytest.mark.usefixtures("small")
def test_one_thing_grows_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    growths, notes = measured(Console(width=100))
    assert notes == []
    assert [len(grown.points) for grown in growths] == list(range(1, (4 * 2 + 1) * 3 + 1))
    last = growths[-1]
    assert last.base == Setting(proposals=5, classes=2, side=64, batch=1, threads=1)
    for point in last.points:
        assert point.seconds == pytest.approx(sum(point.stages.values()))
        assert point.seconds > 0
        assert point.proposals == (point.value if point.dimension == "proposals" else 5)
    assert {(point.dimension, point.value) for point in last.points} == {
        *(("proposals", n) for n in (5, 20)),
        *(("classes", n) for n in (2, 3)),
        *(("side", n) for n in (64, 96)),
        *(("batch", n) for n in (1, 2)),
        ("threads", 1),
    }
    assert last.curves().keys() == {"proposals", "classes", "side", "batch"}  # one point makes no curve
    assert [value for value, _ in last.curves()["side"]["rcnn"]] == [64, 96]
    assert "growth: about 0." in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_what_would_take_too_long_or_too_much_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "VALUES", {"proposals": (5, 20), "batch": (2,)})
    monkeypatch.setattr(growth, "LONGEST", 1e-9)
    growths, notes = measured(Console(quiet=True))
    assert len(growths[-1].points) == 3  # the first ones are needed to tell
    said = "R-CNN, proposals 20: left out of growth, as it would take about "
    assert any(note.startswith(said) for note in notes)
    monkeypatch.setattr(growth, "LONGEST", 100)
    monkeypatch.setattr(growth, "free_memory", lambda device: 1000)
    growths, notes = measured(Console(quiet=True))
    assert growths == []
    said = "Fast R-CNN, batch 2: left out of growth, as it needs about 0."
    assert any(note.startswith(said) for note in notes)


def test_a_point_is_set_for_itself_alone(tiny: dict[str, dict[str, Any]]) -> None:
    """Many proposals at one point leave the next one as it would have been without them."""
    values = {section: tiny[section] for section in ("model", "rpn", "head", "input")}
    faster = Contender("faster-rcnn", DetectorSettings.model_validate(values), ("a", "b")).load("meta")
    assert isinstance(faster, FasterRCNN)
    for count, before in ((70, 70), (20, 50)):
        growth._set(faster, Setting(proposals=count, classes=2, side=64, batch=1, threads=1))
        assert faster.rpn.keep == (before, count)
        assert (faster.preprocessing.short_side, faster.preprocessing.long_side) == (64, 6400)


def test_points_up_to_all_threads() -> None:
    def threads(most: int) -> list[int]:
        return [value for dimension, value in growth._points(most) if dimension == "threads"]

    assert [threads(most) for most in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]
    assert growth._points(4)[0] == ("proposals", growth.BASE.proposals)


def test_work_by_hand() -> None:
    points = growth._points(2)
    # R-CNN at 10 s: 30 + 100 + 200 s of proposals, of which the last is too long; 3 × 10 of classes; 4 × 10 of sides;
    # 10, 40 and 160 of batches, of which the last is too long; 20 and 10 of threads.
    assert growth._work(10.0, False, points, 2) == pytest.approx(130 + 30 + 40 + 50 + 30)
    # Faster R-CNN at 0.1 s, each four times: proposals 3, classes 3; sides 1/4, 1, 9/4, 4; batches 1, 4, 16 of which
    # the last takes 1.6 s and counts once; threads 2 and 1.
    expected = 0.4 * (3 + 3 + 7.5 + 5 + 3) + 1.6
    assert growth._work(0.1, True, points, 2) == pytest.approx(expected)
