import io
import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from rcnnkit.benchmark import results as store
from rcnnkit.benchmark.markdown import markdown, seconds
from rcnnkit.benchmark.page import page
from rcnnkit.benchmark.report import terminal, write_report
from rcnnkit.benchmark.summary import Step

VOID = {"meta", "img", "path", "circle", "polyline", "br"}


def some_results(complete: bool = True) -> store.Results:
    """Ten pictures, by hand: 5 s, 0.5 s and 0.25 s each."""
    found: store.Results = {
        "date": "2026-11-25T10:00:00+00:00",
        "commit": "abc123",
        "complete": complete,
        "stopped": None if complete else "interrupted",
        "machine": {"cpu": "A <CPU> & more", "cores": 2, "threads": 2, "memory_gb": 24.0, "load": 0.1, "gpu": None},
        "versions": {"torch": "2.14", "rcnnkit": "0.1.0"},
        "options": {"batch": 1},
        "dtype": "float32",
        "device": "cpu",
        "pictures": {"name": "<digits>", "count": 10, "annotated": True, "shown": ["a|b.jpg"]},
        "notes": ["A note with <b>."],
        "contenders": {
            name: {
                "title": title,
                "weights": "x",
                "backbone": "resnet18",
                "accuracy": {"AP": 0.5, "AP50": None},
                "memory": {"process": 1_500_000_000, "device": None},
            }
            for name, title in (("rcnn", "R-CNN"), ("fast-rcnn", "Fast R-CNN"), ("faster-rcnn", "Faster R-CNN"))
        },
    }
    wholes = {"rcnn": 5.0, "fast-rcnn": 0.5, "faster-rcnn": 0.25}
    stages = {name: {"backbone": 0.8 * each, "heads": 0.1 * each} for name, each in wholes.items()}
    store.add_steps(found, {name: [Step(1, each, stages[name], 300)] * 10 for name, each in wholes.items()})
    found["growth"] = {
        "base": {"proposals": 100},
        "points": [
            {"dimension": "proposals", "value": value, "contender": name, "seconds": value * each, "stages": {}}
            for value in (2000, 100)
            for name, each in (("rcnn", 0.01), ("faster-rcnn", 0.0001))
        ],
    }
    return found


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


def test_the_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(store.picture_file(tmp_path, 0, "rcnn"))
    text = page(some_results(), tmp_path)
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
    assert "No peer" not in words
    assert 'content="width=device-width' in text
    assert "@media print" in text


def test_bars_are_as_long_as_their_times(tmp_path: Path) -> None:
    text = page(some_results(), tmp_path)
    widths = [float(part.split("%")[0]) for part in text.split('<span style="width:')[1:]]
    scaled, shares = widths[:6], widths[6:]
    assert scaled == pytest.approx([80, 10, 8, 1, 4, 0.5])
    assert shares == pytest.approx([80, 10] * 3)


def test_curves_are_where_their_values_are(tmp_path: Path) -> None:
    text = page(some_results(), tmp_path)
    lines = [
        [tuple(map(float, pair.split(","))) for pair in part.split('"')[0].split()]
        for part in text.split('<polyline points="')[1:]
    ]
    assert len(lines) == 2
    (slow, fast) = lines
    assert [x for x, _ in slow] == pytest.approx([44, 280])  # from the left end of the axis to its right one
    per_decade = (slow[0][1] - slow[1][1]) / math.log10(20)  # 1 s to 20 s
    assert fast[0][1] - slow[0][1] == pytest.approx(2 * per_decade, abs=0.3)  # 0.01 s is two decades below 1 s


def test_markdown_has_every_number(tmp_path: Path) -> None:
    text = markdown(some_results())
    assert "| R-CNN | 5.00 | 5.00 | 0.00 | 0.2 | 300 | 0.500 | 1.50 |" in text  # no AP50 anywhere: no column
    assert "| s / picture | p95 | spread | pictures / s | proposals | AP | peak GB |" in text
    assert "| backbone | 4,000 · 80.0% | 400 · 80.0% | 200 · 80.0% |" in text
    assert "| Fast R-CNN | 0.500 | 2.00 × | 1.83 | 9.24 × | Fast R-CNN, table 4 |" in text
    assert "R-CNN: 10.0% of the time are in no named stage" in text  # more than 3 %
    assert "Not complete" not in text
    assert "Not complete (interrupted)" in markdown(some_results(complete=False))


def test_the_terminal_shows_the_same_tables() -> None:
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(terminal(some_results()))
    text = console.export_text()
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines()]
    assert ["Fast R-CNN", "0.500", "2.00 ×", "1.83", "9.24 ×", "Fast R-CNN, table 4"] in rows
    assert "Beside the papers (VGG16 on an Nvidia Tesla K40" in text
    assert "A note with" in text


def test_digits_that_count() -> None:
    assert [seconds(value) for value in (0.0012345, 0.25, 1.0, 12.345, 123.4, 4700.0)] == [
        "0.00123",
        "0.250",
        "1.00",
        "12.3",
        "123",
        "4,700",
    ]


def test_there_and_back(tmp_path: Path) -> None:
    found = some_results()
    store.write(found, tmp_path)
    assert store.read(tmp_path) == json.loads(json.dumps(found))
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]  # no half files
    assert write_report(tmp_path) == tmp_path / "report.html"
    assert (tmp_path / "report.md").read_text() == markdown(found)
    assert (tmp_path / "report.html").read_text() == page(found, tmp_path)
    for name, least in (("stages.png", 3), ("growth.png", 3)):
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > least  # something is drawn
    later = write_report(tmp_path)  # the same again
    assert later.read_text() == page(found, tmp_path)


def test_nothing_measured_yet(tmp_path: Path) -> None:
    found = some_results(complete=False)
    found["contenders"] = {"rcnn": {"title": "R-CNN", "weights": None, "backbone": "resnet18"}}
    del found["growth"]
    store.add_steps(found, {"rcnn": []})
    store.write(found, tmp_path)
    parsed(write_report(tmp_path).read_text())
    assert not (tmp_path / "stages.png").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"contenders": {}}', "\u00e4"])
def test_what_is_no_result(tmp_path: Path, text: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no results\.json; run `rcnnkit benchmark"):
        store.read(tmp_path)
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match="holds no results of `rcnnkit benchmark`"):
        store.read(tmp_path)


def test_numbers_that_json_does_not_know_are_refused(tmp_path: Path) -> None:
    found: dict[str, Any] = some_results()
    store.write(found, tmp_path)
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        store.write(found | {"notes": [math.nan]}, tmp_path)
    assert (tmp_path / "results.json").read_bytes() == before
