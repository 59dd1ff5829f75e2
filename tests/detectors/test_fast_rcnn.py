"""Fast R-CNN: what it makes of its parts and of proposals from outside, and that it learns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rcnnkit.boxes import iou
from rcnnkit.detectors.detector import with_proposals
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.images import Preprocessing
from rcnnkit.proposals import selective_search
from rcnnkit.structures import ImageBatch, Proposals, Targets

PYRAMID = {"backbone": "resnet18", "norm": "batch", "fpn_channels": 16}
SINGLE = {"backbone": "alexnet", "pool": "roi_pool"}


def built(model: Mapping[str, object], **head: object) -> FastRCNN:
    settings = DetectorSettings.model_validate(
        {
            "model": {"kind": "fast_rcnn", **model},
            "proposals": {"method": "precomputed", "train_count": 60, "count": 40},
            "head": {"hidden": 16, "samples": 24, "score_threshold": 0.01} | head,
            "input": {"short_side": 64, "long_side": 96},
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = build(settings, ["cat", "dog", "hen"], [17, 18, 16])
    assert isinstance(detector, FastRCNN)
    with torch.no_grad():  # fresh layers answer almost the same everywhere
        detector.head.score_layer.weight.mul_(10)
        detector.head.delta_layer.weight.mul_(10)
    return detector.eval()


def picture(height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def random_proposals(count: int, height: int = 64, width: int = 96, seed: int = 0) -> Proposals:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width - 20, height - 20])
    size = 8 + torch.rand(count, 2, generator=generator) * 12
    return Proposals(torch.cat([corner, corner + size], dim=1), torch.linspace(1, 0, count))


def targets(boxes: list, labels: list[int]) -> Targets:
    return Targets(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64))


def training_batch(detector: FastRCNN) -> ImageBatch:
    images = detector.preprocessing([picture(), picture(seed=1)])
    return with_proposals(images, [random_proposals(80), random_proposals(80, seed=1)])


OBJECTS = [targets([[10, 10, 50, 40], [60, 20, 90, 60]], [0, 2]), targets([[5, 5, 60, 60]], [1])]


def test_it_is_the_composition_of_its_parts() -> None:
    """The answer for one region, worked out from the layers."""
    detector = built(SINGLE)
    pixels, region = picture(), Proposals(torch.tensor([[16.0, 0, 64, 48]]), torch.ones(1))
    found = detector(pixels, region)
    with torch.no_grad():
        feature = detector.backbone(detector.preprocessing([pixels]).pixels)[0]
        # 48 × 48 pixels are cells 1 to 4 and 0 to 3: corners round to 16ths and both ends are included
        window = feature[0, :, 0:4, 1:5]
        edges = [(int(np.floor(i * 4 / 6)), int(np.ceil((i + 1) * 4 / 6))) for i in range(6)]
        pooled = torch.stack([window[:, y0:y1, x0:x1].amax((1, 2)) for y0, y1 in edges for x0, x1 in edges], dim=1)
        hidden = detector.head.layers(pooled.reshape(1, 256, 6, 6))
        scores = detector.head.score_layer(hidden).softmax(dim=1)[0, :3]
    torch.testing.assert_close(found.scores.sort().values, scores.sort().values)


def test_only_the_best_proposals_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = built(PYRAMID)
    every = random_proposals(80)
    one, other = detector(picture(), every), detector(picture(), every[:40])
    assert one.boxes.equal(other.boxes)
    seen: list[int] = []
    sample = detector.head.sample

    def noted(proposals: Sequence[Proposals], *rest: Any) -> Any:
        seen.extend(map(len, proposals))
        return sample(proposals, *rest)

    monkeypatch.setattr(detector.head, "sample", noted)
    detector.losses(training_batch(detector), OBJECTS)
    assert seen == [60, 60]


def test_one_picture_has_one_proposals() -> None:
    with pytest.raises(ValueError, match="proposals of one picture are one Proposals, not a list"):
        built(PYRAMID)(picture(), [random_proposals(8)])


def test_a_proposer_is_asked_only_where_no_proposals_came() -> None:
    class Proposer:
        def propose(self, images: ImageBatch, features: Sequence[Tensor]) -> list[Proposals]:
            assert len(features) == 5
            return [random_proposals(30, seed=5) for _ in range(len(images))]

    detector = built(PYRAMID)
    with pytest.raises(ValueError, match=r"pass them with the picture: detector\(picture, proposals\)"):
        detector(picture())
    detector.proposer = Proposer()
    assert detector(picture()).boxes.equal(detector(picture(), random_proposals(30, seed=5)).boxes)
    assert not detector(picture()).boxes.equal(detector(picture(), random_proposals(30)).boxes)


def at_scales(*scales: int) -> FastRCNN:
    detector = built(PYRAMID)
    detector.preprocessing = detector.preprocessing.model_copy(update={"scales": scales, "long_side": 700})
    return detector


def test_one_scale_is_no_other_than_itself() -> None:
    pictures, proposals = [picture(), picture(96, 64)], [random_proposals(40), random_proposals(40, 96, 64, seed=1)]
    one = at_scales()(pictures, proposals)
    for a, b in zip(one, at_scales(64)(pictures, proposals), strict=True):
        torch.testing.assert_close(a.boxes, b.boxes)
        torch.testing.assert_close(a.scores, b.scores)


def test_each_region_comes_from_the_scale_where_its_area_is_nearest_224() -> None:
    """Of 96 pixels, sides of 20, 50 and 90 become 40, 100 and 180 at 192, and 93, 233 and 420 at 448."""
    detector = at_scales(64, 192, 448)
    boxes = torch.tensor([[0.0, 0, 20, 20], [5, 5, 55, 55], [2, 0, 92, 90], [30, 10, 50, 30]])
    pictures = [picture(96, 96), picture(96, 96, seed=1)]
    images = with_proposals(
        detector.preprocessing(pictures),
        [Proposals(boxes, torch.ones(4)), Proposals(boxes[[2, 0]], torch.ones(2))],
    )
    assert images.sizes == [(64, 64)] * 2
    with torch.no_grad():
        regions = detector.pool_from_scales(images, images.proposals)
        for row, (image, box, side) in enumerate(
            [(0, 0, 448), (0, 1, 448), (0, 2, 192), (0, 3, 448), (1, 2, 192), (1, 0, 448)]
        ):
            alone = detector.preprocessing.at(side)([pictures[image]])
            moved = Proposals(boxes[[box]] * side / 96, torch.ones(1))
            expected = detector.pool(detector.backbone(alone.pixels), [moved])[0]
            torch.testing.assert_close(regions[row], expected, atol=1e-4, rtol=1e-4)


def test_a_picture_is_resized_to_the_scales_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to `short_side` too, which is no more than the frame that boxes are in."""
    detector, sides = at_scales(128, 192), []
    resize = Preprocessing.resize

    def noted(self: Preprocessing, *given: Any) -> Any:
        sides.append(self.short_side)
        return resize(self, *given)

    monkeypatch.setattr(Preprocessing, "resize", noted)
    found = detector([picture(96, 96), picture(96, 128)], [random_proposals(9)] * 2)
    assert sides == [128, 128, 192, 192]
    assert all(len(each) > 0 for each in found)


