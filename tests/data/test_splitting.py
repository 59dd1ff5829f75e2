"""Splits in which every class has its share, and groups are kept together."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Dataset, Record
from rcnnkit.data.splitting import class_shares, join_splits, split_dataset, stratify
from rcnnkit.structures import Targets


def dataset(labels: list[list[int]], names: list[str] | None = None) -> Dataset:
    names = names or [f"{number:03d}.jpg" for number in range(len(labels))]
    records = []
    for number, (some, name) in enumerate(zip(labels, names, strict=True)):
        targets = Targets(torch.tensor([[0.0, 0, 9, 9]]).repeat(len(some), 1), torch.tensor(some, dtype=torch.int64))
        records.append(Record(number, Path(name), (60, 80), targets))
    return Dataset("x", records, ["a", "b", "c"], [1, 2, 3])


def test_shares_of_classes() -> None:
    whole = dataset([[0, 0, 1], [0], [1, 1, 1]])
    assert whole.summary == "3 pictures, 7 objects"
    assert class_shares(dataset([[0, 1]]), whole) == "a 33.3 %, b 25.0 %"  # there is no c
    assert dataset([]).summary == "0 pictures, 0 objects"


def test_blood_cells(bccd: Path) -> None:
    data = read_data(bccd, "trainval", skip_bad=True)
    splits = split_dataset(data, val=0.2, test=0.1)
    assert sorted(r.id for part in splits.values() for r in part.records) == sorted(r.id for r in data.records)
    total = data.objects_of()
    for name, share in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
        assert len(splits[name]) / len(data) == pytest.approx(share, abs=0.01)
        for each in data.class_names:
            assert splits[name].objects_of()[each] / total[each] == pytest.approx(share, abs=0.015)
    again, other = split_dataset(data, val=0.2, test=0.1), split_dataset(data, val=0.2, test=0.1, seed=1)
    assert [r.id for r in again["val"].records] == [r.id for r in splits["val"].records]
    assert [r.id for r in other["val"].records] != [r.id for r in splits["val"].records]


def test_rare_classes_have_their_share(tmp_path: Path) -> None:
    """By chance alone, of ten pictures of a class none would be in a fifth for every tenth class."""
    generator = np.random.default_rng(0)
    counts = (generator.random((3000, 81)) < np.geomspace(0.0034, 0.5, 81)).astype(float)
    counts[:, -1] = 1
    inside = stratify(counts, np.array([0.8, 0.2]), 0) == 1
    wanted = 0.2 * counts.sum(axis=0)
    assert (abs(counts[inside].sum(axis=0) - wanted) < 1 + 0.05 * wanted).all()


def test_groups_are_never_divided(bccd: Path) -> None:
    data = read_data(bccd, "trainval", skip_bad=True)
    pattern = r"_(\d\d\d)\d\d"
    splits = split_dataset(data, val=0.25, seed=3, group_by=pattern)
    groups = {name: {re.findall(pattern, r.path.name)[0] for r in part.records} for name, part in splits.items()}
    assert groups["train"] & groups["val"] == set()
    assert groups["val"]


@pytest.mark.parametrize("pattern", [r"clip(\d+)", r"clip\d+"])
def test_frames_of_videos(pattern: str) -> None:
    names = [f"clip{video}_{frame}.jpg" for video in range(10) for frame in range(7)] + ["single.jpg", "other.jpg"]
    data = dataset([[i % 3] for i in range(len(names))], names)
    splits = split_dataset(data, val=0.2, group_by=pattern)
    videos = [{r.path.name.partition("_")[0] for r in part.records} for part in splits.values()]
    assert not videos[0] & videos[1]
    assert len(splits["val"]) in (14, 15)


def test_splits_that_number_their_pictures_alike() -> None:
    one, two = dataset([[0], [1]], ["a.jpg", "b.jpg"]), dataset([[2]], ["c.jpg"])
    assert [record.id for record in join_splits([one, two]).records] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [record.id for record in join_splits([one]).records] == [0, 1]
    with pytest.raises(ValueError, match=r"same ids, such as a\.jpg"):
        join_splits([one, one])


def test_few_pictures() -> None:
    splits = split_dataset(dataset([[], [0], []]), val=0.1, test=0.1)
    assert [len(part) for part in splits.values()] == [1, 1, 1]
    splits = split_dataset(dataset([[], []]), val=0.01)
    assert [len(part) for part in splits.values()] == [1, 1]
    assert len(split_dataset(dataset([[]] * 50), val=0.2)["val"]) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"val": 0.0},
            "--val 0 and --test 0 are shares of the pictures: --val must be above 0, and their sum below 1",
        ),
        ({"val": 1.0}, "--val 1 and --test 0 are shares"),
        ({"val": 0.5, "test": 0.5}, "--val 0.5 and --test 0.5 are shares"),
        ({"val": float("nan")}, "--val nan and"),
        ({"val": 0.2, "group_by": "("}, "--group-by ( is not a regular expression: missing )"),
        ({"val": 0.2, "group_by": "clip"}, "--group-by clip is found in no file name, such as 000.jpg; correct it"),
        ({"val": 0.2, "group_by": "jpg"}, "x has 1 group, too few for 2 splits; give more, or a --group-by that"),
    ],
)
def test_what_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        split_dataset(dataset([[0]] * 5), **options)
    with pytest.raises(ValueError, match="x has 1 picture, too few for 2 splits"):
        split_dataset(dataset([[0]]), val=0.2)


def test_classes_that_are_lost_to_training_are_named(caplog: pytest.LogCaptureFixture) -> None:
    data = dataset([[0], [0], [0], [1], [2]])
    splits = split_dataset(data, val=0.2)
    assert splits["train"].without_objects(False) == []
    assert caplog.text == ""
    splits = split_dataset(data, val=0.999)
    assert len(splits["train"]) == 1
    lost = splits["train"].without_objects(False)
    assert len(lost) == 2
    assert (
        f"x: no object of {', '.join(lost)} is in train, so they cannot be learnt; give smaller shares" in caplog.text
    )
