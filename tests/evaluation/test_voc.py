"""VOC average precision: cases worked by hand, and a second implementation from the definition."""

import math

import numpy as np
import pytest
import torch

from rcnnkit.evaluation.voc import average_precision_11, average_precision_area, voc_ap
from rcnnkit.structures import Detections, Targets

CAT = [0.0, 0.0, 10.0, 10.0]  # area 100
DOG = [20.0, 20.0, 30.0, 30.0]
FAR = [50.0, 50.0, 60.0, 60.0]


def found(*rows, names=()):
    """Detections from (box, score, label) rows."""
    return Detections(
        torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([row[1] for row in rows], dtype=torch.float32),
        torch.tensor([row[2] for row in rows], dtype=torch.int64),
        names,
    )


def truth(*rows, difficult=None, crowd=None):
    """Targets from (box, label) rows."""
    none = [False] * len(rows)
    return Targets(
        torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([row[1] for row in rows], dtype=torch.int64),
        difficult=torch.tensor(difficult or none),
        crowd=torch.tensor(crowd or none),
    )


def only(result):
    (single,) = result.classes
    return single


# -- the two averages ------------------------------------------------------------------------


def test_eleven_points_and_area_of_a_worked_curve():
    # Four objects; the detections, best first: hit, miss, hit, hit, miss, hit.
    recall = np.array([1, 1, 2, 3, 3, 4]) / 4
    precision = np.array([1, 1 / 2, 2 / 3, 3 / 4, 3 / 5, 4 / 6])
    # Best precision at or beyond a recall: 1 up to 0.25; 3/4 up to 0.75; 2/3 up to 1.
    # 11 points: 0, 0.1, 0.2 -> 1; 0.3 … 0.7 -> 3/4; 0.8, 0.9, 1 -> 2/3: (3 + 3.75 + 2) / 11.
    assert average_precision_11(recall, precision) == pytest.approx(8.75 / 11)
    # Area: 0.25 * 1 + 0.25 * 3/4 + 0.25 * 3/4 + 0.25 * 2/3.
    assert average_precision_area(recall, precision) == pytest.approx(0.25 + 0.375 + 1 / 6)


def test_recall_of_exactly_three_tenths_counts_at_three_tenths():
    # Floats: 3 * 0.1 > 3 / 10. Points 0, 0.1, 0.2 and 0.3 have precision 1.
    assert average_precision_11(np.array([0.3]), np.array([1.0])) == pytest.approx(4 / 11)


def test_no_detections_have_no_area():
    assert average_precision_11(np.zeros(0), np.zeros(0)) == 0
    assert average_precision_area(np.zeros(0), np.zeros(0)) == 0


@pytest.mark.parametrize("average", [average_precision_11, average_precision_area])
def test_curves_of_unequal_length_are_refused(average):
    with pytest.raises(ValueError, match=r"recall \(2,\) and precision \(3,\)"):
        average(np.zeros(2), np.zeros(3))


# -- which detection is what -----------------------------------------------------------------


def test_a_duplicate_is_a_false_positive():
    # hit, duplicate, hit: recall 1/2 1/2 1, precision 1 1/2 2/3.
    result = only(voc_ap([found((CAT, 0.9, 0), (CAT, 0.8, 0), (DOG, 0.7, 0))], [truth((CAT, 0), (DOG, 0))], ["x"]))
    assert result.recall.tolist() == [0.5, 0.5, 1]
    assert result.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    # 11 points: 0 … 0.5 -> 1 (six), 0.6 … 1 -> 2/3 (five): (6 + 10/3) / 11. Area: 1/2 + 1/2 * 2/3.
    assert result.ap_11 == pytest.approx((6 + 10 / 3) / 11)
    assert result.ap_area == pytest.approx(5 / 6)


def test_the_best_score_claims_the_object_wherever_it_stands_in_the_list():
    looser = [0.0, 0.0, 10.0, 8.0]  # IoU 0.8, but the better score
    result = only(voc_ap([found((CAT, 0.6, 0), (looser, 0.9, 0))], [truth((CAT, 0))], ["x"]))
    assert result.precision.tolist() == [1, 0.5]


@pytest.mark.parametrize("flag", ["difficult", "crowd"])
def test_a_difficult_object_is_ignored_however_often_it_is_hit(flag):
    target = truth((CAT, 0), (DOG, 0), **{flag: [True, False]})
    result = only(voc_ap([found((CAT, 0.9, 0), (CAT, 0.8, 0), (DOG, 0.7, 0))], [target], ["x"]))
    assert result.npos == 1
    assert result.recall.tolist() == [1]
    assert result.precision.tolist() == [1]
    assert result.ap_11 == result.ap_area == 1


