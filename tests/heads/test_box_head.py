"""The box head: what it learns from, its losses and its detections, worked by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rcnnkit.backbones.two_fc import TwoFC
from rcnnkit.boxes import encode, iou
from rcnnkit.heads.box_head import BoxHead, HeadSettings
from rcnnkit.structures import Detections, Proposals, Size, Targets

NAMES, IDS = ["cat", "dog"], [17, 18]
WEIGHTS = (10.0, 10, 5, 5)


def fixed(logits: list, deltas: list | None = None, **settings: object) -> tuple[BoxHead, Tensor]:
    """A head that answers with these for regions 0, 1, …; and those regions.

    Each region is a one-hot vector, so that the columns of the two layers are the answers.
    """
    r = len(logits)
    agnostic = bool(settings.get("class_agnostic"))
    wanted = torch.zeros(r, 4 * (1 if agnostic else 2)) if deltas is None else torch.tensor(deltas).float()
    head = BoxHead(nn.Flatten(), r, NAMES, IDS, HeadSettings.model_validate(settings))
    with torch.no_grad():
        head.score_layer.weight.copy_(torch.tensor(logits).float().T)
        head.delta_layer.weight.copy_(wanted.reshape(r, -1).T)
    return head, torch.eye(r).reshape(r, r, 1, 1)


def logits_of(*probabilities: list[float]) -> list[list[float]]:
    """Logits whose softmax is (cat, dog, the rest)."""
    return [[math.log(p) for p in (*row, 1 - sum(row))] for row in probabilities]


def proposals(boxes: list) -> Proposals:
    return Proposals(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.ones(len(boxes)))


def targets(boxes: list, labels: list, crowd: list | None = None) -> Targets:
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        crowd=torch.tensor(crowd or [False] * len(labels)),
    )


def detect(head: BoxHead, regions: Tensor, boxes: list, *sizes: Size) -> list[Detections]:
    with torch.no_grad():
        return [Detections(*kept, NAMES, IDS) for kept in head.detect(regions, [proposals(b) for b in boxes], sizes)]


# sample


def test_sample_by_hand() -> None:
    head, _ = fixed(logits_of([0.1, 0.1]))
    # Overlap 10·w / (200 − 10·w) with the dog: w = 8, 6 → .667, .429
    boxes = [[2, 0, 12, 10], [4, 0, 14, 10], [100, 100, 120, 120]]
    target = targets([[0, 0, 10, 10], [98, 100, 118, 120]], [1, 0])
    (chosen,), labels, goals = head.sample([proposals(boxes)], [target])
    # the objects themselves come last
    assert chosen.boxes.tolist() == [*boxes, [0, 0, 10, 10], [98, 100, 118, 120]]
    assert labels.tolist() == [1, 2, 0, 1, 0]
    # centre 2 of 10 to the left, times 10; a fourth row that is there already; 2 of 20 to the left
    torch.testing.assert_close(goals[0], torch.tensor([-2.0, 0, 0, 0]))
    assert goals[1].tolist() == [0, 0, 0, 0]
    torch.testing.assert_close(goals[2], torch.tensor([-1.0, 0, 0, 0]))
    assert goals[3:].abs().max() < 1e-5


def test_goals_of_size_by_hand() -> None:
    head, _ = fixed(logits_of([0.1, 0.1]))
    _, _, goals = head.sample([proposals([[0, 0, 10, 10]])], [targets([[0, 0, 10, 16]], [0])])
    # the centre 3 lower of 10, times 10; height × 1.6, ln 1.6 = 0.47, times 5
    torch.testing.assert_close(goals[0], torch.tensor([0, 3, 0, 5 * math.log(1.6)]))


def test_crowds_are_not_learnt_from() -> None:
    head, _ = fixed(logits_of([0.1, 0.1]))
    target = targets([[0, 0, 50, 50], [100, 0, 110, 10]], [0, 1], crowd=[True, False])
    boxes = [[0, 0, 50, 50], [10, 10, 20, 20], [200, 0, 220, 20]]
    (chosen,), labels, _ = head.sample([proposals(boxes)], [target])
    # both in the crowd are left out; the object, not the crowd, is added
    assert chosen.boxes.tolist() == [[200, 0, 220, 20], [100, 0, 110, 10]]
    assert labels.tolist() == [2, 1]


def test_sample_over_images() -> None:
    head, _ = fixed(logits_of([0.1, 0.1]))
    given = [proposals([[0, 0, 10, 10]]), proposals([]), proposals([[5, 5, 9, 9]])]
    wanted = [targets([[0, 0, 10, 10]], [0]), targets([[1, 1, 4, 4]], [1]), targets([], [])]
    chosen, labels, goals = head.sample(given, wanted)
    assert [len(c) for c in chosen] == [2, 1, 1]
    assert labels.tolist() == [0, 0, 1, 2]
    assert goals.abs().max() < 1e-5
    nothing, labels, goals = head.sample([proposals([])], [targets([], [])])
    assert (len(nothing[0]), labels.shape, goals.shape) == (0, (0,), (0, 4))


def test_sample_counts_and_generator() -> None:
    head, _ = fixed(logits_of([0.1, 0.1]), samples=16, foreground_share=0.25)
    boxes = [[0, 0, 10, 10 + i / 100] for i in range(50)] + [[100, 100, 110, 110 + i] for i in range(50)]
    given, wanted = [proposals(boxes)], [targets([[0, 0, 10, 10]], [1])]
    chosen, labels, _ = head.sample(given, wanted, torch.Generator().manual_seed(3))
    assert (labels == 1).sum() == 4
    assert (labels == 2).sum() == 12
    again, _, _ = head.sample(given, wanted, torch.Generator().manual_seed(3))
    assert chosen[0].boxes.equal(again[0].boxes)
    other, _, _ = head.sample(given, wanted, torch.Generator().manual_seed(4))
    assert not chosen[0].boxes.equal(other[0].boxes)


# losses


def smooth_l1(x: np.ndarray, beta: float) -> np.ndarray:
    """Fast R-CNN's equation 3, with the turn at beta (σ² = 1 / beta)."""
    return np.where(np.abs(x) < beta, 0.5 * x**2 / beta, np.abs(x) - 0.5 * beta)


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("beta", [1 / 9, 1.0])
def test_losses_by_definition(agnostic: bool, beta: float) -> None:
    rng = np.random.default_rng(0)
    r, columns = 6, 1 if agnostic else 2
    logits, deltas, goals = rng.normal(size=(r, 3)), rng.normal(size=(r, columns, 4)), rng.normal(size=(r, 4))
    labels = np.array([0, 2, 1, 1, 2, 0])
    head, regions = fixed(logits.tolist(), deltas.tolist(), class_agnostic=agnostic, beta=beta)
    losses = head.losses(regions, torch.tensor(labels), torch.tensor(goals).float())
    log_loss = sum(np.log(np.exp(logits[i]).sum()) - logits[i, label] for i, label in enumerate(labels))
    box_loss = sum(
        smooth_l1(deltas[i, 0 if agnostic else label] - goals[i], beta).sum()
        for i, label in enumerate(labels)
        if label < 2
    )
    assert losses["class"].item() == pytest.approx(log_loss / r, rel=1e-5)
    assert losses["box"].item() == pytest.approx(box_loss / r, rel=1e-5)


