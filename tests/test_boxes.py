import math

import numpy as np
import pytest
import torch
import torchvision.ops

from rcnnkit.boxes import area, check_boxes, clip, covered, decode, encode, intersection, iou, is_large, scale

NONE = torch.empty(0, 4)


def boxes(n: int, seed: int = 0, low: float = -50, high: float = 500) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(low, high, (n, 2))
    return torch.tensor(np.hstack([corners, corners + rng.uniform(1, 200, (n, 2))]), dtype=torch.float32)


def iou_by_definition(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if width * height > 0 else 0.0


def test_iou_is_its_definition_and_torchvisions() -> None:
    a, b = boxes(40), boxes(30, seed=1)
    expected = [[iou_by_definition(x, y) for y in b.numpy().astype(float)] for x in a.numpy().astype(float)]
    np.testing.assert_allclose(iou(a, b), expected, atol=1e-6)  # float32 beside float64
    torch.testing.assert_close(iou(a, b), torchvision.ops.box_iou(a, b))
    torch.testing.assert_close(area(a), torchvision.ops.box_area(a))


def test_iou_of_a_worked_example() -> None:
    # 10 × 10 and 10 × 10 shifted by 5: 50 shared of 150; touching and apart: 0
    a = torch.tensor([[0.0, 0, 10, 10]])
    b = torch.tensor([[5.0, 0, 15, 10], [10, 0, 20, 10], [100, 100, 110, 110], [0, 0, 10, 10]])
    torch.testing.assert_close(iou(a, b), torch.tensor([[1 / 3, 0, 0, 1]]))
    torch.testing.assert_close(intersection(a, b), torch.tensor([[50.0, 0, 0, 100]]))
    # a fifth of the second box lies in the first, all of the small one in it
    small = torch.tensor([[2.0, 2, 4, 4], [8, 0, 18, 10]])
    torch.testing.assert_close(covered(small, a), torch.tensor([[1.0], [0.2]]))


def test_empty_and_degenerate_boxes_overlap_nothing() -> None:
    flat = torch.tensor([[3.0, 3, 3, 3]])
    assert iou(flat, flat).item() == 0
    assert covered(flat, boxes(1)).item() == 0
    assert iou(NONE, boxes(3)).shape == (0, 3)
    assert iou(boxes(3), NONE).shape == (3, 0)


def test_encode_by_hand() -> None:
    # R-CNN appendix C: P = centre (10, 20), 20 × 40; G = centre (15, 10), 40 × 40
    anchor, box = torch.tensor([[0.0, 0, 20, 40]]), torch.tensor([[-5.0, -10, 35, 30]])
    expected = torch.tensor([[5 / 20, -10 / 40, math.log(2), 0]])
    torch.testing.assert_close(encode(box, anchor), expected)
    torch.testing.assert_close(encode(box, anchor, (10, 10, 5, 5)), expected * torch.tensor([10.0, 10, 5, 5]))


def test_decode_undoes_encode() -> None:
    b, anchors = boxes(200), boxes(200, seed=1)
    for weights in ((1, 1, 1, 1), (10, 10, 5, 5)):
        torch.testing.assert_close(
            decode(encode(b, anchors, weights), anchors, weights), b, atol=2e-3, rtol=0
        )  # float32 exp and log of sides up to 200


def test_decode_of_several_classes_and_wild_guesses() -> None:
    anchors = boxes(5)
    deltas = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    for k in range(3):
        torch.testing.assert_close(decode(deltas, anchors)[:, k], decode(deltas[:, k], anchors))
    wild = decode(torch.full((5, 4), 1e6), anchors)
    assert wild.isfinite().all()
    width = anchors[:, 2] - anchors[:, 0]
    torch.testing.assert_close(wild[:, 2] - wild[:, 0], width * 1000 / 16, rtol=1e-2, atol=0)


def test_encode_names_what_differs() -> None:
    with pytest.raises(ValueError, match=r"\(3, 4\) and anchors \(2, 4\)"):
        encode(boxes(3), boxes(2))


def test_clip_scale_and_size() -> None:
    torch.testing.assert_close(clip(boxes(50), (300, 400)), torchvision.ops.clip_boxes_to_image(boxes(50), (300, 400)))
    b = torch.tensor([[10.0, 20, 30, 40]])
    torch.testing.assert_close(scale(b, (100, 200), (200, 100)), torch.tensor([[5.0, 40, 15, 80]]))
    some = torch.tensor([[0.0, 0, 5, 5], [0, 0, 4.9, 9], [0, 0, float("nan"), 9]])
    assert is_large(some, 5).tolist() == [True, False, False]
    for function in (lambda b: clip(b, (3, 3)), lambda b: scale(b, (1, 1), (2, 2)), lambda b: encode(b, b)):
        assert function(NONE).shape == (0, 4)


def test_check_boxes_says_what_to_pass() -> None:
    check_boxes(NONE)
    for wrong in (torch.empty(0), torch.zeros(4), torch.zeros(2, 5)):
        with pytest.raises(ValueError, match=r"for no boxes pass torch.empty\(0, 4\)"):
            check_boxes(wrong)
