"""Pictures made of several: every box stands around the colour that its label names."""

import numpy as np
import pytest
import torch

from rcnnkit.data.loading import Pictures, draws, load_batches
from rcnnkit.data.mixing import Sample, copy_paste, join, mix, mixup, mosaic
from rcnnkit.data.transforms import Augmentation, AugmentSettings
from rcnnkit.images import Preprocessing
from rcnnkit.structures import Targets
from tests.data.test_loading import check_same, records

__all__ = ["records"]


def scene(size: tuple[int, int], label: int, boxes: list[list[int]]) -> Sample:
    """Rectangles of grey level 60 × label on black, so that whose a pixel is can be seen."""
    picture = np.zeros((*size, 3), dtype=np.uint8)
    for x1, y1, x2, y2 in boxes:
        picture[y1:y2, x1:x2] = 60 * label
    return picture, Targets(torch.tensor(boxes).float().reshape(-1, 4), torch.full((len(boxes),), label))


FIRST = scene((80, 120), 1, [[10, 10, 50, 40], [80, 50, 110, 75]])
OTHERS = [scene((60, 60), 2, [[5, 5, 55, 55]]), scene((200, 100), 3, [[20, 20, 80, 180]]), scene((80, 120), 4, [])]


def extent(picture: np.ndarray, box: list[float], label: int) -> list[int]:
    """Where the rows and columns end that are mostly of a label, within two pixels around the box."""
    x1, y1, x2, y2 = (max(0, round(v) + d) for v, d in zip(box, (-2, -2, 2, 2), strict=True))
    of_label = np.abs(picture[y1:y2, x1:x2, 0].astype(int) - 60 * label) < 30
    columns, rows = (np.flatnonzero(of_label.mean(axis=axis) > 0.4) for axis in (0, 1))
    return [columns.min() + x1, rows.min() + y1, columns.max() + 1 + x1, rows.max() + 1 + y1]


def test_a_mosaic_has_the_boxes_where_the_pixels_are() -> None:
    seen = []
    for seed in range(40):
        picture, targets = mosaic(FIRST, OTHERS, np.random.default_rng(seed))
        assert picture.shape == (80, 120, 3)
        for box, label in zip(targets.boxes.tolist(), targets.labels.tolist(), strict=True):
            seen.append(label)
            assert 0 <= box[0] < box[2] <= 120
            assert 0 <= box[1] < box[3] <= 80
            if min(box[2] - box[0], box[3] - box[1]) > 6:
                assert extent(picture, box, label) == pytest.approx(box, abs=1.1)
    assert set(seen) == {1, 2, 3}  # the fourth has no objects
    assert len(seen) > 60


def test_what_a_mosaic_cuts_nearly_away_is_no_object() -> None:
    """Of a box that fills its picture, the part in its quarter is what is left."""
    whole = scene((100, 100), 1, [[0, 0, 100, 100]])
    picture, targets = mosaic(whole, [whole] * 3, np.random.default_rng(3))
    assert len(targets) == 4
    x, y = targets.boxes[0, 2:].tolist()
    expected = [[0, 0, x, y], [x, 0, 100, y], [0, y, x, 100], [x, y, 100, 100]]
    torch.testing.assert_close(targets.boxes, torch.tensor(expected))
    assert (picture == 60).all()
    small = scene((100, 100), 1, [[0, 0, 100, 100], [0, 0, 4, 4]])
    assert all(
        (each.boxes[:, 2:] - each.boxes[:, :2]).prod(dim=1).min() >= 0.1 * 16 * 0.25**2
        for each in (mosaic(small, [small] * 3, np.random.default_rng(seed))[1] for seed in range(20))
    )


