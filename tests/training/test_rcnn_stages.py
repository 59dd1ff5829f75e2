import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import rcnnkit
from rcnnkit import weights
from rcnnkit.boxes import encode, iou
from rcnnkit.config import Settings
from rcnnkit.config_files import check_settings, write_settings
from rcnnkit.data.reading import read_data
from rcnnkit.data.voc_writing import write_voc
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.heads.box_ridge import BoxRidge
from rcnnkit.heads.svm import SVMSettings, fit_svm
from rcnnkit.images import read_picture
from rcnnkit.proposals.sliding_windows import sliding_windows
from rcnnkit.proposals.store import Store
from rcnnkit.structures import Proposals
from rcnnkit.training import features as features_module
from rcnnkit.training import loop, rcnn_stages
from rcnnkit.training.train import train

QUIET = Console(quiet=True)
Values = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def proposals(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 60 windows of each of the 12 pictures."""
    store = Store.create(tmp_path_factory.mktemp("proposals"), "windows", {})
    for split in ("train", "val"):
        for record in read_data(digits, split).records:
            found = sliding_windows(record.size, (24, 48), (1.0,), 0.5)
            store.write(record.id, found, record.size, record.path)
    return store.folder


@pytest.fixture(scope="module")
def values(digits: Path, proposals: Path) -> Values:
    return {
        "model": {"kind": "rcnn", "backbone": "timm/test_resnet"},
        "proposals": {"method": "precomputed", "folder": str(proposals)},
        "rcnn": {"size": 32, "context": 4, "samples": 16, "retrain_after": 60, "ridge": 10},
        "input": {"short_side": 0},
        "data": {"root": str(digits), "val": "", "workers": 0},
        "train": {
            "iterations": 4,
            "lr": 0.01,
            "warmup": 0,
            "log_every": 1,
            "save_every": 2,
            "device": "cpu",
            "precision": "float32",
        },
    }


def changed(values: Values, **sections: dict[str, Any]) -> Settings:
    """With other settings in the named sections."""
    merged = {name: values.get(name, {}) | sections.get(name, {}) for name in values.keys() | sections.keys()}
    return check_settings(merged, "test")


@pytest.fixture(scope="module")
def whole(values: Values, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, left alone."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(changed(values), run, console=QUIET)
    return run


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return weights.read(path)[1]


def assert_same(a: Path, b: Path) -> None:
    first, second = tensors(a), tensors(b)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, msg=name)


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_run_leaves_all_that_is_promised(values: Values, digits: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    file, best = tmp_path / "settings.toml", run / "best.safetensors"
    write_settings(changed(values, data={"val": "val"}, train={"iterations": 2, "save_every": 1}), file)
    train(file, run)
    names = {
        path.name.partition("-")[0] if "svms" in path.name or "boxes" in path.name else path.name
        for path in run.iterdir()
    }
    assert names == {
        *("settings.toml", "log.jsonl", "tensorboard", "evaluation.json", "report.html", "features", "svms", "boxes"),
        *("last.safetensors", "previous.safetensors", "best.safetensors", "before-mining.safetensors"),
    }
    lines = log(run)
    assert [line["iteration"] for line in lines if "loss" in line] == [1, 2]
    assert all(line["windows_per_second"] > 0 for line in lines if "loss" in line)
    assert [line["stage"] for line in lines if "seconds" in line and "stage" in line] == [
        *("features", "SVMs", "box regression"),
    ]
    trained = [line for line in lines if line.get("stage") == "svms"]
    assert {line["class"] for line in trained if line["picture"] == 8} == {"0", "3", "4", "6", "7"}
    assert all(line["training"] > 1 for line in trained if line["picture"] == 8)
    assert lines[-1]["stage"] == "evaluation"

    detector = rcnnkit.load(best, "cpu")
    assert isinstance(detector, RCNN)
    record = read_data(digits, "val").records[0]
    store = Store.open(values["proposals"]["folder"])
    found = detector(str(record.path), store.read(record.id, record.size))
    assert isinstance(found, rcnnkit.Detections)
    assert len(found) > 0
    assert (found.scores > -1).all()


def objective(weight: np.ndarray, bias: float, positives: np.ndarray, negatives: np.ndarray) -> float:
    """What an SVM minimises."""
    loss = 2 * np.maximum(0, 1 - positives @ weight - bias).sum() + np.maximum(0, 1 + negatives @ weight + bias).sum()
    return float(weight @ weight / 2 + (bias / 10) ** 2 / 2 + 1e-3 * loss)


def test_svms_and_boxes_are_those_of_the_features(values: Values, whole: Path, digits: Path) -> None:
    """The best detector's parts, from its own network and the definitions."""
    detector = rcnnkit.load(whole / "best.safetensors", "cpu", for_training=True)
    assert isinstance(detector, RCNN)
    store = Store.open(values["proposals"]["folder"])
    data = read_data(digits, "train")
    rows = []
    for record in data.records:
        boxes = torch.cat([record.targets.boxes, store.read(record.id, record.size).boxes])
        images = detector.preprocessing([read_picture(record.path)])
        with torch.inference_mode():
            found = detector.compute_features(images.pixels[0, :, : record.size[0], : record.size[1]], boxes)
        rows.append((record.targets, boxes, {name: value.half().float() for name, value in found.items()}))
    # SVMs: mining has come near to what training on every negative reaches
    lengths = torch.cat([found["fc7"].norm(dim=1) for _, _, found in rows])
    scale = 20 / float(lengths.mean())  # 8 pictures of at most 200 windows: all of them
    x = torch.cat([found["fc7"] for _, _, found in rows]).numpy() * scale
    for label in range(5):
        positive = np.concatenate([np.isin(np.arange(len(b)), np.flatnonzero(t.labels == label)) for t, b, _ in rows])
        overlaps = [iou(b, t.boxes[t.labels == label]) for t, b, _ in rows]
        negative = np.concatenate([(o < 0.3).all(dim=1).numpy() for o in overlaps])

        mined = detector.svm_weight[label].numpy() / scale, float(detector.svm_bias[label])
        whole_fit = fit_svm(x[positive], x[negative], SVMSettings())
        assert objective(*mined, x[positive], x[negative]) <= 1.01 * objective(*whole_fit, x[positive], x[negative])
    # box regression: its own sums, from the same windows
    lengths = torch.cat([found["pool5"].norm(dim=1) for _, _, found in rows])
    scale = 20 / float(lengths.mean())
    regressor = BoxRidge(rows[0][2]["pool5"].shape[1], 10)
    for targets, boxes, found in rows:
        best, index = iou(boxes, targets.boxes).max(dim=1)
        near = (best > 0.6) & (targets.labels[index] == 3)
        regressor.add(found["pool5"][near].numpy() * scale, encode(targets.boxes[index[near]], boxes[near]).numpy())
    weight, bias = regressor.solve()
    np.testing.assert_allclose(
        detector.ridge_weight[3].numpy(), weight * scale, atol=2e-3 * np.abs(weight * scale).max()
    )
    np.testing.assert_allclose(detector.ridge_bias[3].numpy(), bias, atol=1e-3)


def test_features_that_do_not_fit_are_computed_again_and_give_the_same(
    values: Values, whole: Path, tmp_path: Path
) -> None:
    sizes = [path.stat().st_size for path in (whole / "features").glob("*.safetensors")]
    less = 0.7 * sum(sizes) / 1e9
    run = tmp_path / "run"
    train(changed(values, features={"disk_gb": less}), run, console=QUIET)
    stored = [path.stat().st_size for path in (run / "features").glob("*.safetensors")]
    assert sum(stored) < less * 1e9
    assert len(stored) == len(sizes)
    assert_same(run / "best.safetensors", whole / "best.safetensors")


STAGES = [
    (loop, "step", 3),
    (features_module.Features, "make", 4),
    (rcnn_stages.SVMTrainer, "see", 6),
    (rcnn_stages.BoxRidge, "solve", 3),
]


@pytest.mark.parametrize(("home", "name", "call"), STAGES, ids=[name for _, name, _ in STAGES])
def test_a_killed_stage_goes_on(
    values: Values, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Any, name: str, call: int
) -> None:
    real, calls = getattr(home, name), 0

    def killed(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    run = tmp_path / "run"
    monkeypatch.setattr(rcnn_stages, "SAVE_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(home, name, killed)
        with pytest.raises(KeyboardInterrupt):
            train(changed(values), run, console=QUIET)
    again = []

    def counted(*arguments: Any, **options: Any) -> Any:
        again.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(home, name, counted)
    train(changed(values, train={"resume": str(run)}), run, console=QUIET)
    assert len(again) < {"step": 4, "make": 8, "see": 8, "solve": 5}[name]  # what was done is not done again
    assert_same(run / "best.safetensors", whole / "best.safetensors")
    assert_same(run / "before-mining.safetensors", whole / "before-mining.safetensors")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"weight": np.zeros((2, 3))}, "it has no seen"),
        ({"weight": np.zeros((2, 4)), "seen": np.array([1])}, "its weight is float64 (2, 4)"),
        ({"weight": np.zeros((2, 3), int), "seen": np.array([1])}, "its weight is int64 (2, 3)"),
        ({"weight": np.zeros((2, 3)), "seen": np.array([1.5])}, "its seen is float64 (1,)"),
        ({"weight": np.full((2, 3), np.nan), "seen": np.array([1])}, "its weight holds numbers that cannot be"),
        ({"weight": np.zeros((2, 3)), "seen": np.array([-1])}, "its seen holds numbers that cannot be"),
        ({"weight": np.zeros((2, 3)), "seen": np.array([1]), "first": np.zeros(3)}, "its first is float64 (3,)"),
        (None, "Error while deserializing header"),
    ],
)
def test_what_a_stage_kept_is_checked(state: dict[str, np.ndarray] | None, words: str, tmp_path: Path) -> None:
    file = tmp_path / "svms-01234567.safetensors"
    if state is None:
        file.write_bytes(b"damaged, and longer than a header")
    else:
        features_module.write_arrays(state, file)
    with pytest.raises(ValueError, match="is damaged") as error:
        rcnn_stages.read_stage(file, {"weight": (2, 3)}, {"seen": (1,)}, {"first": (2,)})
    assert str(error.value).startswith(f"{file} is damaged ({words}")
    assert str(error.value).endswith("; delete it, and this stage begins again")


