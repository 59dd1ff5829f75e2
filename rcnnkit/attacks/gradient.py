"""Adversarial pictures by the gradient of the losses: FGSM (arXiv:1412.6572) and PGD (arXiv:1706.06083)."""

from __future__ import annotations

from torch import Tensor

from rcnnkit.attacks.victim import Victim

REACH = 2.5  # PGD's steps together, in units of eps: far enough to cross the ball from its start (arXiv:1706.06083)


def fast_gradient_sign(victim: Victim) -> Tensor:
    """One step of `eps` along the sign of the gradient (FGSM, section 4); (3, H, W) pixels."""
    return victim.project(victim.clean + victim.eps * victim.loss_gradient(victim.clean).sign())


def projected_gradient(victim: Victim, steps: int) -> Tensor:
    """Several smaller steps from a random start, each projected back (PGD, section 2.1); (3, H, W) pixels."""
    pixels = victim.project(victim.clean + victim.eps * victim.draw())
    for _ in range(steps):
        pixels = victim.project(pixels + REACH * victim.eps / steps * victim.loss_gradient(pixels).sign())
    return pixels


def random_signs(victim: Victim) -> Tensor:
    """The control: `eps` up or down at random, as large as an attack may be."""
    return victim.project(victim.clean + victim.eps * victim.draw().sign())
