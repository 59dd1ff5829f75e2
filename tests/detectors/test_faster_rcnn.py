"""One contract over every way to build a Faster R-CNN, and that it learns."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from rcnnkit.boxes import iou
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.structures import Detections, ImageBatch, Targets

LOSSES = {"rpn_objectness", "rpn_box", "class", "box"}
CONFIGURATIONS = list(itertools.product(["fpn", "c4"], ["roi_align", "roi_pool"], [False, True]))


def settings(neck: str = "fpn", pool: str = "roi_align", agnostic: bool = False, **model: Any) -> DetectorSettings:
    return DetectorSettings.model_validate(
        {
            "model": {
                "backbone": "resnet18",
                "neck": neck,
                "norm": "batch",
                "fpn_channels": 16,
                "pool": pool,
                "pool_size": 7 if neck == "fpn" else 6,
            }
            | model,
            "rpn": {
                "anchor_sizes": [[8], [16], [32], [64], [128]] if neck == "fpn" else [[16, 32, 64]],
                "pre_nms": 100,
                "train_pre_nms": 200,
                "post_nms": 30,
                "train_post_nms": 40,
            },
            "head": {"hidden": 16, "class_agnostic": agnostic, "samples": 24, "score_threshold": 0.01},
            "input": {"short_side": 64, "long_side": 96},
        }
    )


def built(*args: Any, **model: Any) -> FasterRCNN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = build(settings(*args, **model), ["cat", "dog", "hen"], [17, 18, 16])
        assert isinstance(detector, FasterRCNN)
        with torch.no_grad():  # fresh layers answer almost the same everywhere
            head, rpn = detector.head, detector.rpn
            for layer in (head.score_layer, head.delta_layer, rpn.objectness_layer, rpn.delta_layer):
                layer.weight.mul_(10)
        return detector.eval()


@pytest.fixture(scope="module")
def detector() -> FasterRCNN:
    return built()


def picture(height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def targets(boxes: list, labels: list[int], crowd: bool = False) -> Targets:
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        crowd=torch.full((len(labels),), crowd),
    )


def training_batch(detector: FasterRCNN) -> ImageBatch:
    return detector.preprocessing([picture(), picture(96, 64, seed=1)])


def check_same(one: Detections, other: Detections) -> None:
    assert len(one) == len(other) > 0
    torch.testing.assert_close(one.boxes, other.boxes, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(one.scores, other.scores, atol=1e-5, rtol=1e-4)
    assert one.labels.equal(other.labels)


@pytest.mark.parametrize(("neck", "pool", "agnostic"), CONFIGURATIONS)
def test_every_configuration_trains(neck: str, pool: str, agnostic: bool) -> None:
    detector = built(neck, pool, agnostic).train()
    objects = [targets([[10, 10, 50, 40], [60, 20, 90, 60]], [0, 2]), targets([[5, 5, 60, 90]], [1])]
    losses = detector.losses(training_batch(detector), objects, torch.Generator().manual_seed(0))
    assert losses.keys() == LOSSES
    for name, loss in losses.items():
        assert loss.shape == (), name
        assert loss.isfinite(), name
        assert loss > 0, name
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize(("neck", "pool", "agnostic"), CONFIGURATIONS)
def test_every_configuration_detects(neck: str, pool: str, agnostic: bool) -> None:
    detector = built(neck, pool, agnostic)
    sizes = [(64, 96), (300, 40), (17, 23)]
    found = detector([picture(*size) for size in sizes])
    assert len(found) == 3
    for detections, (height, width) in zip(found, sizes, strict=True):
        assert 0 < len(detections) <= 100
        x1, y1, x2, y2 = detections.boxes.unbind(1)
        assert (x1 >= 0).all()
        assert (y1 >= 0).all()
        assert (x2 <= width).all()
        assert (y2 <= height).all()
        assert (x2 > x1).all()
        assert (y2 > y1).all()
        assert detections.scores.tolist() == sorted(detections.scores.tolist(), reverse=True)
        assert (detections.scores > 0.01).all()
        assert set(detections.labels.tolist()) <= {0, 1, 2}
        assert (detections.class_names, detections.category_ids) == (("cat", "dog", "hen"), (17, 18, 16))
        assert not detections.boxes.requires_grad


def test_losses_do_not_depend_on_the_mode_and_are_the_seeds() -> None:
    detector = built(norm="frozen")
    images, objects = training_batch(detector), [targets([[10, 10, 50, 40]], [0]), targets([[5, 5, 60, 90]], [1])]

    def losses(seed: int) -> list[float]:
        with torch.no_grad():
            return [v.item() for v in detector.losses(images, objects, torch.Generator().manual_seed(seed)).values()]

    detector.train()
    one = losses(1)
    assert losses(1) == one
    assert losses(2) != one
    detector.eval()
    assert losses(1) == one


def test_a_list_is_the_same_as_one_at_a_time(detector: FasterRCNN) -> None:
    pictures = [picture(seed=seed) for seed in range(3)]
    for together, given in zip(detector(pictures), pictures, strict=True):
        check_same(together, detector(given))
    assert isinstance(detector(tuple(pictures)), list)
    assert isinstance(detector(pictures[0]), Detections)


def test_a_batch_of_mixed_sizes_keeps_its_order(detector: FasterRCNN) -> None:
    # All are enlarged to the same canvas of 64 × 96 or 96 × 64, padded to 128 × 128 alike.
    pictures = [picture(64, 96), picture(96, 64, seed=1), picture(128, 192, seed=2), picture(32, 48, seed=3)]
    found = detector(pictures)
    for order in ([3, 1, 0, 2], [1, 2, 3, 0]):
        for index, detections in zip(order, detector([pictures[i] for i in order]), strict=True):
            check_same(detections, found[index])


def test_boxes_scale_with_the_picture(detector: FasterRCNN) -> None:
    small = picture(64, 96)
    large = small.repeat(2, axis=0).repeat(2, axis=1)  # resized back to the very same pixels
    assert detector.preprocessing.resize(large).equal(detector.preprocessing.resize(small))
    one, other = detector(small), detector(large)
    torch.testing.assert_close(other.boxes, 2 * one.boxes)
    torch.testing.assert_close(other.scores, one.scores)


def test_every_kind_of_picture_gives_the_same_answer(detector: FasterRCNN, tmp_path: Path) -> None:
    pixels = picture(50, 70)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    expected = detector(pixels)
    for kind in (path, str(path), Image.fromarray(pixels), torch.tensor(pixels).permute(2, 0, 1)):
        check_same(detector(kind), expected)
        check_same(detector([kind])[0], expected)


def test_floats_give_the_same_answer_where_nothing_is_resized(detector: FasterRCNN) -> None:
    pixels = torch.tensor(picture(64, 96)).permute(2, 0, 1)
    check_same(detector(pixels / 255), detector(pixels))


def test_tiny_and_extreme_pictures(detector: FasterRCNN) -> None:
    for size in ((1, 1), (1, 400), (400, 1)):
        height, width = size
        found = detector(picture(*size))
        assert (found.boxes <= torch.tensor([width, height, width, height])).all()
        assert found.boxes.isfinite().all()


def test_detecting_in_training_mode_is_refused() -> None:
    detector = built().train()
    with pytest.raises(RuntimeError, match=r"in training mode; call detector\.eval\(\) before detecting"):
        detector(picture())


def test_bad_pictures_are_named(detector: FasterRCNN, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.jpg"):
        detector([picture(), tmp_path / "none.jpg"])


@pytest.mark.parametrize("neck", ["fpn", "c4"])
def test_pictures_without_objects_train(neck: str) -> None:
    detector = built(neck).train()
    losses = detector.losses(training_batch(detector), [targets([], []), targets([], [])])
    assert losses["rpn_box"].item() == losses["box"].item() == 0
    assert losses["rpn_objectness"] > 0
    assert losses["class"] > 0
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters())


@pytest.mark.parametrize("neck", ["fpn", "c4"])
def test_a_batch_of_nothing_but_crowds_trains(neck: str) -> None:
    detector = built(neck).train()
    images = training_batch(detector)
    everywhere = [targets([[0, 0, width, height]], [0], crowd=True) for height, width in images.sizes]
    losses = detector.losses(images, everywhere)
    # every proposal lies inside a crowd: nothing is learnt of regions
    assert losses["rpn_box"].item() == losses["class"].item() == losses["box"].item() == 0
    assert losses["rpn_objectness"].isfinite()
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters())


@pytest.mark.parametrize("neck", ["fpn", "c4"])
def test_no_proposals_at_all(neck: str) -> None:
    detector = built(neck)
    detector.rpn.settings = detector.rpn.settings.model_copy(update={"min_side": 1e9})
    assert [len(found) for found in detector([picture(), picture()])] == [0, 0]


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="distinct names"):
        build(settings(), [])
    with pytest.raises(ValueError, match="distinct names"):
        build(settings(), ["cat", "cat"])
    fits_not = DetectorSettings.model_validate(
        {"model": {"backbone": "resnet18"}, "rpn": {"anchor_sizes": [[8], [16]]}}
    )
    with pytest.raises(ValueError, match=r"has 2 lists, but there are 5 maps, of strides \[4, 8, 16, 32, 64\]"):
        build(fits_not, ["cat"])


def test_category_ids_default_to_counting_from_one_and_must_match() -> None:
    assert build(settings(), ["cat", "dog"]).category_ids == (1, 2)
    with pytest.raises(ValueError, match="2 classes but 1 category ids"):
        build(settings(), ["cat", "dog"], [7])


def test_one_picture_is_learnt_by_heart() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = build(settings(norm="group"), ["cat", "dog", "hen"]).train()
    assert isinstance(detector, FasterRCNN)
    scene = np.full((64, 96, 3), 60, dtype=np.uint8)
    scene[20:52, 30:70] = (230, 120, 20)
    objects = targets([[30, 20, 70, 52]], [1])
    images = detector.preprocessing([scene])
    assert images.sizes == [(64, 96)]
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(detector.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 55)
    for _ in range(80):
        optimizer.zero_grad()
        torch.stack(list(detector.losses(images, [objects], generator).values())).sum().backward()
        optimizer.step()
        schedule.step()
    found = detector.eval()(scene)
    assert found.names[0] == "dog"
    assert found.scores[0] > 0.5
    assert iou(found.boxes[:1], objects.boxes).item() > 0.7


def gradients_of_head_losses(detector: FasterRCNN) -> dict[str, Tensor]:
    """Of the losses of classes and boxes, with respect to the RPN's box layer."""
    objects = [targets([[10, 10, 50, 40], [60, 20, 90, 60]], [0, 2]), targets([[5, 5, 60, 90]], [1])]
    losses = detector.losses(training_batch(detector), objects, torch.Generator().manual_seed(0))
    weight = detector.rpn.delta_layer.weight
    found = {}
    for name in ("class", "box"):
        (gradient,) = torch.autograd.grad(losses[name], weight, retain_graph=True, allow_unused=True)
        found[name] = torch.zeros_like(weight) if gradient is None else gradient
    return found | {f"loss {name}": loss.detach() for name, loss in losses.items()}