def test_weighted_classes_by_definition() -> None:
    rng = np.random.default_rng(0)
    logits, labels, weights = rng.normal(size=(6, 3)), np.array([0, 2, 1, 1, 2, 0]), np.array([5.0, 0.5, 1.0])
    head, regions = fixed(logits.tolist(), rng.normal(size=(6, 2, 4)).tolist())
    plain = head.losses(regions, torch.tensor(labels), torch.zeros(6, 4))
    head.class_weights = torch.tensor(weights).float()
    losses = head.losses(regions, torch.tensor(labels), torch.zeros(6, 4))
    logs = np.log(np.exp(logits).sum(axis=1)) - logits[range(6), labels]
    assert losses["class"].item() == pytest.approx((weights[labels] * logs).sum() / weights[labels].sum(), rel=1e-5)
    assert losses["box"].equal(plain["box"])
    sums = head.loss_sums(regions, torch.tensor(labels), torch.zeros(6, 4))
    assert (float(sums["class"].count), sums["box"].count) == (13.0, 6)
    nothing = head.losses(regions[:0], torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))
    assert nothing["class"].item() == nothing["box"].item() == 0


def test_losses_by_hand() -> None:
    # Even odds: ln 3. One cat of two regions, its dx off by 0.5, its dy by 0.01; beta 0.1.
    head, regions = fixed([[0, 0, 0], [0, 0, 0]], [[[0.5, 0.01, 0, 0], [9, 9, 9, 9]], [[9] * 4, [9] * 4]], beta=0.1)
    losses = head.losses(regions, torch.tensor([0, 2]), torch.zeros(2, 4))
    assert losses["class"].item() == pytest.approx(math.log(3))
    assert losses["box"].item() == pytest.approx(((0.5 - 0.05) + 0.5 * 0.01**2 / 0.1) / 2, rel=1e-5)


