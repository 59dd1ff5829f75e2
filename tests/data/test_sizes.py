from pathlib import Path

import pytest
import torch

from rcnnkit.data.records import Dataset, Record
from rcnnkit.data.sizes import input_sides
from rcnnkit.images import Preprocessing
from rcnnkit.structures import Targets


def test_sides_are_those_that_the_network_sees() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 20], [5, 5, 8, 9], [0, 0, 50, 50], [7, 7, 7, 9]])
    no, yes = torch.tensor([False] * 4), torch.tensor([False, True, False, False])
    crowd = torch.tensor([False, False, True, False])
    large = Record(1, Path("a.jpg"), (100, 200), Targets(boxes, torch.zeros(4).long(), yes, no, crowd))
    small = Record(2, Path("b.jpg"), (25, 100), Targets(torch.tensor([[1.0, 1, 3, 2]]), torch.zeros(1).long()))
    data = Dataset("d", [large, small], ["thing"], [1])
    preprocessing = Preprocessing(short_side=50, long_side=150)  # × 0.5, and × 1.5 for the long one
    assert input_sides(data, preprocessing, use_difficult=False).tolist() == [[5, 10], [3, pytest.approx(37 / 25)]]
    assert input_sides(data, preprocessing, use_difficult=True).tolist()[1] == [1.5, 2]


def test_no_objects_have_no_sides() -> None:
    empty = Record(1, Path("a.jpg"), (100, 200), Targets(torch.zeros(0, 4), torch.zeros(0).long()))
    assert input_sides(Dataset("d", [empty], ["thing"], [1]), Preprocessing(), use_difficult=False).shape == (0, 2)
