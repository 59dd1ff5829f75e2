"""The table of docs/howto/export.md: which detectors, on which networks, are equal in which format.

`python tests/exporting/test_table.py onnx openvino` tries these formats and writes their columns, with another word
those rows alone that have it; a cell that was not tried is empty.
"""

import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.exporting.agreement import Limits, difference
from rcnnkit.exporting.export import FORMATS, describe
from rcnnkit.exporting.proof import _random_regions, prove, random_picture
from rcnnkit.exporting.runtimes import Exported
from tests.test_contract import NECKS, NETWORKS, TIMM, built

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "export.md"
TITLES = {"faster_rcnn": "Faster", "fast_rcnn": "Fast", "rcnn": "R-CNN"}
# OpenVINO has no pooling of a map that is smaller than its kernel, which windows of 64 pixels are in old networks. A
# program of torch.export takes no side of 64 pixels or fewer, which is one cell of `input.divisor`.
WINDOW, LONGEST = 131, 110
BATCHES = ([(97, 101)], [(103, 89), (104, 104)], [(80, 104)])  # of pictures, (height, width)
HEAD = f"| Network | {' | '.join(FORMATS)} |\n|---|{'---|' * len(FORMATS)}\n"
ROWS = [f"{network}, {neck}" for network in NETWORKS for neck in (*NECKS[network], "windows")]


def reason(format: str, kind: str, network: str, neck: str) -> str:
    """Why a detector does not go to a format; "" where it answers equally there."""
    detector, _ = built((kind, network) if kind == "rcnn" else (kind, network, neck))
    assert isinstance(detector, Detector)
    detector.eval()
    if isinstance(detector, RCNN):
        detector.settings = detector.settings.model_copy(update={"size": WINDOW})
    else:
        detector.preprocessing = detector.preprocessing.model_copy(update={"long_side": LONGEST})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"a{FORMATS[format].suffix}"
        try:
            FORMATS[format].write(detector, file, describe(detector, False), with_preprocessing=False)
            exported = Exported(file)
            if isinstance(detector, RCNN):
                prove(detector, exported, None, None)  # type: ignore[arg-type]  # of windows nothing is made again
                return ""
            generator = np.random.default_rng(0)
            head: Any = detector.head
            limits = Limits(head.score_threshold, head.nms_iou, head.max_detections)
            for batch in BATCHES:
                pictures = [random_picture(*size, generator) for size in batch]
                regions = [[_random_regions(p, generator) for p in pictures]] if detector.takes_proposals else []
                for one, other in zip(detector(pictures, *regions), exported(pictures, *regions), strict=True):
                    if told := difference(one, other, limits):
                        return told
        except Exception as error:
            return str(error) or type(error).__name__
    return ""


def cell(format: str, row: str) -> str:
    network, neck = row.split(", ")
    kinds = ["rcnn"] if neck == "windows" else ["faster_rcnn", "fast_rcnn"]
    failed = {kind: why for kind in kinds if (why := reason(format, kind, network, neck))}
    for kind, why in failed.items():
        print(format, row, kind, why, file=sys.stderr, flush=True)
    return ", ".join(TITLES[kind] for kind in kinds if kind not in failed) or "none"


def read() -> dict[str, list[str]]:
    """Rows of the page and their cells."""
    lines = PAGE.read_text(encoding="utf-8").partition(HEAD)[2].partition("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name: values for name, *values in cells}


def write(rows: dict[str, list[str]]) -> None:
    before, _, after = PAGE.read_text(encoding="utf-8").partition(HEAD)
    text = "".join(f"| {name} | {' | '.join(values)} |\n" for name, values in rows.items())
    PAGE.write_text(before + HEAD + text + "\n" + after.partition("\n\n")[2], encoding="utf-8")


def test_the_table_has_every_network() -> None:
    assert list(read()) == ROWS


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("format", FORMATS)
def test_the_table_is_right(format: str, row: str) -> None:
    if row.startswith(TIMM):
        pytest.importorskip("timm")
    told = read()[row][list(FORMATS).index(format)]
    if not told:
        pytest.skip("the table does not say it")
    assert cell(format, row) == told


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    formats = [word for word in sys.argv[1:] if word in FORMATS]
    parts = [word for word in sys.argv[1:] if word not in FORMATS]
    for format in formats:
        for row in (row for row in ROWS if all(part in row for part in parts)):
            new = cell(format, row)
            rows = read()
            rows = {name: rows.get(name, [""] * len(FORMATS)) for name in ROWS}
            rows[row][list(FORMATS).index(format)] = new
            write(rows)
