from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from rcnnkit.backbones.resnet import ResNet
from rcnnkit.boxes import decode
from rcnnkit.detectors.detector import with_proposals
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.ops import warp_regions
from rcnnkit.proposals import selective_search
from rcnnkit.structures import Detections, ImageBatch, Proposals, Targets

NAMES = ["cell", "plate"]


def rcnn(backbone: str = "resnet18", method: str = "precomputed", **options: Any) -> RCNN:
    """With random weights everywhere, windows of 64 pixels, and pictures in their own size."""
    torch.manual_seed(0)
    model = {"kind": "rcnn", "backbone": backbone} | ({"norm": "batch"} if backbone == "resnet18" else {})
    settings = {"model": model, "rcnn": {"size": 64, "context": 4} | options, "input": {"short_side": 0}}
    settings |= {"head": {"hidden": 32}, "proposals": {"count": 50, "method": method, "min_side": 5}}
    detector = build(DetectorSettings.model_validate(settings), NAMES)
    assert isinstance(detector, RCNN)
    for name in ("svm_weight", "svm_bias", "ridge_weight", "ridge_bias"):
        buffer = getattr(detector, name)
        buffer.copy_(torch.randn(buffer.shape) * (0.005 if name.startswith("ridge") else 0.1))
    return detector.eval()


def picture(height: int = 60, width: int = 90) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def proposals(count: int = 20, height: int = 60, width: int = 90) -> Proposals:
    rng = np.random.default_rng(1)
    low = rng.uniform(0, [width - 25, height - 25], (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(10, 25, (count, 2))], axis=1).astype(np.float32)
    return Proposals(torch.from_numpy(boxes), torch.ones(count))


def by_definition(detector: RCNN, array: np.ndarray, found: Proposals, features: Any) -> list[tuple[float, ...]]:
    """Detections one box at a time: score, keep, regress, clip, suppress. `features`: pixels → (layer, pool5)."""
    mean, std = (np.array(v, dtype=np.float32) for v in (detector.preprocessing.mean, detector.preprocessing.std))
    pixels = torch.from_numpy(((array / 255 - mean) / std).astype(np.float32)).permute(2, 0, 1)[None]
    results = []
    for label in range(2):
        candidates = []
        for box in found.boxes:
            layer, pool5 = features(warp_regions(pixels, [box[None]], 64, 4))
            score = float(layer[0] @ detector.svm_weight[label] + detector.svm_bias[label])
            moved = pool5[0] @ detector.ridge_weight[label].T + detector.ridge_bias[label]
            x1, y1, x2, y2 = decode(moved[None], box[None])[0].tolist()
            candidates.append((score, max(0.0, x1), max(0.0, y1), min(90.0, x2), min(60.0, y2)))
        candidates = [c for c in sorted(candidates, reverse=True)[:100] if c[0] > -1]
        candidates = [c for c in candidates if min(c[3] - c[1], c[4] - c[2]) >= 0.01]
        kept: list[tuple[float, ...]] = []
        for c in candidates:
            a = torch.tensor([c[1:]])
            if all(torchvision.ops.box_iou(a, torch.tensor([k[1:]])) <= 0.3 for k in kept):
                kept.append(c)
        results += [(label, *k) for k in kept]
    return sorted(results, key=lambda r: -r[1])


def assert_same(detections: Detections, expected: list[tuple[float, ...]]) -> None:
    assert len(expected) > 2
    assert detections.labels.tolist() == [r[0] for r in expected]
    np.testing.assert_allclose(detections.scores.numpy(), [r[1] for r in expected], atol=1e-4)
    np.testing.assert_allclose(detections.boxes.numpy(), [r[2:] for r in expected], atol=1e-2)


@pytest.mark.parametrize("backbone", ["resnet18", "alexnet"])
def test_detecting_by_definition(backbone: str) -> None:
    detector = rcnn(backbone)
    network: Any = detector.backbone

    def features(window: Tensor) -> tuple[Tensor, Tensor]:
        cells = network.body(window)[0 if backbone == "alexnet" else 3]
        if backbone == "resnet18":  # 64 pixels: 2 × 2 cells
            return cells.mean(dim=(2, 3)), cells.flatten(1)
        pool5 = network.body.pool5(cells).flatten(1)
        hidden = network.layers.fc7(network.layers.fc6(pool5).relu()).relu()
        return hidden, pool5

    with torch.no_grad():
        expected = by_definition(detector, picture(), proposals(), features)
    assert_same(detector(picture(), proposals()), expected)


