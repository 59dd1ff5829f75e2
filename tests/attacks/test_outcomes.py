"""The three shares, worked by hand."""

import torch

from rcnnkit.attacks.outcomes import Outcomes, outcomes
from rcnnkit.structures import Detections, Targets


def found(*rows: tuple[list[float], float, int]) -> Detections:
    boxes = torch.tensor([box for box, _, _ in rows]).reshape(-1, 4)
    return Detections(
        boxes, torch.tensor([s for _, s, _ in rows]), torch.tensor([n for *_, n in rows], dtype=torch.int64)
    )


def test_outcomes() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10], [80, 0, 90, 10]])
    crowd = torch.tensor([False, False, False, False, True])
    objects = Targets(boxes, torch.tensor([0, 1, 0, 1, 0]), crowd=crowd)
    seen = found(
        ([0, 0, 10, 10], 0.9, 0),  # right
        ([0, 0, 10, 9], 0.8, 1),  # wrong beside a right one
        ([20, 0, 30, 10], 0.9, 0),  # wrong: renamed
        ([40, 0, 50, 10], 0.4, 0),  # too low a score: vanished
        ([60, 0, 70, 4], 0.9, 1),  # IoU 0.4: stands on nothing, and its object has vanished
        ([80, 0, 90, 10], 0.9, 1),  # on a crowd region
    )
    assert outcomes([seen], [objects], 0.5) == Outcomes(vanished=0.5, renamed=0.25, invented=0.2)


def test_nothing_is_a_share_of_nothing() -> None:
    none = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert outcomes([found()], [none], 0.5) == Outcomes(0.0, 0.0, 0.0)
    assert outcomes([found(([0, 0, 5, 5], 0.9, 0))], [none], 0.5) == Outcomes(0.0, 0.0, 1.0)