def test_only_the_own_class_learns_boxes() -> None:
    head, regions = fixed([[0, 0, 0], [0, 0, 0]], np.ones((2, 2, 4)).tolist())
    head.losses(regions, torch.tensor([1, 2]), torch.zeros(2, 4))["box"].backward()
    assert head.delta_layer.weight.grad is not None
    gradient = head.delta_layer.weight.grad.reshape(2, 4, 2)  # class, delta, region
    assert (gradient[1, :, 0] != 0).all()
    assert gradient[0].eq(0).all()
    assert gradient[:, :, 1].eq(0).all()


@pytest.mark.parametrize("r", [0, 3])
def test_without_foreground_the_box_loss_is_zero_and_gradients_are_finite(r: int) -> None:
    head = BoxHead(TwoFC(2, 3, 8), 8, NAMES, IDS, HeadSettings())
    regions = torch.rand(r, 2, 3, 3)
    losses = head.losses(regions, torch.full((r,), 2), torch.zeros(r, 4))
    assert losses["box"].item() == 0
    assert losses["class"].isfinite()
    (losses["box"] + losses["class"]).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


# detect


def test_detect_by_hand() -> None:
    # Region 0: surely a cat, as it stands. 1: a dog, moved. 2: background. 3: cat and dog both.
    logits = logits_of([0.9, 0.05], [0.1, 0.7], [0.04, 0.03], [0.5, 0.3])
    # deltas of cat and of dog; the dog of region 1: dx = 2/10 of the width, dw = ln 2
    still = [0.0, 0, 0, 0]
    deltas = [[still, still], [still, [2, 0, 5 * math.log(2), 0]], [still, still], [still, still]]
    head, regions = fixed(logits, deltas)
    boxes = [[10, 10, 30, 50], [40, 40, 60, 60], [0, 0, 5, 5], [70, 0, 90, 10]]
    (found,) = detect(head, regions, [boxes], (100, 100))
    # 0.05 is not above the threshold of 0.05 + rounding, so ask for the clear ones
    clear = found.above(0.2)
    assert clear.names == ["cat", "dog", "cat", "dog"]
    assert clear.scores.tolist() == pytest.approx([0.9, 0.7, 0.5, 0.3], abs=1e-6)
    expected = [
        [10, 10, 30, 50],
        [34, 40, 74, 60],  # centre 50 + 0.2 · 20 = 54, width 40
        [70, 0, 90, 10],
        [70, 0, 90, 10],
    ]
    torch.testing.assert_close(clear.boxes, torch.tensor(expected, dtype=torch.float32), atol=1e-4, rtol=0)
    assert (0.04, "cat") not in [(round(score, 2), name) for name, score, _ in found]


@pytest.mark.parametrize(("threshold", "left"), [(0.0, 4), (0.15, 3), (0.35, 2), (0.65, 0)])
def test_the_score_threshold(threshold: float, left: int) -> None:
    head, regions = fixed(logits_of([0.6, 0.1], [0.2, 0.4]), score_threshold=threshold)
    (found,) = detect(head, regions, [[[0, 0, 10, 10], [50, 50, 60, 60]]], (100, 100))
    assert len(found) == left
    assert all(score > threshold for score in found.scores.tolist())


