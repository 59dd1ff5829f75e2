import numpy as np
import pytest

from rcnnkit.benchmark.summary import Step, summarise


def test_quantiles_are_numpys_per_picture() -> None:
    rng = np.random.default_rng(0)
    backbone, decode, other = rng.random((3, 25))
    counts = rng.integers(1, 5, 25)
    steps = [
        Step(int(n), float(b + d + o), {"backbone": float(b), "decode": float(d), "other": float(o)}, int(10 * n))
        for n, b, d, o in zip(counts, backbone, decode, other, strict=True)
    ]
    found = summarise(steps)
    whole = backbone + decode + other
    for result, values in (
        (found["whole"], whole),
        (found["detecting"], whole - decode),
        (found["stages"]["backbone"], backbone),
    ):
        each = values / counts
        assert result["median"] == pytest.approx(np.median(each))
        assert result["p95"] == pytest.approx(np.percentile(each, 95))
        assert result["spread"] == pytest.approx(np.percentile(each, 75) - np.percentile(each, 25))
    assert found["stages"]["backbone"]["share"] == pytest.approx(backbone.sum() / whole.sum())
    assert sum(stage["share"] for stage in found["stages"].values()) == pytest.approx(1)
    assert found["missing"] == pytest.approx(other.sum() / whole.sum())
    assert found["images_per_second"] == pytest.approx(counts.sum() / whole.sum())
    assert found["proposals"] == 10
    assert (found["steps"], found["pictures"]) == (25, counts.sum())


def test_one_step_by_hand() -> None:
    found = summarise([Step(2, 1.0, {"heads": 0.4, "drawing": 0.2, "decode": 0.1})])
    assert found["whole"] == {"median": 0.5, "p95": 0.5, "spread": 0}
    assert found["detecting"]["median"] == pytest.approx(0.35)
    assert list(found["stages"]) == ["decode", "heads", "drawing"]  # in the order of the work
    assert found["missing"] == pytest.approx(0.3)  # also what no stage, not even "other", has


def test_a_stage_that_some_steps_lack_counts_as_nothing_there() -> None:
    found = summarise([Step(1, 1.0, {"heads": 1.0}), Step(1, 1.0, {}), Step(1, 1.0, {})])
    assert found["stages"]["heads"]["median"] == 0
    assert found["stages"]["heads"]["share"] == pytest.approx(1 / 3)


def test_nothing_cannot_be_summarised() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        summarise([])
