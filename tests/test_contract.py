"""What every detector promises on every backbone: on a network of each family, with each of its necks."""

import importlib.util
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit import weights
from rcnnkit.backbones.classifier import Classifier
from rcnnkit.backbones.names import ARCHITECTURES
from rcnnkit.backbones.timm import TimmArchitecture
from rcnnkit.detectors.detector import Detector, with_proposals
from rcnnkit.detectors.kinds import KINDS, build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.inference import prepare
from rcnnkit.structures import Detections, Proposals, Targets

TIMM = "timm/mobilenetv3_small_050"
# The smallest of each family is listed first.
NETWORKS = [*{re.sub(r"\d+$", "", name): name for name in reversed(ARCHITECTURES)}.values(), TIMM]
NECKS = {name: ARCHITECTURES[name].necks if name in ARCHITECTURES else TimmArchitecture.necks for name in NETWORKS}
SIZES = [(57, 61), (63, 49)]  # height, width; each is padded to 64 × 64
PICTURES = [np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8) for i, size in enumerate(SIZES)]
DETECTORS = {kind: entry for kind, entry in KINDS.items() if issubclass(entry.model, Detector)}
# Of 8 to 52 pixels, so that with a `CANONICAL_SIDE` of 24 each map of a pyramid has a region.
BOXES = torch.tensor([[1.0, 1, 48, 56], [3, 2, 40, 30], [20, 11, 44, 37], [30, 31, 44, 46], [5, 40, 14, 48]])
PROPOSALS = [Proposals(BOXES, torch.linspace(1, 0.5, len(BOXES)))] * 2
PHRASES = torch.tensor([[4, 5], [5, 0]])  # of use to detectors that describe
TARGETS = [
    Targets(BOXES[1:2] + 1, torch.tensor([1]), phrases=PHRASES[:1]),
    Targets(BOXES[2:4] + 1, torch.tensor([0, 1]), phrases=PHRASES),
]


def settings(kind: str, network: str, **model: Any) -> DetectorSettings:
    """Small but for the network; nothing that is scored is left out."""
    own = ARCHITECTURES.get(network, TimmArchitecture)
    norm = {"norm": "batch"} if "batch" in own.norms else {}
    pyramid = model.get("neck", own.necks[0]) == "fpn"
    few = {"pre_nms": 60, "post_nms": 20, "train_pre_nms": 60, "train_post_nms": 20}
    size = max(32, own.smallest)
    return DetectorSettings.model_validate(
        {
            "model": {"kind": kind, "backbone": network, "fpn_channels": 16} | norm | model,
            "proposals": {"method": "precomputed"},
            "rpn": few | {"hidden": 16, "anchor_sizes": [[8], [16], [24], [32], [48]] if pyramid else [[8, 16, 32]]},
            "head": {"hidden": 16, "samples": 64, "score_threshold": 0.0},
            "rcnn": {"size": size, "context": 4, "samples": 16, "score_threshold": -1e9},
            "classifier": {"resize": size, "crop": size},
        }
        | ({} if kind == "classifier" else {"input": {"short_side": 0, "long_side": 64}})
        | ({"captions": {"words": ["a", "b"], "hidden": 8}} if kind == "densecap" else {})
    )


def cases(*kinds: str, necks: bool, networks: Sequence[str] = NETWORKS) -> pytest.MarkDecorator:
    """Each kind on each network, and with each of its necks."""
    skip = [pytest.mark.skipif(not importlib.util.find_spec("timm"), reason="timm is not installed")]
    return pytest.mark.parametrize(
        "chosen",
        [
            pytest.param((kind, network, *neck), id="-".join([kind, network, *neck]), marks=skip * (network == TIMM))
            for network in networks
            for kind in kinds
            for neck in (((neck,) for neck in NECKS[network]) if necks else ((),))
        ],
    )


def built(chosen: tuple[str, ...]) -> tuple[Detector | Classifier, DetectorSettings]:
    """Random everywhere, and scores far enough apart that rounding changes no order."""
    kind, network, *neck = chosen
    made_from = settings(kind, network, **({"neck": neck[0]} if neck else {}))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        detector = build(made_from, ["cat", "dog"], [17, 18])
        assert isinstance(detector, Detector | Classifier)
        for name, value in detector.state_dict().items():
            if value.ndim > 1 and not name.startswith("backbone."):
                value.normal_(std=value[0].numel() ** -0.5)
    return detector, made_from