def test_pool5_fc6_and_fc7_are_torchvisions() -> None:
    """A window through torchvision's AlexNet and ours gives the same layers."""
    settings = {"model": {"kind": "rcnn", "backbone": "alexnet"}}
    detector = build(DetectorSettings.model_validate(settings), NAMES).eval()
    assert isinstance(detector, RCNN)
    assert detector.settings.size == 227
    theirs = torchvision.models.alexnet().eval()
    ours = [m for m in detector.backbone.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    layers = [m for m in theirs.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)][:7]
    for a, b in zip(ours, layers, strict=True):
        a.load_state_dict(b.state_dict())
    window = torch.randn(2, 3, 227, 227)
    with torch.no_grad():
        found = detector.backbone(window)
        pool5 = theirs.avgpool(theirs.features(window)).flatten(1)
        torch.testing.assert_close(found["pool5"], pool5)
        torch.testing.assert_close(found["fc6"], theirs.classifier[:3](pool5))
        torch.testing.assert_close(found["fc7"], theirs.classifier[:6](pool5))
        assert found.keys() == {"pool5", "fc6", "fc7"}
        assert detector.backbone(window, "pool5").keys() == {"pool5"}
    assert {name: value.shape[1] for name, value in found.items()} == detector.backbone.widths


def test_switches() -> None:
    array, found = picture(), proposals()
    with torch.no_grad():
        images = rcnn().preprocessing([array])
        boxes = found.boxes
        plain = rcnn(box_regression=False)(array, found)
        assert all((box[None] - boxes).abs().sum(dim=1).min() < 1e-4 for box in plain.boxes)  # as proposed
        softmax = rcnn(scorer="softmax", score_threshold=0.0)
        hidden = softmax.compute_features(images.pixels[0, :, :60, :90], boxes)
        expected = torch.softmax(softmax.score_layer(hidden["fc7"]), dim=1)[:, :2]
        best = softmax(array, found)
        assert best.scores[0] == pytest.approx(float(expected.max()), abs=1e-6)
        for options in ({"context": 0}, {"square": True}, {"layer": "pool5"}):
            other = rcnn(**options)
            assert not torch.equal(other(array, found).scores, rcnn()(array, found).scores), options
        square = rcnn(square=True).warp(images.pixels[0, :, :60, :90], boxes[:1])
        torch.testing.assert_close(square, warp_regions(images.pixels[:, :, :60, :90], [boxes[:1]], 64, 4, square=True))


