"""Training on proposals made beforehand: what is missing is computed, what does not fit is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rcnnkit import weights
from rcnnkit.config import Settings
from rcnnkit.config_files import check_settings
from rcnnkit.data.digits import write_digits
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.proposals.store import Store
from rcnnkit.structures import Proposals
from rcnnkit.terminal import Console
from rcnnkit.training.detection import read_splits
from rcnnkit.training.proposals import stored_proposals
from rcnnkit.training.train import train

Values = dict[str, dict[str, Any]]
QUIET = Console(quiet=True)


@pytest.fixture
def fast(tiny: Values, tmp_path: Path) -> Values:
    """Fast R-CNN on sliding windows."""
    tiny["model"] |= {"kind": "fast_rcnn"}
    tiny["proposals"] = {"method": "sliding_windows", "folder": str(tmp_path / "proposals"), "train_count": 300}
    return tiny


def settings(values: Values, **train: Any) -> Settings:
    return check_settings(values | {"train": values["train"] | train}, "test")


def same(a: Path, b: Path) -> bool:
    (_, first), (_, second) = weights.read(a), weights.read(b)
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def test_missing_proposals_of_both_splits_are_computed_before_training(fast: Values, tmp_path: Path) -> None:
    best = train(settings(fast), tmp_path / "run", console=QUIET)
    store = Store.open(tmp_path / "proposals")
    training, validation = read_splits(settings(fast).data)
    assert validation is not None
    assert all(record.id in store for data in (training, validation) for record in data.records)
    detector = weights.load(best, "cpu")
    assert isinstance(detector, FastRCNN)
    one = validation.records[0]
    found = detector(one.path)  # searches by itself
    assert len(found) > 0
    stored = detector(one.path, store.read(one.id, one.size))
    assert found.boxes.equal(stored.boxes)
    assert found.scores.equal(stored.scores)


def test_wrong_weights_to_start_from_are_told_before_any_proposal(fast: Values, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such weights file"):
        train(settings(fast, init=str(tmp_path / "nothere.safetensors")), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "proposals").exists()


def test_proposals_that_are_there_are_kept(fast: Values, tmp_path: Path) -> None:
    train(settings(fast, iterations=1), tmp_path / "one", console=QUIET)
    files = sorted((tmp_path / "proposals").glob("*/*.safetensors"))
    before = [file.stat().st_mtime_ns for file in files]
    files[3].unlink()
    train(settings(fast, iterations=1), tmp_path / "two", console=QUIET)
    after = [file.stat().st_mtime_ns for file in files]
    assert [a == b for a, b in zip(before, after, strict=True)] == [i != 3 for i in range(len(files))]


def test_validation_uses_the_store(fast: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_search(*_: object) -> None:
        raise AssertionError("searched although the proposals are stored")

    stored_proposals(settings(fast), [each for each in read_splits(settings(fast).data) if each], QUIET)
    monkeypatch.setattr("rcnnkit.proposals.methods.SlidingWindows.find", no_search)
    train(settings(fast), tmp_path / "run", console=QUIET)
    assert (tmp_path / "run" / "evaluation.json").is_file()


def test_a_resumed_run_is_the_same_with_dropout_and_measured_targets(fast: Values, tmp_path: Path) -> None:
    fast["model"] = {"kind": "fast_rcnn", "backbone": "alexnet", "pool": "roi_pool"}
    fast["head"] |= {"measured_targets": True, "background_low": 0.1}
    fast["train"] |= {"steps": []}
    train(settings(fast), tmp_path / "whole", console=QUIET)
    train(settings(fast, iterations=2), tmp_path / "half", console=QUIET)
    train(settings(fast, resume=str(tmp_path / "half")), tmp_path / "half", console=QUIET)
    whole, half = tmp_path / "whole" / "last.safetensors", tmp_path / "half" / "last.safetensors"
    assert same(whole, half)
    assert not weights.read(whole)[1]["head.target_std"].eq(1).all()


def test_the_same_settings_give_the_same_weights_with_dropout(fast: Values, tmp_path: Path) -> None:
    fast["model"] = {"kind": "fast_rcnn", "backbone": "alexnet", "pool": "roi_pool"}
    one = train(settings(fast), tmp_path / "one", console=QUIET)
    torch.manual_seed(99)  # the global generator plays no part
    assert same(one, train(settings(fast), tmp_path / "two", console=QUIET))


def test_precomputed_proposals_have_to_be_there(fast: Values, tmp_path: Path) -> None:
    fast["proposals"] = {"method": "precomputed"}
    with pytest.raises(ValueError, match=r"reads them from proposals\.folder; give it"):
        train(settings(fast), tmp_path / "run", console=QUIET)
    fast["proposals"]["folder"] = str(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="none holds no proposals"):
        train(settings(fast), tmp_path / "run", console=QUIET)
    store = Store.create(tmp_path / "some", "by-hand", {})
    fast["proposals"]["folder"] = str(store.folder)
    training, validation = read_splits(settings(fast).data)
    assert validation is not None
    for record in [*training.records, *validation.records][1:]:
        boxes = record.targets.boxes
        store.write(record.id, Proposals(boxes, torch.ones(len(boxes))), record.size, record.path)
    with pytest.raises(FileNotFoundError, match=r"has no proposals of 1 of the 8 pictures"):
        train(settings(fast), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run").exists()  # nothing was begun
    first = training.records[0]
    store.write(first.id, Proposals(first.targets.boxes, torch.ones(len(first.targets))), first.size, first.path)
    train(settings(fast), tmp_path / "run", console=QUIET)


def test_proposals_of_other_pictures_are_refused_before_training(fast: Values, tmp_path: Path) -> None:
    train(settings(fast, iterations=1), tmp_path / "one", console=QUIET)
    write_digits(tmp_path / "other", train=8, val=4, size=(96, 128))  # the same ids
    fast["data"]["root"] = str(tmp_path / "other")
    with pytest.raises(ValueError, match="96 wide and 96 high, but this one is 128 wide and 96 high"):
        train(settings(fast), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run").exists()


def test_by_default_they_lie_in_a_folder_named_after_the_data(
    fast: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    del fast["proposals"]["folder"]
    made = settings(fast)
    store = stored_proposals(made, [read_splits(made.data)[0]], QUIET)
    assert store.folder.parent == Path("proposals/data")
