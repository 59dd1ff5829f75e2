"""What the pieces accept, how they are filtered, and what they tell."""

import dataclasses
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from rcnnkit.structures import Detections, ImageBatch, Proposals, Targets

NAMES = ("cat", "dog", "hen")
IDS = (17, 18, 4)  # a data set's own ids need not ascend


def some() -> Detections:
    return Detections(
        torch.tensor([[10.0, 20, 30, 60], [0, 0, 5, 5], [1.5, 2.25, 4, 8]]),
        torch.tensor([0.9, 0.5, 0.25]),
        torch.tensor([2, 0, 2]),
        NAMES,
        IDS,
    )


def none() -> Detections:
    return Detections(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64), NAMES, IDS)


@pytest.mark.parametrize("boxes", [torch.empty(0), torch.zeros(4), torch.zeros(2, 5), torch.zeros(1, 1, 4)])
def test_boxes_of_another_shape_are_refused_with_the_fix(boxes: Tensor) -> None:
    n = len(boxes)
    message = r"expected \(N, 4\) xyxy; for no boxes pass torch.empty\(0, 4\)"
    with pytest.raises(ValueError, match=message):
        Targets(boxes, torch.zeros(n, dtype=torch.int64))
    with pytest.raises(ValueError, match=message):
        Proposals(boxes, torch.zeros(n))
    with pytest.raises(ValueError, match=message):
        Detections(boxes, torch.zeros(n), torch.zeros(n, dtype=torch.int64))


def test_each_box_needs_one_of_everything() -> None:
    boxes, two, three = torch.zeros(2, 4), torch.zeros(2), torch.zeros(3)
    with pytest.raises(ValueError, match="2 boxes but 3 scores; each box needs one"):
        Proposals(boxes, three)
    with pytest.raises(ValueError, match="2 boxes but 3 labels; each box needs one"):
        Detections(boxes, two, three.long())
    with pytest.raises(ValueError, match="2 boxes but 3 labels"):
        Targets(boxes, three.long())
    with pytest.raises(ValueError, match="2 boxes but 3 crowd"):
        Targets(boxes, two.long(), crowd=three.bool())
    with pytest.raises(ValueError, match="2 boxes but 1 areas"):
        Targets(boxes, two.long(), areas=torch.zeros(1))


def test_a_batch_needs_a_size_for_each_picture() -> None:
    pixels = torch.zeros(2, 3, 8, 8)
    assert len(ImageBatch(pixels, [(8, 8), (4, 4)], [(8, 8), (2, 2)])) == 2
    message = r"expected \(B, 3, H, W\) and B of each"
    with pytest.raises(ValueError, match=message):
        ImageBatch(pixels, [(8, 8)], [(8, 8), (2, 2)])
    with pytest.raises(ValueError, match=message):
        ImageBatch(pixels, [(8, 8), (4, 4)], [])
    with pytest.raises(ValueError, match=message):
        ImageBatch(pixels[0], [(8, 8)] * 3, [(8, 8)] * 3)


def test_flags_left_out_are_filled() -> None:
    target = Targets(torch.tensor([[0.0, 0, 2, 3], [1, 1, 5, 2]]), torch.tensor([1, 0]))
    for flags in (target.difficult, target.truncated, target.crowd):
        assert flags.dtype == torch.bool
        assert flags.tolist() == [False, False]
    assert target.areas.tolist() == [6, 4]
    nothing = Targets(torch.empty(0, 4), torch.empty(0, dtype=torch.int64))
    assert len(nothing) == 0
    assert nothing.areas.shape == nothing.crowd.shape == (0,)


def test_targets_are_filtered_together() -> None:
    target = Targets(
        torch.arange(12.0).reshape(3, 4),
        torch.tensor([5, 6, 7]),
        difficult=torch.tensor([True, False, False]),
        truncated=torch.tensor([False, True, False]),
        crowd=torch.tensor([False, False, True]),
        areas=torch.tensor([1.0, 2, 3]),
    )
    kept = target[~target.difficult]
    assert kept.boxes.tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]
    assert kept.labels.tolist() == [6, 7]
    assert kept.truncated.tolist() == [True, False]
    assert kept.crowd.tolist() == [False, True]
    assert kept.areas.tolist() == [2, 3]
    last_first = target[torch.tensor([2, 0])]
    assert last_first.labels.tolist() == [7, 5]
    assert last_first.difficult.tolist() == [False, True]
    assert len(target[torch.zeros(3, dtype=torch.bool)]) == 0
    assert len(target) == 3  # as it was


