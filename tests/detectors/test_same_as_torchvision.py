"""The same weights give the same answers, losses and gradients as torchvision's Faster R-CNN."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torchvision
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights, fasterrcnn_resnet50_fpn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from rcnnkit.boxes import scale
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.importing.torchvision_detectors import from_torchvision
from rcnnkit.ops import roi_align
from rcnnkit.structures import Targets
from rcnnkit.weights import load, save

CLASSES = [f"class {i}" for i in range(90)]
SIZES = [(233, 317), (401, 199), (64, 500), (97, 96)]
Pair = tuple[TorchvisionFasterRCNN, FasterRCNN]


def livelier(model: TorchvisionFasterRCNN) -> TorchvisionFasterRCNN:
    """Fresh weights answer almost the same everywhere; spread scores and norms, with deltas of a trained one's size.

    The two RoIAligns add up in another order; deltas of 50 would make a thousandth of a pixel of that.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, factor in (("cls_score", 10), ("bbox_pred", 0.5)):
            getattr(model.roi_heads.box_predictor, name).weight.mul_(factor)
        for layer in (model.rpn.head.cls_logits, model.rpn.head.bbox_pred):
            layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator) * 0.1)
        for module in model.modules():  # norms that do something
            if type(module).__name__ == "FrozenBatchNorm2d":
                for value in (module.running_mean, module.bias):
                    value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
                module.weight.copy_(torch.rand(module.weight.shape, generator=generator) * 0.5 + 0.25)
    return model


@pytest.fixture(scope="module")
def pair() -> Pair:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=256, max_size=416)
    theirs = livelier(theirs.eval())
    ours, _ = from_torchvision(theirs, CLASSES)
    return theirs, ours


def pictures() -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    return [torch.tensor(rng.random((3, *size)), dtype=torch.float32) for size in SIZES]


def check_same(theirs: TorchvisionFasterRCNN, ours: FasterRCNN, batch: list[torch.Tensor]) -> None:
    with torch.no_grad():
        expected = theirs(batch)
    found = ours(batch)
    assert len(found) == len(expected)
    for mine, other in zip(found, expected, strict=True):
        assert len(mine) == len(other["boxes"]) > 5
        torch.testing.assert_close(mine.scores, other["scores"], atol=1e-5, rtol=0)
        # Scores that differ by less may change places: sums have another order on another CPU.
        apart = (mine.boxes[:, None] - other["boxes"]).abs().amax(dim=2)
        apart += (mine.scores[:, None] - other["scores"]).abs() > 1e-5
        apart += mine.labels[:, None] != other["labels"] - 1
        nearest = apart.min(dim=1)
        assert nearest.values.max() <= 1e-3
        assert nearest.indices.sort().values.equal(torch.arange(len(mine)))
        assert len(set(mine.labels.tolist())) > 1


def test_one_picture_at_a_time(pair: Pair) -> None:
    for picture in pictures():
        check_same(*pair, [picture])


def test_a_batch_of_odd_sizes(pair: Pair) -> None:
    check_same(*pair, pictures())


@dataclass(frozen=True)
class Training:
    """Our detector, a batch with its objects, and torchvision's losses and gradients of the same weights."""

    ours: FasterRCNN
    batch: list[torch.Tensor]
    boxes: list[torch.Tensor]
    labels: list[torch.Tensor]
    losses: dict[str, torch.Tensor]
    gradients: list[torch.Tensor]


