"""Exports of a trained detector: the AP of the file is the detector's, and fewer bits cost little of it."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rcnnkit.cli import app
from rcnnkit.config_files import check_settings
from rcnnkit.data.digits import write_digits
from rcnnkit.terminal import Console
from rcnnkit.training.train import train

pytestmark = [pytest.mark.slow]  # a training of two minutes
PICTURES = 120  # on 24 the loss of AP varies by 0.01 from one draw of pictures to the next
pytest.importorskip("onnx", reason="onnx is not installed: pip install 'rcnnkit[export]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'rcnnkit[export]'")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Weights that find digits, and their data."""
    folder = tmp_path_factory.mktemp("trained")
    write_digits(folder / "data", train=160, val=PICTURES, size=(96, 96))
    values: dict[str, Any] = {
        "model": {"backbone": "resnet18", "norm": "batch", "fpn_channels": 32, "fpn_norm": "batch"},
        "rpn": {
            "anchor_sizes": [[16], [32], [64], [128], [256]],
            **dict.fromkeys(("pre_nms", "post_nms", "train_pre_nms", "train_post_nms"), 100),
        },
        "head": {"hidden": 64, "samples": 32},
        "input": {"short_side": 96, "long_side": 96},
        "data": {"root": str(folder / "data"), "workers": 0},
        "train": {
            "iterations": 1000,
            "batch": 2,
            "lr_for_16": 0.16,
            "warmup": 40,
            "evaluate_every": 0,
            "device": "cpu",
            "precision": "float32",
        },
    }
    return train(check_settings(values, "test"), folder / "run", console=Console(quiet=True)), folder / "data"


def exported(trained: tuple[Path, Path], out: Path, *options: str) -> str:
    """What the command says."""
    weights, data = trained
    words = ["export", str(weights), "--out", str(out), "--verify", str(data), "--split", "val", *options]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_the_ap_of_the_file_is_the_detectors(trained: tuple[Path, Path], tmp_path: Path) -> None:
    told = exported(trained, tmp_path / "a.onnx")
    assert "equal on 32 pictures with " in told
    own, files = told.partition("; AP ")[2].partition(", and ")[0].split(" and ")
    assert float(own) > 0.2
    assert float(files) == pytest.approx(float(own), abs=0.001)


@pytest.mark.parametrize(("precision", "share"), [("fp16", 0.55), ("int8", 0.35)])
def test_fewer_bits_cost_little(trained: tuple[Path, Path], tmp_path: Path, precision: str, share: float) -> None:
    out = tmp_path / "small.onnx"
    told = exported(trained, out, "--precision", precision, "--repository", str(tmp_path / "models"))
    words = told.partition(f"{precision}: AP ")[2].partition(f" after, on {PICTURES} pictures")[0]
    before, after = words.split(" before and ")
    assert float(before) > 0.2
    assert float(before) - float(after) <= 0.005
    assert out.stat().st_size < share * trained[0].stat().st_size
    assert (tmp_path / "models" / "small" / "1" / "model.onnx").read_bytes() == out.read_bytes()