def check_learns(detector: Detector | Classifier, losses: dict[str, torch.Tensor]) -> None:
    assert all(loss.isfinite() for loss in losses.values())
    detector.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in detector.named_parameters():
        assert parameter.requires_grad, name
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def check_same(one: Detections, other: Detections, pixels: float = 1e-2, scores: float = 1e-4) -> None:
    assert len(one) == len(other) > 0
    assert one.labels.equal(other.labels)
    torch.testing.assert_close(one.scores, other.scores, atol=scores, rtol=scores)
    torch.testing.assert_close(one.boxes, other.boxes, atol=pixels, rtol=0)


@cases(*(kind for kind, entry in DETECTORS.items() if entry.network == "whole"), necks=False)
def test_windows(chosen: tuple[str, ...], tmp_path: Path) -> None:
    check_detector(chosen, tmp_path)


@cases("fast_rcnn", "faster_rcnn", necks=True)
def test_shared_features(chosen: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rcnnkit.heads.region_pool.CANONICAL_SIDE", 24)
    check_detector(chosen, tmp_path)


@cases("densecap", necks=True, networks=["resnet18"])  # with the parts of a Faster R-CNN
def test_phrases(chosen: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rcnnkit.heads.region_pool.CANONICAL_SIDE", 24)
    check_detector(chosen, tmp_path)


def check_detector(chosen: tuple[str, ...], folder: Path) -> None:
    detector, made_from = built(chosen)
    assert isinstance(detector, Detector)

    def given(count: int) -> tuple[list[Proposals], ...]:
        return (PROPOSALS[:count],) if detector.takes_proposals else ()

    detector.train()
    for count in (1, 2):
        images = detector.preprocessing(PICTURES[:count])
        if detector.takes_proposals:
            images = with_proposals(images, *given(count))
        check_learns(detector, detector.losses(images, TARGETS[:count], torch.Generator().manual_seed(0)))

    detector.eval()
    assert detector([], *given(0)) == []
    both = detector(PICTURES, *given(2))
    for picture, (height, width), proposals, found in zip(PICTURES, SIZES, PROPOSALS, both, strict=True):
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([width, height, width, height])).all()
        assert found.scores.equal(found.scores.sort(descending=True).values)
        assert (found.class_names, found.category_ids) == (("cat", "dog"), (17, 18))
        check_same(found, detector(picture, *([proposals] if detector.takes_proposals else [])))
    for found, ready in zip(both, prepare(detector, "float32")(PICTURES, *given(2)), strict=True):
        check_same(found, ready, 0.1, 1e-3)

    weights.save(detector, made_from, folder / "a.safetensors")
    loaded = weights.load(folder / "a.safetensors", "cpu", for_training=True)
    assert type(loaded) is type(detector)
    for one, other in zip(both, loaded(PICTURES, *given(2)), strict=True):
        assert one.boxes.equal(other.boxes)
        assert one.scores.equal(other.scores)
        assert one.phrases == other.phrases

    getattr(detector, "head", detector).score_threshold = math.inf
    for nothing in (detector(PICTURES[0], *(PROPOSALS[:1] * detector.takes_proposals)), *detector(PICTURES, *given(2))):
        assert nothing.boxes.shape == (0, 4)
        assert len(nothing.scores) == len(nothing.labels) == 0


@cases("classifier", necks=False)
def test_classifiers(chosen: tuple[str, ...], tmp_path: Path) -> None:
    classifier, made_from = built(chosen)
    assert isinstance(classifier, Classifier)
    classifier.train()
    pixels = classifier.pixels([classifier.see(picture) for picture in PICTURES])
    check_learns(classifier, classifier.losses(pixels, torch.tensor([1, 0])))

    classifier.eval()
    assert classifier([]).shape == (0, 2)
    both = classifier(PICTURES)
    torch.testing.assert_close(both.sum(dim=1), torch.ones(2))
    for picture, found in zip(PICTURES, both, strict=True):
        torch.testing.assert_close(classifier(picture), found)
    weights.save(classifier, made_from, tmp_path / "a.safetensors")
    assert weights.load_classifier(tmp_path / "a.safetensors", "cpu")(PICTURES).equal(both)
