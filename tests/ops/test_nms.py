import inspect
import math

import pytest
import torch

from rcnnkit import ops
from rcnnkit.ops.nms import nms_sorted
from tests.ops.definitions import NASTY_BOXES, nms, random_boxes

try:
    import torchvision
except (ImportError, RuntimeError):  # a torch that no torchvision was made for
    torchvision = None
needs_torchvision = pytest.mark.skipif(torchvision is None, reason="no torchvision for this torch")


def generator(seed):
    return torch.Generator().manual_seed(seed)


@needs_torchvision
@pytest.mark.parametrize("name", ["nms", "batched_nms"])
def test_one_changed_import_moves_a_project_over(name):
    ours, theirs = (inspect.signature(getattr(module, name)) for module in (ops, torchvision.ops))
    assert [(p.name, p.default) for p in ours.parameters.values()] == [
        (p.name, p.default) for p in theirs.parameters.values()
    ]


@pytest.mark.parametrize("seed", range(60))
def test_greedy_suppression_by_definition(seed):
    random = generator(seed)
    count = int(torch.randint(0, 60, (1,), generator=random))
    boxes = random_boxes(count, random).double()
    scores = (torch.rand(count, generator=random) * 20).round() / 20  # many ties
    threshold = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0][seed % 7]
    assert ops.nms(boxes, scores, threshold).tolist() == nms(boxes, scores, threshold)
    groups = torch.randint(-2, 3, (count,), generator=random) * 10**10
    assert ops.batched_nms(boxes, scores, groups, threshold).tolist() == nms(boxes, scores, threshold, groups)


@needs_torchvision
@pytest.mark.parametrize("seed", range(40))
def test_torchvision_agrees(seed):
    random = generator(seed)
    boxes, scores = random_boxes(2000, random, side=400.0), torch.rand(2000, generator=random)
    if seed % 2:  # tall pictures are sorted along the other axis
        boxes = boxes * torch.tensor([0.2, 3.0, 0.2, 3.0])
    if seed % 3 == 0:
        boxes = boxes.round()  # IoUs that equal the threshold
    for threshold in (0.0, 0.25, 0.5, 0.7, 0.95):
        assert torch.equal(ops.nms(boxes, scores, threshold), torchvision.ops.nms(boxes, scores, threshold))


def test_a_box_whose_iou_is_the_threshold_stays():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 5, 10, 10]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert ops.nms(boxes, scores, 0.5).tolist() == [0, 1, 2]
    assert ops.nms(boxes, scores, math.nextafter(0.5, 0)).tolist() == [0]  # below it in float64, but not in float32


def test_ties_go_to_the_lower_index():
    boxes = torch.tensor([[0.0, 0, 9, 9]]).expand(5, 4)
    assert ops.nms(boxes, torch.ones(5), 0.5).tolist() == [0]
    assert ops.nms(boxes, torch.tensor([0.0, -0.0, 0.0, -0.0, 0.0]), 0.5).tolist() == [0]
    assert ops.nms(boxes, torch.tensor([0.1, math.nan, 0.9, math.nan, math.inf]), 0.5).tolist() == [1]


def test_touching_boxes_do_not_overlap():
    boxes = torch.tensor([[0.0, 0, 5, 5], [5, 0, 10, 5], [0, 5, 5, 10]])
    assert ops.nms(boxes, torch.tensor([0.1, 0.2, 0.3]), 0.0).tolist() == [2, 1, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_none_and_one(dtype):
    none = ops.nms(torch.empty(0, 4, dtype=dtype), torch.empty(0, dtype=dtype), 0.5)
    assert none.dtype == torch.int64
    assert none.tolist() == []
    assert ops.batched_nms(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64), 0.5).tolist() == []
    assert ops.nms(torch.tensor([[1, 2, 3, 4]], dtype=dtype), torch.ones(1, dtype=dtype), 0.5).tolist() == [0]


@needs_torchvision
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_boxes_that_are_not_boxes_suppress_nothing(dtype):
    boxes = torch.tensor([*NASTY_BOXES, [0.0, 0, 10, 10], [0, 0, 10, 9]], dtype=dtype)
    scores = torch.linspace(1, 0, len(boxes), dtype=dtype)
    for threshold in (0.0, 0.5, 1.0):
        kept = ops.nms(boxes, scores, threshold)
        assert torch.equal(kept, torchvision.ops.nms(boxes, scores, threshold))
        inverted = [i for i, b in enumerate(boxes.tolist()) if not (b[2] > b[0] and b[3] > b[1])]
        assert set(inverted) <= set(kept.tolist())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    boxes, scores = random_boxes(500, generator(1)).to(dtype), torch.rand(500, generator=generator(2)).to(dtype)
    assert torch.equal(ops.nms(boxes, scores, 0.5), ops.nms(boxes.float(), scores.float(), 0.5))
    assert torch.equal(ops.nms(boxes.float(), scores, 0.5), ops.nms(boxes.float(), scores.float(), 0.5))


