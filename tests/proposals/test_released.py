"""Released proposals, in every layout, become our boxes; the files are made here as the papers' code makes them."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from scipy.io import savemat

from rcnnkit.proposals.recall import coverage
from rcnnkit.proposals.released import read_released
from rcnnkit.structures import Targets

# Two pictures; a picture of 60 wide and 40 high covered whole is 1 1 40 60 in MATLAB's y1 x1 y2 x2.
MATLAB = [np.array([[1, 1, 40, 60], [3, 5, 3, 5]], dtype=np.uint16), np.array([[2, 1, 9, 20]], dtype=np.uint16)]
OURS = [[[0, 0, 60, 40], [4, 2, 5, 3]], [[0, 1, 20, 9]]]
ZERO_BASED = [np.array([[0, 0, 59, 39], [4, 2, 4, 2]], dtype=np.float32), np.array([[0, 1, 19, 8]], dtype=np.float32)]


def cell(values, column=False):
    made = np.empty((len(values), 1) if column else (1, len(values)), dtype=object)
    for i, value in enumerate(values):
        made.ravel()[i] = value
    return made


def boxes_of(released):
    return [released.proposals(i).boxes.tolist() for i in range(len(released))]


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_selective_search_for_voc(tmp_path, column, compressed):
    names = cell(["000005", "2008_000001"], column=True)
    savemat(tmp_path / "v.mat", {"boxes": cell(MATLAB, column), "images": names}, do_compression=compressed)
    released = read_released(tmp_path / "v.mat")
    assert released.ids == ["000005", "2008_000001"]
    assert boxes_of(released) == OURS
    assert released.proposals(0).scores.tolist() == [1, 0.5]  # the first is the best
    assert released.proposals(0).boxes.dtype == torch.float32


def test_mat_files_with_less(tmp_path):
    savemat(tmp_path / "v.mat", {"boxes": cell([*MATLAB, np.zeros((0, 0)), np.zeros((0, 4))])})
    released = read_released(tmp_path / "v.mat")
    assert released.ids is None
    assert boxes_of(released) == [*OURS, [], []]
    assert len(released.proposals(2).scores) == 0
    savemat(tmp_path / "w.mat", {"boxes": cell(MATLAB[:1]), "images": cell(["C:\\VOC\\JPEGImages\\000005.jpg"])})
    assert read_released(tmp_path / "w.mat").ids == ["000005"]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_fast_rcnn_s_list(tmp_path, protocol):
    file = tmp_path / "p.pkl"
    file.write_bytes(pickle.dumps(ZERO_BASED, protocol))
    assert read_released(file).ids is None
    assert boxes_of(read_released(file)) == OURS
    scored = [np.column_stack([b, s]) for b, s in zip(ZERO_BASED, ([0.1, 0.9], [0.5]), strict=True)]
    file.write_bytes(pickle.dumps([*scored, []], protocol))
    released = read_released(file)
    assert boxes_of(released) == [OURS[0][::-1], OURS[1], []]  # by score
    np.testing.assert_allclose(released.proposals(0).scores, [0.9, 0.1])


def test_detectron2_s_and_detectron_s(tmp_path):
    continuous = [np.array(each, dtype=np.float32) for each in OURS]
    logits = [np.array([-2.0, 3.0], dtype=np.float32), np.array([0.5], dtype=np.float32)]
    expected = [OURS[0][::-1], OURS[1]]
    content = {"ids": [139, 285], "boxes": continuous, "objectness_logits": logits, "bbox_mode": 0}
    xywh = [np.column_stack([b[:, :2], b[:, 2:] - b[:, :2]]) for b in continuous]
    inclusive = {"indexes": [139, 285], "boxes": ZERO_BASED, "scores": logits, "cfg": "MODEL: {}"}
    for i, each in enumerate((content, content | {"boxes": xywh, "bbox_mode": 1}, inclusive)):
        (tmp_path / f"{i}.pkl").write_bytes(pickle.dumps(each, 2))
        released = read_released(tmp_path / f"{i}.pkl")
        assert released.ids == ["139", "285"]
        assert boxes_of(released) == expected, i
        assert released.proposals(0).scores.tolist() == [3, -2]
    # bbox_mode as its own enumeration, which is not installed here
    text = pickle.dumps(content | {"bbox_mode": 7}, 2).replace(
        b"K\x07", b"cdetectron2.structures.boxes\nBoxMode\nK\x00\x85R"
    )
    (tmp_path / "m.pkl").write_bytes(text)
    assert boxes_of(read_released(tmp_path / "m.pkl")) == expected


class Runs:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_hostile_and_damaged_files(tmp_path):
    good = {"ids": [1], "boxes": [np.zeros((1, 4))], "objectness_logits": [np.zeros(1)], "bbox_mode": 0}
    cases = {
        "hostile.pkl": (good | {"bbox_mode": Runs(f"touch '{tmp_path}/ran'")}, r"posix\.system, and only arrays"),
        "mode.pkl": (good | {"bbox_mode": 4}, "bbox_mode is 4"),
        "ids.pkl": (good | {"ids": [1, 2]}, "the boxes of 1 picture, but 2 ids"),
        "scores.pkl": (good | {"objectness_logits": [np.zeros(3)]}, r"entry 0 has 1 boxes, but scores of shape \(3,\)"),
        "less.pkl": ({"ids": [1], "boxes": []}, "has no objectness_logits or scores, only ids, boxes"),
        "shape.pkl": ([np.zeros((2, 3))], r"entry 0 has shape \(2, 3\), expected the \(N, 4\) boxes"),
        "classes.pkl": ([[np.zeros((2, 5)), np.zeros((3, 5))]], "entry 0 is no array"),
        "text.pkl": (["boxes"], "entry 0 is no array"),
        "mixed.pkl": ([np.zeros((2, 5)), np.zeros((2, 4))], r"entry 1 has 2 boxes, but scores of shape \(0,\)"),
        "none.pkl": (good | {"ids": None}, "not iterable"),
        "number.pkl": (7, "it holds a int, expected a list or a dict"),
    }
    for name, (value, words) in cases.items():
        (tmp_path / name).write_bytes(pickle.dumps(value))
        with pytest.raises(ValueError, match=rf"{name} is not read: .*{words}"):
            read_released(tmp_path / name)
    assert not (tmp_path / "ran").exists()
    savemat(tmp_path / "other.mat", {"boxes": np.zeros((3, 4))})
    savemat(tmp_path / "good.mat", {"boxes": cell(MATLAB)})
    whole = (tmp_path / "good.mat").read_bytes()
    (tmp_path / "cut.mat").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.mat").write_bytes(b"")
    (tmp_path / "new.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    causes = {"other": "has no cell `boxes`", "cut": "no whole", "empty": "no whole", "new": "save it with -v7"}
    for name, message in causes.items():
        with pytest.raises(ValueError, match=rf"{name}\.mat is not read: .*{message}"):
            read_released(tmp_path / f"{name}.mat")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.mat: no such file"):
        read_released(tmp_path / "nowhere.mat")
    (tmp_path / "a.npz").touch()
    with pytest.raises(ValueError, match=r"a\.npz is neither a \.mat nor a \.pkl"):
        read_released(tmp_path / "a.npz")


def flipped(good, seed):
    rng = np.random.default_rng(seed)
    text = bytearray(good)
    for _ in range(rng.integers(1, 9)):
        text[rng.integers(128, len(text))] = rng.integers(256)
    return bytes(text)


def test_mat_files_with_flipped_bytes_are_one_error(tmp_path):
    """SciPy's reader crashes on the first two and asks for more memory than there is for the third."""
    savemat(tmp_path / "good.mat", {"boxes": cell(MATLAB), "images": cell(["000005", "000007"])})
    for seed in (50, 61, 67, 0, 1):
        (tmp_path / "bad.mat").write_bytes(flipped((tmp_path / "good.mat").read_bytes(), seed))
        with pytest.raises(ValueError, match=r"^[^\n]*bad\.mat is not read: it [^\n]+$"):
            read_released(tmp_path / "bad.mat")


