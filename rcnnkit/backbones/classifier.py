"""A classification network of whole pictures, which R-CNN's paper begins with (arXiv:1311.2524v5, section 2.3,
"Supervised pre-training")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from rcnnkit.backbones.window import WindowNetwork
from rcnnkit.images import Array, Picture, Preprocessing, centre_crop, read_picture
from rcnnkit.settings import Factor, Positive, PositiveShare, Section, Share


class ClassifierSettings(Section):
    """[classifier]: the sizes are those of torchvision's presets."""

    resize: Positive = 256  # pixels of a picture's shorter side, before …
    crop: Positive = 224  # … its middle is cut out, so many pixels each way
    # Training cuts a random part out instead: its share of the picture's area and its width ÷ height, from and to.
    area: tuple[PositiveShare, PositiveShare] = (0.08, 1.0)
    ratio: tuple[Factor, Factor] = (3 / 4, 4 / 3)
    # Probability that the loss shares out among all classes, the right one too (arXiv:1512.00567, section 7).
    label_smoothing: Share = 0.0

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        for name in ("area", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} = {[low, high]} goes from large to small; write the smaller first")
        if self.crop > self.resize:
            raise ValueError(f"crop = {self.crop} is more than resize = {self.resize} leaves of a picture")
        return self


class Classifier(nn.Module):
    """Pictures → the probability of each of K classes.

    Its tensors are called as R-CNN's, so that every detector can start from it.

    Args:
        backbone: pictures → fc7.
        class_names: K of them; there is no background.
        category_ids: the data set's own ids for these.
        preprocessing: gives mean and standard deviation; its sizes are a detector's.
        settings: see `ClassifierSettings`.
    """

    origin: Mapping[str, str] | None = None  # of weights from elsewhere: their source, licence, url, sha256

    def __init__(
        self,
        backbone: WindowNetwork,
        class_names: Sequence[str],
        category_ids: Sequence[int],
        preprocessing: Preprocessing,
        settings: ClassifierSettings,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.class_names, self.category_ids = tuple(class_names), tuple(category_ids)
        self.classifier = nn.Linear(backbone.widths["fc7"], len(self.class_names))
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)
        self.preprocessing = preprocessing.model_copy(update={"divisor": 1})  # all are of one size: nothing to pad
        self.settings = settings

    @property
    def device(self) -> torch.device:
        return self.classifier.weight.device

    def forward(self, pictures: Picture | Sequence[Picture]) -> Tensor:
        """(K,) probabilities of one picture, or (N, K) of a list of them (one batch, whatever their sizes).

        Args:
            pictures: what `rcnnkit.images.read_picture` takes, or a list or tuple of these.

        Raises:
            RuntimeError: the classifier is in training mode.
            FileNotFoundError, ValueError: a picture cannot be read.
        """
        if self.training:
            raise RuntimeError("the classifier is in training mode; call classifier.eval() before classifying")
        if not isinstance(pictures, (list, tuple)):
            return self.forward([pictures])[0]  # type: ignore[list-item]  # one of them
        if not pictures:
            return torch.zeros(0, len(self.class_names), device=self.device)
        with torch.inference_mode():
            crops = [self.see(read_picture(picture)) for picture in pictures]
            return self.logits(self.pixels(crops)).softmax(dim=1)

    def see(self, picture: Array) -> Tensor:
        """What it looks at of a picture (H, W, 3) uint8: its middle, (3, S, S) uint8."""
        return centre_crop(picture, self.settings.resize, self.settings.crop)

    def pixels(self, crops: Sequence[Tensor]) -> Tensor:
        """Crops (3, S, S) uint8 → (N, 3, S, S) normalised, on the classifier's device."""
        return self.preprocessing.batch(crops, [(c.shape[1], c.shape[2]) for c in crops], self.device).pixels

    def logits(self, pixels: Tensor) -> Tensor:
        """(N, 3, S, S) normalised → (N, K) float32, before the softmax."""
        return self.classifier(self.backbone(pixels)["fc7"]).float()

    def losses(self, pixels: Tensor, labels: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """`class`: log loss of pixels (N, 3, S, S) with labels (N,). Nothing is drawn."""
        return {"class": F.cross_entropy(self.logits(pixels), labels, label_smoothing=self.settings.label_smoothing)}
