import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from rcnnkit.benchmark.report.markdown import markdown
from rcnnkit.benchmark.report.page import page
from rcnnkit.benchmark.report.write import terminal, write_report
from rcnnkit.benchmark.results import MeasuredContender, Results, write


def test_the_terminal_shows_the_same_tables(results: Results) -> None:
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(terminal(results))
    text = console.export_text()
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines()]
    assert ["Fast R-CNN", "0.500", "2.00 ×", "1.83", "9.24 ×", "Fast R-CNN, table 4"] in rows
    assert "Beside the papers (VGG16 on an Nvidia Tesla K40" in text
    assert "A note with" in text


def test_every_form_from_the_folder(results: Results, tmp_path: Path) -> None:
    write(results, tmp_path)
    assert write_report(tmp_path) == tmp_path / "report.html"
    assert (tmp_path / "report.md").read_text() == markdown(results)
    assert (tmp_path / "report.html").read_text() == page(results, tmp_path)
    for name in ("stages.png", "growth.png"):
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 3  # something is drawn
    later = write_report(tmp_path)  # the same again
    assert later.read_text() == page(results, tmp_path)


def test_nothing_measured_yet(results: Results, tmp_path: Path) -> None:
    waiting = MeasuredContender("R-CNN", None, "resnet18")
    write(replace(results, complete=False, contenders={"rcnn": waiting}, growth=None), tmp_path)
    assert "still running" in write_report(tmp_path).read_text()
    assert not (tmp_path / "stages.png").exists()


def test_a_report_needs_no_torch(results: Results, tmp_path: Path) -> None:
    write(results, tmp_path)
    code = (
        "import json, pathlib, sys; from rcnnkit.benchmark.report.write import terminal, write_report;"
        "write_report(pathlib.Path(sys.argv[1])); print(json.dumps(sorted(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    loaded = json.loads(run.stdout)
    assert (tmp_path / "report.html").read_text() == page(results, tmp_path)
    assert not {"torch", "cv2", "torchvision", "safetensors.torch"} & set(loaded)
    assert not [name for name in loaded if name.startswith("rcnnkit.benchmark.measure")]