def test_what_a_mat_file_may_hold(tmp_path):
    savemat(tmp_path / "a.mat", {"boxes": cell([{"a": 1.0}])})
    with pytest.raises(ValueError, match="it holds a ndarray where cells, texts and numbers are read"):
        read_released(tmp_path / "a.mat")
    savemat(tmp_path / "a.mat", {"boxes": cell(MATLAB), "images": cell([MATLAB[0], "000005"])})
    with pytest.raises(ValueError, match="its `images` is no cell of names"):
        read_released(tmp_path / "a.mat")


@pytest.mark.parametrize("suffix", [".mat", ".pkl"])
def test_a_fifo_is_refused_and_not_waited_for(tmp_path, suffix):
    os.mkfifo(tmp_path / f"a{suffix}")
    with pytest.raises(ValueError, match=rf"a\{suffix} is not a regular file; copy what it gives into one"):
        read_released(tmp_path / f"a{suffix}")


def test_boxes_without_scores_come_in_a_random_order(tmp_path):
    """From the top to the bottom, as the authors have them, the first hundred would leave out the lower half."""
    top = np.arange(200.0)
    boxes = np.stack([top, top, top + 9, top + 9], axis=1)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([boxes, boxes]))
    first, other = (read_released(tmp_path / "a.pkl").proposals(i) for i in (0, 1))
    assert sorted(first.boxes[:, 1].tolist()) == top.tolist()
    assert 30 < (first.boxes[:100, 1] < 100).sum() < 70
    assert first.boxes.equal(read_released(tmp_path / "a.pkl").proposals(0).boxes)
    assert not first.boxes.equal(other.boxes)
    assert first.scores.tolist() == pytest.approx((1 - top / 200).tolist())


