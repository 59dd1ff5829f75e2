from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit.benchmark.measure.contenders import Contender, ReadyContender
from rcnnkit.benchmark.measure.turns import turns
from rcnnkit.benchmark.options import Options
from rcnnkit.benchmark.results import CALL, STAGES
from rcnnkit.data.reading import read_data
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.structures import Detections

NOTHING = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
CPU = torch.device("cpu")


def test_every_batch_begins_with_another_contender(digits: Path) -> None:
    seen: list[tuple[str, list[int]]] = []

    def contender(name: str) -> ReadyContender:
        def detect(pictures: list[np.ndarray]) -> list[Detections]:
            seen.append((name, [int(picture.sum()) for picture in pictures]))
            return [NOTHING] * len(pictures)

        return ReadyContender(name, name, detect)

    records = read_data(digits, "train").records[:7]
    seen_turns = list(turns([contender(name) for name in "abc"], records, 2, CPU))
    assert "".join(name for name, _ in seen) == "abc" + "bca" + "cab" + "abc"
    assert [turn.contender.name for turn in seen_turns] == [name for name, _ in seen]
    assert [turn.step.pictures for turn in seen_turns[::3]] == [2, 2, 2, 1]
    for i in range(0, 12, 3):  # the same pictures to each
        assert seen[i][1] == seen[i + 1][1] == seen[i + 2][1]
    for turn in seen_turns:
        assert turn.step.stages.keys() == {"decode", CALL, "drawing", "other"}
        assert sum(turn.step.stages.values()) <= turn.step.whole


@pytest.mark.parametrize("name", ["rcnn", "fast_rcnn", "faster_rcnn"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_prepared_detectors_are_seen_stage_by_stage(
    tiny: dict[str, dict[str, Any]], digits: Path, name: str, precision: str
) -> None:
    values: dict[str, Any] = {section: tiny[section] for section in ("model", "rpn", "head", "input")}
    values |= {"model": tiny["model"] | {"kind": name}, "rcnn": {"size": 32, "context": 4}}
    values["proposals"] = {"count": 20, "min_side": 8}
    contender = Contender(name.replace("_", "-"), DetectorSettings.model_validate(values), ("a", "b"))
    records = [replace(record, size=(96, 96)) for record in read_data(digits, "train").records[:2]]
    (turn,) = turns([contender.ready(Options(device="cpu", precision=precision))], records, 2, CPU)
    assert set(turn.step.stages) == set(STAGES)
    assert min(turn.step.stages.values()) > 0
    assert 0 < turn.step.proposals <= (100 if name == "faster_rcnn" else 40)
    assert [picture.size for picture in turn.drawn] == [(96, 96)] * 2
