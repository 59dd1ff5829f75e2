"""A detector with words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rcnnkit
from rcnnkit import weights
from rcnnkit.boxes import iou
from rcnnkit.detectors.aligner import Aligner, Grounding
from rcnnkit.detectors.detector import Detector, with_proposals
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.structures import Detections, Proposals

WORDS = ["a", "red", "cup", "left", "of", "tea"]
PICTURE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
SMALL: dict[str, Any] = {
    "model": {"backbone": "resnet18", "norm": "batch", "fpn_channels": 16, "fpn_norm": "batch"},
    "rpn": {"anchor_sizes": [[16], [32], [64], [128], [256]], "pre_nms": 50, "post_nms": 50},
    "head": {"hidden": 16, "score_threshold": 0.01},
    "alignment": {"enabled": True, "words": WORDS, "space": 8, "embedding": 8, "hidden": 8, "regions": 5},
    "input": {"short_side": 64, "long_side": 96},
}


def made(values: dict[str, Any]) -> Aligner:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        aligner = build(DetectorSettings.model_validate(values), ["cup", "pot"]).eval()
    assert isinstance(aligner, Aligner)
    return aligner


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    return made(SMALL)


def test_the_regions_of_a_picture(aligner: Aligner) -> None:
    both = [PICTURE, np.ascontiguousarray(PICTURE.transpose(1, 0, 2))]
    one, other = aligner.see(both)
    assert one.boxes[0].tolist() == [0, 0, 96, 64]
    assert other.boxes[0].tolist() == [0, 0, 64, 96]
    assert one.features.shape == (len(one.boxes), 16 + 16)
    assert 1 < len(one.boxes) <= 6
    found = aligner.detector(both)[0]
    assert one.boxes[1].tolist() == found.boxes[found.scores.argmax()].tolist()  # the best comes first
    assert (iou(one.boxes[1:], one.boxes[1:]).fill_diagonal_(0) <= 0.5).all()
    filled = one.filled(9)
    assert torch.equal(filled[: len(one.boxes)], one.features)
    assert (filled[len(one.boxes) :] == one.features[0]).all()


@pytest.mark.parametrize("kind", ["rcnn", "fast_rcnn"])
def test_every_kind_of_detector_has_regions(kind: str) -> None:
    values = SMALL | {"model": {"kind": kind, "backbone": "resnet18", "norm": "batch"}}
    values |= {"proposals": {"method": "sliding_windows"}, "rcnn": {"size": 32, "context": 4}, "rpn": {}}
    (seen,) = made(values).see([PICTURE])
    assert len(seen.features) == len(seen.boxes)
    assert seen.features.isfinite().all()


def test_features_are_those_of_the_boxes(aligner: Aligner) -> None:
    detector = aligner.detector
    boxes = Proposals(torch.tensor([[0.0, 0, 96, 64], [8.0, 8, 40, 40]]), torch.ones(2))
    images = with_proposals(detector.preprocessing([PICTURE]), [boxes])
    with torch.no_grad():
        features = detector.region_features(images)
        pooled = detector.pool(detector.backbone(images.pixels), images.proposals)
    assert torch.allclose(features[:, 16:], pooled.mean(dim=(2, 3)))
    assert features.shape == (2, detector.region_width)


def test_grounding(aligner: Aligner, tmp_path: Path) -> None:
    found = aligner.ground(PICTURE, "A red cup, left of a zebra!", beta=0.0)
    assert found.words == ("a", "red", "cup", "left", "of", "a", "zebra")
    (seen,) = aligner.see([PICTURE])
    with torch.no_grad():
        products = aligner.alignment.words(aligner.encode("a red cup left of a zebra"))[0]
        products = products @ aligner.alignment.regions(seen.features).T
    assert torch.allclose(found.scores, products.amax(dim=1), atol=1e-5)
    assert found.score == pytest.approx(float(found.scores.sum()), abs=1e-4)
    assert aligner.score([PICTURE], "a red cup left of a zebra") == [pytest.approx(found.score, abs=1e-4)]
    assert len(aligner.ground(PICTURE, "a red cup", beta=1e6).snippets) == 1
    assert aligner.unknown("a zebra, a Zebra and a cup") == ["zebra", "and"]
    path = tmp_path / "w.safetensors"
    weights.save(aligner, DetectorSettings.model_validate(SMALL), path)
    loaded = weights.load_aligner(path, "cpu", "float32")
    assert loaded.words == tuple(WORDS)
    again = loaded.ground(PICTURE, "A red cup, left of a zebra!", beta=0.0)
    assert torch.equal(again.regions, found.regions)
    assert torch.allclose(again.scores, found.scores, atol=1e-4)
    with pytest.raises(ValueError, match=r"w\.safetensors holds an aligner, for `rcnnkit ground` and `rcnnkit search`"):
        rcnnkit.load(path)
    with pytest.raises(ValueError, match=r"w\.safetensors holds an aligner; read it with rcnnkit\.weights"):
        weights.load_classifier(path)


def test_snippets_and_what_is_drawn() -> None:
    boxes = torch.tensor([[0.0, 0, 96, 64], [1.0, 2, 30, 40], [50.0, 5, 90, 60]])
    regions, scores = torch.tensor([1, 1, 0, 2, 2, 1]), torch.tensor([1.0, 2.0, 9.0, 3.0, 4.0, 3.0])
    grounding = Grounding(("a", "cup", "of", "hot", "tea", "there"), boxes, regions, scores, 22.0)
    assert grounding.snippets == [(1, "a cup"), (0, "of"), (2, "hot tea"), (1, "there")]
    drawn = grounding.detections()
    assert drawn.phrases == ("a cup … there", "hot tea")
    assert drawn.boxes.tolist() == boxes[[1, 2]].tolist()
    assert drawn.scores.tolist() == [2.0, 3.5]
    values = grounding.to_json()
    assert values["words"][3] == {"word": "hot", "score": 3.0, "region": 2, "box": [50.0, 5.0, 90.0, 60.0]}
    whole = Grounding(("a",), boxes[:1], regions[2:3], scores[:1], 1.0)
    assert len(whole.detections()) == 0


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        (" ,.! ", r"the sentence ' ,\.! ' has no word; write what is to be found"),
        ("cup " * 200, "the sentence has 200 words, more than 50; shorten it"),
        (
            "two zebras",
            "no word of the sentence 'two zebras' was in the sentences that this aligner learnt from",
        ),
    ],
)
def test_sentences_that_cannot_be_grounded(aligner: Aligner, sentence: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        aligner.ground(PICTURE, sentence)


def test_a_negative_beta(aligner: Aligner) -> None:
    for beta in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=f"beta = {beta:g}; give 0 or more"):
            aligner.ground(PICTURE, "a cup", beta=beta)


def test_a_picture_in_which_nothing_is_found(aligner: Aligner, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: Detector, pictures: Sequence[Any]) -> list[Detections]:
        return [Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)) for _ in pictures]

    monkeypatch.setattr(type(aligner.detector), "forward", nothing)
    found = aligner.ground(PICTURE, "a red cup")
    assert found.regions.tolist() == [0, 0, 0]
    assert found.boxes.tolist() == [[0, 0, 96, 64]]


def test_the_detector_stays_as_it_is(aligner: Aligner) -> None:
    training = made(SMALL).train()
    assert training.alignment.training
    assert not any(module.training for module in training.detector.modules())
    assert not any(parameter.requires_grad for parameter in training.detector.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alignment": {"space": 8}}, r"alignment\.space is for alignment\.enabled = true; leave it out"),
        (
            {"model": {"kind": "classifier"}},
            r"alignment\.enabled = true is for detectors, whose regions words can",
        ),
        ({"input": {"tile": 400}}, r"input\.tile = 400 is not for alignment\.enabled = true, which looks at whole"),
    ],
)
def test_settings_that_fit_no_aligner(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DetectorSettings.model_validate({"alignment": {"enabled": True}} | change)
