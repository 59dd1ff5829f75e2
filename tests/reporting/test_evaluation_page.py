from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rcnnkit.evaluation.analysis import Analysis
from rcnnkit.evaluation.errors import CAUSES
from rcnnkit.reporting.evaluation_page import page, percent
from rcnnkit.structures import Detections
from tests.benchmark.report.test_page import parsed
from tests.reporting.browser import opened
from tests.reporting.strange import analysed


@pytest.fixture(scope="module")
def text(analysis: Analysis) -> str:
    return page(analysis, "weights<b>")


def test_the_page_is_whole_and_names_are_harmless(text: str) -> None:
    elements = parsed(text)
    assert "<script" not in text
    assert "\u202e" not in text
    assert "http" not in text
    assert elements.loads
    assert all(each.startswith("data:image/jpeg;base64,") for each in elements.loads)
    words = " ".join(elements.text)
    assert "weights<b> on strange/val" in words
    assert "<script>alert(1)</script>" in words
    assert "\\u202eשלום" in words
    assert "cat 🐈" in words


def test_the_page_has_the_numbers(analysis: Analysis, text: str) -> None:
    words = " ".join(parsed(text).text)
    numbers = analysis.evaluation.numbers
    assert percent(numbers["AP"], analysis.intervals["AP"]) in words
    assert percent(analysis.evaluation.voc.mean_ap_area, analysis.intervals["voc_area"]) in words
    for cause, cost in analysis.errors.costs.items():
        assert f"{cause} {analysis.errors.count(cause)} {100 * cost:.1f}" in words
    assert all(f"{cause}: {meaning}" in words for cause, meaning in CAUSES.items())
    worst = analysis.pictures.worst[0]
    assert f"{analysis.pictures.missed[worst]} missed, {analysis.pictures.invented[worst]} invented" in words


def test_the_worst_pictures_are_drawn_twice_and_mistakes_once(analysis: Analysis, text: str) -> None:
    assert len(parsed(text).loads) == 2 * len(analysis.pictures.worst) + len(analysis.mistakes[:24])


def test_nothing_found_and_margins_have_a_page(analysis: Analysis) -> None:
    nothing = Detections(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64))
    empty = analysed(analysis.dataset, [nothing] * len(analysis.dataset))
    words = " ".join(parsed(page(empty, "w")).text)
    assert "There are none." in words
    assert "suggested score 0.50" in words
    margins = [replace(each, scores=4 * each.scores - 2) for each in analysis.evaluation.detections]
    words = " ".join(parsed(page(analysed(analysis.dataset, margins, probabilities=False), "w")).text)
    assert "margins of SVMs" in words


@pytest.mark.parametrize(
    ("value", "interval", "shown"),
    [(0.4123, (0.38, 0.441), "41.2 (38.0 – 44.1)"), (float("nan"), None, "–"), (1.0, None, "100.0")],
)
def test_percent(value: float, interval: tuple[float, float] | None, shown: str) -> None:
    assert percent(value, interval) == shown


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_all_of_it(text: str, tmp_path: Path, width: int) -> None:
    seen = opened(text, width, tmp_path)
    assert seen["width"] <= width
    assert seen["images"] == len(parsed(text).loads)
    assert seen["missing"] == 0
    assert seen["console"] == []
