"""A Faster R-CNN whose class is a phrase."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit import weights
from rcnnkit.attacks.victim import check_victim
from rcnnkit.detectors.densecap import DenseCap
from rcnnkit.detectors.detector import with_proposals
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.exporting.export import export
from rcnnkit.heads.captioner import Captioner
from rcnnkit.inference import prepare
from rcnnkit.structures import Detections, Proposals, Targets
from rcnnkit.vocabulary import Vocabulary

WORDS = ["red", "cup", "of", "tea"]
PICTURE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
BOXES = torch.tensor([[5.0, 5, 40, 50], [30, 10, 90, 60]])


def settings(**captions: Any) -> DetectorSettings:
    return DetectorSettings.model_validate(
        {
            "model": {"kind": "densecap", "backbone": "timm/test_resnet", "fpn_channels": 16},
            "captions": {"words": WORDS, "hidden": 8, "embedding": 8, "max_words": 3} | captions,
            "rpn": {"post_nms": 20, "pre_nms": 50, "hidden": 16},
            "head": {"samples": 8, "score_threshold": 0.01, "hidden": 16},
            "input": {"short_side": 64, "long_side": 96},
        }
    )


def made(**captions: Any) -> DenseCap:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = build(settings(**captions), ["region"]).eval()
        assert isinstance(detector, DenseCap)
        for name, value in detector.captioner.named_parameters():
            if name.endswith("weight") or "weight_" in name:
                torch.nn.init.normal_(value)
        return detector


@pytest.fixture(scope="module")
def detector() -> DenseCap:
    return made()


def test_detections_have_phrases(detector: DenseCap) -> None:
    found = detector(PICTURE)
    assert len(found.phrases) == len(found) > 0
    assert {word for phrase in found.phrases for word in phrase.split()} <= set(WORDS)
    assert all(1 <= len(phrase.split()) <= 3 for phrase in found.phrases)
    assert [name for name, _, _ in found] == list(found.phrases)
    assert [entry["caption"] for entry in found.to_coco(1)] == list(found.phrases)
    ready = prepare(detector, "bf16")(PICTURE)
    assert len(ready.phrases) == len(ready)


def test_a_phrase_is_that_of_its_box(detector: DenseCap) -> None:
    """Whatever else is described with it, and whatever the batch is."""
    found = detector(PICTURE)
    images = with_proposals(detector.preprocessing([PICTURE, PICTURE]), [Proposals(found.boxes, found.scores)] * 2)
    with torch.no_grad():
        both = detector.describe(images)
    assert both == [found.phrases] * 2
    one = with_proposals(detector.preprocessing([PICTURE]), [Proposals(found.boxes[3:4], found.scores[3:4])])
    with torch.no_grad():
        assert detector.describe(one) == [found.phrases[3:4]]


def test_the_words_are_learnt_from_the_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """A region's phrase is that of the object that it overlaps."""
    detector = made(loss_weight=2.0).train()
    heard: list[torch.Tensor] = []
    loss_sum = Captioner.loss_sum

    def listen(self: Captioner, features: torch.Tensor, phrases: torch.Tensor) -> Any:
        heard.append(phrases)
        assert len(features) == len(phrases)
        return loss_sum(self, features, phrases)

    monkeypatch.setattr(Captioner, "loss_sum", listen)
    images = detector.preprocessing([PICTURE, PICTURE, PICTURE])
    phrases = Vocabulary(WORDS).encode(["red cup", "tea"])
    targets = [
        Targets(BOXES[:1], torch.tensor([0]), phrases=phrases[:1]),
        Targets(BOXES[1:], torch.tensor([0]), phrases=phrases[1:]),
        Targets(BOXES[:0], torch.tensor([], dtype=torch.int64)),
    ]
    losses = detector.losses(images, targets, torch.Generator().manual_seed(0))
    assert list(losses) == ["rpn_objectness", "rpn_box", "class", "box", "words"]
    (rows,) = heard
    assert {tuple(row) for row in rows.tolist()} == {(4, 5), (7, 0)}  # each object is itself among the regions
    detector.captioner.language.settings = settings().captions
    again = detector.losses(images, targets, torch.Generator().manual_seed(0))
    torch.testing.assert_close(losses["words"], 2 * again["words"])
    nothing = detector.losses(images[2:], targets[2:], torch.Generator().manual_seed(0))
    assert float(nothing["words"].detach()) == 0


