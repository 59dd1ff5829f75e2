import torch

from rcnnkit.boxes import iou
from rcnnkit.matching import BACKGROUND, IGNORED, class_overlaps, match, sample
from rcnnkit.structures import Targets


def targets(boxes: list[list[float]], crowd: list[bool] | None = None) -> Targets:
    n = len(boxes)
    return Targets(
        torch.tensor(boxes).reshape(-1, 4), torch.zeros(n, dtype=torch.int64), crowd=torch.tensor(crowd or [False] * n)
    )


def test_thresholds_by_hand() -> None:
    # The object is 10 × 10. Overlap 10·w / (100 + 10·10 − 10·w): w = 10, 9, 8, 5, 2 → 1, .818, .667, .333, .111
    boxes = torch.tensor([[10 - w, 0, 20 - w, 10] for w in (10.0, 9, 8, 5, 2)])
    matched = match(boxes, targets([[0, 0, 10, 10]]), 0.7, 0.3)
    assert matched.tolist() == [0, 0, IGNORED, IGNORED, BACKGROUND]
    assert match(boxes, targets([[0, 0, 10, 10]]), 0.5, 0.5).tolist() == [0, 0, 0, BACKGROUND, BACKGROUND]


def test_best_box_of_an_object_counts_however_poor() -> None:
    objects = targets([[0, 0, 10, 10], [100, 100, 110, 110]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [108, 100, 118, 110], [102, 108, 112, 118], [300, 300, 310, 310]])
    overlaps = iou(boxes, objects.boxes)
    assert overlaps[1, 1] > overlaps[2, 1] > 0
    assert match(boxes, objects, 0.7, 0.3).tolist() == [0, BACKGROUND, BACKGROUND, BACKGROUND]
    assert match(boxes, objects, 0.7, 0.3, best_too=True).tolist() == [0, 1, BACKGROUND, BACKGROUND]


def test_ties_for_the_best_all_count_and_keep_their_own_best_object() -> None:
    # Two boxes tie at the first object; one of them overlaps the second object more and is learnt towards that.
    objects = targets([[0, 0, 10, 10], [15, 0, 35, 10]])
    boxes = torch.tensor([[5.0, 0, 15, 10], [5, 0, 15, 10], [14, 0, 34, 10]])
    assert match(boxes, objects, 0.99, 0.3, best_too=True).tolist() == [0, 0, 1]


def test_an_object_that_nothing_overlaps_gets_no_box() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    assert match(boxes, targets([[500, 500, 510, 510]]), 0.7, 0.3, best_too=True).tolist() == [BACKGROUND] * 2


def test_crowds_match_nothing_and_what_lies_inside_is_ignored() -> None:
    objects = targets([[0, 0, 100, 100], [200, 0, 210, 10]], crowd=[True, False])
    # all inside the crowd; the crowd itself; 60 % inside; the real object; far away
    boxes = torch.tensor([[10.0, 10, 20, 20], [0, 0, 100, 100], [94, 0, 104, 10], [200, 0, 210, 10], [400, 0, 410, 10]])
    assert match(boxes, objects, 0.5, 0.5).tolist() == [IGNORED, IGNORED, BACKGROUND, 1, BACKGROUND]
    only_crowd = targets([[0, 0, 100, 100]], crowd=[True])
    assert match(boxes, only_crowd, 0.5, 0.5).tolist() == [IGNORED, IGNORED, BACKGROUND, BACKGROUND, BACKGROUND]


def test_no_objects_and_no_boxes() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]])
    assert match(boxes, targets([]), 0.7, 0.3, best_too=True).tolist() == [BACKGROUND]
    assert match(boxes[:0], targets([[0, 0, 1, 1]]), 0.7, 0.3, best_too=True).tolist() == []


