"""What is compared: detectors, trained or not, and anything else that turns decoded pictures into detections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from rcnnkit.benchmark.options import Options
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import DETECTORS, KINDS, build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.exporting.runtimes import RUNTIMES, Exported
from rcnnkit.images import Array
from rcnnkit.inference import prepare
from rcnnkit.settings import explain
from rcnnkit.structures import Detections
from rcnnkit.weights import load, read


@dataclass(frozen=True, slots=True)
class ReadyContender:
    """One that takes its turn with every batch."""

    name: str
    title: str
    detect: Callable[[list[Array]], list[Detections]]
    detector: Detector | Exported | None = None  # whose parts are timed; None: the call is one stage
    min_score: float = 0.5  # of detections that are drawn


@dataclass(frozen=True, slots=True)
class Contender:
    """A detector that takes part, not loaded yet."""

    name: str  # one of DETECTORS
    settings: DetectorSettings
    class_names: tuple[str, ...]
    weights: Path | None = None  # None: untrained

    @property
    def title(self) -> str:
        return DETECTORS[self.name]

    def load(self, device: torch.device | str, proposals: int = 0) -> Detector:
        """The detector, to detect with at most so many proposals a picture; 0: as many as it was made for.

        Args:
            device: on "meta" it has shapes and no numbers.
        """
        meta = str(device) == "meta"
        if self.weights and not meta:
            detector = load(self.weights, device, for_training=True)
        else:
            model = self.settings.model.model_copy(update={"pretrained": False})
            with torch.random.fork_rng(devices=[]), torch.device("meta" if meta else "cpu"):
                torch.manual_seed(0)
                built = build(self.settings.model_copy(update={"model": model}), self.class_names)
            assert isinstance(built, Detector)  # not a classifier
            detector = built.to(device).eval()
        if proposals:
            detector.count = proposals
        return detector

    def ready(self, options: Options) -> ReadyContender:
        """As it is to be measured: a copy that is made for detecting alone (`rcnnkit.inference.prepare`)."""
        detector = prepare(self.load(options.device, options.max_proposals), options.precision)
        return ReadyContender(self.name, self.title, detector, detector, detector.min_score)


def exported(paths: Sequence[Path], class_names: Sequence[str], threads: int) -> list[ReadyContender]:
    """The exported files with these paths, and in these folders, in their runtimes.

    Raises:
        FileNotFoundError, ValueError: one is not there, cannot be opened or needs proposals, two have one name, or a
            file knows other classes.
    """
    contenders: dict[str, ReadyContender] = {}
    for path in paths:
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix in RUNTIMES)
            if not files:
                raise FileNotFoundError(f"--also {path}: the folder holds no {', '.join(RUNTIMES)} file")
        for file in files:
            detector = Exported(file, threads)
            if detector.about["kind"] != "faster_rcnn":
                raise ValueError(f"--also {file}: it does not find its own proposals; give exported Faster R-CNNs only")
            if detector.class_names != tuple(class_names):
                raise ValueError(
                    f"--also {file} knows {', '.join(detector.class_names)}, and the detectors"
                    f" {', '.join(class_names)}; export one of the detectors that are compared"
                )
            if file.name in contenders:
                raise ValueError(f"--also {file}: another file is called {file.name}, too; rename one of them")
            title = f"{file.name} ({RUNTIMES[file.suffix]}, {detector.about['precision']})"
            contenders[file.name] = ReadyContender(file.name, title, detector, detector)
    return list(contenders.values())


def trained(files: Sequence[Path]) -> list[Contender]:
    """The detectors in these weights files, in the order of their papers.

    Raises:
        FileNotFoundError, ValueError: a file is not there or holds no detector.
        ValueError: one finds no proposals itself; two are of one kind, or they differ in classes or backbone, so that
            they cannot be compared.
    """
    by_name: dict[str, Contender] = {}
    for file in files:
        about, _ = read(file)
        name = about["kind"].replace("_", "-")
        if name not in DETECTORS:
            raise ValueError(f"{file} holds a {name}; the benchmark takes {', '.join(DETECTORS.values())}")
        if name in by_name:
            raise ValueError(f"{by_name[name].weights} and {file} both hold a {DETECTORS[name]}; give one of each kind")
        settings = DetectorSettings.of_weights(about["settings"])
        if KINDS[about["kind"]].model.takes_proposals and settings.proposals.method == "precomputed":
            raise ValueError(
                f'{file} needs proposals that are given to it (proposals.method = "precomputed"), and a benchmark gives'
                " none; take one that finds its own"
            )
        by_name[name] = Contender(name, settings, tuple(about["class_names"]), file)
    contenders = [by_name[name] for name in DETECTORS if name in by_name]
    for other in contenders[1:]:
        first = contenders[0]
        backbones = [[contender.settings.model.backbone] for contender in (first, other)]
        for title, one, two in (("classes", first.class_names, other.class_names), ("backbones", *backbones)):
            if one != two:
                raise ValueError(
                    f"{first.weights} and {other.weights} have different {title} ({', '.join(one)} and"
                    f" {', '.join(two)}); what is compared has to be the same, so train one of them again"
                )
    return contenders


def untrained(backbone: str, class_names: Sequence[str]) -> list[Contender]:
    """The three detectors with random weights, at the papers' sizes: windows of 224 or 227 pixels, pictures of 600.

    Raises:
        ValueError: there is no such backbone.
    """
    sections: dict[str, dict[str, Any]] = {
        "rcnn": {"input": {"short_side": 0}},  # windows are cut from the pictures as they are
        "fast-rcnn": {"input": {"short_side": 600, "long_side": 1000}},
        "faster-rcnn": {"input": {"short_side": 600, "long_side": 1000}, "rpn": {"post_nms": 300}},
    }
    contenders = []
    for name, section in sections.items():
        values = section | {"model": {"kind": name.replace("-", "_"), "backbone": backbone}}
        try:
            settings = DetectorSettings.model_validate(values)
        except ValidationError as error:
            raise ValueError(f"--backbone {backbone}: {explain(error.errors()[0], DetectorSettings)}") from None
        contenders.append(Contender(name, settings, tuple(class_names)))
    return contenders
