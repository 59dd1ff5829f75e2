"""The best choice for each member of a chain, in which neighbours like to choose the same."""

from __future__ import annotations

import torch
from torch import Tensor


def best_chain(scores: Tensor, beta: float) -> Tensor:
    """Which of R choices each of T members takes, so that the sum of all scores, and of `beta` for every two
    neighbours that choose the same, is largest (arXiv:1412.2306, equations 10 to 12, by dynamic programming).

    Of equal chains it is the one that stays where it is, and else that of the lower numbers.

    Args:
        scores: (T, R), R of 1 or more.
        beta: 0: each member takes its own best. The larger, the longer the runs of one choice.

    Returns:
        (T,) int64.
    """
    members, choices = scores.shape
    if not members:
        return torch.zeros(0, dtype=torch.int64, device=scores.device)
    total, origins = scores[0].double(), []
    own = torch.arange(choices, device=scores.device)
    for score in scores[1:].double():
        best, best_choice = total.max(dim=0)
        stays = total + beta >= best
        origins.append(torch.where(stays, own, best_choice))
        total = torch.where(stays, total + beta, best) + score
    chain = [total.argmax()]
    for origin in reversed(origins):
        chain.append(origin[chain[-1]])
    return torch.stack(chain[::-1])
