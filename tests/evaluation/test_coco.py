"""COCO's numbers: a case by hand, and pycocotools run as its users run it, from files on disk."""

import contextlib
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rcnnkit.data.records import Dataset, Record
from rcnnkit.evaluation.coco import NUMBERS, UNCAPPED, coco_metrics, is_crowded
from rcnnkit.structures import Detections, Targets

NOTHING = Detections(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64))


def found(*rows, names=()):
    """Detections from (box, score, label) rows."""
    return Detections(
        torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([row[1] for row in rows], dtype=torch.float32),
        torch.tensor([row[2] for row in rows], dtype=torch.int64),
        names,
    )


def dataset(*targets, names=("cat",), ids=None, category_ids=None):
    ids = ids or [f"picture_{i}" for i in range(len(targets))]
    records = [Record(i, Path(f"{i}.jpg"), (500, 500), each) for i, each in zip(ids, targets, strict=True)]
    return Dataset("test/val", records, names, category_ids or tuple(range(1, len(names) + 1)))


def truth(*rows, **flags):
    """Targets from (box, label) rows."""
    return Targets(
        torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([row[1] for row in rows], dtype=torch.int64),
        **{name: torch.tensor(value) for name, value in flags.items()},
    )


def test_one_box_by_hand():
    # One object of 40 x 40 (medium), one detection 40 x 32 inside it: IoU 0.8.
    # Hit at 0.50, 0.55, …, 0.80: 7 of 10 thresholds, each with AP 1.
    result = coco_metrics([found(([0, 0, 40, 32], 0.9, 0))], dataset(truth(([0, 0, 40, 40], 0))))
    expected = dict.fromkeys(NUMBERS, 0.7) | {"AP50": 1, "AP75": 1}
    expected |= dict.fromkeys(["APs", "APl", "ARs", "ARl"], math.nan)  # no such objects
    assert result.numbers == pytest.approx(expected, nan_ok=True)
    (cat,) = result.classes
    assert (cat.name, cat.objects, cat.ap, cat.ap50) == ("cat", 1, pytest.approx(0.7), pytest.approx(1))


def test_a_detection_in_a_crowd_counts_neither_way():
    crowd, single = [0, 0, 200, 200], [300, 300, 400, 400]
    target = truth((crowd, 0), (single, 0), crowd=[True, False])
    inside = found(([10, 10, 60, 60], 0.9, 0), ([20, 20, 70, 70], 0.9, 0), (single, 0.5, 0))
    result = coco_metrics([inside], dataset(target))
    assert result.numbers["AP"] == pytest.approx(1)
    assert result.classes[0].objects == 1


def test_a_difficult_object_is_an_object():
    target = truth(([0, 0, 40, 40], 0), ([100, 100, 140, 140], 0), difficult=[True, False])
    result = coco_metrics([found(([100, 100, 140, 140], 0.9, 0))], dataset(target))
    assert result.classes[0].objects == 2
    assert result.numbers["AR100"] == pytest.approx(0.5)


def test_size_is_the_annotated_area():
    # The box is large, the mask in it is small.
    target = truth(([0, 0, 200, 200], 0), areas=[500.0])
    numbers = coco_metrics([found(([0, 0, 200, 200], 0.9, 0))], dataset(target)).numbers
    assert numbers["APs"] == pytest.approx(1)
    assert math.isnan(numbers["APl"])


def test_labels_are_matched_by_name_and_classes_keep_their_order():
    # The category ids fall while the labels rise: pycocotools would sort the classes by id.
    data = dataset(truth(([0, 0, 40, 40], 0), ([100, 100, 140, 140], 1)), names=("cat", "dog"), category_ids=(9, 2))
    detections = found(([0, 0, 40, 40], 0.9, 2), ([0, 0, 9, 9], 0.9, 0), names=("bird", "dog", "cat"))
    result = coco_metrics([detections], data)
    assert [(each.name, each.ap) for each in result.classes] == [("cat", pytest.approx(1)), ("dog", 0)]