def test_a_detection_held_against_a_difficult_object_does_not_take_the_ordinary_one():
    # 10 x 10 at x 0 and, difficult, at x 2; the box at x 1.5 overlaps 85/115 and 95/105: the
    # difficult one is its best, so it is ignored, and the ordinary object stays missed.
    target = truth((CAT, 0), ([2, 0, 12, 10], 0), difficult=[False, True])
    result = only(voc_ap([found(([1.5, 0, 11.5, 10], 0.9, 0))], [target], ["x"]))
    assert (result.npos, len(result.recall), result.ap_11, result.ap_area) == (1, 0, 0, 0)


def test_there_is_no_fall_back_to_the_second_best_object():
    # Objects at x 0 and x 3 (10 wide). Both detections overlap the first most:
    # at x 0:   IoU 1 and 70/130.
    # at x 1:   90/110 with the first, 80/120 = 0.67 with the second, which stays unclaimed.
    detections = found((CAT, 0.9, 0), ([1, 0, 11, 10], 0.8, 0))
    result = only(voc_ap([detections], [truth((CAT, 0), ([3, 0, 13, 10], 0))], ["x"]))
    assert result.recall.tolist() == [0.5, 0.5]
    assert result.precision.tolist() == [1, 0.5]


@pytest.mark.parametrize(("width", "hits"), [(5.0, 1), (4.999, 0)])
def test_half_is_enough_and_less_is_not(width, hits):
    # A box of width w inside the 10 x 10 object has IoU w / 10.
    result = only(voc_ap([found(([0, 0, width, 10], 0.9, 0))], [truth((CAT, 0))], ["x"]))
    assert result.precision.tolist() == [hits]


def test_inclusive_widths_of_the_kit_are_plain_widths_here():
    # In the file: object xmin 1, xmax 9 (9 pixels), detection 4 … 12 (9 pixels), one row high.
    # The kit: shared 9 - 4 + 1 = 6, union 9 + 9 - 6 = 12: 0.5, a hit. Without the + 1 on those
    # numbers it would be 5 / 11, a miss. Our frame: 0 … 9 and 3 … 12.
    result = only(voc_ap([found(([3, 0, 12, 1], 0.9, 0))], [truth(([0, 0, 9, 1], 0))], ["x"]))
    assert result.precision.tolist() == [1]


def test_equal_scores_keep_the_order_of_the_pictures_and_of_the_list():
    # First picture: miss, then hit. Second picture: hit. All with one score.
    detections = [found((FAR, 0.5, 0), (CAT, 0.5, 0)), found((DOG, 0.5, 0))]
    result = only(voc_ap(detections, [truth((CAT, 0)), truth((DOG, 0))], ["x"]))
    assert result.precision.tolist() == pytest.approx([0, 1 / 2, 2 / 3])


def test_an_object_of_another_class_or_picture_is_not_hit():
    result = voc_ap(
        [found((CAT, 0.9, 1)), found((CAT, 0.8, 0))],
        [truth((CAT, 0)), truth((DOG, 0), (CAT, 1))],
        ["cat", "dog"],
    )
    assert [each.precision.tolist() for each in result.classes] == [[0], [0]]


# -- nothing, and unknown classes --------------------------------------------------------------


def test_classes_without_objects_are_undefined_and_left_out_of_the_mean():
    result = voc_ap(
        [found((CAT, 0.9, 0), (FAR, 0.9, 1))],
        [truth((CAT, 0), (DOG, 2), (FAR, 3), difficult=[False, False, True])],
        ["found", "never there", "missed", "only difficult"],
    )
    assert [each.npos for each in result.classes] == [1, 0, 1, 0]
    assert [each.ap_11 for each in result.classes] == pytest.approx([1, math.nan, 0, math.nan], nan_ok=True)
    assert result.mean_ap_11 == result.mean_ap_area == 0.5
    assert result.classes[1].precision.tolist() == [0]
    assert np.isnan(result.classes[1].recall).all()


@pytest.mark.parametrize("pictures", [0, 2])
def test_nothing_at_all(pictures):
    result = voc_ap([found()] * pictures, [truth()] * pictures, ["x"])
    assert math.isnan(result.mean_ap_11)
    assert math.isnan(result.mean_ap_area)