@needs_torchvision
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.float16, torch.float32, torch.float64])
def test_groups_of_any_type_are_torchvisions(dtype):
    random = torch.Generator().manual_seed(0)
    boxes, scores = random_boxes(60, random), torch.rand(60, generator=random)
    number = torch.randint(2 if dtype == torch.bool else 4, (60,), generator=random)
    groups = (number * (0.25 if dtype.is_floating_point else 1)).to(dtype)
    expected = torchvision.ops.batched_nms(boxes, scores, number, 0.3)  # which moves groups 0.25 apart too little
    assert ops.batched_nms(boxes, scores, groups, 0.3).equal(expected)
    with pytest.raises(TypeError, match="idxs must be a tensor, not list"):
        ops.batched_nms(boxes, scores, groups.tolist(), 0.3)  # type: ignore[arg-type]  # a list


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("threads", [1, 3])
def test_rows_that_are_sorted_are_groups(dtype, threads):
    counts = torch.tensor([70, 0, 33, 1, 500])  # there are not so many
    boxes = torch.stack([torch.cat([random_boxes(60, generator(i)), torch.tensor(NASTY_BOXES)]) for i in range(5)])
    boxes = boxes[:, torch.randperm(boxes.shape[1], generator=generator(9))].to(dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        kept = nms_sorted(boxes, counts, 0.3)
    finally:
        torch.set_num_threads(before)
    assert kept.dtype == torch.bool
    for row, of_row, count in zip(boxes, kept, counts.tolist(), strict=True):
        some = row[:count]
        expected = torch.zeros(len(row), dtype=torch.bool)
        expected[ops.nms(some, -torch.arange(len(some)).float(), 0.3)] = True
        assert of_row.equal(expected)


def test_rows_of_nothing():
    assert nms_sorted(torch.zeros(0, 5, 4), torch.zeros(0, dtype=torch.int64), 0.5).shape == (0, 5)
    assert nms_sorted(torch.zeros(2, 0, 4), torch.tensor([0, 0]), 0.5).shape == (2, 0)
    with pytest.raises(RuntimeError, match=r"sorted boxes must be \(G, N, 4\)"):
        nms_sorted(torch.zeros(5, 4), torch.zeros(5), 0.5)
    with pytest.raises(RuntimeError, match=r"counts must be \(G,\), one a row"):
        nms_sorted(torch.zeros(2, 5, 4), torch.zeros(3), 0.5)
    with pytest.raises(RuntimeError, match="iou_threshold is nan; it must be 0 or more"):
        nms_sorted(torch.zeros(2, 5, 4), torch.zeros(2), math.nan)


def test_groups_are_kept_apart_at_negative_coordinates():
    boxes = torch.tensor([[-11.0, -11, -1, -1], [-10, -10, 0, 0]])
    assert ops.batched_nms(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), 0.1).tolist() == [0, 1]


def test_views_are_read_as_they_are():
    random = generator(5)
    wide, scores = torch.rand(300, 8, generator=random).cumsum(1) * 20, torch.rand(600, generator=random)
    boxes = wide[:, ::2].clamp(max=90)
    expected = ops.nms(boxes.contiguous(), scores[::2].contiguous(), 0.4)
    assert torch.equal(ops.nms(boxes, scores[::2], 0.4), expected)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads(threads):
    random = generator(3)
    boxes, scores = random_boxes(3000, random), torch.rand(3000, generator=random)
    groups = torch.randint(7, (3000,), generator=random)
    before, expected = torch.get_num_threads(), ops.batched_nms(boxes, scores, groups, 0.4)
    torch.set_num_threads(threads)
    try:
        assert torch.equal(ops.batched_nms(boxes, scores, groups, 0.4), expected)
    finally:
        torch.set_num_threads(before)


def test_errors_name_what_is_wrong():
    box, score = torch.zeros(2, 4), torch.zeros(2)
    with pytest.raises(ValueError, match=r"boxes has shape \(2, 5\), expected \(N, 4\)"):
        ops.nms(torch.zeros(2, 5), score, 0.5)
    with pytest.raises(ValueError, match=r"scores has shape \(3,\), expected \(2,\)"):
        ops.nms(box, torch.zeros(3), 0.5)
    with pytest.raises(ValueError, match=r"iou_threshold is -0\.5; it must be 0 or more"):
        ops.nms(box, score, -0.5)
    with pytest.raises(ValueError, match="iou_threshold is nan"):
        ops.nms(box, score, math.nan)
    with pytest.raises(ValueError, match="scores are on meta, boxes are on cpu"):
        ops.nms(box, score.to("meta"), 0.5)
    with pytest.raises(ValueError, match="idxs are on meta, boxes are on cpu"):
        ops.batched_nms(box, score, score.to("meta"), 0.5)
    with pytest.raises(ValueError, match="idxs has shape"):
        ops.batched_nms(box, score, torch.zeros(1), 0.5)
    with pytest.raises(RuntimeError, match="dtype must be float32, float64, float16 or bfloat16"):
        ops.nms(box.int(), score, 0.5)


def test_opcheck():
    random = generator(0)
    boxes, scores = random_boxes(30, random), torch.rand(30, generator=random)
    torch.library.opcheck(torch.ops.rcnnkit.nms, (boxes, scores, 0.5))
    torch.library.opcheck(torch.ops.rcnnkit.batched_nms, (boxes, scores, torch.arange(30) % 3, 0.5))
    torch.library.opcheck(torch.ops.rcnnkit.nms_sorted, (boxes.reshape(3, 10, 4), torch.tensor([10, 0, 4]), 0.5))
