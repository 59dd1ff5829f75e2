"""Which pictures come when, and that workers change nothing."""

import multiprocessing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rcnnkit.data.loading import Batch, Pictures, draws, load_batch, load_batches, once
from rcnnkit.data.records import Record
from rcnnkit.data.transforms import Augmentation, AugmentSettings
from rcnnkit.images import Preprocessing
from rcnnkit.proposals.store import Store
from rcnnkit.structures import Proposals, Targets

PREPROCESSING = Preprocessing(short_side=32, long_side=48, divisor=16)
AUGMENTATION = Augmentation(AugmentSettings(flip=0.5, crop=0.5, brightness=0.3, scale=(0.8, 1.2)), PREPROCESSING)


def record(index: int, size: tuple[int, int], path: Path = Path("none")) -> Record:
    """One with an object whose label is the record's index, and a difficult one."""
    boxes = torch.tensor([[2.0, 3, 20, 25], [5, 5, 9, 9]])
    targets = Targets(boxes, torch.tensor([index, 99]), difficult=torch.tensor([False, True]))
    return Record(index, path, size, targets)


def unread(wide: int, tall: int) -> list[Record]:
    sizes = [(30, 40)] * wide + [(40, 30)] * tall
    return [record(i, size) for i, size in enumerate(sizes)]


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Seven pictures on disk, wide and tall."""
    rng = np.random.default_rng(0)
    made = []
    for i, size in enumerate([(30, 40), (40, 30), (33, 33), (28, 50), (50, 28), (30, 41), (64, 32)]):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
        made.append(record(i, size, path))
    return made


def load(
    records: list[Record], number: int, *, use_difficult: bool = False, start: int = 0, workers: int = 0, **options: Any
) -> list[Batch]:
    pictures = Pictures(records, AUGMENTATION, use_difficult, **options)
    return list(islice(load_batches(pictures, draws(records, 2, 5), start=start, workers=workers), number))


def check_same(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert list(one.paths) == list(other.paths)
        assert list(one.sizes) == list(other.sizes)
        for a, b in zip(one.pictures, other.pictures, strict=True):
            assert a.equal(b)
        for targets, others in zip(one.targets, other.targets, strict=True):
            assert targets.boxes.equal(others.boxes)
            assert targets.labels.equal(others.labels)


@pytest.mark.parametrize(("wide", "tall", "batch"), [(12, 0, 4), (7, 4, 3), (3, 1, 1), (2, 1, 8), (1, 0, 2)])
def test_every_record_once_an_epoch(wide: int, tall: int, batch: int) -> None:
    records = unread(wide, tall)
    n = len(records)
    taken = list(islice(draws(records, batch, 0), 60))
    for shape in (range(wide), range(wide, n)):
        order = [index for group in taken for index, _ in group if index in shape]
        # What is drawn and does not fill a batch waits: the shapes may be less than a batch of each apart.
        assert abs(len(order) - len(shape) / n * 60 * batch) < 2 * batch
        for epoch in range(len(order) // max(1, len(shape))):
            assert sorted(order[epoch * len(shape) : (epoch + 1) * len(shape)]) == list(shape)


def test_batches_are_all_wide_or_all_tall() -> None:
    records = [*unread(9, 5), record(14, (30, 30))]  # a square one counts as wide
    shapes = set()
    for group in islice(draws(records, 4, 1), 100):
        assert len(group) == 4
        kinds = {records[index].size[1] >= records[index].size[0] for index, _ in group}
        assert len(kinds) == 1
        shapes |= kinds
    assert shapes == {True, False}


def test_the_order_is_the_seeds() -> None:
    records = unread(8, 5)
    one = list(islice(draws(records, 3, 7), 30))
    assert one == list(islice(draws(records, 3, 7), 30))
    assert one != list(islice(draws(records, 3, 8), 30))
    epochs = [[index for group in one for index, _ in group if index < 8][i : i + 8] for i in (0, 8)]
    assert epochs[0] != epochs[1]  # and each epoch has another


def test_each_draw_has_an_augmentation_of_its_own() -> None:
    seeds = [seed for group in islice(draws(unread(4, 4), 2, 0), 200) for _, seed in group]
    assert len(set(seeds)) > 395  # of 2**31; a collision is rare


def test_a_run_is_continued_by_skipping() -> None:
    records = unread(8, 5)
    whole = list(islice(draws(records, 3, 7), 20))
    assert list(islice(draws(records, 3, 7), 12, 20)) == whole[12:]


def test_repeated_pictures_come_more_often() -> None:
    records, repeats = unread(3, 1), np.array([1.0, 3.0, 1.5, 1.0])
    taken = [index for group in islice(draws(records, 2, 0, repeats), 2000) for index, _ in group]
    wide = np.bincount([index for index in taken if index < 3])
    assert wide / wide.sum() == pytest.approx(np.array([1, 3, 1.5]) / 5.5, abs=0.02)
    seeds = [seed for group in islice(draws(records, 2, 0, repeats), 100) for _, seed in group]
    assert len(set(seeds)) == 200  # each time with another augmentation


def test_once_is_every_record_once_and_like_shapes_together() -> None:
    records = [*unread(3, 2), record(5, (90, 30))]
    groups = list(once(records, 4))
    assert [len(group) for group in groups] == [4, 2]
    assert [index for group in groups for index, _ in group] == [0, 1, 2, 3, 4, 5]
    assert list(once(records, 4)) == groups
    assert list(once([], 4)) == []


def test_no_records_are_an_error_not_a_wait() -> None:
    with pytest.raises(ValueError, match="no pictures to draw from"):
        next(draws([], 2, 0))


def test_workers_change_nothing(records: list[Record]) -> None:
    check_same(load(records, 9, workers=0), load(records, 9, workers=2))


def test_start_continues(records: list[Record]) -> None:
    whole = load(records, 9)
    check_same(load(records, 4, start=5), whole[5:])
    check_same(load(records, 2, start=7, workers=2), whole[7:])


def test_targets_and_pictures_belong_together(records: list[Record]) -> None:
    for batch in load(records, 12, use_difficult=True):
        for picture, size, target, path in zip(batch.pictures, batch.sizes, batch.targets, batch.paths, strict=True):
            index = int(path.stem)
            assert target.labels.tolist() == [index, 99]
            assert target.difficult.tolist() == [False, True]
            assert size == records[index].size
            assert picture.dtype == torch.uint8
            height, width = picture.shape[1:]
            assert (target.boxes[:, 2] <= width + 1e-3).all()
            assert (target.boxes[:, 3] <= height + 1e-3).all()


def test_difficult_objects_are_left_out_unless_wanted(records: list[Record]) -> None:
    for batch in load(records, 5):
        assert [target.labels.tolist() for target in batch.targets] == [[int(path.stem)] for path in batch.paths]
    assert all(len(target) == 2 for batch in load(records, 5, use_difficult=True) for target in batch.targets)


def test_to_gives_what_the_detector_takes(records: list[Record]) -> None:
    (batch,) = load(records, 1)
    images, targets = batch.to(torch.device("cpu"), PREPROCESSING)
    expected = PREPROCESSING.batch(batch.pictures, batch.sizes, "cpu")
    assert images.pixels.equal(expected.pixels)
    assert images.sizes == [tuple(picture.shape[1:]) for picture in batch.pictures]
    assert images.original_sizes == list(batch.sizes)
    assert all(a.boxes.equal(b.boxes) for a, b in zip(targets, batch.targets, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_picture_is_named_plainly(records: list[Record], workers: int) -> None:
    path = records[3].path
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"3\.png cannot be decoded") as error:
        load(records, 20, workers=workers)
    assert "Traceback" not in str(error.value)
    assert "worker" not in str(error.value)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"3\.png: no such picture") as missing:
        load(records, 20, workers=workers)
    assert "Traceback" not in str(missing.value)


def test_no_worker_outlives_the_loop(records: list[Record]) -> None:
    batches = load_batches(Pictures(records, AUGMENTATION, False), draws(records, 2, 0), workers=2)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_the_best_stored_proposals_come_with_each_picture(records: list[Record], tmp_path: Path, workers: int) -> None:
    store = Store.create(tmp_path / "proposals", "by-hand", {})
    for each in records:  # the object's box, then two more; the scores tell which picture they are of
        boxes = torch.cat([each.targets.boxes[:1], torch.tensor([[0.0, 0, 9, 9], [1, 1, 9, 9]])])
        scores = int(each.id) + torch.tensor([0.3, 0.2, 0.1])
        store.write(each.id, Proposals(boxes, scores), each.size, each.path)
    for batch in load(records, 9, workers=workers, store=store, count=2):
        images, targets = batch.to(torch.device("cpu"), PREPROCESSING)
        for proposals, target in zip(images.proposals, targets, strict=True):
            index = target.labels.item()
            torch.testing.assert_close(proposals.scores[:1], torch.tensor([index + 0.3]))
            torch.testing.assert_close(proposals.boxes[:1], target.boxes, atol=1e-3, rtol=1e-5)
            assert len(proposals) <= 2
    assert load(records, 1)[0].to(torch.device("cpu"), PREPROCESSING)[0].proposals == []


def test_missing_proposals_are_named_plainly(records: list[Record], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no proposals of picture"):
        load(records, 1, workers=2, store=Store.create(tmp_path / "proposals", "by-hand", {}))


def test_large_pictures_are_learnt_from_in_tiles(tmp_path: Path) -> None:
    """The pixels of a tile are those of the picture, and boxes lie on the same pixels as before."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (150, 210, 3), dtype=np.uint8)
    path = tmp_path / "large.png"
    Image.fromarray(picture).save(path)
    corners = np.stack(np.meshgrid(np.arange(0, 200, 20), np.arange(0, 140, 20)), axis=-1).reshape(-1, 2)
    boxes = torch.from_numpy(np.concatenate([corners, corners + 10], axis=1)).float()
    large = Record(1, path, (150, 210), Targets(boxes, torch.arange(len(boxes))))
    rule = Preprocessing(short_side=0, long_side=1000, tile=64, tile_overlap=16)
    augmentation = Augmentation(AugmentSettings(flip=0), rule)
    places = set()
    for seed in range(20):
        batch = load_batch(Pictures([large], augmentation, True), [(0, seed)])
        tile, targets = batch.pictures[0].permute(1, 2, 0).numpy(), batch.targets[0]
        assert tile.shape == (64, 64, 3)
        assert batch.sizes == ((64, 64),)
        y, x = next(zip(*np.nonzero((picture == tile[0, 0]).all(axis=2)), strict=True))
        np.testing.assert_array_equal(tile, picture[y : y + 64, x : x + 64])
        places.add((y, x))
        for box, label, crowd in zip(targets.boxes, targets.labels.tolist(), targets.crowd.tolist(), strict=True):
            original = boxes[label] - torch.tensor([x, y, x, y])
            assert box.tolist() == original.clamp(0, 64).tolist()
            visible = (original.clamp(0, 64)[2:] - original.clamp(0, 64)[:2]).prod()
            assert crowd == (visible < 50)
        inside = ((boxes[:, :2] + 10 > torch.tensor([x, y])) & (boxes[:, :2] < torch.tensor([x, y]) + 64)).all(dim=1)
        assert targets.labels.tolist() == torch.where(inside)[0].tolist()
        again = load_batch(Pictures([large], augmentation, True), [(0, seed)])
        assert again.pictures[0].equal(batch.pictures[0])
    assert len(places) > 15