def test_suppression_is_within_a_class() -> None:
    # Three cats, two of which overlap by 9/11 = 0.82; a dog in the same place is left.
    logits = logits_of([0.8, 0.01], [0.9, 0.01], [0.7, 0.01], [0.01, 0.6])
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [50, 0, 60, 10], [1, 0, 11, 10]]
    head, regions = fixed(logits, nms_iou=0.5)
    (found,) = detect(head, regions, [boxes], (100, 100))
    assert found.names == ["cat", "cat", "dog"]
    assert found.boxes.tolist() == [boxes[1], boxes[2], boxes[3]]
    head.nms_iou = 0.85
    assert len(detect(head, regions, [boxes], (100, 100))[0]) == 4


def test_the_best_of_all_classes_are_kept() -> None:
    logits = logits_of([0.8, 0.01], [0.01, 0.9], [0.7, 0.01], [0.01, 0.6])
    boxes = [[20 * i, 0, 20 * i + 10, 10] for i in range(4)]
    head, regions = fixed(logits, max_detections=3)
    (found,) = detect(head, regions, [boxes], (100, 100))
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7], abs=1e-6)
    assert found.names == ["dog", "cat", "cat"]
    head.max_detections = 0  # no limit: each region is found as both
    assert len(detect(head, regions, [boxes], (100, 100))[0]) == 4


def test_what_is_cut_to_nothing_is_dropped() -> None:
    head, regions = fixed(logits_of([0.9, 0.01], [0.8, 0.01], [0.7, 0.01]), min_side=1.0)
    boxes = [[200, 0, 210, 10], [99.5, 0, 120, 10], [99, 0, 120, 10]]  # 0, 0.5 and 1 pixel are inside
    (found,) = detect(head, regions, [boxes], (100, 100))
    assert found.boxes.tolist() == [[99, 0, 100, 10]]


def test_class_agnostic_boxes_serve_every_class() -> None:
    head, regions = fixed(logits_of([0.5, 0.4]), [[[1, 0, 0, 0]]], class_agnostic=True)
    (found,) = detect(head, regions, [[[10, 10, 20, 20]]], (100, 100))
    assert found.names == ["cat", "dog"]
    torch.testing.assert_close(found.boxes, torch.tensor([[11.0, 10, 21, 20]] * 2))


def test_each_image_gets_its_own() -> None:
    to_the_right = [[[dx, 0, 0, 0]] * 2 for dx in (0, 1, 2)]  # by 0, 0.1 and 0.2 of the width
    head, regions = fixed(logits_of([0.9, 0.01], [0.01, 0.8], [0.7, 0.01]), to_the_right)
    boxes = [[[0, 0, 10, 10]], [], [[0, 0, 10, 10], [30, 30, 40, 40]]]
    one, two, three = detect(head, regions, boxes, (100, 100), (50, 50), (100, 38))
    assert one.boxes.tolist() == [[0, 0, 10, 10]]
    assert (one.names, two.names, three.names) == (["cat"], [], ["dog", "cat"])
    assert two.boxes.shape == (0, 4)
    torch.testing.assert_close(three.boxes, torch.tensor([[1.0, 0, 11, 10], [32, 30, 38, 40]]))  # cut to 38 pixels


def test_no_regions_at_all() -> None:
    head = BoxHead(TwoFC(2, 3, 8), 8, NAMES, IDS, HeadSettings())
    one, two = detect(head, torch.empty(0, 2, 3, 3), [[], []], (10, 10), (10, 10))
    assert len(one) == len(two) == 0


def test_wild_deltas_stay_inside_the_picture() -> None:
    head, regions = fixed(logits_of([0.9, 0.01]), [[[1e6, -1e6, 1e4, 1e4], [0] * 4]])
    (found,) = detect(head, regions, [[[10, 10, 20, 20]]], (100, 100))
    assert found.boxes.isfinite().all()
    head, regions = fixed(logits_of([0.9, 0.01]), [[[0, 0, 1e4, 1e4], [0] * 4]])
    (found,) = detect(head, regions, [[[10, 10, 20, 20]]], (100, 100))
    assert found.boxes.tolist() == [[0, 0, 100, 100]]


