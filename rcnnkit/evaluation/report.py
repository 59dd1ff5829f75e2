"""Running a detector over a data set, and measuring how well it does."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from rcnnkit.data.loading import Draw, Unreadable, read_ahead
from rcnnkit.data.records import Dataset, Record
from rcnnkit.defaults import BATCH, WORKERS
from rcnnkit.detectors.describer import Describer
from rcnnkit.detectors.detector import Detector, Limit
from rcnnkit.evaluation.classes import in_classes
from rcnnkit.evaluation.coco import CocoResult, coco_metrics
from rcnnkit.evaluation.crowding import warn_of_cocos_maximum, warn_of_limits
from rcnnkit.evaluation.dense_captions import DenseCaptions, dense_captions
from rcnnkit.evaluation.voc import VocResult, voc_ap
from rcnnkit.images import read_picture
from rcnnkit.looking import open_annotated
from rcnnkit.progress import Report, silent
from rcnnkit.proposals.store import Store
from rcnnkit.slides import Slide
from rcnnkit.structures import Array, Detections


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """How well, and how fast, a detector found the objects of a data set."""

    dataset: str  # its name
    pictures: int
    coco: CocoResult
    voc: VocResult
    seconds_per_image: float  # with the wait for the picture; NaN where nothing was timed
    slowest_batch: float  # seconds; the first one often pays for start-up
    detections: Sequence[Detections] = ()  # of each picture, with the data set's labels, on the CPU
    captions: DenseCaptions | None = None  # of a detector that describes what it finds

    @property
    def numbers(self) -> dict[str, float]:
        """COCO's, and those of phrases."""
        return self.coco.numbers | (self.captions.numbers if self.captions else {})

    @property
    def headline(self) -> tuple[str, str]:
        """The two numbers that say most; the first chooses the best weights.

        COCO's AP and AP50, but those of all detections where the data set is crowded: there COCO's rank detectors by
        their first 100 detections alone. Where phrases are judged, the dense-captioning AP comes first.
        """
        if self.captions:
            return ("dense_AP", "AP50")
        return ("AP_all", "AP50_all") if self.crowded else ("AP", "AP50")

    @property
    def crowded(self) -> bool:
        """Whether pictures hold more objects of a class than COCO's numbers look at detections."""
        return "AP_all" in self.coco.numbers

    def to_json(self) -> dict[str, Any]:
        """The numbers, as plain values; fractions, and null (None) where undefined."""
        classes = [
            {
                "name": coco.name,
                "objects": coco.objects,
                "difficult": coco.objects - voc.npos,
                "AP": or_none(coco.ap),
                "AP50": or_none(coco.ap50),
                **({"AP_all": or_none(coco.ap_all)} if self.crowded else {}),
                "voc_ap_11": or_none(voc.ap_11),
                "voc_ap_area": or_none(voc.ap_area),
            }
            for coco, voc in zip(self.coco.classes, self.voc.classes, strict=True)
        ]
        return {
            "dataset": self.dataset,
            "pictures": self.pictures,
            "seconds_per_image": or_none(self.seconds_per_image),
            "slowest_batch": or_none(self.slowest_batch),
            "coco": {name: or_none(value) for name, value in self.coco.numbers.items()},
            "voc": {
                "iou_threshold": self.voc.iou_threshold,
                "mean_ap_11": or_none(self.voc.mean_ap_11),
                "mean_ap_area": or_none(self.voc.mean_ap_area),
            },
            "classes": classes,
            **({"captions": self.captions.to_json()} if self.captions else {}),
        }


def results_of(evaluation: Evaluation, dataset: Dataset) -> list[dict[str, object]]:
    """What was found in `dataset`, as COCO's results format has it, with its own ids of pictures and classes."""
    entries = []
    for record, found in zip(dataset.records, evaluation.detections, strict=True):
        entries += replace(found, category_ids=dataset.category_ids).to_coco(record.id)
    return entries


