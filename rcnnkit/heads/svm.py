"""One linear SVM per class, trained on hard negatives (R-CNN, arXiv:1311.2524v5, section 2.3 and appendix B)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from rcnnkit.processes import map_ahead
from rcnnkit.settings import Count, Factor, Section, Share
from rcnnkit.structures import Array

Fit = tuple[Array, float]  # weight (D,) and bias of one SVM

NORM = 20.0  # the mean length of features that C was chosen for (released code)


class SVMSettings(Section):
    """Of the SVMs, in [rcnn]: the released code's constants."""

    background_iou: Share = 0.3
    """A window whose IoU with every object of a class is below this is a negative of that class's SVM (R-CNN 2.3)."""
    c: Factor = 1e-3
    """C of the SVMs: what a violated margin costs, relative to the length of the weights. Chosen for features with a
    mean length of 20 (released code)."""
    bias: Factor = 10.0
    """The constant feature whose weight is the bias of an SVM (released code)."""
    positive_weight: Factor = 2.0
    """How much more a positive's violated margin costs than a negative's (released code)."""
    add_above: float = -1.0001
    """A negative with a larger margin is hard, and joins the training set (released code)."""
    evict_below: float = -1.2
    """A negative with a smaller margin after a training leaves the training set (released code)."""
    retrain_after: Count = 2000
    """New negatives after which a class's SVM is trained again (released code)."""


def feature_scale(norms: Array) -> float:
    """What features are multiplied by, so that their mean length is 20.

    Args:
        norms: (N,) lengths of some windows' features.

    Raises:
        ValueError: there are none, or they are all 0 or not finite.
    """
    mean = float(np.mean(norms, dtype=np.float64)) if len(norms) else 0.0
    if not 0 < mean < float("inf"):
        raise ValueError(
            f"the features' mean length is {mean:g}, which cannot be scaled to {NORM:g}; check the network's weights"
        )
    return NORM / mean


