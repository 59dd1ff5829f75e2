from pathlib import Path

import pytest
import torch

from rcnnkit.data.hold_out import hold_out
from rcnnkit.data.records import Dataset, Record
from rcnnkit.structures import Targets


def data(labels: list[list[int]]) -> Dataset:
    """A picture for each list of labels."""
    targets = [
        Targets(torch.tensor([[0.0, 0, 1, 1]] * len(each)).reshape(-1, 4), torch.tensor(each).long()) for each in labels
    ]
    records = [Record(f"p{i}", Path(f"p{i}.jpg"), (10, 10), each) for i, each in enumerate(targets)]
    return Dataset("things", records, ["a", "b", "c"], [1, 2, 3])


def ids(part: Dataset) -> list[int | str]:
    return [record.id for record in part.records]


@pytest.mark.parametrize(("share", "number"), [(0.2, 20), (0.005, 1), (0.99, 99), (0.996, 99), (0.125, 13)])
def test_a_share_is_held_out(share: float, number: int) -> None:
    whole = data([[0]] * 100)
    training, validation = hold_out(whole, share, 0)
    assert len(validation) == number
    assert sorted(map(str, ids(training) + ids(validation))) == sorted(map(str, ids(whole)))
    assert ids(training) == sorted(ids(training), key=lambda name: int(str(name)[1:]))  # in the old order
    assert validation.name == "things (held out)"
    assert validation.class_names == whole.class_names


def test_the_seed_and_the_ids_decide() -> None:
    whole = data([[0]] * 50)
    turned = Dataset("things", whole.records[::-1], whole.class_names, whole.category_ids)
    chosen = [set(ids(hold_out(each, 0.3, seed)[1])) for each, seed in ((whole, 0), (turned, 0), (whole, 1))]
    assert chosen[0] == chosen[1]
    assert chosen[0] != chosen[2]


def test_the_only_picture_of_a_class_is_learnt_from() -> None:
    whole = data([[0], [0, 1], [0], [0], [2, 2]])
    for seed in range(20):
        training, validation = hold_out(whole, 0.6, seed)
        assert training.without_objects(use_difficult=False) == []
        assert {"p1", "p4"} <= set(ids(training))
        assert ids(validation) == ["p0", "p2", "p3"]  # as p1 shows the first class, too


def test_one_picture_cannot_be_two() -> None:
    with pytest.raises(ValueError, match=r"things has 1 picture, so none can be held out; set data\.val_share = 0"):
        hold_out(data([[0]]), 0.2, 0)