def test_the_authors_own_boxes(selective_search_reference, tmp_path):
    """Two pictures' boxes of the authors' VOC 2007 download, through the file's layout, cover what they should."""
    truth = json.loads((selective_search_reference / "gt.json").read_text())["images"]
    names = list(truth)
    stored = [np.load(selective_search_reference / f"{name}.npy") for name in names]  # 0-based inclusive x1 y1 x2 y2
    matlab = [(boxes[:, [1, 0, 3, 2]] + 1).astype(np.uint16) for boxes in stored]
    savemat(tmp_path / "v.mat", {"boxes": cell(matlab), "images": cell(names)})
    released = read_released(tmp_path / "v.mat")
    assert released.ids == names
    classes = sorted({each["class"] for picture in truth.values() for each in picture["objects"]})
    targets = []
    for name in names:
        rows = torch.tensor([each["box"] for each in truth[name]["objects"]], dtype=torch.float32)
        labels = torch.tensor([classes.index(each["class"]) for each in truth[name]["objects"]])
        targets.append(Targets(rows + torch.tensor([0, 0, 1, 1]), labels))
    result = coverage((released.proposals(i) for i in range(2)), targets, classes, counts=(5000,))
    # Worked out once more, with the inclusive pixels of the files.
    best = []
    for boxes, name in zip(stored, names, strict=True):
        for each in truth[name]["objects"]:
            x1, y1, x2, y2 = each["box"]
            width = np.minimum(boxes[:, 2], x2) - np.maximum(boxes[:, 0], x1) + 1
            height = np.minimum(boxes[:, 3], y2) - np.maximum(boxes[:, 1], y1) + 1
            shared = width.clip(0) * height.clip(0)
            areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1) + (x2 - x1 + 1) * (y2 - y1 + 1)
            best.append((shared / (areas - shared)).max())
    np.testing.assert_allclose(result.overlaps[0], best, rtol=1e-6)
    assert len(best) == 10
    assert result.recall(5000) == 1
    assert np.mean(best) == pytest.approx(0.710, abs=0.001)
