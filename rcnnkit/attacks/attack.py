"""A data set's pictures, attacked, written and judged."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rcnnkit.attacks.dense import dense_adversary
from rcnnkit.attacks.gradient import fast_gradient_sign, projected_gradient, random_signs
from rcnnkit.attacks.outcomes import Outcomes, outcomes
from rcnnkit.attacks.victim import LEVELS, Victim, check_victim
from rcnnkit.data.coco import write_coco
from rcnnkit.data.copies import SPLIT, write_copies
from rcnnkit.data.records import Dataset, Record
from rcnnkit.detectors.detector import Detector
from rcnnkit.evaluation.report import in_eval_mode, judge, look, or_none
from rcnnkit.files import is_free
from rcnnkit.images import Array, read_picture
from rcnnkit.inference import prepare
from rcnnkit.progress import Report, silent

STEPS = {"fgsm": 1, "pgd": 10, "dag": 150}  # of each method, by default; DAG's are the most


@dataclass(frozen=True, slots=True)
class Judged:
    """How good a detector is on one version of the pictures."""

    ap: float
    ap50: float
    outcomes: Outcomes
    largest: int  # change of a pixel, grey levels

    def to_json(self) -> dict[str, float | None]:
        return {"AP": or_none(self.ap), "AP50": or_none(self.ap50), **asdict(self.outcomes), "largest": self.largest}


@dataclass(frozen=True, slots=True)
class Attacked:
    """What was attacked, how, and what came of it."""

    method: str
    eps: int
    steps: int
    min_score: float  # from which on a detection counts in the shares
    versions: Mapping[str, Judged]  # "clean", "random" and "attacked"

    def to_json(self) -> dict[str, Any]:
        versions = {name: each.to_json() for name, each in self.versions.items()}
        return {"method": self.method, "eps": self.eps, "steps": self.steps, "min_score": self.min_score} | versions


def attack(
    detector: Detector,
    data: Dataset,
    out: Path | str,
    *,
    method: str,
    eps: int,
    steps: int = 0,
    seed: int = 0,
    progress: Report = silent,
) -> Attacked:
    """Write adversarial copies of a data set's pictures, and tell how well the detector does on them.

    The pictures are PNGs, since JPEG undoes part of an attack; no pixel of one is more than `eps` grey levels from its
    picture's. They are judged as they were written, beside the clean ones and beside copies whose pixels go `eps` up or
    down at random.

    Args:
        detector: as of `rcnnkit.load(file, for_training=True)`; it is left as it is.
        data: the pictures and their objects, with the detector's classes.
        out: a new or empty folder: images/, annotations/instances_test.json in COCO's format, and report.json.
        method: "fgsm", "pgd" or "dag"; see `gradient` and `dense`.
        eps: grey levels of 255, 1 or more.
        steps: of PGD, or the most of DAG; 0: the method's own.
        seed: of what is drawn.
        progress: called with what is done so far.

    Raises:
        FileExistsError: `out` holds something.
        ValueError: an option or the detector does not go with the attack, or the data is empty.
    """
    out = Path(out)
    if method not in STEPS:
        raise ValueError(f"method {method!r} is not one of {', '.join(STEPS)}")
    if not 1 <= eps <= LEVELS:
        raise ValueError(f"eps = {eps} grey levels; give 1 to {LEVELS}: pictures are written in 8 bits")
    if steps < 0 or (steps and method == "fgsm"):
        raise ValueError(f"steps = {steps} does not go with {method}; leave it out")
    if not len(data):
        raise ValueError(f"{data.name} has no pictures; there is nothing to attack")
    if not is_free(out):
        raise FileExistsError(f"{out} is not an empty folder; choose another --out, nothing is overwritten")
    check_victim(detector)
    steps = steps or STEPS[method]
    methods: dict[str, Callable[[Victim], Tensor]] = {
        "fgsm": fast_gradient_sign,
        "pgd": lambda victim: projected_gradient(victim, steps),
        "dag": lambda victim: dense_adversary(victim, steps),
    }
    existed = out.exists()
    ready = prepare(detector, "float32")
    try:
        with tempfile.TemporaryDirectory() as folder, in_eval_mode(detector):
            versions = {"clean": _judge(ready, data, data, progress)}
            control = _copies(detector, data, Path(folder), "random", random_signs, (eps, seed), progress)
            versions["random"] = _judge(ready, control, data, progress)
            (out / "images").mkdir(parents=True)
            copies = _copies(detector, data, out / "images", method, methods[method], (eps, seed), progress)
            versions["attacked"] = _judge(ready, copies, data, progress)
        write_coco(copies, out / "annotations" / f"instances_{SPLIT}.json")
        attacked = Attacked(method, eps, steps, detector.min_score, versions)
        (out / "report.json").write_text(json.dumps(attacked.to_json(), indent=1), encoding="utf-8")
    except BaseException:
        for path in (out.iterdir() if existed else [out]) if out.exists() else ():
            shutil.rmtree(path, ignore_errors=True)
        raise
    return attacked


def _copies(
    detector: Detector,
    data: Dataset,
    folder: Path,
    name: str,
    method: Callable[[Victim], Tensor],
    options: tuple[int, int],
    progress: Report,
) -> Dataset:
    """The data set with what a method makes of its pictures, in a folder."""
    eps, seed = options

    def change(number: int, record: Record, picture: Array) -> Array:
        generator = torch.Generator().manual_seed((seed * 4099 + number) % 2**63)
        victim = Victim(detector, picture, record.targets, eps, generator)
        with torch.no_grad():
            return victim.rounded(method(victim))

    return write_copies(data, folder, name, change, progress)


def _judge(detector: Detector, data: Dataset, clean: Dataset, progress: Report) -> Judged:
    """Of the pictures as they lie on the disk."""
    found = look(detector, data, progress=progress)
    numbers = judge([found], data).numbers
    detections = [found.detections[i] for i in range(len(data))]
    happened = outcomes(detections, [record.targets for record in data.records], detector.min_score)
    pairs = zip(data.records, clean.records, strict=True)
    largest = 0 if data is clean else max(_change(one.path, other.path, other.size) for one, other in pairs)
    return Judged(numbers["AP"], numbers["AP50"], happened, largest)


def _change(path: Path, clean: Path, size: tuple[int, int]) -> int:
    """The largest change of a pixel, grey levels."""
    pixels = [read_picture(each, size).astype(np.int16) for each in (path, clean)]
    return int(np.abs(pixels[0] - pixels[1]).max())
