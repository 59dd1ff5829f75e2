import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from rcnnkit.heads import svm
from rcnnkit.heads.svm import NORM, SVMSettings, SVMTrainer, feature_scale, fit_svm

Array = np.ndarray[Any, np.dtype[Any]]


def objective(weight: Array, bias: float, positives: Array, negatives: Array) -> float:
    """What an SVM minimises, from the definition: C = 1e-3, a constant feature of 10, positives count twice."""
    loss = 2 * np.maximum(0, 1 - positives @ weight - bias).sum() + np.maximum(0, 1 + negatives @ weight + bias).sum()
    return float(weight @ weight / 2 + (bias / 10) ** 2 / 2 + 1e-3 * loss)


def scenes(classes: int = 2, pictures: int = 40, windows: int = 150, size: int = 12, seed: int = 0) -> Any:
    """Overlapping clusters: features (N, D) of length about 20 and overlaps (N, K) of each picture; positives."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes + 1, size))
    features, overlaps = [], []
    for _ in range(pictures):
        labels = rng.choice(classes + 1, windows, p=[0.04] * classes + [1 - 0.04 * classes])
        x = centres[labels] * 1.2 + rng.normal(size=(windows, size))
        features.append((x * NORM / np.sqrt(2.4 * size)).astype(np.float32))
        overlaps.append((labels[:, None] == np.arange(classes)).astype(np.float32))
    joined, overlap = np.concatenate(features), np.concatenate(overlaps)
    return features, overlaps, [joined[overlap[:, label] == 1] for label in range(classes)]


def trainer_of(positives: Any, names: list[str], processes: int = 1, **settings: Any) -> SVMTrainer:
    return SVMTrainer(positives, names, SVMSettings.model_validate(settings), processes)


def mined(features: Any, overlaps: Any, positives: Any, passes: int = 1, **options: Any) -> SVMTrainer:
    trainer = trainer_of(positives, [f"class {i}" for i in range(len(positives))], **options)
    steps = [i for _ in range(passes) for i in range(len(features))]
    for step, i in enumerate(steps):
        trainer.see(i, features[i], overlaps[i], last=step == len(steps) - 1)
    return trainer


def test_the_scale_gives_a_mean_length_of_20() -> None:
    assert feature_scale(np.array([1.0, 3.0])) == 10
    for norms in ([], [0.0], [np.nan], [np.inf]):
        with pytest.raises(ValueError, match="mean length is"):
            feature_scale(np.array(norms))


def test_fit_minimises_the_objective() -> None:
    rng = np.random.default_rng(0)
    positives = (rng.normal(size=(20, 5)) + 1).astype(np.float32) * 4
    negatives = rng.normal(size=(80, 5)).astype(np.float32) * 4
    weight, bias = fit_svm(positives, negatives, SVMSettings())
    found = objective(weight, bias, positives, negatives)
    start = np.append(weight, bias)
    better = minimize(lambda v: objective(v[:-1], v[-1], positives, negatives), start, method="Nelder-Mead")
    elsewhere = minimize(lambda v: objective(v[:-1], v[-1], positives, negatives), start * 0, method="Powell")
    assert found <= 1.0005 * min(better.fun, elsewhere.fun)


@pytest.mark.parametrize("passes", [1, 2])
def test_mining_ends_where_training_on_every_negative_does(passes: int) -> None:
    features, overlaps, positives = scenes()
    trainer = mined(features, overlaps, positives, passes, retrain_after=200)
    joined, overlap = np.concatenate(features), np.concatenate(overlaps)
    for label in range(2):
        negatives = joined[overlap[:, label] < 0.3]
        best = objective(*fit_svm(positives[label], negatives, SVMSettings()), positives[label], negatives)
        reached = objective(trainer.weight[label], float(trainer.bias[label]), positives[label], negatives)
        first = mined(features[:1], overlaps[:1], positives)
        before = objective(first.weight[label], float(first.bias[label]), positives[label], negatives)
        assert best * 0.9999 <= reached <= 1.01 * best
        assert before > 1.05 * best  # without mining it is not there
        assert len(trainer.negatives[label]) < 0.5 * len(negatives)  # and most were never needed
        assert trainer.trainings[label] > 2


def test_a_case_by_hand() -> None:
    # One number a window; the SVM's sign is all that matters. The first picture's negatives are all taken.
    trainer = trainer_of([np.array([[20.0]], dtype=np.float32)], ["cell"], evict_below=-1.0, retrain_after=2)
    overlaps = np.array([[0.0], [0.29], [0.3], [1.0]])
    assert trainer.see(0, np.array([[-20.0], [-40], [5], [20]], dtype=np.float32), overlaps) == [0]
    weight, bias = float(trainer.weight[0, 0]), float(trainer.bias[0])
    # The two windows below 0.3 were trained on; those that now score below −1 have left.
    assert trainer.negatives[0].keys[0].tolist() == [[0, i] for i, x in ((0, -20), (1, -40)) if weight * x + bias >= -1]
    kept = len(trainer.negatives[0])
    # Of the next picture, only what scores above −1.0001 is added; two are not more than two, so nothing is trained.
    x = np.array([[0.0], [10], [-1000]], dtype=np.float32)
    assert trainer.see(1, x, np.zeros((3, 1))) == []
    assert len(trainer.negatives[0]) == kept + 2
    assert trainer.negatives[0].added == 2
    # The same picture again adds nothing; one more makes three.
    assert trainer.see(1, x, np.zeros((3, 1))) == []
    assert trainer.see(2, x[1:2], np.zeros((1, 1))) == [0]
    assert trainer.negatives[0].added == 0


def test_hard_may_mean_beyond_the_boundary() -> None:
    """Untrained SVMs score 0, so the first negatives are taken whatever counts as hard."""
    rng = np.random.default_rng(0)
    positives, negatives = rng.normal(1, 1, (9, 4)).astype(np.float32), rng.normal(-1, 1, (30, 4)).astype(np.float32)
    trainer = trainer_of([positives], ["a"], add_above=0.5)
    trainer.see(0, negatives, np.zeros((30, 1)), last=True)
    weight, bias = fit_svm(positives, negatives, SVMSettings())
    np.testing.assert_array_equal(trainer.weight[0], weight)
    assert trainer.bias[0] == np.float32(bias)


def test_what_was_evicted_comes_back_when_it_is_hard_again() -> None:
    trainer = trainer_of([np.array([[20.0, 0]], dtype=np.float32)], ["cell"])
    easy, zeros = np.array([[-400.0, 0]], dtype=np.float32), np.zeros((1, 1))
    trainer.see(0, easy, zeros)
    assert len(trainer.negatives[0]) == 0  # far below −1.2: evicted
    trainer.weight[0] *= -1  # as if another training had turned it
    trainer.see(0, easy, zeros)
    assert trainer.negatives[0].keys[-1].tolist() == [[0, 0]]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stopped_training_goes_on_to_the_same_svms(processes: int) -> None:
    features, overlaps, positives = scenes(pictures=12)
    whole = mined(features, overlaps, positives, retrain_after=100, processes=processes)
    first = mined(features, overlaps, positives, passes=0, retrain_after=100)
    for i in range(5):
        first.see(i, features[i], overlaps[i])
    second = mined(features, overlaps, positives, passes=0, retrain_after=100)
    second.restore(first.state(), lambda i: features[i])
    for i in range(5, 12):
        second.see(i, features[i], overlaps[i], last=i == 11)
    np.testing.assert_array_equal(second.trainings, whole.trainings)
    np.testing.assert_allclose(second.weight, whole.weight, rtol=2e-3, atol=2e-5)  # liblinear's tolerance
    np.testing.assert_allclose(second.bias, whole.bias, rtol=2e-3, atol=2e-5)


def test_a_class_without_positives_is_named_and_one_is_enough() -> None:
    one, none = np.ones((1, 3), dtype=np.float32), np.zeros((0, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="no object to learn bike, boat from"):
        trainer_of([one, none, none], ["bird", "bike", "boat"])
    trainer = trainer_of([one * 10], ["bird"])
    trainer.see(0, np.array([[-10.0, -10, -10]], dtype=np.float32), np.zeros((1, 1)), last=True)
    assert trainer.weight[0] @ (one[0] * 10) + trainer.bias[0] > 0


def test_a_class_that_is_everywhere_has_no_negatives() -> None:
    trainer = trainer_of([np.ones((1, 3), dtype=np.float32)], ["bird"])
    assert trainer.see(0, np.ones((2, 3), dtype=np.float32), np.ones((2, 1))) == []
    assert trainer.see(1, np.zeros((0, 3), dtype=np.float32), np.zeros((0, 1))) == []
    with pytest.raises(ValueError, match="no window is a negative of bird"):
        trainer.see(2, np.ones((2, 3), dtype=np.float32), np.ones((2, 1)), last=True)


KILLED = """
import os, signal, time
from rcnnkit.heads import svm

def fit(number, _):
    os.write(1, b"%d\\n" % os.getpid())  # one write: two workers share this pipe
    time.sleep(60)

svm._fit_all(fit, [(1, 0), (2, 0)], 2)
"""


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"  # ended, not yet noticed
    except FileNotFoundError:
        return False


def test_workers_end_with_a_process_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        workers = [int(process.stdout.readline()) for _ in range(2)]
        process.kill()
    waited = time.monotonic()
    while any(map(runs, workers)):
        assert time.monotonic() - waited < 10, "a worker is left"
        time.sleep(0.1)


def test_a_killed_worker_is_an_error() -> None:
    def fit(*_: object) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ChildProcessError, match=r"^a process that trains SVMs was ended by SIGKILL\. If the machine"):
        svm._fit_all(fit, [(np.ones(1), np.zeros(1))] * 2, 2)
