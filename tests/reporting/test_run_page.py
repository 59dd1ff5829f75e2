import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from rcnnkit.data.loading import Batch
from rcnnkit.data.records import Dataset
from rcnnkit.evaluation.analysis import Analysis
from rcnnkit.reporting.run_page import RELOAD, SHOWN, RunPage, chosen, page
from rcnnkit.training.train import train
from tests.benchmark.report.test_page import parsed
from tests.cli.commands import Values
from tests.reporting.browser import opened
from tests.training.runs import settings


@pytest.fixture
def run(tmp_path: Path, analysis: Analysis) -> Path:
    """Two evaluations and a batch."""
    folder = tmp_path / 'run <script>"'
    folder.mkdir()
    pictures = RunPage(folder, 100)
    lines: list[dict[str, float | None]] = [
        {"iteration": i, "loss": 2 / i, "head_loss": 1 / i, "lr": 0.1, "images_per_second": 7.0, "seconds": 60.0 * i}
        for i in range(10, 60, 10)
    ]
    lines += [{"iteration": i, "AP": i / 100, "AP50": None if i == 30 else 0.7} for i in (30, 50)]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"iteration": 60, "lo')
    seen = torch.zeros(3, 40, 60, dtype=torch.uint8)
    targets = analysis.dataset.records[0].targets
    pictures.saw(1, Batch([seen] * 3, [(40, 60)] * 3, [targets] * 3, [Path()] * 3))
    for i in (30, 50):
        pictures.judged(i, analysis.evaluation, analysis.dataset)
    return folder


def test_the_page_has_curves_batches_and_what_was_found(run: Path) -> None:
    text = (run / "report.html").read_text(encoding="utf-8")
    assert RELOAD in text
    elements = parsed(text)
    assert "<script" not in text
    words = " ".join(elements.text)
    for shown in ('Training run <script>"', "iteration 50 of 100", "best AP, % 50.0 after 50", "best AP50, % 70.0"):
        assert shown in words, shown
    assert "minutes 50.0" in words
    assert len(elements.loads) == 3 + 2 * 5  # of five pictures with objects
    assert text.count("<svg") == 4  # losses, rate, numbers, speed


def test_a_run_that_has_ended_is_not_loaded_again(run: Path) -> None:
    RunPage(run, 100).finish()
    assert RELOAD not in (run / "report.html").read_text(encoding="utf-8")


def test_nothing_logged_yet_has_a_page(tmp_path: Path) -> None:
    assert "Nothing is logged yet." in " ".join(parsed(page(tmp_path, 10)).text)


def test_the_same_pictures_are_chosen_evenly(analysis: Analysis) -> None:
    records = [replace(analysis.dataset.records[0], id=i) for i in range(30)]
    assert chosen(replace(analysis.dataset, records=records)) == list(range(0, 30, 4))[:SHOWN]
    assert chosen(Dataset("none", [], (), ())) == []


def test_a_training_leaves_its_page(tiny: Values, tmp_path: Path) -> None:
    train(settings(tiny, iterations=2, evaluate_every=1), tmp_path / "run", console=Console(quiet=True))
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    words = " ".join(parsed(text).text)
    assert "iteration 2 of 2" in words
    assert RELOAD not in text
    names = sorted(path.name for path in (tmp_path / "run" / "report").iterdir())
    assert [name for name in names if name.startswith("batch-")] == [
        f"batch-{i:07}-{number}.jpg" for i in (1, 2) for number in (0, 1)
    ]
    assert len([name for name in names if name.startswith("found-")]) == 2 * 4  # four validation pictures


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_all_of_it(run: Path, tmp_path: Path, width: int) -> None:
    text = page(run, 100)
    seen = opened(text, width, tmp_path)
    assert seen["width"] <= width
    assert (seen["images"], seen["missing"], seen["console"]) == (len(parsed(text).loads), 0, [])
