"""What every trained model has in common, a detector or the classifier that one can start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from rcnnkit.images import Preprocessing
from rcnnkit.precision import check_stays_float32


class Model(nn.Module):
    """A network for named classes, which a weights file holds.

    `kind` is its name in settings and files; `rcnnkit.detectors.kinds` lists them all.
    """

    kind: ClassVar[str]
    half_precision: ClassVar[str]  # how to compute in it, as the weights stay float32
    backbone: Any  # a `Backbone` or `WindowNetwork`, and a module in any case
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    origin: Mapping[str, str] | None = None  # of weights from elsewhere: their source, licence, url, sha256
    takes_proposals = False  # the call does, made beforehand
    only_detects = False  # made by `rcnnkit.inference.prepare`, as `rcnnkit.load` does

    def lasting_state(self) -> dict[str, Tensor]:
        """All tensors but those of parts that only train, such as an adversary: what a weights file keeps."""
        passing = tuple(f"{name}." for name, part in self.named_modules() if getattr(part, "only_trains", False))
        return {name: value for name, value in self.state_dict().items() if not name.startswith(passing)}

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """What `to`, `half`, `cuda` and the like all call. Raises TypeError for another type than float32, which boxes
        and scores need."""
        here = next(self.parameters(), torch.zeros(0)).device
        check_stays_float32(fn(torch.zeros(1, device=here)), self.half_precision)
        return super()._apply(fn, recurse)
