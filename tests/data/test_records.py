"""Which classes a data set can teach."""

from pathlib import Path

import pytest
import torch

from rcnnkit.data.records import BadData, Dataset, Problem, Record, few
from rcnnkit.structures import Targets


@pytest.mark.parametrize(
    ("use_difficult", "expected"), [(False, ["crowd", "difficult", "absent"]), (True, ["crowd", "absent"])]
)
def test_classes_without_objects(use_difficult: bool, expected: list[str]) -> None:
    """ "both" has a crowd and an object beside it; one picture has nothing at all."""
    labels = torch.tensor([0, 1, 2, 3, 3])
    crowd, difficult = labels == 1, labels == 2
    crowd[3] = True
    targets = [
        Targets(torch.tensor([[1.0, 1, 5, 5]]).expand(5, 4), labels, difficult, crowd=crowd),
        Targets(torch.zeros(0, 4), labels[:0]),
    ]
    records = [Record(i, Path(f"{i}.png"), (9, 9), each) for i, each in enumerate(targets)]
    names = ["plain", "crowd", "difficult", "both", "absent"]
    assert Dataset("made", records, names, [1, 2, 3, 4, 5]).without_objects(use_difficult) == expected
    assert Dataset("none", [], names, [1, 2, 3, 4, 5]).without_objects(use_difficult) == names


def test_a_problem_is_one_line_whatever_it_names() -> None:
    problems = [Problem("a\x1b.xml", "object 1", "bad\nx is good")]
    listed = str(BadData("d", problems, nothing_left=False)).splitlines()[1:-1]
    assert listed == [r"  a\x1b.xml: object 1: bad\nx is good"]


def test_few() -> None:
    assert few(["a", "b"]) == "a, b"
    assert few([str(i) for i in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert few([str(i) for i in range(11)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, … (11)"
