import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rcnnkit.data.records import Record
from rcnnkit.structures import Targets
from rcnnkit.training.features import Features, FeatureSettings, fingerprint
from rcnnkit.training.windows import Windows

WINDOWS = [
    Windows(
        Record(i, Path(f"{i}.png"), (100, 100), Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))),
        Targets(torch.tensor([[0.0, 0, 10, 10 + i]]), torch.tensor([0])),
        torch.tensor([[0.0, 0, 10, 10 + i], [50, 50, 60, 60], [1, 0, 10, 10 + i]]),
    )
    for i in range(4)
]
SMALL = 4 * 2 * (1 * 5 + 2 * 7)  # bytes: of each picture, an object's 5 numbers and 7 of each of two windows near it
LARGE = 2 * 3 * 5  # of all windows of one picture


def computed(picture: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(picture)
    return torch.rand(3, 5, generator=generator) * 30, torch.rand(3, 7, generator=generator)


def features(folder: Path, bytes_: float = 1e9, **options: Any) -> Features:
    arguments: dict[str, Any] = {"about": {"backbone": "resnet18"}, "compute": computed, "widths": (5, 7)} | options
    return Features(FeatureSettings(folder=folder, disk_gb=bytes_ / 1e9), windows=WINDOWS, near_iou=0.6, **arguments)


@pytest.mark.parametrize(("room", "stored"), [(SMALL, 0), (SMALL + LARGE * 2.5, 2), (SMALL + LARGE * 4, 4)])
def test_the_same_comes_back_whatever_fits(tmp_path: Path, room: float, stored: int) -> None:
    kept = features(tmp_path, room)
    assert kept.stored == stored
    assert not list(tmp_path.iterdir())
    assert kept.begin("a") == [0, 1, 2, 3]
    for i in (0, 2, 3):
        kept.make(i)
    assert features(tmp_path, room).begin("a") == [1]
    kept.make(1)
    calls: list[int] = []

    def counted(picture: int) -> tuple[Tensor, Tensor]:
        calls.append(picture)
        return computed(picture)

    kept = features(tmp_path, room, compute=counted)
    for i in range(4):
        first, pool5 = (part.numpy() for part in computed(i))
        np.testing.assert_array_equal(kept.all(i), first.astype(np.float16).astype(np.float32))
        np.testing.assert_array_equal(kept.read(i, "objects"), first[:1].astype(np.float16))
        np.testing.assert_array_equal(kept.read(i, "near"), pool5[[0, 2]].astype(np.float16))
        np.testing.assert_allclose(kept.read(i, "norms"), np.linalg.norm(first, axis=1), rtol=1e-6)
        np.testing.assert_allclose(kept.read(i, "pool5_norms"), np.linalg.norm(pool5, axis=1), rtol=1e-6)
    assert calls == list(range(stored, 4))
    on_disk = sum(np.load(path, allow_pickle=False).nbytes for path in tmp_path.glob("*.npy"))
    assert on_disk == 0  # nothing but .safetensors
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}


def test_what_a_later_allowance_would_store_is_computed(tmp_path: Path) -> None:
    less = features(tmp_path, SMALL)
    less.begin("a")
    for i in range(4):
        less.make(i)
    more = features(tmp_path)
    np.testing.assert_array_equal(more.all(3), computed(3)[0].half().float().numpy())


def test_only_what_is_needed_is_kept(tmp_path: Path) -> None:
    only_boxes = features(tmp_path, widths=(0, 7))
    only_boxes.begin("a")
    only_boxes.make(0)
    assert only_boxes.stored == 0
    assert only_boxes.read(0, "near").shape == (2, 7)
    with pytest.raises(ValueError, match=r"000000\.safetensors has no objects"):
        only_boxes.read(0, "objects")


def test_what_another_run_did_not_keep_is_made(tmp_path: Path) -> None:
    """As when R-CNN's softmax is followed by its SVMs, on the same network and in the same folder."""
    for widths, wanted, missing in (
        ((0, 7), "near", [0, 1, 2, 3]),
        ((0, 7), "near", []),
        ((5, 7), "objects", [0, 1, 2, 3]),
        ((0, 7), "near", []),
    ):
        run = features(tmp_path, widths=widths)
        assert run.begin("a") == missing
        for i in missing:
            run.make(i)
        run.read(3, wanted)
    path = run.path(2)
    path.write_bytes(path.read_bytes()[:50])
    assert run.begin("a") == [2]


def test_too_little_room_is_an_error_before_anything_is_computed(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"feature_store.disk_gb = 1e-07, but the features of the objects .* allow more"
    ):
        features(tmp_path, 100)
    with pytest.raises(ValueError, match="GB left, but"):
        features(tmp_path, 1e18, widths=(10**13, 7))
    assert list(tmp_path.glob("*.safetensors")) == []


def test_features_of_another_network_are_refused(tmp_path: Path) -> None:
    features(tmp_path).begin("a")
    with pytest.raises(ValueError, match=r"features of another backbone \(resnet18, not alexnet\); delete the folder"):
        features(tmp_path, about={"backbone": "alexnet"})
    with pytest.raises(ValueError, match=r"another layer \(None, not fc6\)"):
        features(tmp_path, about={"backbone": "resnet18", "layer": "fc6"})
    same = features(tmp_path)
    with pytest.raises(ValueError, match=r"another network \(a, not b\)"):
        same.begin("b")
    assert json.loads((tmp_path / "about.json").read_text()) == {"backbone": "resnet18", "network": "a"}
    (tmp_path / "about.json").write_text("{")
    with pytest.raises(ValueError, match=r"about.json is damaged"):
        features(tmp_path)


def test_features_that_are_not_finite_in_half_precision_are_named(tmp_path: Path) -> None:
    for value in (float("nan"), 70_000.0):
        kept = features(tmp_path, compute=lambda i, value=value: (torch.full((3, 5), value), torch.ones(3, 7)))
        kept.begin("a")
        with pytest.raises(ValueError, match=r"2\.png: a feature is not finite in half precision"):
            kept.make(2)
    assert kept.begin("a") == [0, 1, 2, 3]


def test_a_picture_without_objects(tmp_path: Path) -> None:
    bare = Windows(WINDOWS[0].record, WINDOWS[0].record.targets, WINDOWS[0].boxes)
    kept = Features(FeatureSettings(folder=tmp_path, disk_gb=1), {}, [bare], computed, (5, 7), near_iou=0.6)
    kept.begin("a")
    kept.make(0)
    assert kept.read(0, "objects").shape == (0, 5)
    assert kept.read(0, "near").shape == (0, 7)
    assert kept.all(0).shape == (3, 5)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    kept = features(tmp_path)
    kept.begin("a")
    kept.make(1)
    kept.path(1).write_bytes(kept.path(1).read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"000001\.safetensors is damaged .* delete it"):
        kept.all(1)


def test_a_fingerprint_is_of_every_weight() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    before = fingerprint(layer)
    assert before == fingerprint(layer)
    with torch.no_grad():
        layer.bias[1] += 1e-6
    assert fingerprint(layer) != before
