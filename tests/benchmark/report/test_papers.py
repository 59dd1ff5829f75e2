import pytest

from rcnnkit.benchmark.report.papers import PAPERS, ratios


def test_the_papers_whole_times() -> None:
    assert {name: paper.seconds for name, paper in PAPERS.items()} == pytest.approx(
        {"rcnn": 48.51, "fast-rcnn": 1.83, "faster-rcnn": 0.198}
    )


def test_ratios_by_hand() -> None:
    assert ratios({"rcnn": 10.0, "fast-rcnn": 1.0, "faster-rcnn": 0.5}) == {
        "rcnn": 20,
        "fast-rcnn": 2,
        "faster-rcnn": 1,
    }
    assert ratios({"rcnn": 10.0}) == {}  # nothing to compare with