def test_mixup_by_hand() -> None:
    share = np.random.default_rng(7).beta(32, 32)
    picture, targets = mixup(FIRST, OTHERS[1], np.random.default_rng(7))
    # (200, 100) fits into (80, 120) at a factor of 0.4
    torch.testing.assert_close(targets.boxes, torch.tensor([*FIRST[1].boxes.tolist(), [8.0, 8, 32, 72]]))
    assert targets.labels.tolist() == [1, 1, 3]
    assert picture[20, 20, 0] == round(share * 60 + (1 - share) * 180)  # both
    assert picture[60, 20, 0] == round((1 - share) * 180)
    assert picture[60, 100, 0] == 60  # beyond the partner, the first alone
    assert 0.25 < share < 0.75
    assert FIRST[0][60, 20, 0] == 0  # what was given is as it was


def test_pasted_objects_bring_their_pixels_and_cover_little() -> None:
    partner = scene((80, 120), 3, [[3, 4, 23, 34], [50, 10, 60, 70], [70, 0, 120, 80]])
    partner[1].boxes[0] += 0.25  # between pixels
    pasted = 0
    for seed in range(60):
        picture, targets = copy_paste(FIRST, partner, np.random.default_rng(seed))
        assert targets.boxes[:2].equal(FIRST[1].boxes)
        assert targets.labels.tolist() == [1, 1] + [3] * (len(targets) - 2)
        pasted += len(targets) - 2
        for box in targets.boxes[2:]:
            size = (box[2:] - box[:2]).tolist()
            assert size in ([20, 30], [10, 60], [50, 80])
            x1, y1 = box[:2].int().tolist()
            assert 0 <= x1 <= 120 - size[0]
        for box in FIRST[1].boxes.int().tolist():
            x1, y1, x2, y2 = box
            assert (picture[y1:y2, x1:x2, 0] == 60).mean() >= 0.7
    assert 30 < pasted < 120
    crowd = Targets(partner[1].boxes, partner[1].labels, crowd=torch.tensor([True] * 3))
    assert len(copy_paste(FIRST, (partner[0], crowd), np.random.default_rng(0))[1]) == 2


def test_flags_come_along() -> None:
    flags = {name: torch.tensor([True]) for name in ("difficult", "truncated")}
    one = Targets(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([0]), **flags)
    both = join([one, FIRST[1]])
    assert both.difficult.tolist() == both.truncated.tolist() == [True, False, False]
    assert both.crowd.tolist() == [False] * 3


@pytest.mark.parametrize("which", range(3))
def test_partners_are_the_seeds(which: int) -> None:
    mosaic, mixup, paste = (float(i == which) for i in range(3))
    shares = mosaic, mixup, paste
    asked: list[int] = []

    def read(index: int) -> Sample:
        asked.append(index)
        return OTHERS[index % 3]

    one = mix(FIRST, 5, shares, 100, read)
    first = asked.copy()
    assert len(first) == (3 if which == 0 else 1)
    other = mix(FIRST, 5, shares, 100, read)
    assert asked[len(first) :] == first
    np.testing.assert_array_equal(one[0], other[0])
    assert one[1].boxes.equal(other[1].boxes)
    mix(FIRST, 6, shares, 100, read)
    assert asked[2 * len(first) :] != first
    mix(FIRST, 5, (0.0, 0.0, 0.0), 100, pytest.fail)  # type: ignore[arg-type]  # it is not called


def test_workers_change_nothing(records: list) -> None:
    settings = AugmentSettings(mosaic=0.5, mixup=0.5, copy_paste=0.5)
    augmentation = Augmentation(settings, Preprocessing(short_side=32, long_side=48, divisor=16))

    def load(workers: int, start: int = 0, number: int = 8) -> list:
        made = load_batches(Pictures(records, augmentation, False), draws(records, 2, 5), start=start, workers=workers)
        return [next(made) for _ in range(number)]

    whole = load(0)
    check_same(load(2), whole)
    check_same(load(0, 6, 2), whole[6:])
    assert max(len(target) for batch in whole for target in batch.targets) > 1  # each picture has one
    assert [[draw[0] for draw in group] for group, _ in zip(draws(records, 2, 5), range(8), strict=False)] == [
        [int(path.stem) for path in batch.paths] for batch in whole
    ]