@pytest.fixture(scope="module")
def training() -> Training:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = fasterrcnn_resnet50_fpn(
            weights=None,
            weights_backbone=None,
            min_size=128,
            max_size=208,
            rpn_pre_nms_top_n_train=200,
            rpn_post_nms_top_n_train=60,
            # every box is a sample, so that both draw the same ones
            rpn_batch_size_per_image=10**6,
            box_batch_size_per_image=10**5,
        )
    ours, _ = from_torchvision(theirs, CLASSES)
    theirs.train()
    ours.train()
    batch = pictures()[:3]
    boxes = [
        torch.tensor([[10.0, 20, 100, 120], [150, 30, 300, 200], [12, 22, 90, 100]]),
        torch.empty(0, 4),  # a picture without objects
        torch.tensor([[5.0, 5, 60, 60]]),
    ]
    labels = [torch.tensor([3, 17, 89]), torch.empty(0, dtype=torch.int64), torch.tensor([0])]
    losses = theirs(batch, [{"boxes": b, "labels": n + 1} for b, n in zip(boxes, labels, strict=True)])
    torch.stack(list(losses.values())).sum().backward()
    # Gradients travel to our places by the importer itself: make a model whose weights are the gradients.
    for parameter in theirs.parameters():
        parameter.data = parameter.grad
    gradients = [gradient.data for gradient in from_torchvision(theirs, CLASSES)[0].parameters()]
    return Training(ours, batch, boxes, labels, losses, gradients)


@pytest.mark.parametrize(
    ("operator", "tolerance"),
    [
        # float32 sums, in an order that depends on the CPU: 1.1e-5 is the most that was seen
        (torchvision.ops.roi_align, 3e-5),
        # ours adds in another order, and fifty layers back that is worth some units of the fourth digit
        (roi_align, 1e-3),
    ],
)
def test_losses_and_gradients(
    training: Training, operator: Callable[..., torch.Tensor], tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rcnnkit.heads.region_pool.roi_align", operator)
    ours, images = training.ours, training.ours.preprocessing(training.batch)
    ours.zero_grad()
    targets = [
        Targets(scale(b, old, new), n)
        for b, n, old, new in zip(training.boxes, training.labels, images.original_sizes, images.sizes, strict=True)
    ]
    losses = ours.losses(images, targets)
    names = {
        "rpn_objectness": "loss_objectness",
        "rpn_box": "loss_rpn_box_reg",
        "class": "loss_classifier",
        "box": "loss_box_reg",
    }
    assert losses.keys() == names.keys()
    for mine, other in names.items():
        assert losses[mine] > 0
        torch.testing.assert_close(losses[mine], training.losses[other].detach(), rtol=1e-5, atol=0)

    torch.stack(list(losses.values())).sum().backward()
    for (name, parameter), goal in zip(ours.named_parameters(), training.gradients, strict=True):
        assert parameter.grad is not None, name
        # of the whole tensor: its entries are sums of thousands of float32 that cancel
        assert (parameter.grad - goal).norm() <= tolerance * goal.norm(), name
        assert goal.norm() > 0, name


def test_batch_norm_and_two_rpn_convs_and_a_file(tmp_path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = resnet_fpn_backbone(
            backbone_name="resnet18", weights=None, norm_layer=torch.nn.BatchNorm2d, trainable_layers=5
        )
        theirs = livelier(TorchvisionFasterRCNN(body, 4, min_size=128, max_size=200, box_score_thresh=0.1).eval())
    ours, settings = from_torchvision(theirs, ["a", "b", "c"])
    save(ours, settings, tmp_path / "imported.safetensors")
    loaded = load(tmp_path / "imported.safetensors", "cpu", for_training=True)
    assert isinstance(loaded, FasterRCNN)
    check_same(theirs, loaded, pictures()[:2])


def test_what_does_not_fit_is_refused(pair: Pair) -> None:
    with pytest.raises(ValueError, match="knows 90 classes, 2 names"):
        from_torchvision(pair[0], ["a", "b"])
    with pytest.raises(ValueError, match="not torchvision's Faster R-CNN"):
        from_torchvision(torch.nn.Linear(1, 1), ["a"])


def test_classes_without_a_name_are_none_of_ours(pair: Pair) -> None:
    names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]
    ours, _ = from_torchvision(pair[0], names)
    assert len(ours.class_names) == len(set(ours.class_names)) == 80
    assert (ours.class_names[10:12], ours.category_ids[10:12]) == (("fire hydrant", "stop sign"), (11, 13))
    assert (ours.class_names[79], ours.category_ids[79]) == ("toothbrush", 90)  # COCO's own
