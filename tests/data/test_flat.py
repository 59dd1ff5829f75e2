"""Records in flat arrays are what they were made from."""

from pathlib import Path

import numpy as np
import torch

from rcnnkit.data.flat import Record, Records
from rcnnkit.structures import Targets

FIELDS = ("boxes", "labels", "difficult", "truncated", "crowd", "areas")


def record(key: int | str, objects: int, path: str = "ö/a b.jpg") -> Record:
    drawn = torch.Generator().manual_seed(objects)
    corners = torch.rand(objects, 2, generator=drawn) * 30
    difficult, truncated, crowd = torch.rand(3, objects, generator=drawn) < 0.5
    areas = torch.rand(objects, generator=drawn) * 100
    boxes = torch.cat([corners, corners + 5], dim=1)
    return Record(
        key, Path(path), (40, 50 + objects), Targets(boxes, torch.arange(objects), difficult, truncated, crowd, areas)
    )


def same(one: Record, other: Record) -> bool:
    alike = (one.id, type(one.id), one.path, one.size) == (other.id, type(other.id), other.path, other.size)
    return alike and all(torch.equal(getattr(one.targets, n), getattr(other.targets, n)) for n in FIELDS)


GIVEN = [record(7, 3), record("x/7", 0, "/p/\udcff.png"), record("8", 1), record(10**30, 2), record("", 4, "")]


def test_every_record_comes_back() -> None:
    made = Records.of(GIVEN)
    assert Records.of(made) is made
    assert len(made) == 5
    assert all(map(same, made, GIVEN))
    assert same(made[-2], GIVEN[-2])
    assert made.ids == [7, "x/7", "8", 10**30, ""]
    assert made.paths == [str(each.path) for each in GIVEN]
    assert made.sizes.tolist() == [list(each.size) for each in GIVEN]
    assert made.counts.tolist() == [3, 0, 1, 2, 4]
    assert made.objects["box"].tolist() == torch.cat([each.targets.boxes for each in GIVEN]).tolist()


def test_a_record_is_a_copy() -> None:
    made = Records.of(GIVEN)
    made[0].targets.boxes.zero_()
    assert same(made[0], GIVEN[0])


def test_some_of_them() -> None:
    made = Records.of(GIVEN)
    for chosen, indices in (
        (slice(1, 4), [1, 2, 3]),
        (slice(None, None, -2), [4, 2, 0]),
        ([3, 0, 3], [3, 0, 3]),
        (np.array([True, False, False, True, False]), [0, 3]),
        ([], []),
    ):
        some = made[chosen]
        assert all(map(same, some, [GIVEN[i] for i in indices]))
        assert len(some) == len(indices)
        assert some.objects["label"].tolist() == [v for i in indices for v in GIVEN[i].targets.labels.tolist()]


def test_several_are_joined_whatever_they_are_parts_of() -> None:
    made = Records.of(GIVEN)
    joined = Records.joined([made[3:], Records.of([]), made[[1, 0]]])
    assert all(map(same, joined, [GIVEN[i] for i in (3, 4, 1, 0)]))
    assert len(joined) == 4
    assert len(Records.joined([])) == len(Records.of([]).objects) == 0


def test_more_than_are_held_at_a_time() -> None:
    many = [GIVEN[i % 5] for i in range(9000)]
    made = Records.of(iter(many))
    assert len(made) == 9000
    assert all(same(made[i], many[i]) for i in (0, 4095, 4096, 8191, 8192, 8999))


def test_other_labels_and_ids() -> None:
    made = Records.of(GIVEN)
    other = made.with_labels([5, 4, 3, 2])
    assert other[0].targets.labels.tolist() == [5, 4, 3]
    assert made[0].targets.labels.tolist() == [0, 1, 2]
    named = made[2:].with_ids(["a", 2, "c"])
    assert named.ids == ["a", 2, "c"]
    assert named.paths == made.paths[2:]
    assert torch.equal(named[1].targets.boxes, GIVEN[3].targets.boxes)
