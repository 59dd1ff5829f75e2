"""The best chain against all chains."""

import itertools

import pytest
import torch
from torch import Tensor

from rcnnkit.heads.chain import best_chain


def value(scores: Tensor, chain: tuple[int, ...], beta: float) -> float:
    """By definition."""
    stays = sum(a == b for a, b in itertools.pairwise(chain))
    return sum(float(scores[place, choice]) for place, choice in enumerate(chain)) + beta * stays


@pytest.mark.parametrize("beta", [0.0, 0.3, 2.0])
def test_no_chain_is_better(beta: float) -> None:
    for seed in range(5):
        scores = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        chain = tuple(best_chain(scores, beta).tolist())
        best = max(value(scores, other, beta) for other in itertools.product(range(3), repeat=5))
        assert value(scores, chain, beta) == pytest.approx(best)


def test_edges() -> None:
    assert best_chain(torch.zeros(0, 4), 1.0).tolist() == []
    assert best_chain(torch.tensor([[0.0, 1.0, 1.0]]), 1.0).tolist() == [1]
    assert best_chain(torch.zeros(4, 3), 0.0).tolist() == [0, 0, 0, 0]  # ties stay
    scores = torch.tensor([[5.0, 0.0], [0.0, 1.0], [5.0, 0.0]])
    assert best_chain(scores, 0.0).tolist() == [0, 1, 0]
    assert best_chain(scores, 0.6).tolist() == [0, 0, 0]  # 2 × 0.6 are more than the 1 that is lost