def test_pictures_no_larger_than_a_tile_are_as_without_tiles(records: list[Record]) -> None:
    tiled = Augmentation(
        AugmentSettings(flip=0.5, crop=0.5, brightness=0.3, scale=(0.8, 1.2)),
        PREPROCESSING.model_copy(update={"tile": 64, "tile_overlap": 8}),
    )
    batches = load_batches(Pictures(records, tiled, False), draws(records, 2, 5), workers=0)
    check_same(load(records, 8), list(islice(batches, 8)))


def test_partners_of_a_tile_are_tiles(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.fromarray(np.full((150, 210, 3), 99, dtype=np.uint8)).save(path)
    large = [
        Record(i, path, (150, 210), Targets(torch.tensor([[90.0, 90, 99, 99]]), torch.tensor([0]))) for i in (0, 1)
    ]
    rule = Preprocessing(short_side=0, long_side=1000, tile=64, tile_overlap=16)
    augmentation = Augmentation(AugmentSettings(mosaic=1, mixup=1, copy_paste=1), rule)
    batch = load_batch(Pictures(large, augmentation, True), [(0, 3), (1, 4)])
    assert [tuple(each.shape) for each in batch.pictures] == [(3, 64, 64)] * 2


def test_proposals_of_a_large_picture_are_cut_before_they_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.fromarray(np.zeros((100, 300, 3), dtype=np.uint8)).save(path)
    far = torch.tensor([[280.0, 80, 290, 90]])
    large = Record("large", path, (100, 300), Targets(far, torch.tensor([0])))
    store = Store.create(tmp_path / "proposals", "by-hand", {})
    boxes = torch.cat([torch.tensor([[0.0, 0, 9, 9]]).repeat(50, 1), far, torch.tensor([[250.0, 60, 270, 99]])])
    store.write(large.id, Proposals(boxes, torch.arange(len(boxes), 0, -1).float()), large.size, large.path)
    rule = Preprocessing(short_side=0, long_side=1000, tile=64, tile_overlap=16)
    augmentation = Augmentation(AugmentSettings(flip=0), rule)
    for seed in range(20):
        batch = load_batch(Pictures([large], augmentation, True, store, 2), [(0, seed)])
        if len(batch.targets[0]) and not batch.targets[0].crowd.any():
            assert batch.proposals[0].scores.tolist() == [2, 1]
            torch.testing.assert_close(batch.proposals[0].boxes[:1], batch.targets[0].boxes)
            return
    raise AssertionError("no tile with the object in 20 draws, of which half lie around it")
