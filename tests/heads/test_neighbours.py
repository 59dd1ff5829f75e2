"""What a region sees of the others, against loops over the definition."""

import math

import pytest
import torch

from rcnnkit.heads.neighbours import Neighbours, places
from rcnnkit.structures import Proposals

BOXES = torch.tensor([[0.0, 0, 10, 20], [30, 0, 50, 10], [1, 0, 10, 20], [0, 40, 5, 45]])
SCORES = torch.tensor([1.0, 0.5, 1.0, 0.25])


@pytest.fixture
def neighbours() -> Neighbours:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Neighbours(3, 7)


def features(count: int) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(1))


def test_places_are_in_sides_of_the_first_box() -> None:
    found = places(BOXES[:2])
    # from the first: 35 pixels to the right of it, 5 above, twice as wide, half as high, 20 pixels away
    torch.testing.assert_close(found[0, 1], torch.tensor([3.5, -0.25, math.log(2), -math.log(2), 2, 0]))
    torch.testing.assert_close(found[1, 0], torch.tensor([-1.75, 0.5, -math.log(2), math.log(2), 1, 0]))
    assert not found[0, 0].any()
    assert places(BOXES[:0]).shape == (0, 0, 6)


def test_a_sum_of_the_others_weighted_by_where_they_are(neighbours: Neighbours) -> None:
    known = features(4)
    with torch.no_grad():
        seen = neighbours(known, [Proposals(BOXES, SCORES)])
        for i in range(4):
            where = neighbours.geometry(places(BOXES)[i])
            # the first and the third box are of one object, and so are each box and itself
            others = [j for j in range(4) if j != i and {i, j} != {0, 2}]
            weights = [float(neighbours.logit(where[j]).exp() * SCORES[j]) for j in others]
            parts = [(neighbours.known(known[j]) + neighbours.place(where[j])).relu() for j in others]
            wanted = sum(w * part for w, part in zip(weights, parts, strict=True)) / (1 + sum(weights))
            torch.testing.assert_close(seen[i], wanted)


def test_pictures_are_apart(neighbours: Neighbours) -> None:
    known = features(4)
    with torch.no_grad():
        both = neighbours(known, [Proposals(BOXES[:3], SCORES[:3]), Proposals(BOXES[3:], SCORES[3:])])
        torch.testing.assert_close(both[:3], neighbours(known[:3], [Proposals(BOXES[:3], SCORES[:3])]))
    assert not both[3].any()  # it is alone


def test_nothing_and_boxes_without_an_area(neighbours: Neighbours) -> None:
    assert neighbours(features(0), [Proposals(BOXES[:0], SCORES[:0])] * 2).shape == (0, 7)
    flat = Proposals(torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5]]), torch.zeros(2))
    assert neighbours(features(2), [flat]).isfinite().all()


def test_no_gradient_is_lost_or_nan(neighbours: Neighbours) -> None:
    known = features(4).requires_grad_()
    neighbours(known, [Proposals(BOXES, SCORES)]).square().sum().backward()
    assert known.grad is not None
    for grad in (known.grad, *(weight.grad for weight in neighbours.parameters())):
        assert grad is not None
        assert grad.isfinite().all()
        assert grad.any()