@pytest.mark.parametrize("neck", ["fpn", "c4"])
def test_exact_joint_training_moves_proposals_by_the_heads_losses(neck: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, exact = built(neck, aligned=True), built(neck, aligned=True)
    exact.rpn.settings = exact.rpn.settings.model_copy(update={"box_gradient": True})
    before, after = gradients_of_head_losses(plain), gradients_of_head_losses(exact)
    for name in ("class", "box"):
        assert not before[name].any()
        # The pyramid's anchors are so far off that only the objects themselves are foreground, which nothing moves.
        assert after[name].any() == ((neck, name) != ("fpn", "box"))
    for name in (f"loss {each}" for each in LOSSES):
        assert before[name].equal(after[name])

    # The witness pools by torch's grid_sample, whose gradient is torch's own.
    def pool(input: Tensor, rois: Tensor, size: int, scale: float, ratio: int, aligned: bool) -> Tensor:
        assert aligned
        if not len(rois):  # of this map; grid_sample refuses
            return input.new_zeros(0, input.shape[1], size, size)
        steps = (torch.arange(size * ratio) + 0.5) / (size * ratio)
        x, y = ((r[:, 0, None] + (r[:, 1] - r[:, 0])[:, None] * steps) * scale for r in (rois[:, 1::2], rois[:, 2::2]))
        height, width = input.shape[2:]
        rows, columns = (y * 2 / height - 1)[:, :, None], (x * 2 / width - 1)[:, None]
        grid = torch.stack(torch.broadcast_tensors(columns, rows), -1)
        samples = F.grid_sample(input[rois[:, 0].long()], grid, padding_mode="border", align_corners=False)
        return F.avg_pool2d(samples, ratio)

    monkeypatch.setattr("rcnnkit.heads.region_pool.roi_align", pool)
    witness = gradients_of_head_losses(exact)
    for name in ("class", "box"):
        torch.testing.assert_close(after[name], witness[name], rtol=1e-3, atol=1e-5 * float(witness[name].abs().max()))


def test_a_gradient_of_boxes_needs_roi_align() -> None:
    with pytest.raises(ValueError, match=r'rpn\.box_gradient = true goes with model\.kind = "faster_rcnn" or'):
        DetectorSettings.model_validate({"model": {"pool": "roi_pool"}, "rpn": {"box_gradient": True}})