def test_no_detections_score_zero():
    result = coco_metrics([NOTHING], dataset(truth(([0, 0, 40, 40], 0))))
    assert result.numbers["AP"] == result.numbers["AR100"] == 0
    assert result.classes[0].ap == 0


@pytest.mark.parametrize("detections", [NOTHING, found(([0, 0, 40, 40], 0.9, 0))])
def test_no_objects_are_undefined(detections):
    result = coco_metrics([detections], dataset(truth()))
    assert all(math.isnan(value) for value in result.numbers.values())
    assert math.isnan(result.classes[0].ap50)


def test_no_pictures_are_undefined():
    assert math.isnan(coco_metrics([], dataset()).numbers["AP"])


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="0 pictures with detections but test/val has 1"):
        coco_metrics([], dataset(truth()))


def test_says_nothing(capsys):
    coco_metrics([NOTHING], dataset(truth()))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_pycocotools_on_files(seed, tmp_path):
    rng = np.random.default_rng(seed)
    category_ids, names = (18, 3, 90), ("a", "b", "c")
    image_ids = [int(i) for i in rng.permutation(1000)[:15]]  # not sorted: ties depend on the order

    def boxes(count):
        # Whole numbers, so that float32 holds what the files say.
        corner = rng.integers(0, 200, (count, 2))
        return np.concatenate([corner, corner + rng.integers(8, 150, (count, 2))], axis=1)

    targets, detections = [], []
    for _ in image_ids:
        n, m = int(rng.integers(0, 7)), int(rng.integers(0, 8))
        objects = boxes(n)
        targets.append(
            truth(
                *zip(objects.tolist(), rng.integers(0, 3, n).tolist(), strict=True),
                crowd=(rng.random(n) < 0.15).tolist(),
                areas=(np.prod(objects[:, 2:] - objects[:, :2], axis=1) // 2).astype(np.float32).tolist(),
            )
        )
        near = objects + rng.integers(-6, 7, objects.shape)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        both = np.concatenate([near, boxes(m)])
        labels = [*targets[-1].labels.tolist(), *rng.integers(0, 3, m).tolist()]
        scores = rng.integers(0, 16, len(both)) / 16  # many ties
        detections.append(found(*zip(both.tolist(), scores, labels, strict=True)))
    data = dataset(*targets, names=names, ids=image_ids, category_ids=category_ids)

    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id, target, each in zip(image_ids, targets, detections, strict=True):
        for i, (x1, y1, x2, y2) in enumerate(target.boxes.tolist()):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_ids[target.labels[i]],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(target.areas[i]),
                    "iscrowd": int(target.crowd[i]),
                }
            )
        for i, (x1, y1, x2, y2) in enumerate(each.boxes.tolist()):
            results.append(
                {
                    "image_id": image_id,
                    "category_id": category_ids[each.labels[i]],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": float(each.scores[i]),
                }
            )
    truth_file, result_file = tmp_path / "truth.json", tmp_path / "results.json"
    truth_file.write_text(
        json.dumps(
            {
                "images": [{"id": i, "width": 500, "height": 500} for i in image_ids],
                "annotations": annotations,
                "categories": [{"id": i, "name": n} for i, n in zip(category_ids, names, strict=True)],
            }
        )
    )
    result_file.write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        official = COCO(str(truth_file))
        run = COCOeval(official, official.loadRes(str(result_file)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()

    result = coco_metrics(detections, data)
    assert 0.1 < result.numbers["AP"] < 0.9  # a case that says something
    assert list(result.numbers.values()) == pytest.approx(run.stats.tolist(), abs=1e-12)
    for each, category_id in zip(result.classes, category_ids, strict=True):
        precision = run.eval["precision"][:, :, sorted(category_ids).index(category_id), 0, 2]
        assert (each.ap, each.ap50) == pytest.approx((precision.mean(), precision[0].mean()), abs=1e-12)


def grid(count):
    """(N, 4) squares of 12 pixels, 13 apart."""
    corner = 13 * np.stack(np.divmod(np.arange(count), 38), axis=1)
    return np.concatenate([corner, corner + 12], axis=1).tolist()


@pytest.mark.parametrize(("count", "ap"), [(100, None), (101, 100 / 101), (400, 26 / 101)])
def test_cocos_ap_stops_at_100_detections_and_that_of_all_does_not(count, ap):
    rows = [(box, 0) for box in grid(count)]
    data = dataset(truth(*rows))
    result = coco_metrics([found(*((box, 0.9, label) for box, label in rows))], data)
    if ap is None:  # COCO's own says it all
        assert list(result.numbers) == list(NUMBERS)
        assert math.isnan(result.classes[0].ap_all)
        return
    # The mean over recalls 0, 0.01, …, 1, of which 100 of 400 objects reach 26.
    assert result.numbers["AP"] == pytest.approx(ap)
    assert [result.numbers[name] for name in UNCAPPED] == pytest.approx([1, 1, 1])
    assert result.classes[0].ap_all == pytest.approx(1)
    assert is_crowded(data)


def test_crowded_is_what_holds_more_than_100_of_a_class_crowds_aside():
    rows = [(box, i % 2) for i, box in enumerate(grid(201))]
    assert is_crowded(dataset(truth(*rows), names=("a", "b")))
    assert not is_crowded(dataset(truth(*rows[:200]), truth(*rows[1:]), names=("a", "b")))
    assert not is_crowded(dataset(truth(*rows, crowd=[True] * 99 + [False] * 102), names=("a", "b")))


def test_numbers_of_all_detections_are_pycocotools_with_a_maximum_that_nothing_reaches():
    rng = np.random.default_rng(0)
    targets, detections = [], []
    for _ in range(2):
        objects = np.array(grid(180)) + rng.integers(-3, 4, (180, 4)) * [1, 1, 0, 0]
        labels = rng.integers(0, 2, 180) * (rng.random(180) < 0.3)
        targets.append(truth(*zip(objects.tolist(), labels.tolist(), strict=True), crowd=(rng.random(180) < 0.1)))
        near = np.concatenate([objects, objects[:40]]) + rng.integers(-2, 3, (220, 4))
        scores = rng.integers(0, 16, 220) / 16  # many ties
        detections.append(found(*zip(near.tolist(), scores, [*labels, *labels[:40]], strict=True)))
    data = dataset(*targets, names=("a", "b"))
    result = coco_metrics(detections, data)

    boxes = [
        [
            {
                "id": 1000 * i + j + 1,
                "image_id": i + 1,
                "category_id": label + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": int(piece.crowd[j]) if isinstance(piece, Targets) else 0,
                "score": 0 if isinstance(piece, Targets) else float(piece.scores[j]),
            }
            for i, piece in enumerate(pieces)
            for j, ((x1, y1, x2, y2), label) in enumerate(zip(piece.boxes.tolist(), piece.labels.tolist(), strict=True))
        ]
        for pieces in (targets, detections)
    ]
    official = COCO()
    official.dataset = {
        "images": [{"id": i + 1} for i in range(2)],
        "annotations": boxes[0],
        "categories": [{"id": 1}, {"id": 2}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        official.createIndex()
        run = COCOeval(official, official.loadRes(boxes[1]), "bbox")
        run.params.maxDets = [1, 10, 100, 500]
        run.evaluate()
        run.accumulate()
        run.summarize()
    stats = [math.nan if value == -1 else value for value in run.stats.tolist()]
    assert list(result.numbers.values())[:12] == pytest.approx(stats, abs=1e-12, nan_ok=True)
    precision, recall = run.eval["precision"][:, :, :, 0, 3], run.eval["recall"][:, :, 0, 3]
    expected = [precision.mean(), precision[0].mean(), recall.mean()]
    assert [result.numbers[name] for name in UNCAPPED] == pytest.approx(expected, abs=1e-12)
    assert [each.ap_all for each in result.classes] == pytest.approx(precision.mean(axis=(0, 1)).tolist(), abs=1e-12)
    assert 0.1 < result.numbers["AP"] < result.numbers["AP_all"] < 0.9  # a case that says something