def test_scales_without_regions_or_pictures() -> None:
    detector = at_scales(64, 128)
    assert len(detector(picture(), Proposals(torch.zeros(0, 4), torch.zeros(0)))) == 0
    images = detector.preprocessing.batch([detector.preprocessing.resize(picture())], [(64, 96)], "cpu")
    with pytest.raises(ValueError, match="came without them"):
        detector.detect(with_proposals(images, [random_proposals(4)]))


def test_pictures_without_proposals_or_objects() -> None:
    detector = built(PYRAMID, background_low=0.1)
    none = Proposals(torch.zeros(0, 4), torch.zeros(0))
    assert len(detector(picture(), none)) == 0
    images = with_proposals(detector.preprocessing([picture()]), [none])
    for objects in (targets([], []), OBJECTS[0]):
        losses = detector.losses(images, [objects])
        assert all(loss.isfinite() for loss in losses.values())
    assert detector.losses(images, [targets([], [])])["class"] == 0


def test_one_picture_is_learnt_by_heart() -> None:
    detector = built({"backbone": "resnet18", "norm": "group", "fpn_channels": 16}, measured_targets=True).train()
    scene = np.full((64, 96, 3), 60, dtype=np.uint8)
    scene[20:52, 30:70] = (230, 120, 20)
    objects = targets([[30, 20, 70, 52]], [1])
    jitter = torch.randn(20, 4, generator=torch.Generator().manual_seed(1)) * 4
    near = (objects.boxes + jitter).clamp(0, 64)
    proposals = Proposals(torch.cat([near, random_proposals(40).boxes]), torch.linspace(1, 0, 60))
    detector.head.measure_targets([(proposals, objects)])
    images = with_proposals(detector.preprocessing([scene]), [proposals])
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(detector.parameters(), lr=2e-3)
    for _ in range(40):
        optimizer.zero_grad()
        torch.stack(list(detector.losses(images, [objects], generator).values())).sum().backward()
        optimizer.step()
    found = detector.eval()(scene, proposals[1:])
    assert found.names[0] == "dog"
    assert found.scores[0] > 0.5
    assert iou(found.boxes[:1], objects.boxes).item() > 0.7


def test_selective_search_is_asked_where_no_proposals_came() -> None:
    settings = DetectorSettings.model_validate(
        {
            "model": {"kind": "fast_rcnn"} | PYRAMID,
            "proposals": {"min_side": 8, "max_width": 48, "count": 30},
            "head": {"hidden": 16, "score_threshold": 0.0},
            "input": {"short_side": 64, "long_side": 96},
        }
    )
    detector = build(settings, ["cat", "dog"]).eval()
    scene = np.kron(picture(8, 12), np.ones((16, 16, 1))).astype(np.uint8)  # 128 × 192, in coloured squares
    found = selective_search(scene, min_side=8, width=48)
    assert len(found) > 30
    one, other = detector(scene), detector(scene, found)
    assert len(one) > 0
    assert one.boxes.equal(other.boxes)
