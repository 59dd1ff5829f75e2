import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnnkit.benchmark.report.page import page
from rcnnkit.benchmark.results import MeasuredContender, Results, picture_file

VOID = {"meta", "img", "path", "circle", "polyline", "br"}


class Elements(HTMLParser):
    """Fails where an element is not closed, and collects what a browser would load, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(text: str) -> Elements:
    elements = Elements()
    elements.feed(text)
    elements.close()
    assert elements.open == []
    return elements


def test_the_page_is_whole_and_loads_nothing(results: Results, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(picture_file(tmp_path, 0, "rcnn"))
    text = page(results, tmp_path)
    elements = parsed(text)
    assert len(elements.loads) == 1
    assert elements.loads[0].startswith("data:image/jpeg;base64,")
    assert "http" not in text
    assert "@import" not in text
    assert "url(" not in text
    words = " ".join(elements.text)
    assert "A <CPU> & more" in words  # escaped, so that it is text
    assert "A note with <b>." in words
    assert "48.5" in words  # R-CNN in its paper
    assert "Nvidia Tesla K40" in words
    for shown in ("5.00 s", "0.500 s", "0.250 s", "20.0 × Faster", "80.0%"):
        assert shown in words, shown
    assert 'content="width=device-width' in text
    assert "@media print" in text


def test_bars_are_as_long_as_their_times(results: Results, tmp_path: Path) -> None:
    text = page(results, tmp_path)
    widths = [float(part.split("%")[0]) for part in text.split('<span style="width:')[1:]]
    scaled, shares = widths[:6], widths[6:]
    assert scaled == pytest.approx([80, 10, 8, 1, 4, 0.5])
    assert shares == pytest.approx([80, 10] * 3)


def test_curves_are_where_their_values_are(results: Results, tmp_path: Path) -> None:
    text = page(results, tmp_path)
    lines = [
        [tuple(map(float, pair.split(","))) for pair in part.split('"')[0].split()]
        for part in text.split('<polyline points="')[1:]
    ]
    assert len(lines) == 2
    (slow, fast) = lines
    assert [x for x, _ in slow] == pytest.approx([44, 280])  # from the left end of the axis to its right one
    per_decade = (slow[0][1] - slow[1][1]) / math.log10(20)  # 1 s to 20 s
    assert fast[0][1] - slow[0][1] == pytest.approx(2 * per_decade, abs=0.3)  # 0.01 s is two decades below 1 s


def test_nothing_measured_yet(results: Results, tmp_path: Path) -> None:
    waiting = MeasuredContender("R-CNN", None, "resnet18")
    parsed(page(replace(results, complete=False, contenders={"rcnn": waiting}, growth=None), tmp_path))