def test_the_padding_of_a_batch_changes_nothing() -> None:
    detector = rcnn()
    small, large = picture(), picture(130, 100)
    alone = detector(small, proposals())
    together = detector([small, large], [proposals(), proposals(5)])
    torch.testing.assert_close(together[0].boxes, alone.boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(together[0].scores, alone.scores, atol=1e-4, rtol=0)


def test_pictures_are_not_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to each other's sizes nor to a multiple of a stride: windows are cut from each by itself."""
    detector, shapes = rcnn(), []
    detect = detector.detect

    def noted(images: ImageBatch) -> list[Detections]:
        shapes.append(images.pixels.shape)
        return detect(images)

    monkeypatch.setattr(detector, "detect", noted)
    detector([picture(), picture(130, 100)], [proposals(), proposals(5)])
    assert shapes == [(1, 3, 60, 90), (1, 3, 130, 100)]
    for count in (1, 3):
        with pytest.raises(ValueError, match=f"^{count} proposals for 2 pictures; give one Proposals for each picture"):
            detector([picture(), picture()], [proposals()] * count)
    with pytest.raises(ValueError, match=r"^pictures\[1\]: "):
        detector([picture(), np.zeros((0, 5, 3), dtype=np.uint8)], [proposals()] * 2)


def test_batches_of_windows_change_nothing_and_the_best_proposals_are_used() -> None:
    whole, parts = rcnn(), rcnn(batch=3)
    torch.testing.assert_close(whole(picture(), proposals()).boxes, parts(picture(), proposals()).boxes)
    many = proposals(60)
    torch.testing.assert_close(whole(picture(), many).boxes, whole(picture(), many[:50]).boxes)


def test_one_call_searches_and_detects() -> None:
    found = selective_search(picture(), min_side=5)
    assert len(found) > 50
    expected, searched = rcnn()(picture(), found), rcnn(method="selective_search")(picture())
    assert len(searched) > 2
    torch.testing.assert_close(searched.boxes, expected.boxes)
    torch.testing.assert_close(searched.scores, expected.scores)


def test_no_proposals_and_one() -> None:
    detector = rcnn(score_threshold=-1e9)
    assert len(detector(picture(), proposals(0))) == 0
    assert detector(picture(), proposals(1)).labels.tolist() in ([0, 1], [1, 0])
    with pytest.raises(ValueError, match="made for precomputed proposals"):
        detector(picture())


def test_scores_that_are_not_numbers_are_no_detections() -> None:
    detector = rcnn()
    detector.svm_bias.fill_(float("nan"))
    assert len(detector(picture(), proposals())) == 0


def test_losses_are_the_log_loss_of_the_sampled_windows() -> None:
    detector = rcnn(samples=84)  # a quarter may be objects: more than there are, so every window is in the sample
    target = Targets(torch.tensor([[10.0, 10, 40, 40]]), torch.tensor([1]))
    images = with_proposals(detector.preprocessing([picture()]), [proposals()])
    losses = detector.losses(images, [target], torch.Generator().manual_seed(0))
    boxes = torch.cat([target.boxes, proposals().boxes])
    labels = torch.where(torchvision.ops.box_iou(boxes, target.boxes)[:, 0] >= 0.5, 1, 2)  # 2: background
    assert labels.tolist().count(1) > 1
    with torch.no_grad():
        hidden = detector.compute_features(images.pixels[0, :, :60, :90], boxes)["fc7"]
        expected = torch.nn.functional.nll_loss(detector.score_layer(hidden).log_softmax(dim=1), labels)
    assert losses.keys() == {"class"}
    assert losses["class"].item() == pytest.approx(expected.item(), abs=1e-5)
    losses["class"].backward()
    body = detector.backbone.body
    assert isinstance(body, ResNet)
    gradient = body.stem.get_parameter("0.weight").grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        ("resnet18", {"layer": "fc6"}, 'rcnn.layer = "fc6" is not in resnet18'),
        ("alexnet", {"size": 62}, "rcnn.size = 62 is less than the 63 pixels"),
        ("vgg16", {"size": 40, "context": 20}, "rcnn.context = 20 leaves nothing"),
    ],
)
def test_settings_that_do_not_go_together(backbone: str, options: dict[str, Any], message: str) -> None:
    model = {"kind": "rcnn", "backbone": backbone}
    with pytest.raises(ValueError, match=message):
        DetectorSettings.model_validate({"model": model, "rcnn": options})


def test_its_weights_start_the_other_detectors() -> None:
    """One name for a ResNet's layers in all three, so that `train.init` takes over what R-CNN has learnt."""
    ours = {name for name, _ in rcnn().named_parameters() if name.startswith("backbone.")}
    for neck in ("fpn", "c4"):
        model = {"kind": "fast_rcnn", "backbone": "resnet18", "norm": "batch", "neck": neck}
        theirs = build(DetectorSettings.model_validate({"model": model}), NAMES)
        shared = {name for name, _ in theirs.named_parameters() if name.startswith("backbone.body.")}
        assert shared
        assert shared <= ours


def test_all_of_a_class_are_kept_where_there_is_no_limit() -> None:
    detector = rcnn("resnet18")
    corner = 10.0 * torch.stack(torch.meshgrid(torch.arange(15), torch.arange(10), indexing="ij"), dim=2).flatten(0, 1)
    boxes, scores = torch.cat([corner, corner + 8], dim=1), torch.linspace(0, 1, 300).reshape(150, 2)
    assert len(detector.suppress(boxes, scores, None, (100, 150)).boxes) == 200  # 100 of each class
    detector.max_detections = 0
    assert len(detector.suppress(boxes, scores, None, (100, 150)).boxes) == 300
