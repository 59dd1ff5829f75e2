"""A classification network of whole pictures, which R-CNN's paper begins with (arXiv:1311.2524v5, section 2.3,
"Supervised pre-training")."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from rcnnkit.backbones.window import WindowNetwork
from rcnnkit.images import Array, Picture, Preprocessing, centre_crop, list_pictures, read_pictures
from rcnnkit.model import Model
from rcnnkit.settings import Factor, Positive, PositiveShare, Section, Share
from rcnnkit.structures import LossSum, means
from rcnnkit.text import count

SEEN = "_rcnnkit_seen"  # of a tensor of labels: for how many classes its values were found right


class ClassifierSettings(Section):
    """[classifier]: what a classifier sees of a picture; for model.kind = "classifier". The sizes are those of
    torchvision's presets.
    """

    resize: Positive = 256
    """Pixels of a picture's shorter side after resizing, before its middle is cut out."""
    crop: Positive = 224
    """Sides of that middle, pixels; the network sees nothing else."""
    area: tuple[PositiveShare, PositiveShare] = (0.08, 1.0)
    """Training cuts out a random part in place of the middle. Its share of the picture's area lies between these
    two (GoogLeNet, arXiv:1409.4842, section 6)."""
    ratio: tuple[Factor, Factor] = (3 / 4, 4 / 3)
    """Width ÷ height of that part lies between these two."""
    label_smoothing: Share = 0.0
    """Label smoothing: the probability that the loss spreads evenly over all classes, including the right one
    (arXiv:1512.00567, section 7)."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        for name in ("area", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} = {[low, high]} goes from large to small; write the smaller first")
        if self.crop > self.resize:
            raise ValueError(
                f"crop = {self.crop} is larger than resize = {self.resize}; set crop lower, or resize higher"
            )
        return self


class Classifier(Model):
    """Pictures → the probability of each of K classes.

    Its tensors are called as R-CNN's, so that every detector can start from it.

    Args:
        backbone: pictures → fc7.
        class_names: K of them; there is no background.
        category_ids: the data set's own ids for these.
        preprocessing: gives mean and standard deviation; its sizes are a detector's.
        settings: see `ClassifierSettings`.
    """

    kind = "classifier"
    half_precision = "to compute in half precision, call it within torch.autocast(device, torch.bfloat16)"

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
        self.transformer: nn.Module = nn.Identity()  # or a `SpatialTransformer` of the pixels
        self.class_names, self.category_ids = tuple(class_names), tuple(category_ids)
        self.score_layer = nn.Linear(backbone.widths["fc7"], len(self.class_names))
        nn.init.normal_(self.score_layer.weight, std=0.01)
        nn.init.zeros_(self.score_layer.bias)
        self.preprocessing = preprocessing.model_copy(update={"divisor": 1})  # all are of one size: nothing to pad
        self.settings = settings
        self.class_weights: Tensor | None = None  # (K,) of the log loss; training may set it

    if TYPE_CHECKING:  # torch declares the call as Any

        def __call__(self, pictures: Picture | Iterable[Picture]) -> Tensor: ...

    def forward(self, pictures: Picture | Iterable[Picture]) -> Tensor:
        """(K,) probabilities of one picture, or (N, K) of a list of them (one batch, whatever their sizes).

        Args:
            pictures: what `rcnnkit.images.read_picture` takes, or several of these as a list, iterator or batch; see
                `rcnnkit.images.list_pictures`.

        Raises:
            RuntimeError: the classifier is in training mode.
            FileNotFoundError, TypeError, ValueError: a picture cannot be read.
        """
        if self.training:
            raise RuntimeError("the classifier is in training mode; call classifier.eval() before classifying")
        inputs = list_pictures(pictures)
        if inputs is None:
            return self.forward([pictures])[0]  # type: ignore[list-item]  # one of them
        if not inputs:
            return torch.zeros(0, len(self.class_names), device=self.device)
        with torch.no_grad():
            crops = [self.see(picture) for picture in read_pictures(inputs)]
            return self.logits(self.pixels(crops)).softmax(dim=1)

    def see(self, picture: Array) -> Tensor:
        """What it looks at of a picture (H, W, 3) uint8: its middle, (3, S, S) uint8."""
        return centre_crop(picture, self.settings.resize, self.settings.crop)

    def pixels(self, crops: Sequence[Tensor]) -> Tensor:
        """Crops (3, S, S) uint8 → (N, 3, S, S) normalised, on the classifier's device."""
        return self.preprocessing.batch(crops, [(c.shape[1], c.shape[2]) for c in crops], self.device).pixels

    def logits(self, pixels: Tensor) -> Tensor:
        """(N, 3, S, S) normalised → (N, K) float32, before the softmax."""
        return self.score_layer(self.backbone(self.transformer(pixels))["fc7"]).float()

    def losses(self, pixels: Tensor, labels: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """`class`: log loss of pixels (N, 3, S, S) with labels (N,). Nothing is drawn.

        Raises:
            ValueError: shapes, types, devices or numbers do not fit; or, looked at once for each tensor of labels, as
                a GPU has to be waited for, a label is no class or pixels are not normalised.
        """
        return means(self.loss_sums(pixels, labels))

    def loss_sums(self, pixels: Tensor, labels: Tensor) -> dict[str, LossSum]:
        """What `losses` divides by the number of pictures, or with `class_weights` by the sum of their weights."""
        self._check(pixels, labels)
        weights, smoothing = self.class_weights, self.settings.label_smoothing
        total = F.cross_entropy(self.logits(pixels), labels, weights, reduction="sum", label_smoothing=smoothing)
        return {"class": LossSum(total, len(labels) if weights is None else weights[labels].sum())}

    def _check(self, pixels: Tensor, labels: Tensor) -> None:
        classes = len(self.class_names)
        if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.dtype != torch.float32:
            raise ValueError(
                f"pixels are {_type(pixels)} of shape {tuple(pixels.shape)}, and must be float32 of shape (N, 3, S, S);"
                " make them with classifier.pixels"
            )
        if labels.dtype != torch.int64 or labels.shape != pixels.shape[:1]:
            raise ValueError(
                f"labels are {_type(labels)} of shape {tuple(labels.shape)}, and must be int64 of shape"
                f" ({len(pixels)},), one for each picture"
            )
        for name, tensor in (("pixels", pixels), ("labels", labels)):
            if tensor.device != self.device:
                raise ValueError(f"{name} are on {tensor.device}, but the classifier is on {self.device}; move them")
        if not len(labels) or getattr(labels, SEEN, classes + 1) <= classes:
            return
        ends = [each.double() for each in (*pixels.detach().aminmax(), *labels.aminmax())]
        low, high, first, last = torch.stack(ends).tolist()
        self.preprocessing.check_normalised(low, high, "make them with classifier.pixels")
        if not 0 <= first <= last < classes:
            j = int(((labels < 0) | (labels >= classes)).nonzero()[0])
            raise ValueError(
                f"labels[{j}] = {int(labels[j])}, but the classifier has {count(classes, 'class')}: labels go from 0 to"
                f" {classes - 1}"
            )
        setattr(labels, SEEN, classes)


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
