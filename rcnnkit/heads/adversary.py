"""What makes regions harder in training: A-Fast-RCNN (Wang, Shrivastava and Gupta 2017, arXiv:1704.03414)."""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from rcnnkit.heads.spatial_dropout import (
    OF_CELLS,
    Probability,
    SpatialDropout,
    hardest_windows,
    hide,
    likely_cells,
    loss_of,
    mask_side,
    random_cells,
    scaled,
)
from rcnnkit.heads.spatial_rotation import SpatialRotation
from rcnnkit.settings import Factor, NotNegative, Positive, Section, Share
from rcnnkit.structures import LossSum
from rcnnkit.text import count


class AdversarySettings(Section):
    """[adversary]: what hides or turns the pooled regions of objects, so that Fast and Faster R-CNN learn from harder
    ones (A-Fast-RCNN, arXiv:1704.03414). It has a part in training alone, and is not kept with the detector."""

    kind: Literal["none", "random", "exhaustive", "dropout", "rotation", "both"] = "none"
    """What it does. dropout: a network learns which cells to hide. rotation: a network learns how to turn the channels.
    both: one after the other. The controls learn nothing; random: hide any cells. exhaustive: hide the window, of all,
    without which the true class is least probable."""
    start: Share = 0.2
    """When the network of dropout begins to learn, as a share of the iterations."""
    pretrain: Share = 0.3
    """How long it learns from windows that are tried before anything is hidden, as a share of the iterations. Whatever
    the kind, regions are changed from start + pretrain on. The released code has 10,000 iterations before, 25,000 of
    these and 40,000 after."""
    every: Positive = 2
    """Regions are changed in the last of every so many iterations; 2 as in the released code, where it is every second
    picture."""
    cells: Positive = 15
    """Cells that dropout and random hide, of 49; of masks of other sizes as large a share. 15 as in the released
    code."""
    candidates: Positive = 20
    """From how many of the likeliest cells, of 49, dropout draws those that it hides. 20 as in the released code."""
    min_drop: Share = 0.1
    """The network of dropout goes on to learn from those of its own masks by which the probability of the true class
    falls by more than this; 0.1 in the released code."""
    weight: NotNegative = 0.0025
    """Weight of the loss of these masks; 0.0025 in the released code. That of the windows has 1."""
    degrees: Factor = 10.0
    """The most that rotation turns, either way; 10 in the paper."""
    blocks: Positive = 4
    """Blocks of channels that rotation turns, each by an angle of its own; 4 in the paper."""
    hidden: Positive = 256
    """Filters of the convolutions of dropout, 256 in the released code, and units of the layers of rotation."""

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.start + self.pretrain > 1:
            raise ValueError(
                f"pretrain = {self.pretrain} and start = {self.start} are more than all iterations together; lower one"
            )
        if self.candidates > OF_CELLS:
            raise ValueError(
                f"candidates = {self.candidates} is more than the {OF_CELLS} cells; give {OF_CELLS} at most"
            )
        if self.cells > self.candidates:
            raise ValueError(
                f"cells = {self.cells} cannot be drawn from candidates = {self.candidates}; give {self.candidates} at"
                " most"
            )
        if self.cells == OF_CELLS:
            raise ValueError(f"cells = {self.cells} would hide the whole region; give {OF_CELLS - 1} at most")
        return self

    def only(self, iteration: int, iterations: int) -> list[str]:
        """Settings with which all iterations of a run, however long, are in the phase that this one of so many is."""
        share = iteration / iterations
        waits, pretrains = share < self.start, share < self.start + self.pretrain
        start, pretrain = (1, 0) if waits else (0, 1) if pretrains else (0, 0)
        return [f"adversary.start={start}", f"adversary.pretrain={pretrain}"]


class Adversary(nn.Module):
    """Regions of objects → the same, some cells hidden or the channels turned, so that the head finds them harder.

    There is one training loop with one optimizer. What hides is itself trained by a loss, "adversary": the
    cross-entropy of its masks beside windows that were tried, later beside those of its own masks that worked. What
    turns learns behind a gradient reversal. Backgrounds are never changed, nor are labels and boxes.

    Where this leaves the paper: the detector goes on to learn while the network of dropout is pre-trained; rotation is
    not pre-trained, as it starts without any turn; it raises all losses of the head, where the paper has that of the
    classes; probabilities before and after hiding are of a head without dropout, which the released code has on.

    Args:
        channels, size: regions are (R, channels, size, size).
        settings: with a kind other than "none".
    """

    only_trains = True  # see `Model.lasting_state`

    def __init__(self, channels: int, size: int, settings: AdversarySettings) -> None:
        super().__init__()
        self.settings, self.side = settings, mask_side(size)
        kind, hidden = settings.kind, settings.hidden
        self.dropout = SpatialDropout(channels, size, hidden) if kind in ("dropout", "both") else None
        self.rotation: SpatialRotation | None = None
        if kind in ("rotation", "both"):
            self.rotation = SpatialRotation(channels, size, hidden, settings.blocks, settings.degrees)
        self.cells = min(scaled(settings.cells, self.side), self.side**2 - 1)
        self.candidates = min(max(self.cells, scaled(settings.candidates, self.side)), self.side**2)
        self.at(0, 1)

    def at(self, iteration: int, iterations: int) -> None:
        """What comes next is this iteration, counted from 0, of so many. What happens depends on nothing else."""
        options, share = self.settings, iteration / iterations
        self.pretrains = options.start <= share < options.start + options.pretrain
        self.acts = share >= options.start + options.pretrain and iteration % options.every == options.every - 1

    def plan(self, iterations: int) -> str:
        """What it does in so many iterations, for people."""
        options = self.settings
        begin, act = (math.ceil(share * iterations) for share in (options.start, options.start + options.pretrain))
        weights = sum(each.numel() for each in self.parameters())
        learns = f"learns {count(weights, 'weight')} of its own" if weights else "learns nothing"
        learns += f" from iteration {begin} on" if self.dropout is not None else ""
        return f"{learns}, and changes objects from iteration {act} on"

    def forward(self, regions: Tensor, probability: Probability) -> tuple[Tensor, dict[str, LossSum]]:
        """The regions as the head is to see them, and the loss of what hides, if it learns.

        Args:
            regions: (R, C, s, s), of objects alone.
            probability: gives the one of each region's class, for regions that were changed too.
        """
        # Every iteration has the same losses, divided by what does not depend on their values: parts can be added up.
        loss = torch.zeros(len(regions), device=regions.device)
        hard_regions = regions
        if len(regions) and self.pretrains and self.dropout is not None:
            loss = loss_of(self.dropout(regions), hardest_windows(regions, probability))
        elif len(regions) and self.acts:
            if self.settings.kind == "random":
                hard_regions = hide(regions, random_cells(len(regions), self.side, self.cells, regions.device))
            elif self.settings.kind == "exhaustive":
                hard_regions = hide(regions, hardest_windows(regions, probability))
            elif self.dropout is not None:
                heat = self.dropout(regions)
                hidden = likely_cells(heat.detach(), self.cells, self.candidates)
                hard_regions = hide(regions, hidden)
                fell = probability(regions) - probability(hard_regions.detach()) > self.settings.min_drop
                loss = self.settings.weight * fell * loss_of(heat, hidden)
            if self.rotation is not None:
                hard_regions = self.rotation(hard_regions)
        return hard_regions, {} if self.dropout is None else {"adversary": LossSum(loss.sum(), len(regions))}
