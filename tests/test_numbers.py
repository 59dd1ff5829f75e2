"""The numbers of the documents are those that were measured."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.documents import ROOT

ROWS = [
    {"": "theirs", "s": 2.904, "range": [2.79, 3.0], "ratio": 1.0},
    {"": "ours", "s": 0.58, "range": [0.58, 0.61], "ratio": 5.02},
    {"": "ours, boxes", "boxes": 1938.0},
]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """tools/render_numbers.py, in a folder with one document and one measurement."""
    module = load("render_numbers")
    measured = tmp_path / "docs" / "numbers" / "measured"
    measured.mkdir(parents=True)
    entry = {"date": "2026-11-26", "version": "0.1.0", "processor": "a CPU", "threads": 2, "torch": "2.14"}
    (measured / "speed.json").write_text(json.dumps([entry | {"command": "python a.py", "rows": ROWS}]))
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "MEASURED", measured)
    monkeypatch.setattr(module, "HISTORY", measured.parent / "history.md")
    return module


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for their own module
    spec.loader.exec_module(module)
    return module


def test_the_documents_show_what_was_measured() -> None:
    tool = load("render_numbers")
    pages = tool.pages()
    assert ROOT / "README.md" in pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert tool.rendered(text) == text, f"{page} is old: run python tools/render_numbers.py"
    assert tool.HISTORY.read_text(encoding="utf-8") == tool.history_page(), "run python tools/render_numbers.py"


def test_a_table_has_the_columns_that_it_names(tool: ModuleType) -> None:
    text = "<!-- table speed | s .2f | range .2f… | *ratio .1f× = theirs / this -->\nold\n<!-- /table -->\n"
    assert tool.rendered(text).splitlines()[1:-1] == [
        "| | s | range | theirs / this |",
        "|---|---|---|---|",
        "| theirs | 2.90 | 2.79 … 3.00 | 1.0× |",
        "| ours | 0.58 | 0.58 … 0.61 | **5.0×** |",
    ]
    with pytest.raises(ValueError, match="no row has the value speed; there are , s, range, ratio"):
        tool.rendered("<!-- table speed | s | speed -->\n<!-- /table -->\n")


def test_values_and_conditions_stand_in_sentences(tool: ModuleType) -> None:
    text = "<!-- number speed ours ratio .1f --><!-- /number --> times (<!-- conditions speed --><!-- /conditions -->)."
    shown = tool.rendered(text)
    assert "-->5.0<!--" in shown
    assert "-->2 threads on a CPU, torch 2.14, 2026-11-26<!--" in shown
    assert tool.rendered(shown) == shown


def test_a_new_measurement_replaces_the_old_one_which_stays_in_the_history(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "README.md"
    page.write_text("<!-- number speed ours s .2f --><!-- /number -->")
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    load("measured").write(tmp_path / "new.json", [{"": "ours", "s": 0.25}])
    monkeypatch.setattr(sys, "argv", ["render_numbers.py", "add", "speed", str(tmp_path / "new.json")])
    tool.main()
    assert "-->0.25<!--" in page.read_text()
    history = (tmp_path / "docs" / "numbers" / "history.md").read_text()
    assert history.index("| ours | 0.25 |") < history.index("| ours | 0.58 |")
    (tmp_path / "empty.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["render_numbers.py", "add", "speed", str(tmp_path / "empty.json")])
    with pytest.raises(SystemExit, match=r"empty\.json has no command, date, processor, rows, threads, version"):
        tool.main()