def test_scores_that_are_not_numbers_find_nothing() -> None:
    head, regions = fixed([[math.nan, 0, 0], [5, 0, 0]])
    (found,) = detect(head, regions, [[[10, 10, 20, 20], [50, 50, 60, 60]]], (100, 100))
    assert found.scores.isfinite().all()


@pytest.mark.parametrize("agnostic", [False, True])
def test_refine_by_hand(agnostic: bool) -> None:
    """Each proposal is moved by its best class, which is not background, and cut to its own picture."""
    logits = logits_of([0.1, 0.6], [0.3, 0.1], [0.02, 0.01], [0.4, 0.5])
    cat, dog = [1.0, 0, 0, 0], [0.0, 2, 5 * math.log(2), 0]  # a tenth to the right; a fifth down and twice as wide
    head, regions = fixed(logits, [[cat]] * 4 if agnostic else [[cat, dog]] * 4, class_agnostic=agnostic)
    boxes = [[[10, 10, 20, 20], [10, 10, 20, 20], [90, 10, 100, 20]], [], [[10, 10, 20, 20]]]
    one, two, three = head.refine(regions, [proposals(b) for b in boxes], [(50, 100), (9, 9), (21, 18)])
    moved, cut = [5.0, 12, 25, 22], [5.0, 12, 18, 21]  # by the dog
    if agnostic:
        moved, cut = [11.0, 10, 21, 20], [11.0, 10, 18, 20]
    torch.testing.assert_close(one.boxes, torch.tensor([moved, [11.0, 10, 21, 20], [91.0, 10, 100, 20]]).reshape(3, 4))
    torch.testing.assert_close(one.scores, torch.tensor([0.6, 0.3, 0.02]))  # in the order that they came
    assert two.boxes.shape == (0, 4)
    torch.testing.assert_close(three.boxes, torch.tensor([cut]))
    assert not one.boxes.requires_grad


def test_refining_the_measured_targets_gives_the_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = targets([[10, 10, 50, 40], [60, 50, 90, 90]], [0, 1])
    jitter = torch.randn(40, 2, 4, generator=torch.Generator().manual_seed(0)) * 2
    near = proposals((objects.boxes + jitter).flatten(0, 1).tolist())
    head, _ = fixed([[0.0, 0, 0]], measured_targets=True, samples=500, foreground_share=1.0)
    head.measure_targets([(near, objects)])
    sampled, labels, goals = head.sample([near], [objects])

    def predict(regions: Tensor) -> tuple[Tensor, Tensor]:
        return torch.eye(3)[labels][:, :2], goals[:, None] * head.target_std + head.target_mean

    monkeypatch.setattr(head, "predict", predict)
    (refined,) = head.refine(torch.zeros(len(labels), 1, 1, 1), sampled, [(100, 100)])
    foreground = labels < 2
    assert foreground.sum() > 60
    torch.testing.assert_close(refined.boxes[foreground], objects.boxes[labels[foreground]], atol=1e-3, rtol=0)


def test_what_is_learnt_is_what_is_detected() -> None:
    # A head that answers with the goals of `sample` detects the objects.
    head, _ = fixed(logits_of([0.1, 0.1]))
    objects = targets([[12, 8, 40, 33], [60, 50, 90, 95]], [0, 1])
    near = proposals([[10, 10, 38, 30], [58, 55, 95, 90]])
    (chosen,), labels, goals = head.sample([near], [objects])
    assert iou(near.boxes, objects.boxes).diagonal().min() > 0.5
    torch.testing.assert_close(goals[:2], encode(objects.boxes, near.boxes, WEIGHTS))
    logits = logits_of(*[[0.9, 0.05] if label == 0 else [0.05, 0.9] for label in labels.tolist()])
    perfect, regions = fixed(logits, goals[:, None].expand(-1, 2, -1).tolist(), score_threshold=0.5)
    (found,) = detect(perfect, regions, [chosen.boxes.tolist()], (100, 100))
    assert len(found) == 2  # each object's own box is suppressed as a duplicate
    order = found.labels.argsort()
    torch.testing.assert_close(found.boxes[order], objects.boxes, atol=1e-3, rtol=0)


