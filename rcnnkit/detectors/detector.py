"""What every detector does for its caller: pictures in, detections out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self, overload

import torch
from torch import Tensor, nn

from rcnnkit.boxes import check_inside, clip, scale
from rcnnkit.detectors.inputs import check_batch
from rcnnkit.heads.region_pool import RegionPool
from rcnnkit.images import Picture, each_picture, list_pictures, read_each
from rcnnkit.looking import detect_in_views, open_picture, size_of
from rcnnkit.matching import Generators
from rcnnkit.model import Model
from rcnnkit.precision import DTYPES
from rcnnkit.processes import say_forked
from rcnnkit.structures import Detections, ImageBatch, LossSum, Proposals, Size, Targets, means
from rcnnkit.suppression import Kept

ONE_FOR_EACH = "proposals of several pictures are a list with one Proposals for each picture"
ONLY_DETECTS = "this detector only detects; rcnnkit.load(file, for_training=True) gives the one that can be trained"


class ProposalMethod(Protocol):
    """What finds regions: selective search, sliding windows, an RPN."""

    def propose(self, images: ImageBatch, features: Sequence[Tensor]) -> list[Proposals]: ...


class Limit(NamedTuple):
    """A setting that lets so many objects of a picture through at most."""

    setting: str
    most: int  # 0: all
    of_class: bool = False  # so many of each class


class Detector(Model):
    """Three methods: `losses` to train with, `detect` for a batch, and the call for pictures of any kind."""

    # What is timed: stage of `rcnnkit benchmark` → methods, by their paths. What one calls of another is the other's.
    stages: ClassVar[dict[str, tuple[str, ...]]] = {"resize": ("forward",), "other": ("detect",)}
    shares_features = True  # all regions of a picture take theirs from the same maps
    pool: RegionPool
    count: int  # proposals of a picture, at most, when detecting
    proposer: ProposalMethod | None = None  # asked for regions that did not come with the pictures
    half_precision = (
        'to detect in half precision, call rcnnkit.load(file, precision="bf16" or "fp16") or'
        " rcnnkit.inference.prepare(detector, …), and to train in it, set train.precision"
    )

    def losses(self, images: ImageBatch, targets: Sequence[Targets], generator: Generators = None) -> dict[str, Tensor]:
        """Named losses to add up; `loss_sums` of each detector says which, beside its paper.

        Args:
            images: B pictures.
            targets: the objects of each, in the frame of `images.pixels`.
            generator: draws the samples; or B of them, one for each picture.

        Raises:
            TypeError, ValueError: the images or targets cannot be learnt from; see
                `rcnnkit.detectors.inputs.check_batch`.
        """
        return means(self.loss_sums(images, targets, generator))

    def loss_sums(
        self, images: ImageBatch, targets: Sequence[Targets], generators: Generators = None
    ) -> dict[str, LossSum]:
        """What `losses` divides, so that parts of a batch can be added up; arguments and errors are the same."""
        raise NotImplementedError

    def detect(self, images: ImageBatch) -> list[Detections]:
        """What is in each image, in the pixels of the pictures as they were given."""
        raise NotImplementedError

    def in_pictures(self, outputs: Sequence[Kept], images: ImageBatch) -> list[Detections]:
        """The last step of `detect`: from the frame of the network's pixels to the pictures as they were given."""
        detections = []
        for (boxes, scores, labels), size, original in zip(outputs, images.sizes, images.original_sizes, strict=True):
            boxes = clip(scale(boxes, size, original), original)
            detections.append(Detections(boxes, scores, labels, self.class_names, self.category_ids))
        return detections

    def score_proposals(self, images: ImageBatch) -> Tensor:
        """(R, K): what each class scores at the proposals that came with the images, image after image."""
        raise NotImplementedError

    @property
    def region_width(self) -> int:
        """How many numbers `region_features` gives for a region."""
        raise NotImplementedError

    def region_features(self, images: ImageBatch) -> Tensor:
        """(R, width) float32: what is known of the proposals that came with the images, image after image: what their
        classes are scored from, and where regions share maps, the mean of the pooled map beside it."""
        raise NotImplementedError

    def check_batch(self, images: ImageBatch, targets: Sequence[Targets]) -> None:
        """Raise TypeError or ValueError unless `losses` can learn from these; RuntimeError: it only detects."""
        if self.only_detects:
            raise RuntimeError(ONLY_DETECTS)
        check_batch(images, targets, len(self.class_names), self.preprocessing, self.device)

    def limits(self, training: bool = False) -> list[Limit]:
        """How many objects of a picture can be found at most, setting by setting; with `training`, learnt from too."""
        raise NotImplementedError

    def sketch(self, size: Size, batch: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """What `detect` holds of a batch of pictures (height, width): the backbone's input and output, and the regions.

        The pixels are any, so that on the meta device shapes alone are computed.
        """
        shape = self.preprocessing.at(max(self.short_sides))
        largest = max(shape.test_scales, default=1.0)
        canvas = shape.canvas([shape.resized(shape.part_size(size), largest)])
        pixels = torch.empty(batch, 3, *canvas, device=self.device)
        features = self.backbone(pixels)
        return pixels, features, [self.pool.empty(features, batch * self.count)]

    def propose(self, images: ImageBatch, features: Sequence[Tensor], count: int) -> list[Proposals]:
        """The best `count` regions of each image: those that came with it, or else the proposer's.

        Raises:
            ValueError: there is neither.
        """
        if images.proposals:
            return [proposals[:count] for proposals in images.proposals]
        if self.proposer is None:
            raise ValueError(
                'this detector was made for precomputed proposals (proposals.method = "precomputed"); pass them with'
                " the picture: detector(picture, proposals)"
            )
        return [proposals[:count] for proposals in self.proposer.propose(images, features)]

    def train(self, mode: bool = True) -> Self:
        if mode and self.only_detects:
            raise RuntimeError(ONLY_DETECTS)
        return super().train(mode)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """What `to`, `half`, `cuda` and the like all call.

        Raises:
            TypeError: the weights would be of another type than float32, which boxes and scores need.
            RuntimeError: it only detects, and was made for one device and type.
        """
        if self.only_detects:
            here = self.device
            moved = [fn(torch.zeros(1, device=here, dtype=dtype)) for dtype in DTYPES.values()]
            if [(each.device, each.dtype) for each in moved] != [(here, dtype) for dtype in DTYPES.values()]:
                raise RuntimeError(
                    "a detector that only detects stays on its device and in its type; load it there:"
                    " rcnnkit.load(file, device, precision)"
                )
            return nn.Module._apply(self, fn, recurse)
        return super()._apply(fn, recurse)

    @property
    def scores_are_margins(self) -> bool:
        """Whether detections have the margins of SVMs, without bounds, in place of probabilities."""
        return False

    @property
    def min_score(self) -> float:
        """Detections are drawn from this score on, unless the caller names another one."""
        return 0.0 if self.scores_are_margins else 0.5

    @property
    def short_sides(self) -> Sequence[int]:
        """Of every picture as the network sees it, pixels; 0: as it is."""
        return (self.preprocessing.short_side,)

    def batches(self, pictures: Sequence[Picture], factor: float = 1.0) -> list[ImageBatch]:
        """What `detect` looks at, of these pictures one after another, their sides multiplied by `factor` besides."""
        return [self.preprocessing(pictures, self.device, factor)]

    if TYPE_CHECKING:  # torch declares the call as Any; a batch in one array or tensor counts as one picture here

        @overload
        def __call__(  # type: ignore[overload-overlap]  # a path is an iterable of letters, too
            self, pictures: Picture, proposals: Proposals | None = None, *, batch: int | None = None
        ) -> Detections: ...

        @overload
        def __call__(
            self, pictures: Iterable[Picture], proposals: Iterable[Proposals] | None = None, *, batch: int | None = None
        ) -> list[Detections]: ...

        def __call__(self, pictures: Any, proposals: Any = None, *, batch: Any = None) -> Any: ...

    def forward(
        self,
        pictures: Picture | Iterable[Picture],
        proposals: Proposals | Iterable[Proposals] | None = None,
        *,
        batch: int | None = None,
    ) -> Detections | list[Detections]:
        """Detections in one picture, or in each of several (one batch, whatever their sizes).

        Where `preprocessing` asks for tiles, or for several looks at a picture, it is looked at by itself, and what all
        looks find is put together; see `rcnnkit.merging.merge`.

        `rcnnkit.detect_each` takes folders, videos, URLs and more, and has each answer when it is ready.

        Args:
            pictures: a path, bytes, open file, PIL picture, RGB array or tensor, see `rcnnkit.images.read_picture`; or
                several of these as a list, tuple, iterator or view, or as a batch (B, H, W, 3) or (B, 3, H, W).
            proposals: the regions to look at, in the pixels of the picture as it was given; for a list of
                pictures a list of as many. Not for a detector with a region proposal network.
            batch: how many of several pictures are looked at and held in memory at a time; by default all.

        Returns:
            Boxes in the pixels of each picture as it was given, on the detector's device.

        Raises:
            RuntimeError: the detector is in training mode.
            FileNotFoundError, TypeError, ValueError: a picture cannot be read; of several, it says which.
            ValueError: proposals for a detector that makes its own; another number of them than of pictures; or one
                that does not lie in its picture; or `batch` is below 1.
        """
        if batch is not None and (several := each_picture(pictures)) is not None:
            return self._in_batches(iter(several), proposals, batch)
        if self.training:
            raise RuntimeError("the detector is in training mode; call detector.eval() before detecting")
        if proposals is not None and not self.takes_proposals:
            raise ValueError(f"{type(self).__name__} makes its own proposals; leave yours out")
        inputs = list_pictures(pictures)
        if inputs is None:
            if proposals is not None and not isinstance(proposals, Proposals):
                raise ValueError(f"proposals of one picture are one Proposals, not a {type(proposals).__name__}")
            regions = None if proposals is None else [proposals]
            return self.forward([pictures], regions)[0]  # type: ignore[list-item, return-value]  # one of each
        if isinstance(proposals, Proposals):
            raise ValueError(ONE_FOR_EACH)
        if not inputs:
            return []
        all_proposals = None if proposals is None else list(proposals)
        if all_proposals is not None:
            _check_count(all_proposals, len(inputs))
        say_forked()
        with torch.no_grad():  # not inference_mode, whose tensors refuse to be changed in place
            if self.preprocessing.has_views:
                return self._look_around(inputs, all_proposals)
            return self._look(inputs, all_proposals)

    def _look(
        self, pictures: Sequence[Picture], proposals: Sequence[Proposals] | None, factor: float = 1.0
    ) -> list[Detections]:
        """Detections in pictures that are looked at once, as a whole."""
        detections: list[Detections] = []
        for images in self.batches(pictures, factor):
            if proposals is not None:
                images = with_proposals(images, proposals[len(detections) :][: len(images)])
            detections += self.detect(images)
        return detections

    def _look_around(self, pictures: Sequence[Picture], proposals: Sequence[Proposals] | None) -> list[Detections]:
        """Detections in pictures of which some or all are looked at several times."""
        in_tiles = self.preprocessing.tile > 0
        opened = read_each(pictures, lambda picture: open_picture(picture, in_tiles))
        detections: dict[int, Detections] = {}
        once = [i for i, picture in enumerate(opened) if self.preprocessing.looks_once(size_of(picture))]
        if once:
            regions = None if proposals is None else [proposals[i] for i in once]
            detections |= zip(once, self._look([opened[i] for i in once], regions), strict=True)
        for i, picture in enumerate(opened):
            if i not in detections:
                own = None if proposals is None else proposals[i]
                if own is not None:
                    check_inside(own.boxes, size_of(picture), "the proposals")
                merged = detect_in_views(picture, own, self.preprocessing, self._look)
                detections[i] = merged.to(self.device)
        return [detections[i] for i in range(len(opened))]

    def _in_batches(self, pictures: Iterator[Picture], proposals: Any, batch: int) -> list[Detections]:
        """The call, with so many pictures at a time."""
        if batch < 1:
            raise ValueError(f"batch = {batch}; give 1 or more pictures at a time")
        if isinstance(proposals, Proposals):
            raise ValueError(ONE_FOR_EACH)
        regions = None if proposals is None else iter(proposals)
        detections = list(self([]))  # raises where every picture would
        looked_at = 0
        while chunk := list(islice(pictures, batch)):
            try:
                detections += self(chunk, None if regions is None else list(islice(regions, batch)))
            except (TypeError, ValueError) as error:
                raise type(error)(_counted_from(looked_at, str(error))) from None
            looked_at += len(chunk)
        if regions is not None and (left := len(list(regions))):
            raise ValueError(
                f"{looked_at + left} proposals for {looked_at} pictures; give one Proposals for each picture"
            )
        return detections


def with_proposals(images: ImageBatch, proposals: Sequence[Proposals]) -> ImageBatch:
    """The batch with proposals made beforehand, one Proposals per picture, in its pixels as it was given.

    Raises:
        ValueError: another number of proposals than of pictures.
    """
    _check_count(proposals, len(images))
    scaled = []
    for regions, original, size in zip(proposals, images.original_sizes, images.sizes, strict=True):
        check_inside(regions.boxes, original, "the proposals")
        scaled.append(Proposals(scale(regions.boxes, original, size), regions.scores).to(images.pixels.device))
    return replace(images, proposals=scaled)


def _counted_from(first: int, text: str) -> str:
    """What is wrong with `pictures[i]` of a batch, by its place among all."""
    return re.sub(r"^pictures\[(\d+)\]", lambda match: f"pictures[{first + int(match[1])}]", text)


def _check_count(proposals: Sequence[Proposals], pictures: int) -> None:
    if len(proposals) != pictures:
        raise ValueError(f"{len(proposals)} proposals for {pictures} pictures; give one Proposals for each picture")