def test_a_region_sees_the_others_of_its_picture() -> None:
    """What another object looks like changes what is seen of it, and nothing of another picture does."""
    detector = made(neighbours=True)
    changed = PICTURE.copy()
    changed[:, 60:] = 255 - changed[:, 60:]
    own = 16 + 16  # fc7 and the pooled map's mean
    with torch.no_grad():
        seen = []
        for pictures in ([PICTURE], [changed], [changed, PICTURE]):
            images = detector.preprocessing(pictures)
            maps = [torch.zeros_like(each) for each in detector.backbone(images.pixels)]
            maps[0][..., :14] = 1  # of the left object
            maps[0][..., 14:] = images.pixels[:, :1, ::4, 56::4]  # of the right one
            boxes = [Proposals(torch.tensor([[8.0, 8, 40, 40], [64, 8, 90, 40]]), torch.ones(2))] * len(pictures)
            regions = detector.pool(maps, boxes)
            seen.append(detector.captioner.join(detector.head.class_features(regions), regions, boxes))
    assert seen[0][0, :own].equal(seen[1][0, :own])
    assert not seen[0][0, own:].equal(seen[1][0, own:])
    torch.testing.assert_close(seen[2], torch.cat([seen[1], seen[0]]))


def test_phrases_of_other_words_are_no_targets(detector: DenseCap) -> None:
    images = detector.preprocessing([PICTURE])
    none = Targets(BOXES[:1], torch.tensor([0]))
    with pytest.raises(ValueError, match=r"targets\[0\]\.phrases are int64 of shape \(1, 0\), and must be int64 of"):
        detector.losses(images, [none])
    other = Targets(BOXES[:1], torch.tensor([0]), phrases=torch.tensor([[4, 8]]))
    with pytest.raises(ValueError, match=r"phrases go from 4 to 8, and this detector's words from 0 to 7"):
        detector.losses(images, [other])


def test_weights_hold_the_words(detector: DenseCap, tmp_path: Path) -> None:
    weights.save(detector, settings(), tmp_path / "w.safetensors")
    loaded = weights.load(tmp_path / "w.safetensors", "cpu", for_training=True)
    assert isinstance(loaded, DenseCap)
    assert loaded.words == tuple(WORDS)
    assert loaded(PICTURE).phrases == detector(PICTURE).phrases


def test_what_it_cannot_do(detector: DenseCap, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a DenseCap cannot be exported"):
        export(detector, tmp_path / "w.onnx")
    with pytest.raises(ValueError, match="attack a Faster R-CNN"):
        check_victim(detector)


def test_phrases_are_selected_with_their_boxes() -> None:
    found = Detections(BOXES, torch.tensor([0.9, 0.5]), torch.tensor([0, 0]), ["region"], phrases=("a cup", "tea"))
    assert found[1:].phrases == found[torch.tensor([False, True])].phrases == ("tea",)
    assert found[torch.tensor([1, 0])].phrases == ("tea", "a cup")
    assert found.above(0.99).phrases == ()
    assert found.above(0.99).names == []
    assert found[1] == ("tea", 0.5, (30, 10, 90, 60))
    assert found.to("cpu").phrases == found.phrases
    with pytest.raises(ValueError, match="2 boxes but 1 phrases; each box needs one"):
        Detections(BOXES, torch.tensor([0.9, 0.5]), torch.tensor([0, 0]), phrases=("a cup",))
