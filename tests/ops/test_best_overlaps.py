import pytest
import torch

from rcnnkit.boxes import iou
from rcnnkit.ops import best_overlaps as module
from rcnnkit.ops.best_overlaps import best_overlaps


def boxes(count, random, whole=False):
    corner = torch.rand(count, 2, generator=random) * torch.tensor([300.0, 200.0])
    found = torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=random) * 100], dim=1)
    return found.round() if whole else found


def by_definition(some, objects):
    overlaps = iou(some, objects)
    of_object = overlaps.amax(dim=0)
    ties = (overlaps == of_object) & (of_object > 0)
    return overlaps.amax(dim=1), (overlaps == overlaps.amax(dim=1, keepdim=True)).int().argmax(dim=1), ties.any(dim=1)


@pytest.mark.parametrize("seed", range(12))
def test_the_same_as_by_definition_to_the_last_bit(seed):
    random = torch.Generator().manual_seed(seed)
    count, objects = (int(torch.randint(1, most, (), generator=random)) for most in (9000, 40))
    # whole numbers bring ties
    some, objects = boxes(count, random, whole=seed % 2 == 0), boxes(objects, random, whole=seed % 2 == 0)
    if seed > 6:
        some[::7, 2] = some[::7, 0]  # empty
        some[1::7], some[2::7, 2], some[3::9, 1] = float("nan"), float("inf"), float("nan")
    for ours, expected in zip(best_overlaps(some, objects, True), by_definition(some, objects), strict=True):
        assert torch.equal(ours, expected)


def test_without_ties_there_are_none():
    random = torch.Generator().manual_seed(0)
    some, objects = boxes(10, random), boxes(3, random)
    best, index, ties = best_overlaps(some, objects, False)
    assert not ties.any()
    assert torch.equal(best, iou(some, objects).amax(dim=1))
    assert torch.equal(index, by_definition(some, objects)[1])


def test_no_boxes():
    best, index, ties = best_overlaps(torch.zeros(0, 4), torch.ones(1, 4), True)
    assert (best.shape, index.shape, ties.shape) == ((0,), (0,), (0,))


def test_threads_do_not_change_a_bit():
    random = torch.Generator().manual_seed(0)
    some, objects = boxes(20_000, random, whole=True), boxes(9, random, whole=True)
    kept = torch.get_num_threads()
    torch.set_num_threads(3)
    several = best_overlaps(some, objects, True)
    torch.set_num_threads(1)
    one = best_overlaps(some, objects, True)
    torch.set_num_threads(kept)
    assert all(torch.equal(a, b) for a, b in zip(several, one, strict=True))


def test_other_types_go_another_way_to_the_same(monkeypatch):
    random = torch.Generator().manual_seed(0)
    some, objects = boxes(500, random).double(), boxes(7, random).double()
    whole = best_overlaps(some, objects, True)
    assert all(torch.equal(a, b) for a, b in zip(whole, by_definition(some, objects), strict=True))
    monkeypatch.setattr(module, "PAIRS", 100)
    assert all(torch.equal(a, b) for a, b in zip(best_overlaps(some, objects, True), whole, strict=True))
    assert all(
        torch.equal(a, b)
        for a, b in zip(best_overlaps(some, objects, False), (*whole[:2], whole[2] & False), strict=True)
    )


def test_what_does_not_fit_is_refused():
    with pytest.raises(RuntimeError, match="there must be an object"):
        best_overlaps(torch.zeros(3, 4), torch.zeros(0, 4), True)
    with pytest.raises(RuntimeError, match=r"must be \(N, 4\) float32"):
        best_overlaps(torch.zeros(3, 5), torch.zeros(1, 4), True)
