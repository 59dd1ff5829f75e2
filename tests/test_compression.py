"""Truncated SVD of fc6 and fc7: numpy's numbers, and a file that comes back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from rcnnkit.backbones.two_fc import truncated
from rcnnkit.cli import app
from rcnnkit.compression import compress
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.weights import load, read, save


def settings(**model: object) -> DetectorSettings:
    return DetectorSettings.model_validate(
        {
            "model": {"backbone": "resnet18", "norm": "batch", "fpn_channels": 4, "pool_size": 3} | model,
            "rpn": {"post_nms": 20},
            "head": {"hidden": 24, "score_threshold": 0.0},
            "input": {"short_side": 64, "long_side": 96},
        }
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = build(settings(), ["cat", "dog"])
    detector.origin = {"licence": "MIT"}
    save(detector, settings(), tmp_path / "whole.safetensors", {"iterations": 7})
    return tmp_path / "whole.safetensors"


@pytest.mark.parametrize("rank", [1, 5, 12])
def test_the_nearest_of_that_rank_as_numpy_finds_it(rank: int) -> None:
    layer = nn.Linear(20, 12)
    u, s, vt = np.linalg.svd(layer.weight.detach().double().numpy(), full_matrices=False)
    expected = (u[:, :rank] * s[:rank]) @ vt[:rank]
    first, second = truncated(layer, rank)
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    assert first.bias is None
    assert first.weight.shape == (rank, 20)
    np.testing.assert_allclose((second.weight @ first.weight).detach().numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(first.weight.norm(dim=1).detach().numpy(), s[:rank], rtol=1e-4)  # Σ goes with V
    assert second.bias.equal(layer.bias)


def test_full_rank_gives_the_same_detections(file: Path, tmp_path: Path) -> None:
    compress(file, {"fc6": 24, "fc7": 24}, tmp_path / "full.safetensors")
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    files = file, tmp_path / "full.safetensors"
    one, other = (load(path, "cpu", for_training=True)(picture) for path in files)
    assert len(one) == len(other) > 0
    torch.testing.assert_close(one.scores, other.scores, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(one.boxes, other.boxes, atol=1e-2, rtol=1e-4)


def test_the_file_says_what_was_done(file: Path, tmp_path: Path) -> None:
    before, after = compress(file, {"fc6": 2}, tmp_path / "small.safetensors")
    # 36 · 24 weights became 36 · 2 + 2 · 24
    assert before.parameters - after.parameters == 36 * 24 - (36 * 2 + 2 * 24)
    assert before.seconds > 0
    about, tensors = read(tmp_path / "small.safetensors")
    assert (about["settings"]["head"]["fc6_rank"], about["settings"]["head"]["fc7_rank"]) == (2, 0)
    assert about["training"] == {"iterations": 7}
    assert about["origin"] == {"licence": "MIT"}
    assert tensors["head.layers.fc6.0.weight"].shape == (2, 36)
    whole = read(file)[1]
    assert tensors["head.layers.fc7.weight"].equal(whole["head.layers.fc7.weight"])


def test_what_cannot_be_compressed_is_refused(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    with pytest.raises(ValueError, match="fc8 = 3: only fc6 and fc7"):
        compress(file, {"fc8": 3}, out)
    for rank in (0, 25):
        with pytest.raises(ValueError, match=rf"fc6 = {rank}: the layer, 36 → 24, has ranks from 1 to 24"):
            compress(file, {"fc6": rank}, out)
    compress(file, {"fc7": 3}, out)
    with pytest.raises(ValueError, match="fc7 is compressed already"):
        compress(out, {"fc7": 2}, tmp_path / "again.safetensors")
    compress(out, {"fc6": 2}, tmp_path / "both.safetensors")  # the other one still can
    with pytest.raises(FileExistsError, match="nothing is overwritten"):
        compress(file, {"fc6": 3}, out)
    c4 = settings(neck="c4", pool_size=0)
    save(build(c4, ["cat"]), c4, tmp_path / "c4.safetensors")
    with pytest.raises(ValueError, match="has no fc6 and fc7"):
        compress(tmp_path / "c4.safetensors", {"fc6": 3}, tmp_path / "none.safetensors")
    assert not (tmp_path / "none.safetensors").exists()


def test_the_command(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.safetensors"
    done = CliRunner().invoke(app, ["compress", str(file), "--rank", "fc6=4", "fc7=3", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "before: " in done.output
    tensors = load(out, "cpu", for_training=True).state_dict()
    assert [len(tensors[f"head.layers.{name}.0.weight"]) for name in ("fc6", "fc7")] == [4, 3]
    bad = CliRunner().invoke(app, ["compress", str(file), "--rank", "fc6", "--out", str(tmp_path / "x")])
    assert "is not of the form LAYER=RANK" in str(bad.exception)
