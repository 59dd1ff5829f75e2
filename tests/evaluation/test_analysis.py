"""Numbers of an analysis beside independent ways to them."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rcnnkit.data.records import Dataset
from rcnnkit.evaluation.analysis import Analysis, analyse, hits_from_json, hits_to_json
from rcnnkit.evaluation.coco import area_matches, coco_metrics
from rcnnkit.evaluation.comparison import compare, read_evaluated
from rcnnkit.evaluation.intervals import drawn, intervals, samples_of
from rcnnkit.evaluation.report import Found, judge
from rcnnkit.structures import Detections
from rcnnkit.tables import comparison_table
from tests.evaluation.made import made, without_ties


def analysed(detections: list[Detections], dataset: Dataset) -> Analysis:
    result = judge([Found(dict(enumerate(detections)), [1.0])], dataset)
    return analyse(result, dataset, probabilities=True, min_score=0.5)


@pytest.fixture(scope="module", autouse=True)
def few_samples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in ("intervals", "comparison"):
            patch.setattr(f"rcnnkit.evaluation.{module}.samples_of", lambda pictures: 60)
        yield


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    detections, dataset = made(4, pictures=16)
    return analysed(without_ties(detections), dataset)


def test_intervals_of_a_mean_are_those_of_its_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).normal(0, 1, 400)
    monkeypatch.setattr("rcnnkit.evaluation.intervals.samples_of", samples_of)
    found = intervals(lambda weights: {"mean": float(values @ weights / weights.sum())}, 400)
    error = values.std() / np.sqrt(400)
    low, high = found["mean"]
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)
    assert sum(1 for _ in drawn(3)) == samples_of(3)
    assert all(weights.sum() == 3 for weights in drawn(3))


def test_intervals_hold_the_numbers(analysis: Analysis) -> None:
    for name, value in analysis.evaluation.numbers.items():
        low, high = analysis.intervals[name]
        assert low - 0.05 <= value <= high + 0.05, name
    assert analysis.intervals["voc_11"][0] < analysis.evaluation.voc.mean_ap_11 < analysis.intervals["voc_11"][1]
    assert np.isnan(analysis.class_intervals[4]).all()  # a class without objects


def test_parts_by_size_are_cocos_and_those_by_crowding_are_those_of_a_smaller_data_set(analysis: Analysis) -> None:
    numbers = analysis.evaluation.numbers
    sizes = analysis.parts["size"]
    assert [part.name for part in sizes] == ["small", "medium", "large"]
    assert [part.ap for part in sizes] == pytest.approx([numbers[name] for name in ("APs", "APm", "APl")], nan_ok=True)
    dataset, detections = analysis.dataset, analysis.evaluation.detections
    part = next(part for part in analysis.parts["crowding"] if part.name == "2–4")
    counts = [int((~record.targets.crowd).sum()) for record in dataset.records]
    some = [i for i, number in enumerate(counts) if 2 <= number < 5]
    smaller = replace(dataset, records=[dataset.records[i] for i in some])
    expected = coco_metrics([detections[i] for i in some], smaller).numbers
    assert (part.ap, part.ap50) == pytest.approx((expected["AP"], expected["AP50"]))
    assert part.objects == sum(counts[i] for i in some)


def test_parts_by_place_hold_every_object_once(analysis: Analysis) -> None:
    expected = np.zeros(9, dtype=int)
    for record in analysis.dataset.records:
        boxes = record.targets.boxes[~record.targets.crowd]
        for x, y in ((boxes[:, :2] + boxes[:, 2:]) / 2).tolist():
            expected[3 * min(2, int(3 * y / 300)) + min(2, int(3 * x / 300))] += 1
    assert [part.objects for part in analysis.parts["place"]] == expected.tolist()


def test_pictures_add_up_to_the_sweep(analysis: Analysis) -> None:
    point = analysis.together.at(analysis.threshold)
    sums = tuple(
        int(each.sum()) for each in (analysis.pictures.found, analysis.pictures.missed, analysis.pictures.invented)
    )
    assert sums == (point.found, point.missed, point.invented)
    targets, found, detections, right = analysis.shown_in(0, analysis.threshold)
    assert found.sum() == right.sum() == analysis.pictures.found[0]
    assert len(targets) - found.sum() == analysis.pictures.missed[0]
    assert len(detections) - right.sum() == analysis.pictures.invented[0]


def test_mistakes_come_with_the_most_confident_first(analysis: Analysis) -> None:
    told = [analysis.told(each) for each in analysis.mistakes]
    scores = [each["score"] for each in told]
    assert scores == sorted(scores, reverse=True)
    assert {each["cause"] for each in told} <= {"place", "class", "background", "both"}
    wrong = next(each for each in told if each["cause"] == "class")
    assert wrong["object"]["class"] != wrong["class"]


def test_hits_come_back_from_json() -> None:
    detections, dataset = made(5)
    hits = area_matches(detections, dataset).hits()
    back = hits_from_json(json.loads(json.dumps(hits_to_json(hits))), hits.size)
    np.testing.assert_array_equal(back.ap(), hits.ap())
    np.testing.assert_array_equal(back.ap(3), hits.ap(3))


@pytest.fixture
def files(analysis: Analysis, tmp_path: Path) -> tuple[Path, Path]:
    """Of the detector, and of a worse one."""
    rng = np.random.default_rng(0)
    worse = [
        replace(each, boxes=each.boxes + torch.from_numpy(rng.normal(0, 9, (len(each), 1))).float())
        for each in analysis.evaluation.detections
    ]
    both = tmp_path / "good.json", tmp_path / "worse.json"
    for file, each in zip(both, (analysis, analysed(worse, analysis.dataset)), strict=True):
        file.write_text(json.dumps(each.to_json()))
    return both


def test_a_worse_detector_is_found_worse(files: tuple[Path, Path], analysis: Analysis) -> None:
    good, worse = map(read_evaluated, files)
    result = compare(good, worse)
    ap = result.numbers[0]
    assert ap.first == pytest.approx(analysis.evaluation.numbers["AP"])
    assert ap.difference < 0
    assert ap.interval[0] <= ap.difference <= ap.interval[1] < 0
    assert ap.chance < 0.05
    assert result.verdict == f"{files[0]} is better (AP, p = {ap.chance:.3f})"
    changes = [change for _, change in result.pictures]
    assert [abs(change) for change in changes] == sorted(map(abs, changes), reverse=True)
    assert sum(changes) < 0
    assert json.dumps(result.to_json(), allow_nan=False)
    assert len(comparison_table(result).renderables) > 3


def test_a_detector_is_as_good_as_itself(files: tuple[Path, Path]) -> None:
    good = read_evaluated(files[0])
    result = compare(good, good)
    assert [each.difference for each in result.numbers] == [0, 0, 0]
    assert [each.chance for each in result.numbers] == [1, 1, 1]
    assert result.pictures == []
    assert "do not tell which is better" in result.verdict


def test_other_data_and_other_files_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    good = read_evaluated(files[0])
    values = json.loads(files[1].read_text())
    values["per_picture"][2]["id"] = "other"
    (tmp_path / "other.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"has picture \d+ where .*other.json has other; evaluate both on the same"):
        compare(good, read_evaluated(tmp_path / "other.json"))
    (tmp_path / "numbers.json").write_text("{}")
    with pytest.raises(ValueError, match=r"does not say what was found in each picture; name a report.json"):
        read_evaluated(tmp_path / "numbers.json")
    (tmp_path / "text.json").write_text("no")
    with pytest.raises(ValueError, match=r"is no JSON file"):
        read_evaluated(tmp_path / "text.json")
    with pytest.raises(FileNotFoundError, match="rcnnkit evaluate --report writes such a file"):
        read_evaluated(tmp_path / "none.json")