def evaluate(
    detector: nn.Module,
    dataset: Dataset,
    *,
    proposals: Store | None = None,
    batch_size: int = BATCH,
    workers: int = WORKERS,
    progress: Report = silent,
    warn: bool = True,
) -> Evaluation:
    """Run `detector` over every picture of `dataset` and compare with its objects.

    Where pictures hold more objects than the detector lets through, or than COCO's numbers look at, a warning is
    logged.

    Pictures of like shape share a batch, so that little of it is padding. The detector is in
    eval mode meanwhile; every module gets its own mode back, also after an error.

    Args:
        detector: called with a list of (H, W, 3) uint8 RGB arrays, answers with one Detections
            per picture, boxes in its pixels.
        dataset: the pictures and their objects.
        proposals: made beforehand, for R-CNN and Fast R-CNN, which search the pictures that are not in it themselves.
            Reading them is not part of the seconds.
        batch_size: pictures per call.
        workers: processes that read pictures ahead (-1: one a core, at most 8; 0: this one reads them).
        progress: called with what is done so far.
        warn: False where training has warned already.

    Raises:
        FileNotFoundError, ValueError: a picture cannot be read.
        ChildProcessError: a process that reads was killed.
        ValueError: `proposals` has those of another picture.
        ValueError: `dataset` is empty, `batch_size` is not positive, or the detections do not
            fit (`in_classes`); this is found after the first batch, not at the end.
    """
    if isinstance(detector, Describer):
        dataset = dataset.with_words(detector.words)  # a word that it cannot say is <unk> in the references too
    if warn:
        if isinstance(detector, Detector):
            warn_of_limits(dataset, detector.limits(), _raise_limit, detector.preprocessing)
        warn_of_cocos_maximum(dataset)
    found = look(detector, dataset, proposals=proposals, batch_size=batch_size, workers=workers, progress=progress)
    return judge([found], dataset)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a detector found in some pictures of a data set."""

    detections: Mapping[int, Detections]  # on the CPU, by the place of the picture
    seconds: Sequence[float]  # of each batch


def judge(parts: Sequence[Found], dataset: Dataset) -> Evaluation:
    """How good detections in all pictures of a data set are, part by part."""
    by_index: dict[int, Detections] = {}
    for part in parts:
        by_index |= part.detections
    seconds = [each for part in parts for each in part.seconds]
    detections = [by_index[i] for i in range(len(dataset))]
    return Evaluation(
        dataset=dataset.name,
        pictures=len(dataset),
        coco=coco_metrics(detections, dataset),
        voc=voc_ap(detections, [record.targets for record in dataset.records], dataset.class_names),
        seconds_per_image=sum(seconds) / len(dataset),
        slowest_batch=max(seconds),
        detections=detections,
        captions=dense_captions(detections, dataset)
        if dataset.words and all(map(_are_described, detections))
        else None,
    )


def _are_described(detections: Detections) -> bool:
    return len(detections.phrases) == len(detections)


def look(
    detector: nn.Module,
    dataset: Dataset,
    *,
    proposals: Store | None = None,
    batch_size: int = BATCH,
    workers: int = WORKERS,
    progress: Report = silent,
    turns: slice = slice(None),
) -> Found:
    """Run `detector` over the pictures of `dataset`. Arguments and errors as of `evaluate`, and

    Args:
        turns: which of the batches are looked at, where other processes look at the others.
    """
    if not len(dataset):
        raise ValueError(f"{dataset.name} has no pictures; there is nothing to evaluate")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it is at least 1")
    by_index: dict[int, Detections] = {}
    seconds = []
    height, width = dataset.flat.sizes.T
    order = np.argsort(width / height, kind="stable").tolist()
    batches = _batches(order, dataset.records, proposals, batch_size)[turns]
    pictures = read_ahead(
        _Pictures(dataset.records, isinstance(detector, Detector) and detector.preprocessing.tile > 0),
        ([(i, 0) for i in batch] for batch in batches),
        list,
        start=0,
        workers=workers if len(batches) > 1 else 0,
    )
    # no_grad and not inference_mode: what a detector caches meanwhile must serve training too.
    with in_eval_mode(detector), torch.no_grad(), closing(pictures):
        progress(dataset.name, 0, len(dataset))
        for batch in batches:
            records = [dataset.records[i] for i in batch]
            stored = proposals if proposals and records[0].id in proposals else None
            regions = [[stored.read(record.id, record.size, record.path) for record in records]] if stored else []
            began = time.perf_counter()
            answers = detector(next(pictures), *regions)
            answers = [answer.to("cpu") for answer in answers]  # this waits for a GPU, so it belongs to the time
            seconds.append(time.perf_counter() - began)
            if len(answers) != len(batch):
                raise ValueError(f"the detector answered {len(answers)} times for {len(batch)} pictures")
            by_index |= {i: in_classes(answer, dataset.class_names) for i, answer in zip(batch, answers, strict=True)}
            progress(dataset.name, len(by_index), len(dataset))
    return Found(by_index, seconds)


class _Pictures:
    """What the processes read, as `rcnnkit.data.loading.Source`."""

    def __init__(self, records: Sequence[Record], in_tiles: bool) -> None:
        self.records, self.in_tiles = records, in_tiles

    def __getitem__(self, draw: Draw) -> Array | Slide | Exception:
        record = self.records[draw[0]]
        try:
            if self.in_tiles:
                return open_annotated(record.path, record.size)
            # Not the path alone: only the record knows the orientation that its boxes speak of.
            return read_picture(record.path, record.size, checked=True)
        except Unreadable as error:
            return error


def _raise_limit(limit: Limit, most: int) -> str:
    """What to do about a limit of weights that are there."""
    return f"evaluate with --max-detections {most} (in Python: load(…, max_detections={most})), or more"


def _batches(
    order: Sequence[int], records: Sequence[Record], store: Store | None, batch_size: int
) -> list[Sequence[int]]:
    """Which pictures to look at together: all of a batch have stored proposals, or none has."""
    stored = [i for i in order if store and records[i].id in store]
    known = set(stored)
    others = [i for i in order if i not in known]
    return [some[start : start + batch_size] for some in (stored, others) for start in range(0, len(some), batch_size)]


@contextmanager
def in_eval_mode(detector: nn.Module) -> Iterator[None]:
    # Module by module: train(True) on the whole would wake batch norms that were frozen.
    modes: Sequence[tuple[nn.Module, bool]] = [(module, module.training) for module in detector.modules()]
    detector.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
