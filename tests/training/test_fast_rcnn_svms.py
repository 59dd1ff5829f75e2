"""SVMs on Fast R-CNN's features: what they learn, and the file they make."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC
from typer.testing import CliRunner

from rcnnkit.boxes import iou
from rcnnkit.cli import app
from rcnnkit.data.proposals import compute_proposals
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Dataset
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.proposals.methods import SlidingWindows
from rcnnkit.proposals.store import Store
from rcnnkit.training.fast_rcnn_svms import fc7, train_svms
from rcnnkit.weights import load, read, save


def settings(detector: str = "fast_rcnn", **head: object) -> DetectorSettings:
    return DetectorSettings.model_validate(
        {
            "model": {"kind": detector, "backbone": "timm/test_resnet", "fpn_channels": 16},
            "proposals": {"method": "sliding_windows"},
            "head": {"hidden": 24} | head,
            "input": {"short_side": 96, "long_side": 96},
        }
    )


@pytest.fixture(scope="module")
def data(digits: Path) -> Dataset:
    return read_data(digits, "train")


@pytest.fixture(scope="module")
def store(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Store:
    method = SlidingWindows(sizes=(24, 48), ratios=(1.0,))
    store = Store.create(tmp_path_factory.mktemp("proposals"), method.name, method.settings)
    compute_proposals(data, method, store)
    return store


@pytest.fixture
def file(data: Dataset, tmp_path: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save(build(settings(), data.class_names), settings(), tmp_path / "fast.safetensors", {"iterations": 3})
    return tmp_path / "fast.safetensors"


def test_mined_svms_are_those_of_all_negatives(file: Path, data: Dataset, store: Store, tmp_path: Path) -> None:
    """Every negative in one training set, as scikit-learn solves it; mining leaves out what is far from the margin."""
    train_svms(file, data, store, tmp_path / "svms.safetensors", device="cpu")
    detector = load(tmp_path / "svms.safetensors", "cpu", for_training=True)
    assert isinstance(detector, FastRCNN)
    assert detector.head.svm_layer is not None
    plain = load(file, "cpu", for_training=True)
    assert isinstance(plain, FastRCNN)
    positives, negatives, norms = [], [], []
    for record in data.records:
        boxes = store.read(record.id, record.size).boxes
        own = record.targets.labels == 0
        positives.append(fc7(plain, record, record.targets.boxes[own]))
        every = fc7(plain, record, boxes)
        norms.append(np.linalg.norm(every, axis=1))
        far = iou(boxes, record.targets.boxes[own]).amax(dim=1) < 0.3 if own.any() else torch.ones(len(boxes)) > 0
        negatives.append(every[far.numpy()])
    factor = 20 / np.concatenate(norms).mean()
    features = np.concatenate(positives + negatives) * factor
    labels = np.repeat([1, 0], [sum(map(len, positives)), sum(map(len, negatives))])
    options = {"loss": "hinge", "dual": True, "C": 1e-3, "intercept_scaling": 10, "class_weight": {1: 2}}
    svm = LinearSVC(**options, random_state=0, max_iter=100_000).fit(features, labels)

    def objective(weight: np.ndarray, bias: float) -> float:
        margins = np.where(labels, 1, -1) * (features @ weight + bias)
        loss = np.where(labels, 2, 1) * np.maximum(0, 1 - margins)
        return (weight**2).sum() / 2 + (bias / 10) ** 2 / 2 + 1e-3 * loss.sum()

    layer = detector.head.svm_layer
    ours = objective(layer.weight[0].detach().numpy() / factor, layer.bias[0].item())
    assert ours == pytest.approx(objective(svm.coef_[0], svm.intercept_[0]), rel=0.01)
    assert ours < 0.95 * objective(np.zeros(24), 0.0)


def test_margins_are_what_is_detected(file: Path, data: Dataset, store: Store, tmp_path: Path) -> None:
    train_svms(file, data, store, tmp_path / "svms.safetensors", device="cpu")
    about, tensors = read(tmp_path / "svms.safetensors")
    assert about["settings"]["head"]["svms"] is True
    assert about["settings"]["head"]["score_threshold"] == -1
    assert about["training"] == {"iterations": 3, "svms": data.name}
    before = read(file)[1]
    assert all(tensors[name].equal(value) for name, value in before.items())  # nothing else has changed
    detector, record = load(tmp_path / "svms.safetensors", "cpu", for_training=True), data.records[0]
    assert isinstance(detector, FastRCNN)
    proposals = store.read(record.id, record.size)[:1]
    detector.head.score_threshold = -1e9
    found = detector(record.path, proposals)
    margins = fc7(detector, record, proposals.boxes)[0] @ tensors["head.svm_layer.weight"].numpy().T
    expected = np.sort(margins + tensors["head.svm_layer.bias"].numpy())[::-1]
    np.testing.assert_allclose(found.scores.numpy(), expected, atol=1e-4)
    assert (found.scores < 0).any()


def test_what_does_not_fit_is_refused(file: Path, data: Dataset, store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    with pytest.raises(ValueError, match=r"the classes 0, 3, 4, 6, 7, digits has a, b"):
        train_svms(file, Dataset("digits", data.records, ["a", "b"], [1, 2]), store, out)
    with pytest.raises(FileNotFoundError, match="has no proposals of 8 of the 8 pictures"):
        train_svms(file, data, Store.create(tmp_path / "empty", "by-hand", {}), out)
    faster = settings("faster_rcnn")
    save(build(faster, data.class_names), faster, tmp_path / "faster.safetensors")
    with pytest.raises(ValueError, match="the softmax of a Fast R-CNN"):
        train_svms(tmp_path / "faster.safetensors", data, store, out)
    file.rename(out)
    with pytest.raises(FileExistsError, match="nothing is overwritten"):
        train_svms(file, data, store, out)


def test_the_command(file: Path, digits: Path, store: Store, tmp_path: Path) -> None:
    out = tmp_path / "svms.safetensors"
    command = ["svms", str(file), str(digits), "--proposals", str(store.folder), "--out", str(out), "--device", "cpu"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(app, [*command[:-4], "--out", str(tmp_path / "twice.safetensors")])
    assert again.exit_code == 0
    one, other = read(out)[1], read(tmp_path / "twice.safetensors")[1]
    assert all(one[name].equal(other[name]) for name in one)
    wrong = CliRunner().invoke(app, ["svms", str(out), *command[2:-3], str(tmp_path / "thrice.safetensors")])
    assert "has SVMs already" in str(wrong.exception)
