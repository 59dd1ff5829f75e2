"""The region proposal network: its proposals and losses, by hand and beside torchvision's."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from rcnnkit.boxes import encode, iou
from rcnnkit.proposals.rpn import RPN, RPNSettings
from rcnnkit.structures import ImageBatch, Proposals, Targets


def rpn_of(channels: int, sizes: list[list[float]], ratios: list[float], **settings: object) -> RPN:
    """Of maps whose strides their sizes tell."""
    values = {"anchor_sizes": sizes, "anchor_ratios": ratios} | settings
    return RPN(channels, [1] * len(sizes), RPNSettings.model_validate(values))


def change(rpn: RPN, **settings: object) -> None:
    rpn.settings = rpn.settings.model_copy(update=settings)


def fixed(
    answers: list[tuple[Tensor, Tensor]], sizes: list[list[float]], **settings: object
) -> tuple[RPN, list[Tensor]]:
    """An RPN of square anchors that answers with these logits (B, A, h, w) and deltas (B, 4A, h, w); its maps."""
    rpn = rpn_of(1, sizes, [1.0], **settings)
    rpn.forward = lambda features: (  # type: ignore[method-assign]  # the answers given
        [logit.permute(0, 2, 3, 1).flatten(1) for logit, _ in answers],
        [delta.permute(0, 2, 3, 1).reshape(len(delta), -1, 4) for _, delta in answers],
    )
    return rpn, [logit[:, :1] for logit, _ in answers]


def still(logits: Tensor) -> tuple[Tensor, Tensor]:
    """These logits, and deltas that leave each anchor where it is."""
    return logits, torch.zeros(len(logits), 4 * logits.shape[1], *logits.shape[2:])


def batch(height: int, width: int, *sizes: tuple[int, int]) -> ImageBatch:
    sizes = sizes or ((height, width),)
    return ImageBatch(torch.zeros(len(sizes), 3, height, width), sizes, sizes)


def targets(*boxes: list[float], crowd: bool = False) -> Targets:
    n = len(boxes)
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.zeros(n, dtype=torch.int64),
        crowd=torch.full((n,), crowd),
    )


def check_same(found: Proposals, boxes: list, logits: list[float]) -> None:
    torch.testing.assert_close(found.boxes, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    assert found.scores.tolist() == pytest.approx([1 / (1 + math.exp(-x)) for x in logits], rel=1e-5)


# propose


def test_proposals_are_anchors_moved_and_best_first() -> None:
    # 2 × 2 cells of stride 16, anchors of 16: centred on (0, 0), (16, 0), (0, 16), (16, 16)
    logits, deltas = still(torch.tensor([[[[-1.0, 2], [0.5, 1]]]]))
    deltas[0, :, 1, 1] = torch.tensor([0.25, 0.5, math.log(0.5), 0])  # 4 to the right, 8 down, half as wide
    rpn, features = fixed([(logits, deltas)], [[16]])
    (found,) = rpn.propose(batch(32, 32), features)
    # cut to the picture: x, y ≥ 0
    check_same(found, [[8, 0, 24, 8], [16, 16, 24, 32], [0, 8, 8, 24], [0, 0, 8, 8]], [2, 1, 0.5, -1])


def test_each_picture_of_a_batch_is_cut_to_itself() -> None:
    logits, deltas = still(torch.tensor([[[[1.0, 2], [3, 4]]]]).repeat(2, 1, 1, 1))
    rpn, features = fixed([(logits, deltas)], [[16]])
    one, two = rpn.propose(batch(32, 32, (32, 32), (20, 12)), features)
    check_same(one, [[8, 8, 24, 24], [0, 8, 8, 24], [8, 0, 24, 8], [0, 0, 8, 8]], [4, 3, 2, 1])
    check_same(two, [[8, 8, 12, 20], [0, 8, 8, 20], [8, 0, 12, 8], [0, 0, 8, 8]], [4, 3, 2, 1])


def test_what_is_cut_to_little_is_dropped() -> None:
    logits, deltas = still(torch.tensor([[[[1.0, 2], [3, 4]]]]))
    rpn, features = fixed([(logits, deltas)], [[16]], min_side=5)
    # of a picture 12 wide, the right cells keep 4 pixels, beginning at x = 8
    (found,) = rpn.propose(batch(32, 32, (32, 12)), features)
    check_same(found, [[0, 8, 8, 24], [0, 0, 8, 8]], [3, 1])
    change(rpn, min_side=4)  # at least, not more than
    assert len(rpn.propose(batch(32, 32, (32, 12)), features)[0]) == 4
    change(rpn, min_side=1000)
    assert rpn.propose(batch(32, 32), features)[0].boxes.shape == (0, 4)


def test_the_best_of_each_map_go_into_suppression() -> None:
    fine = still(torch.tensor([[[[9.0, 8, 7, 6]]]]))
    coarse = still(torch.tensor([[[[1.0, 2]]]]))
    rpn, features = fixed([fine, coarse], [[4], [8]], pre_nms=1)
    # strides 8 and 16: x = 0, 8, 16, 24 and x = 0, 16
    (found,) = rpn.propose(batch(8, 32), features)
    check_same(found, [[0, 0, 2, 2], [12, 0, 20, 4]], [9, 2])


def test_post_nms_counts_all_maps_together() -> None:
    fine = still(torch.tensor([[[[9.0, 1, 7, 6]]]]))
    coarse = still(torch.tensor([[[[8.0, 2]]]]))
    rpn, features = fixed([fine, coarse], [[4], [8]], post_nms=3)
    (found,) = rpn.propose(batch(8, 32), features)
    check_same(found, [[0, 0, 2, 2], [0, 0, 4, 4], [14, 0, 18, 2]], [9, 8, 7])


def test_suppression_is_within_a_map() -> None:
    # Two anchors of one cell, 10 and 9: IoU 0.81; another map has the same place.
    one = still(torch.tensor([[[[1.0]], [[2.0]]]]))
    two = still(torch.tensor([[[[3.0]], [[-1.0]]]]))
    rpn, features = fixed([one, two], [[20, 18], [20, 4]], nms_iou=0.8)
    (found,) = rpn.propose(batch(64, 64), features)
    check_same(found, [[0, 0, 10, 10], [0, 0, 9, 9], [0, 0, 2, 2]], [3, 2, -1])
    change(rpn, nms_iou=0.82)
    assert len(rpn.propose(batch(64, 64), features)[0]) == 4


def lively(channels: int, sizes: list[list[float]], ratios: list[float], seed: int, **settings: object) -> RPN:
    """Fresh weights, spread so that scores and boxes differ."""
    generator = torch.Generator().manual_seed(seed)
    rpn = rpn_of(channels, sizes, ratios, **settings)
    with torch.no_grad():
        for parameter in rpn.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return rpn


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("convs", [1, 2])
def test_proposals_and_losses_are_torchvisions(training: bool, convs: int) -> None:
    sizes, ratios = [[16.0], [32.0], [64.0]], [0.5, 1.0, 2.0]
    keep = {"pre_nms": 50, "post_nms": 60, "train_pre_nms": 70, "train_post_nms": 90}
    ours = lively(8, sizes, ratios, 0, convs=convs, samples=10**6, **keep)
    head = RPNHead(8, 3, convs)
    for i in range(convs):
        head.conv[i][0].load_state_dict(ours.convs[2 * i].state_dict())
    head.cls_logits.load_state_dict(ours.objectness_layer.state_dict())
    head.bbox_pred.load_state_dict(ours.delta_layer.state_dict())
    theirs = RegionProposalNetwork(
        AnchorGenerator(tuple(map(tuple, sizes)), (tuple(ratios),) * 3),
        head,
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=10**6,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 70, "testing": 50},
        post_nms_top_n={"training": 90, "testing": 60},
        nms_thresh=0.7,
    ).train(training)
    generator = torch.Generator().manual_seed(1)
    features = [torch.randn(2, 8, 128 // s, 160 // s, generator=generator) for s in (8, 16, 32)]
    images = batch(128, 160, (128, 130), (100, 160))
    named = {str(i): f for i, f in enumerate(features)}
    objects = [targets([10, 20, 50, 60], [40, 5, 130, 125]), targets()]
    expected, expected_losses = theirs(
        ImageList(images.pixels, list(images.sizes)), named, [{"boxes": t.boxes} for t in objects]
    )
    if training:
        losses, found = ours.losses(images, features, objects)
        for mine, other in (("rpn_objectness", "loss_objectness"), ("rpn_box", "loss_rpn_box_reg")):
            assert losses[mine].item() > 0
            torch.testing.assert_close(losses[mine], expected_losses[other])
    else:
        found = ours.propose(images, features)
    for proposed, wanted in zip(found, expected, strict=True):
        assert len(proposed) == (90 if training else 60)
        torch.testing.assert_close(proposed.boxes, wanted, atol=1e-3, rtol=0)
        assert proposed.scores.tolist() == sorted(proposed.scores.tolist(), reverse=True)


def test_every_map_needs_equally_many_anchors() -> None:
    with pytest.raises(ValueError, match=r"equally many anchor sizes, not \[1, 2\]"):
        rpn_of(8, [[16], [32, 64]], [1.0])


# losses


def test_losses_by_hand() -> None:
    # 1 × 3 cells of stride 16, anchors of 16 at x = 0, 16, 32. The object is the second, 4 further right.
    logits, deltas = torch.tensor([[[[0.0, 2, -1]]]]), torch.zeros(1, 4, 1, 3)
    deltas[0, :, 0, 1] = torch.tensor([0.05, 0, -0.3, 0])
    rpn, features = fixed([(logits, deltas)], [[16]], foreground_iou=0.5, background_iou=0.3, beta=0.1)
    losses, _ = rpn.losses(batch(16, 48), features, [targets([12.0, -8, 28, 8])])
    # IoU 4·16 / (512 − 64) = 0.14, 12·16 / (512 − 192) = 0.6, 0: background, object, background
    log_loss = math.log(2) + math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))
    assert losses["rpn_objectness"].item() == pytest.approx(log_loss / 3, rel=1e-5)
    # the goal is (0.25, 0, 0, 0): off by 0.2 and 0.3, both beyond beta
    assert losses["rpn_box"].item() == pytest.approx((0.2 - 0.05 + 0.3 - 0.05) / 3, rel=1e-4)


def test_losses_by_definition() -> None:
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(2, 2, 3, 4))).float()
    deltas = torch.tensor(rng.normal(size=(2, 8, 3, 4)) * 0.3).float()
    rpn, features = fixed([(logits, deltas)], [[24, 40]], samples=1000)
    objects = [targets([5.0, 3, 30, 24], [20, 10, 61, 46]), targets([1.0, 1, 40, 41])]
    images = batch(48, 64, (48, 64), (48, 64))
    losses, _ = rpn.losses(images, features, objects)
    (anchors,) = rpn.place_anchors(images, features)
    log_loss = box_loss = count = 0.0
    for i, target in enumerate(objects):
        overlaps = iou(anchors, target.boxes).numpy()
        for a in range(len(anchors)):
            cell, kind = divmod(a, 2)
            y, x = divmod(cell, 4)
            logit = logits[i, kind, y, x].item()
            best = any(overlaps[a, n] == overlaps[:, n].max() for n in range(len(target)))
            if overlaps[a].max() >= 0.7 or best:
                goal = encode(target.boxes[None, overlaps[a].argmax()], anchors[None, a])[0].numpy()
                off = np.abs(deltas[i, 4 * kind : 4 * kind + 4, y, x].numpy() - goal)
                box_loss += np.where(off < 1 / 9, 4.5 * off**2, off - 1 / 18).sum()
                log_loss += np.log1p(np.exp(-logit))
            elif overlaps[a].max() < 0.3:
                log_loss += np.log1p(np.exp(logit))
            else:
                continue
            count += 1
    assert 0 < count < 2 * len(anchors)  # some are ignored
    assert losses["rpn_objectness"].item() == pytest.approx(log_loss / count, rel=1e-4)
    assert losses["rpn_box"].item() == pytest.approx(box_loss / count, rel=1e-4)


def test_without_objects_there_is_only_background() -> None:
    logits = torch.tensor([[[[0.0, 2, -1]]]])
    rpn, features = fixed([still(logits)], [[16]])
    losses, proposals = rpn.losses(batch(16, 48), features, [targets()])
    expected = sum(math.log(1 + math.exp(x)) for x in (0, 2, -1)) / 3
    assert losses["rpn_objectness"].item() == pytest.approx(expected, rel=1e-5)
    assert losses["rpn_box"].item() == 0
    assert len(proposals[0]) == 3


def test_all_ignored_is_a_loss_of_zero_with_finite_gradients() -> None:
    rpn = lively(4, [[16]], [1.0], 0)
    features = [torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(0))]
    losses, _ = rpn.losses(batch(32, 32), features, [targets([-100.0, -100, 200, 200], crowd=True)])
    assert losses["rpn_objectness"].item() == losses["rpn_box"].item() == 0
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and p.grad.eq(0).all() for p in rpn.parameters())


def test_proposals_carry_no_gradient() -> None:
    rpn = lively(4, [[16]], [1.0], 0)
    features = [torch.randn(1, 4, 2, 2, requires_grad=True)]
    losses, (proposals,) = rpn.losses(batch(32, 32), features, [targets([4.0, 4, 20, 20])])
    assert not proposals.boxes.requires_grad
    assert not proposals.scores.requires_grad
    assert all(loss.requires_grad for loss in losses.values())


def test_proposals_carry_the_gradient_of_their_deltas_for_exact_training() -> None:
    logits, deltas = still(torch.tensor([[[[1.0, 2], [3, 4]]]]))
    deltas.requires_grad_()
    rpn, features = fixed([(logits, deltas)], [[16]], box_gradient=True)
    _, (proposals,) = rpn.losses(batch(32, 32), features, [targets([4.0, 4, 20, 20])])
    assert not proposals.scores.requires_grad
    # The best, [8, 8, 24, 24], has moved by 16 dx. The others are cut off at x = 0, or y = 0.
    proposals.boxes[0, 0].backward()
    assert deltas.grad is not None
    expected = torch.zeros(1, 4, 2, 2)
    expected[0, :, 1, 1] = torch.tensor([16.0, 0, -8, 0])  # x1 = x − w / 2, with w = 16 exp(dw)
    torch.testing.assert_close(deltas.grad, expected)
    assert not rpn.propose(batch(32, 32), features)[0].boxes.requires_grad


def test_the_sample_is_the_generators() -> None:
    logits = torch.randn(1, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    rpn, features = fixed([still(logits)], [[16]], samples=8)
    images, objects = batch(160, 160), [targets([40.0, 40, 56, 56])]

    def loss(seed: int) -> float:
        return rpn.losses(images, features, objects, torch.Generator().manual_seed(seed))[0]["rpn_objectness"].item()

    assert loss(1) == loss(1)
    assert loss(1) != loss(2)


@pytest.mark.parametrize(("settings", "expected"), [({}, (1, 8)), ({"hidden": 24}, (1, 24)), ({"convs": 3}, (3, 8))])
def test_the_convolutions(settings: dict, expected: tuple[int, int]) -> None:
    rpn = rpn_of(8, [[16, 32]], [0.5, 1, 2], **settings)
    convs = [m for m in rpn.convs if isinstance(m, torch.nn.Conv2d)]
    assert (len(convs), convs[-1].out_channels) == expected
    assert convs[0].in_channels == 8
    (logits,), (deltas,) = rpn([torch.zeros(2, 8, 3, 5)])
    assert logits.shape == (2, 3 * 5 * 6)
    assert deltas.shape == (2, 3 * 5 * 6, 4)
    # zero pixels see nothing but the biases, which start at zero
    assert logits.eq(0).all()
