import json
import math
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from rcnnkit.benchmark.results import Growth, Results, Seconds, Step, Summary, read, write


def test_quantiles_are_numpys_per_picture() -> None:
    rng = np.random.default_rng(0)
    backbone, decode, other = rng.random((3, 25))
    counts = rng.integers(1, 5, 25)
    steps = [
        Step(int(n), float(b + d + o), {"backbone": float(b), "decode": float(d), "other": float(o)}, int(10 * n))
        for n, b, d, o in zip(counts, backbone, decode, other, strict=True)
    ]
    summary = Summary.of(steps)
    whole = backbone + decode + other
    for result, values in (
        (summary.whole, whole),
        (summary.detecting, whole - decode),
        (summary.stages["backbone"], backbone),
    ):
        each = values / counts
        assert result.median == pytest.approx(np.median(each))
        assert result.p95 == pytest.approx(np.percentile(each, 95))
        assert result.spread == pytest.approx(np.percentile(each, 75) - np.percentile(each, 25))
    assert summary.stages["backbone"].share == pytest.approx(backbone.sum() / whole.sum())
    assert sum(stage.share for stage in summary.stages.values()) == pytest.approx(1)
    assert summary.missing == pytest.approx(other.sum() / whole.sum())
    assert summary.images_per_second == pytest.approx(counts.sum() / whole.sum())
    assert summary.proposals == 10
    assert (summary.steps, summary.pictures) == (25, counts.sum())


def test_one_step_by_hand() -> None:
    summary = Summary.of([Step(2, 1.0, {"heads": 0.4, "drawing": 0.2, "decode": 0.1})])
    assert summary.whole == Seconds(median=0.5, p95=0.5, spread=0)
    assert summary.detecting.median == pytest.approx(0.35)
    assert list(summary.stages) == ["decode", "heads", "drawing"]  # in the order of the work
    assert summary.missing == pytest.approx(0.3)  # also what no stage, not even "other", has


def test_a_stage_that_some_steps_lack_counts_as_nothing_there() -> None:
    summary = Summary.of([Step(1, 1.0, {"heads": 1.0}), Step(1, 1.0, {}), Step(1, 1.0, {})])
    assert summary.stages["heads"].median == 0
    assert summary.stages["heads"].share == pytest.approx(1 / 3)


def test_nothing_cannot_be_summarised() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Summary.of([])


def test_stages_of_others_come_before_other(results: Results) -> None:
    summary = Summary.of([Step(1, 1.0, {"other": 0.1, "whole call": 0.2, "heads": 0.3, "attention": 0.1})])
    rcnn = replace(results.contenders["rcnn"], summary=summary)
    assert replace(results, contenders={"rcnn": rcnn}).stages == ["heads", "attention", "whole call", "other"]
    assert (summary.share("heads"), summary.share("drawing")) == (0.3, 0)


def test_curves_are_of_two_values_at_least(results: Results) -> None:
    assert results.growth is not None
    assert results.growth.curves() == {
        "proposals": {"rcnn": [(100, 1), (2000, 20)], "faster-rcnn": [(100, pytest.approx(0.01)), (2000, 0.2)]}
    }
    assert Growth(results.growth.base, results.growth.points[:3]).curves()["proposals"].keys() == {"rcnn"}
    assert Growth(results.growth.base, results.growth.points[:2]).curves() == {}


def test_there_and_back(results: Results, tmp_path: Path) -> None:
    write(results, tmp_path)
    assert read(tmp_path) == results
    values = json.loads((tmp_path / "results.json").read_text())
    assert values == json.loads(json.dumps(asdict(results), default=str))
    assert values["format"] == 2
    assert values["contenders"]["rcnn"]["summary"]["whole"]["median"] == 5
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]  # no half files


@pytest.mark.parametrize("text", ["", "[]", '{"contenders": {}}', "\u00e4", "NaN", "[" * 100_000])
def test_what_is_no_result(tmp_path: Path, text: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no results\.json; run `rcnnkit benchmark"):
        read(tmp_path)
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"results\.json holds no results of `rcnnkit benchmark` in format 2; run it"):
        read(tmp_path)


@pytest.mark.parametrize("number", [1, 3])
def test_another_format_is_refused(results: Results, tmp_path: Path, number: int) -> None:
    write(results, tmp_path)
    file = tmp_path / "results.json"
    file.write_text(file.read_text().replace('"format": 2', f'"format": {number}'))
    with pytest.raises(ValueError, match="holds no results of `rcnnkit benchmark` in format 2; run it again"):
        read(tmp_path)


def test_an_endless_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "results.json")
    with pytest.raises(ValueError, match="is not a regular file"):
        read(tmp_path)


def test_numbers_that_json_does_not_know_are_refused(results: Results, tmp_path: Path) -> None:
    write(results, tmp_path)
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write(replace(results, machine=replace(results.machine, load=math.nan)), tmp_path)
    assert (tmp_path / "results.json").read_bytes() == before