def test_without_mining_the_svms_are_those_of_the_first_training(values: Values, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    same_network = {
        "train": {"init": str(whole / "best.safetensors")},
        "feature_store": {"folder": str(whole / "features")},
    }
    train(changed(values, rcnn={"mining": False, "fine_tune": False}, **same_network), run, console=QUIET)
    assert_same(run / "best.safetensors", whole / "before-mining.safetensors")
    assert not (run / "before-mining.safetensors").exists()
    assert not (run / "features").exists()
    mined, first = (tensors(whole / f"{name}.safetensors")["svm_weight"] for name in ("best", "before-mining"))
    assert (mined - first).abs().max() > 1e-3


def test_the_softmax_without_box_regression_needs_no_features(values: Values, whole: Path, tmp_path: Path) -> None:
    options = {"scorer": "softmax", "box_regression": False}
    best = train(changed(values, rcnn=options), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run" / "features").exists()
    torch.testing.assert_close(
        tensors(best)["score_layer.weight"], tensors(whole / "best.safetensors")["score_layer.weight"]
    )


def test_without_fine_tuning_the_network_stays(values: Values, whole: Path, tmp_path: Path) -> None:
    start = whole / "best.safetensors"
    settings = changed(values, rcnn={"fine_tune": False}, train={"init": str(start)})
    run = tmp_path / "run"
    assert_same(train(settings, run, console=QUIET), start)


def test_what_would_fail_later_is_found_first(values: Values, digits: Path, proposals: Path, tmp_path: Path) -> None:
    def message(**sections: dict[str, Any]) -> str:
        with pytest.raises((ValueError, OSError)) as raised:
            train(changed(values, **sections), tmp_path / "run", console=QUIET)
        assert not (tmp_path / "run").exists()
        return str(raised.value)

    classes = {"class_names": ["0", "3", "4", "6", "7", "boat", "bike"]}
    assert "no object to learn boat, bike from" in message(data=classes)
    assert "rcnn.fine_tune = false leaves the network as it is" in message(rcnn={"fine_tune": False})
    assert "augment.scale is not for R-CNN" in message(augment={"scale": [0.5, 1]})
    assert "proposals" in message(proposals={"folder": str(tmp_path / "none")})

    other = Store.create(tmp_path / "other", "windows", {})
    records = read_data(digits, "train").records
    for record in records[1:]:
        other.write(record.id, Proposals(record.targets.boxes, torch.ones(len(record.targets))), record.size)
    assert f"({records[0].id} is the first)" in message(proposals={"folder": str(other.folder)})
    other.write(records[0].id, Proposals(torch.zeros(0, 4), torch.zeros(0)), records[0].size)
    assert "has no proposal" in message(proposals={"folder": str(other.folder)})
    other.write(records[0].id, Proposals(torch.zeros(0, 4), torch.zeros(0)), (50, 60))
    assert "60 wide and 50 high" in message(proposals={"folder": str(other.folder)})


def test_features_of_another_network_are_refused(values: Values, whole: Path, tmp_path: Path) -> None:
    folder = {"folder": str(whole / "features")}
    with pytest.raises(ValueError, match="holds features of another layer"):  # before anything is trained
        train(changed(values, rcnn={"layer": "pool5"}, features=folder), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="holds features of a network already, and this one is yet to be trained"):
        train(changed(values, train={"seed": 1}, features=folder), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run").exists()


def test_training_longer_makes_features_anew(values: Values, whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    more = values["train"]["iterations"] + 1
    train(changed(values, train={"iterations": more, "resume": str(run)}), run, console=QUIET)
    features, old = (json.loads((each / "features" / "about.json").read_text()) for each in (run, whole))
    assert features["network"] != old["network"]


def test_one_object_of_a_class_is_enough(digits: Path, values: Values, tmp_path: Path) -> None:
    data = read_data(digits, "train", class_names=["0", "3", "4", "6", "7"])
    label = int(data.records[0].targets.labels[0])
    records = [data.records[0]]
    for record in data.records[1:]:
        records.append(replace(record, targets=record.targets[record.targets.labels != label]))
    first = records[0].targets
    others = first[torch.cat([torch.tensor([True]), first.labels[1:] != label])]
    records[0] = replace(records[0], targets=others)
    (tmp_path / "data").mkdir()
    write_voc(replace(data, records=records), tmp_path / "data", "train")
    for record in records:
        (tmp_path / "data" / "JPEGImages" / record.path.name).write_bytes(record.path.read_bytes())
    settings = changed(values, data={"root": str(tmp_path / "data")}, train={"iterations": 1})
    best = train(settings, tmp_path / "run", console=QUIET)
    name = data.class_names[label]
    counts = {line["class"]: line["positives"] for line in log(tmp_path / "run") if line.get("stage") == "svms"}
    assert counts[name] == 1
    assert all(t.isfinite().all() for t in tensors(best).values())


@pytest.mark.gpu
def test_every_stage_on_a_gpu(values: Values, digits: Path, tmp_path: Path) -> None:
    best = train(changed(values, train={"device": "cuda", "precision": "auto"}), tmp_path / "run", console=QUIET)
    record = read_data(digits, "val").records[0]
    found = Store.open(values["proposals"]["folder"]).read(record.id, record.size)
    there, here = (weights.load(best, device, for_training=True)(str(record.path), found) for device in ("cuda", "cpu"))
    assert isinstance(there, rcnnkit.Detections)
    assert isinstance(here, rcnnkit.Detections)
    assert there.boxes.is_cuda
    # the best of them; further down, NMS may decide otherwise after a rounding
    torch.testing.assert_close(there.scores[:3].cpu(), here.scores[:3], atol=1e-3, rtol=0)