def test_overlaps_with_each_class_by_hand() -> None:
    objects = Targets(
        torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [0, 0, 10, 20], [100, 100, 200, 200]]),
        torch.tensor([2, 2, 0, 0]),
        crowd=torch.tensor([False, False, False, True]),
    )
    # the first object itself; between the first two; 75 % inside the crowd, half inside it
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [95, 100, 115, 110], [90, 100, 110, 110]])
    expected = [[0.5, 0, 1], [60 / 240, 0, 90 / 110], [1, 0, 0], [0, 0, 0]]
    torch.testing.assert_close(class_overlaps(boxes, objects, 3), torch.tensor(expected, dtype=torch.float32))
    assert class_overlaps(boxes, targets([]), 3).tolist() == [[0, 0, 0]] * 4
    assert class_overlaps(boxes[:0], objects, 3).shape == (0, 3)


def test_sample_counts() -> None:
    matched = torch.tensor([0] * 50 + [BACKGROUND] * 100 + [IGNORED] * 30)
    chosen = sample(matched, 40, 0.25, torch.Generator().manual_seed(0))
    assert (matched[chosen] >= 0).sum() == 10
    assert (matched[chosen] == BACKGROUND).sum() == 30
    assert len(set(chosen.tolist())) == 40
    assert chosen.tolist() == sorted(chosen.tolist())


def test_too_few_foregrounds_are_made_up_with_background_but_not_the_other_way() -> None:
    few = torch.tensor([0] * 3 + [BACKGROUND] * 100)
    chosen = sample(few, 40, 0.25)
    assert (few[chosen] >= 0).sum() == 3
    assert len(chosen) == 40
    poor = torch.tensor([0] * 50 + [BACKGROUND] * 2)
    assert len(sample(poor, 40, 0.25)) == 12
    assert len(sample(torch.tensor([IGNORED] * 9), 40, 0.25)) == 0
    assert len(sample(torch.tensor([], dtype=torch.int64), 40, 0.25)) == 0


def test_sample_is_the_generators_and_uniform() -> None:
    matched = torch.full((100,), BACKGROUND)
    one = sample(matched, 10, 0.5, torch.Generator().manual_seed(1))
    assert one.equal(sample(matched, 10, 0.5, torch.Generator().manual_seed(1)))
    assert not one.equal(sample(matched, 10, 0.5, torch.Generator().manual_seed(2)))
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(100)
    for _ in range(2000):
        counts[sample(matched, 10, 0.5, generator)] += 1
    # each is drawn with probability 1/10: 200 times, deviation √(2000 · 0.1 · 0.9) = 13.4; 6 of them
    assert (counts - 200).abs().max() < 6 * 13.4


def test_background_can_have_a_lower_limit() -> None:
    # as above: overlaps 1, .333, .111, 0.0526 and 0
    boxes = torch.tensor([[10 - w, 0, 20 - w, 10] for w in (10.0, 5, 2, 1, -5)])
    objects = targets([[0, 0, 10, 10]])
    matched = match(boxes, objects, 0.5, 0.5, background_low=0.1)
    assert matched.tolist() == [0, BACKGROUND, BACKGROUND, IGNORED, IGNORED]
    assert match(boxes, targets([]), 0.5, 0.5, background_low=0.1).tolist() == [IGNORED] * 5
    assert match(boxes, targets([]), 0.5, 0.5).tolist() == [BACKGROUND] * 5


def test_part_by_part_is_the_same(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(200, 2, generator=generator).mul(20).round()  # whole numbers: many ties
    boxes = torch.cat([corner, corner + torch.rand(200, 2, generator=generator).mul(6).round() + 1], dim=1)
    objects = targets(boxes[::9].tolist(), crowd=[i % 5 == 0 for i in range(23)])
    whole = [match(boxes + 0.5, objects, 0.6, 0.3, best_too=best_too) for best_too in (False, True)]
    assert not whole[0].equal(whole[1])
    monkeypatch.setattr("rcnnkit.ops.best_overlaps.PAIRS", 23 * 7)
    for best_too in (False, True):
        assert match(boxes + 0.5, objects, 0.6, 0.3, best_too=best_too).equal(whole[best_too])