def test_labels_are_matched_by_name():
    names = ("bird", "dog", "cat")  # the detector's: one more, and in another order
    detections = found((CAT, 0.9, 2), (DOG, 0.9, 1), (CAT, 0.95, 0), names=names)
    result = voc_ap([detections], [truth((CAT, 0), (DOG, 1))], ["cat", "dog"])
    assert [each.precision.tolist() for each in result.classes] == [[1], [1]]


def test_a_class_that_the_detector_does_not_know_is_an_error():
    with pytest.raises(ValueError, match="does not know dog; it knows cat, bird"):
        voc_ap([found(names=("cat", "bird"))], [truth()], ["cat", "dog"])


def test_labels_without_a_class_and_scores_that_are_not_numbers_are_errors():
    with pytest.raises(ValueError, match="labels 0 to 2, but there are 2 classes"):
        voc_ap([found((CAT, 0.9, 0), (CAT, 0.9, 2))], [truth()], ["cat", "dog"])
    with pytest.raises(ValueError, match="not finite"):
        voc_ap([found((CAT, math.nan, 0))], [truth()], ["cat"])


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 pictures with detections but 1 with targets"):
        voc_ap([found(), found()], [truth()], ["x"])


# -- the definition, once more -----------------------------------------------------------------


def voc_by_definition(detections, targets, k, threshold):
    """One class, one detection at a time, on the kit's 1-based inclusive boxes; (11-point, area)."""

    def inclusive(box):
        return box[0] + 1, box[1] + 1, box[2], box[3]

    def overlap(a, b):
        w = min(a[2], b[2]) - max(a[0], b[0]) + 1
        h = min(a[3], b[3]) - max(a[1], b[1]) + 1
        if w <= 0 or h <= 0:
            return 0.0
        areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
        return w * h / (sum(areas) - w * h)

    queue, npos = [], 0
    for n, (each, target) in enumerate(zip(detections, targets, strict=True)):
        for box, score, label in zip(each.boxes.tolist(), each.scores.tolist(), each.labels.tolist(), strict=True):
            if label == k:
                queue.append((score, n, inclusive(box)))
        npos += sum(
            1 for c, d in zip(target.labels.tolist(), target.difficult.tolist(), strict=True) if c == k and not d
        )
    claimed, tp, fp, points = set(), 0, 0, []
    for _, n, box in sorted(queue, key=lambda entry: -entry[0]):  # Python's sort is stable
        best, which = -math.inf, None
        for i, (other, label) in enumerate(zip(targets[n].boxes.tolist(), targets[n].labels.tolist(), strict=True)):
            if label == k and overlap(box, inclusive(other)) > best:
                best, which = overlap(box, inclusive(other)), i
        if best >= threshold:
            if targets[n].difficult[which]:
                pass
            elif (n, which) in claimed:
                fp += 1
            else:
                claimed.add((n, which))
                tp += 1
        else:
            fp += 1
        if tp + fp:
            points.append((tp / npos, tp / (tp + fp)))
    eleven = sum(max((p for r, p in points if r >= i / 10), default=0) for i in range(11)) / 11
    area, at = 0.0, 0.0
    for recall in sorted({r for r, _ in points}):
        area += (recall - at) * max(p for r, p in points if r >= recall)
        at = recall
    return eleven, area


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_definition_on_random_pictures(seed, threshold):
    rng = np.random.default_rng(seed)

    def boxes(count):
        corner = rng.integers(0, 24, (count, 2))
        return np.concatenate([corner, corner + rng.integers(4, 16, (count, 2))], axis=1).tolist()

    detections, targets = [], []
    for _ in range(12):
        n, m = rng.integers(0, 9), rng.integers(0, 40)
        targets.append(
            truth(
                *zip(boxes(n), rng.integers(0, 3, n).tolist(), strict=True),
                difficult=(rng.random(n) < 0.2).tolist(),
            )
        )
        scores = rng.integers(0, 20, m) / 20  # many ties
        detections.append(found(*zip(boxes(m), scores, rng.integers(0, 3, m).tolist(), strict=True)))
    result = voc_ap(detections, targets, ["a", "b", "c"], threshold)
    for k, each in enumerate(result.classes):
        expected = voc_by_definition(detections, targets, k, threshold)
        assert (each.ap_11, each.ap_area) == pytest.approx(expected, abs=1e-12)