def test_proposals_are_filtered_together() -> None:
    proposals = Proposals(torch.arange(8.0).reshape(2, 4), torch.tensor([0.7, 0.2]))
    assert proposals[torch.tensor([1])].boxes.tolist() == [[4, 5, 6, 7]]
    assert proposals[torch.tensor([1])].scores.tolist() == pytest.approx([0.2])


def test_detections_by_mask_index_and_slice() -> None:
    found = some()
    for keep in (torch.tensor([True, False, True]), torch.tensor([0, 2]), slice(None, None, 2)):
        kept = found[keep]
        assert kept.labels.tolist() == [2, 2]
        assert kept.scores.tolist() == [found.scores[0], found.scores[2]]
        assert kept.boxes.tolist() == [[10, 20, 30, 60], [1.5, 2.25, 4, 8]]
        assert (kept.class_names, kept.category_ids) == (NAMES, IDS)
    assert found[:1].names == ["hen"]


def test_one_detection_is_what_iterating_gives() -> None:
    found = some()
    for one in (0, np.int64(0), torch.tensor(0), found.scores.argmax(), -3):
        assert found[one] == next(iter(found))
    assert found[2] == found[-1] == list(found)[2]
    assert found[0][0] == found.names[0]
    for there_is_none in (3, -4):
        with pytest.raises(IndexError, match=rf"^there is no detection \[{there_is_none}\] among 3$"):
            found[there_is_none]
    with pytest.raises(IndexError, match=r"^there is no detection \[0\] among 0$"):
        found[:0][0]


def test_one_proposal_or_target_is_a_slice() -> None:
    proposals = Proposals(torch.zeros(2, 4), torch.zeros(2))
    with pytest.raises(TypeError, match=r"^Proposals\[1\] would be a single one; write a slice, such as \[0:1\]$"):
        proposals[1]  # type: ignore[index]  # not a slice
    targets = Targets(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0]))
    with pytest.raises(TypeError, match=r"^Targets\[0\] would be"):
        targets[torch.tensor(0)]


def test_above_includes_the_score_itself() -> None:
    assert some().above(0.5).labels.tolist() == [2, 0]
    assert len(some().above(0.91)) == 0
    assert len(some().above(-1)) == 3
    assert len(none().above(0.5)) == 0


def test_of_keeps_classes_by_name() -> None:
    assert some().of("hen").scores.tolist() == [some().scores[0], some().scores[2]]
    assert some().of("cat", "hen").labels.tolist() == [2, 0, 2]
    assert len(some().of("dog")) == 0
    assert len(some().of()) == 0
    assert len(none().of("cat")) == 0
    with pytest.raises(
        ValueError, match=r"no class is called 'HENS'; did you mean hen\? The classes are cat, dog, hen"
    ):
        some().of("HENS")
    with pytest.raises(ValueError, match="no class is called 'cow'; the classes are cat, dog, hen"):
        some().of("cat", "cow")


def test_names_and_iteration() -> None:
    assert some().names == ["hen", "cat", "hen"]
    first, *_, last = some()
    assert first == ("hen", pytest.approx(0.9), (10.0, 20.0, 30.0, 60.0))
    assert last == ("hen", 0.25, (1.5, 2.25, 4.0, 8.0))
    assert list(none()) == []
    nameless = Detections(torch.zeros(1, 4), torch.zeros(1), torch.tensor([7]))
    assert nameless.names == ["7"]


def test_to_coco() -> None:
    entries = some().to_coco(42)
    assert entries[0] == {"image_id": 42, "category_id": 4, "bbox": [10, 20, 20, 40], "score": 0.9}
    assert [entry["category_id"] for entry in entries] == [4, 17, 4]
    assert entries[2]["bbox"] == [1.5, 2.25, 2.5, 5.75]
    assert none().to_coco("a") == []


