from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from rcnnkit.benchmark import growth
from rcnnkit.benchmark.growth import Exactly, measure_growth
from rcnnkit.benchmark.memory import Load
from rcnnkit.benchmark.results import curves
from rcnnkit.benchmark.variants import Variant, untrained
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.structures import ImageBatch, Proposals

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
LOAD = Load("cpu", "float32", 1, 0, 1)


class Few:
    """Three proposals in each picture."""

    def propose(self, images: ImageBatch, features: Any) -> list[Proposals]:
        return [Proposals(torch.tensor([[0.0, 0, 5, 5]] * 3), torch.ones(3))] * len(images)


@pytest.mark.parametrize("count", [1, 3, 50])
def test_every_picture_has_exactly_so_many_proposals(count: int) -> None:
    images = ImageBatch(torch.zeros(2, 3, 64, 64), [(30, 64), (64, 20)], [(30, 64), (64, 20)])
    for found, (height, width) in zip(Exactly(Few(), count).propose(images), images.sizes, strict=True):
        assert len(found) == count
        assert torch.equal(found.boxes[:3], torch.tensor([[0.0, 0, 5, 5]] * min(3, count)))
        sides = found.boxes[:, 2:] - found.boxes[:, :2]
        assert (sides > 0).all()
        assert (found.boxes >= 0).all()
        assert (found.boxes[:, 2] <= width).all()
        assert (found.boxes[:, 3] <= height).all()


@pytest.fixture
def small(tiny: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Detectors and points that take milliseconds."""

    def small_ones(backbone: str, names: list[str]) -> list[Variant]:
        found = []
        for variant in untrained(backbone, names):
            values = {section: tiny[section] for section in ("rpn", "head")} | {
                "model": tiny["model"] | {"detector": variant.settings.model.detector},
                "rcnn": {"size": 32, "context": 4},
            }
            found.append(Variant(variant.name, DetectorSettings.model_validate(values), tuple(names)))
        return found

    monkeypatch.setattr(growth, "untrained", small_ones)
    monkeypatch.setattr(growth, "VALUES", {"proposals": (5, 20), "classes": (2, 3), "side": (64, 96), "batch": (1, 2)})
    monkeypatch.setattr(growth, "BASE", {"proposals": 5, "classes": 2, "side": 64, "batch": 1})
    monkeypatch.setattr(growth, "REPEATS", 1)


@pytest.mark.usefixtures("small")
def test_one_thing_grows_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    results: dict[str, Any] = {"notes": []}
    saved = []
    measure_growth(results, PICTURE, "resnet18", LOAD, Console(width=100), lambda: saved.append(1))
    points = results["growth"]["points"]
    assert len(points) == len(saved) == (4 * 2 + 1) * 3
    assert results["notes"] == []
    assert results["growth"]["base"] == {"proposals": 5, "classes": 2, "side": 64, "batch": 1, "threads": 1}
    assert {point["seconds"] > 0 for point in points} == {True}
    assert all(point["seconds"] == pytest.approx(sum(point["stages"].values())) for point in points)
    asked = [(p["proposals"], p["value"] if p["dimension"] == "proposals" else 5) for p in points]
    assert all(got == wanted for got, wanted in asked)
    assert {(point["dimension"], point["value"]) for point in points} == {
        *(("proposals", n) for n in (5, 20)),
        *(("classes", n) for n in (2, 3)),
        *(("side", n) for n in (64, 96)),
        *(("batch", n) for n in (1, 2)),
        ("threads", 1),
    }
    assert curves(results).keys() == {"proposals", "classes", "side", "batch"}  # one point makes no curve
    assert [value for value, _ in curves(results)["side"]["rcnn"]] == [64, 96]
    assert "growth: about 0." in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_what_would_take_too_long_or_too_much_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "VALUES", {"proposals": (5, 20), "batch": (2,)})
    monkeypatch.setattr(growth, "LONGEST", 1e-9)
    results: dict[str, Any] = {"notes": []}
    measure_growth(results, PICTURE, "resnet18", LOAD, Console(quiet=True), lambda: None)
    assert len(results["growth"]["points"]) == 3  # the first ones are needed to tell
    assert "R-CNN, proposals 20: left out of growth, as it would take about 0 s." in results["notes"]
    monkeypatch.setattr(growth, "LONGEST", 100)
    monkeypatch.setattr(growth, "free_memory", lambda device: 1000)
    results = {"notes": []}
    measure_growth(results, PICTURE, "resnet18", LOAD, Console(quiet=True), lambda: None)
    assert results["growth"]["points"] == []
    said = "Fast R-CNN, batch 2: left out of growth, as it needs about 0."
    assert any(note.startswith(said) for note in results["notes"])


def test_points_up_to_all_threads() -> None:
    def threads(most: int) -> list[int]:
        return [value for dimension, value in growth._points(most) if dimension == "threads"]

    assert [threads(most) for most in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]
    assert growth._points(4)[0] == ("proposals", growth.BASE["proposals"])


def test_work_by_hand() -> None:
    points = growth._points(2)
    # R-CNN at 10 s: 30 + 100 + 200 s of proposals, of which the last is too long; 3 × 10 of classes; 4 × 10 of sides;
    # 10, 40 and 160 of batches, of which the last is too long; 20 and 10 of threads.
    assert growth._work({"rcnn": 10.0}, points, 2) == pytest.approx(130 + 30 + 40 + 50 + 30)
    # Faster R-CNN at 0.1 s, each four times: proposals 3, classes 3; sides 1/4, 1, 9/4, 4; batches 1, 4, 16 of which
    # the last takes 1.6 s and counts once; threads 2 and 1.
    expected = 0.4 * (3 + 3 + 7.5 + 5 + 3) + 1.6
    assert growth._work({"faster-rcnn": 0.1}, points, 2) == pytest.approx(expected)