def fit_svm(positives: Array, negatives: Array, settings: SVMSettings) -> Fit:
    """The weight (D,) and bias of the SVM between (P, D) positives and (N, D) negatives.

    Minimises |w|² / 2 + (b / `bias`)² / 2 + `c` Σ vᵢ max(0, 1 − yᵢ (w·xᵢ + b)), with vᵢ = `positive_weight` for
    positives and 1 for negatives: liblinear's dual solver, as released. The bias is the weight of a constant
    feature of that size, and regularised. Where 1000 sweeps are not enough, which is liblinear's own limit and so the
    released code's, what they reached is taken.
    """
    from sklearn.exceptions import ConvergenceWarning  # imported late: detecting does without
    from sklearn.svm import LinearSVC

    svm = LinearSVC(
        loss="hinge",
        dual=True,
        C=settings.c,
        intercept_scaling=settings.bias,
        class_weight={1: settings.positive_weight},
        max_iter=1000,
        random_state=0,  # the order in which the solver visits the examples
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        svm.fit(np.concatenate([positives, negatives]), [1] * len(positives) + [0] * len(negatives))
    return svm.coef_[0].astype(np.float32), float(svm.intercept_[0])


@dataclass
class _Negatives:
    """The hard negatives of one class."""

    features: list[Array] = field(default_factory=list)  # blocks (n, D)
    keys: list[Array] = field(default_factory=list)  # blocks (n, 2) int64: which picture, which of its windows
    added: int = 0  # since the last training

    def __len__(self) -> int:
        return sum(map(len, self.keys))

    def add(self, picture: int, windows: Array, features: Array) -> None:
        """Take in some `windows` of a picture, but none twice."""
        known = [block[block[:, 0] == picture, 1] for block in self.keys]
        fresh = ~np.isin(windows, np.concatenate(known)) if known else np.ones(len(windows), dtype=bool)
        if fresh.any():
            self.keys.append(np.stack([np.full(fresh.sum(), picture), windows[fresh]], axis=1).astype(np.int64))
            self.features.append(features[windows[fresh]])
            self.added += int(fresh.sum())

    def joined(self) -> Array:
        self.features, self.keys = [np.concatenate(self.features)], [np.concatenate(self.keys)]
        return self.features[0]

    def keep(self, kept: Array) -> None:
        self.features, self.keys = [self.features[0][kept]], [self.keys[0][kept]]


class SVMTrainer:
    """K SVMs that look at one picture after another and keep the negatives that are hard.

    Of each picture, negatives (IoU below `background_iou` with every object of the class) that score above
    `add_above` join the class's training set, none twice. An SVM is trained when it first has negatives, when
    more than `retrain_after` were added, and at the last picture; afterwards negatives below `evict_below` leave
    the set. Before its first training a class takes all negatives of the first picture that has some.

    Args:
        positives: (P, D) features of the objects of each class, P ≥ 1.
        class_names: K of them, for messages.
        settings: see `SVMSettings`.
        processes: in which SVMs are trained at the same time.

    Raises:
        ValueError: a class has no positives.

    Source: the released code's constants; the paper has the IoU of 0.3 (section 2.3) and the objects themselves
    as the only positives (appendix B).
    """

    def __init__(
        self,
        positives: Sequence[Array],
        class_names: Sequence[str],
        settings: SVMSettings,
        processes: int,
    ) -> None:
        if missing := [name for name, rows in zip(class_names, positives, strict=True) if not len(rows)]:
            raise ValueError(
                f"no object to learn {', '.join(missing)} from; annotate some, or leave it out of data.class_names"
            )
        self.positives, self.class_names = positives, tuple(class_names)
        self.settings, self.processes = settings, processes
        self.weight = np.zeros((len(positives), positives[0].shape[1]), dtype=np.float32)  # (K, D)
        self.bias = np.zeros(len(positives), dtype=np.float32)  # (K,)
        self.negatives = [_Negatives() for _ in positives]
        self.trainings = np.zeros(len(positives), dtype=np.int64)  # of each class, so far

    def see(self, picture: int, features: Array, overlaps: Array, *, last: bool = False) -> list[int]:
        """Take in a picture's hard negatives, train the SVMs that are due, and name these classes.

        Args:
            picture: its index, which distinguishes its windows from other pictures'.
            features: (N, D) of its windows, scaled.
            overlaps: (N, K) greatest IoU of each window with an object of each class.
            last: train every class.

        Raises:
            ValueError: it is the last picture and a class has no negatives.
        """
        scores = features @ self.weight.T + self.bias
        hard = ((scores > self.settings.add_above) | (self.trainings == 0)) & (overlaps < self.settings.background_iou)
        due = []
        for label, negatives in enumerate(self.negatives):
            negatives.add(picture, np.flatnonzero(hard[:, label]), features)
            if not len(negatives):
                if last and not self.trainings[label]:
                    raise ValueError(
                        f"no window is a negative of {self.class_names[label]}: each has IoU ≥"
                        f" {self.settings.background_iou} with an object of it; give more proposals a picture"
                    )
            elif last or not self.trainings[label] or negatives.added > self.settings.retrain_after:
                due.append(label)
        fit = partial(fit_svm, settings=self.settings)
        sets = [(self.positives[label], self.negatives[label].joined()) for label in due]
        for label, (weight, bias) in zip(due, _fit_all(fit, sets, self.processes), strict=True):
            self.weight[label], self.bias[label] = weight, bias
            negatives = self.negatives[label]
            negatives.keep(negatives.features[0] @ weight + bias >= self.settings.evict_below)
            negatives.added = 0
            self.trainings[label] += 1
        return due

    def state(self) -> dict[str, Array]:
        """What `restore` continues from: everything but the features themselves."""
        no_keys = np.zeros((0, 2), dtype=np.int64)
        return {
            "weight": self.weight.copy(),
            "bias": self.bias.copy(),
            "trainings": self.trainings.copy(),
            "added": np.array([negatives.added for negatives in self.negatives]),
        } | {f"keys/{label}": np.concatenate([no_keys, *own.keys]) for label, own in enumerate(self.negatives)}

    def restore(self, state: dict[str, Array], features: Callable[[int], Array]) -> None:
        """Go on from a `state`; `features` gives those of a picture again, (N, D) and scaled."""
        self.weight, self.bias, self.trainings = (state[name].copy() for name in ("weight", "bias", "trainings"))
        self.negatives = [_Negatives() for _ in self.positives]
        keys = [state[f"keys/{label}"] for label in range(len(self.positives))]
        for picture in np.unique(np.concatenate(keys)[:, 0]):
            all_features = features(int(picture))
            for negatives, rows in zip(self.negatives, keys, strict=True):
                negatives.add(int(picture), rows[rows[:, 0] == picture, 1], all_features)
        for negatives, added in zip(self.negatives, state["added"], strict=True):
            negatives.added = int(added)


def _fit_all(fit: Callable[..., Fit], sets: Sequence[tuple[Array, Array]], processes: int) -> list[Fit]:
    """`fit` of each set. In processes: liblinear's threads would share one random generator.

    Raises:
        ChildProcessError: one was killed.
    """
    if min(processes, len(sets)) <= 1:
        return [fit(positives, negatives) for positives, negatives in sets]
    advice = "give it fewer windows a picture: proposals.train_count"
    jobs = iter(range(len(sets)))
    with closing(map_ahead(lambda i: fit(*sets[i]), jobs, min(processes, len(sets)), "trains SVMs", advice)) as fits:
        return list(fits)