def test_to_coco_rounds() -> None:
    # float32 0.1 is 0.100000001490116…; a file should not say so
    found = Detections(
        torch.tensor([[0.1, 0.2, 1 / 3, 1.0004]]), torch.tensor([2 / 3]), torch.tensor([0]), ("a",), (9,)
    )
    (entry,) = found.to_coco("x")
    assert entry == {"image_id": "x", "category_id": 9, "bbox": [0.1, 0.2, 0.233, 0.8], "score": 0.666667}


def test_to_coco_without_category_ids_counts_from_one() -> None:
    found = Detections(torch.zeros(2, 4), torch.zeros(2), torch.tensor([0, 79]))
    assert [entry["category_id"] for entry in found.to_coco(1)] == [1, 80]


def test_to_moves_every_tensor_and_keeps_the_rest() -> None:
    moved = some().to("meta")
    assert {moved.boxes.device.type, moved.scores.device.type, moved.labels.device.type} == {"meta"}
    assert moved.class_names == NAMES
    target = Targets(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64)).to("meta")
    assert {getattr(target, f.name).device.type for f in dataclasses.fields(target) if f.init} == {"meta"}


def test_pieces_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        some().boxes = torch.empty(0, 4)  # type: ignore[misc]  # it is frozen


def test_pictures_and_proposals_are_one_for_each_image_or_none() -> None:
    pixels = torch.zeros(2, 3, 8, 8)
    assert ImageBatch(pixels, [(8, 8)] * 2, [(8, 8)] * 2).proposals == ()
    with pytest.raises(ValueError, match="1 pictures for 2 images"):
        ImageBatch(pixels, [(8, 8)] * 2, [(8, 8)] * 2, pictures=[np.zeros((8, 8, 3), dtype=np.uint8)])
    with pytest.raises(ValueError, match="3 proposals for 2 images"):
        ImageBatch(pixels, [(8, 8)] * 2, [(8, 8)] * 2, proposals=[Proposals(torch.zeros(0, 4), torch.zeros(0))] * 3)


def test_what_was_seen_is_forgotten_when_it_changes() -> None:
    targets = Targets(torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]), torch.tensor([0, 1]))
    targets.see((10, 20), 2)
    part = targets[torch.tensor([True, False])]
    assert targets.was_seen((10, 20), 2)
    assert part.was_seen((10, 20), 3)
    assert not part.was_seen((20, 10), 2)
    targets.boxes[0, 2] = 400
    assert not targets.was_seen((10, 20), 2)
    assert not targets[torch.tensor([True, False])].was_seen((10, 20), 2)


def test_detections_for_supervision_and_pandas() -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    theirs = some().to_supervision()
    assert isinstance(theirs, supervision.Detections)
    np.testing.assert_array_equal(theirs.xyxy, some().boxes.numpy())
    np.testing.assert_array_equal(theirs.confidence, np.array([0.9, 0.5, 0.25], np.float32))
    assert theirs.class_id.tolist() == [2, 0, 2]
    assert theirs[theirs.confidence > 0.4].data["class_name"].tolist() == ["hen", "cat"]
    table = some().to_dataframe()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == ["x1", "y1", "x2", "y2", "class", "score", "label"]
    assert table.iloc[2].tolist() == [1.5, 2.25, 4, 8, "hen", 0.25, 2]
    assert (table["score"].dtype, table["x1"].dtype) == (np.float32, np.float32)
    assert len(none().to_supervision()) == 0
    assert len(none().to_dataframe()) == 0
    assert list(none().to_dataframe().columns) == list(table.columns)
    unnamed = dataclasses.replace(some(), class_names=())
    assert unnamed.to_supervision().data["class_name"].tolist() == ["2", "0", "2"]


@pytest.mark.parametrize(("method", "library"), [("to_supervision", "supervision"), ("to_dataframe", "pandas")])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, method: str, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=f"^{method} needs {library}: pip install {library}$"):
        getattr(some(), method)()