@pytest.mark.parametrize("agnostic", [False, True])
def test_measured_targets_by_definition(agnostic: bool) -> None:
    rng = np.random.default_rng(0)
    head = BoxHead(nn.Flatten(), 2, NAMES, IDS, HeadSettings(class_agnostic=agnostic, measured_targets=True))
    objects = targets([[0, 0, 40, 40], [60, 60, 100, 90], [0, 60, 30, 100]], [0, 0, 1], [False, False, True])
    boxes = [[x, y, x + w, y + h] for x, y, w, h in rng.uniform([0, 0, 20, 20], [60, 60, 50, 50], (1000, 4))]
    head.measure_targets([(proposals(boxes[:750]), objects), (proposals(boxes[750:]), objects[:1])])

    goals = []
    for some, several in ((boxes[:750], objects[:2]), (boxes[750:], objects[:1])):
        for box in torch.tensor(some + several.boxes.tolist()):
            overlap = iou(box[None], several.boxes)[0]
            if overlap.max() >= 0.5:
                near = several.boxes[overlap.argmax()]
                goals.append(encode(near[None], box[None], WEIGHTS)[0].numpy().astype(float))
    assert len(goals) > 20
    np.testing.assert_allclose(head.target_mean[0], np.mean(goals, axis=0), atol=1e-5)
    np.testing.assert_allclose(head.target_std[0], np.std(goals, axis=0), rtol=1e-5)
    if not agnostic:  # of "dog" there is only a crowd
        assert head.target_mean[1].tolist() == [0] * 4
        assert head.target_std[1].tolist() == [1] * 4


def test_measured_targets_are_learnt_and_undone() -> None:
    """Goals have mean 0 and deviation 1, and a region that says its goal gives the object back."""
    objects = targets([[10, 10, 50, 40], [60, 50, 90, 90]], [0, 1])
    jitter = torch.randn(40, 2, 4, generator=torch.Generator().manual_seed(0)) * 2
    boxes = (objects.boxes + jitter).flatten(0, 1).tolist()
    head, regions = fixed([[9.0, 0, 0]] * len(boxes), measured_targets=True, samples=500, foreground_share=1.0)
    head.measure_targets([(proposals(boxes), objects)])
    sampled, labels, goals = head.sample([proposals(boxes)], [objects])
    for label in (0, 1):
        torch.testing.assert_close(goals[labels == label].mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
        torch.testing.assert_close(goals[labels == label].std(dim=0, correction=0), torch.ones(4))
    cats = torch.where(labels[: len(boxes)] == 0)[0]
    with torch.no_grad():
        head.delta_layer.weight[:4, cats] = goals[cats].T
    (found,) = head.detect(regions[cats], [sampled[0][cats]], [(100, 100)])
    cat = found.boxes[found.groups == 0]
    torch.testing.assert_close(cat[0], objects.boxes[0], atol=1e-3, rtol=0)


def test_fixed_targets_leave_no_trace_in_the_weights() -> None:
    assert not any("target" in name for name in BoxHead(nn.Flatten(), 2, NAMES, IDS, HeadSettings()).state_dict())
    measured = BoxHead(nn.Flatten(), 2, NAMES, IDS, HeadSettings(measured_targets=True)).state_dict()
    assert {"target_mean", "target_std"} <= measured.keys()


def test_scores_without_a_name_take_their_share_and_are_not_found() -> None:
    # cat 0.2, dog 0.3, background 0.1, and 0.4 of something that nobody named
    logits = [[math.log(p) for p in (0.2, 0.3, 0.1, 0.4)]]
    head, regions = BoxHead(nn.Flatten(), 1, NAMES, IDS, HeadSettings(unnamed=1)), torch.ones(1, 1, 1, 1)
    with torch.no_grad():
        head.score_layer.weight.copy_(torch.tensor(logits).T)
        head.delta_layer.weight.zero_()
    (found,) = detect(head, regions, [[[2, 2, 20, 20]]], (32, 32))
    assert found.names == ["dog", "cat"]
    torch.testing.assert_close(found.scores, torch.tensor([0.3, 0.2]))
    losses = head.losses(regions, torch.tensor([2]), torch.zeros(1, 4))  # 2: background, as ever
    assert losses["class"].item() == pytest.approx(-math.log(0.1))
