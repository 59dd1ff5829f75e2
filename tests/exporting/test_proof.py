"""What counts as a tie: the file took other candidates that score the same, and answers alike with those."""

import copy
import functools
from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit.exporting.export import describe
from rcnnkit.exporting.proof import Case, _is_a_tie, random_picture
from rcnnkit.exporting.runtimes import Exported
from rcnnkit.structures import Array
from tests.exporting.conftest import small

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'rcnnkit[export]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'rcnnkit[export]'")
CASE = Case("a random picture", [random_picture(96, 130, np.random.default_rng(0))], None)


@functools.cache
def own() -> Any:
    """Without a limit of detections, as rounding decides about the last of as many as there may be."""
    return small(head={"max_detections": 0})


class Changed(Exported):
    """A file whose outputs are changed on their way."""

    changes: dict[str, Any] = {}  # noqa: RUF012  # set by the tests

    def run(self, feed: dict[str, Array]) -> dict[str, Array]:
        found = super().run(feed)
        return found | {name: change(found[name].copy()) for name, change in self.changes.items()}


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Changed:
    from rcnnkit.exporting.to_onnx import to_onnx

    file = tmp_path_factory.mktemp("inside") / "a.onnx"
    to_onnx(own(), file, describe(own(), False), with_preprocessing=False, inside=True)
    return Changed(file)


def tie(parted: Changed, detector: Any = None, **changes: Any) -> bool:
    parted.changes = changes
    return _is_a_tie(detector or own(), parted, CASE, 0)


def test_the_same_candidates_and_answers_are_one(parted: Changed) -> None:
    assert tie(parted)


def test_regions_that_are_no_candidates_are_none(parted: Changed) -> None:
    def move(regions: Array) -> Array:
        regions[0, 3, :4] += 0.5  # pixels
        return regions

    def score(regions: Array) -> Array:
        regions[0, 3, 4] += 0.01
        return regions

    assert not tie(parted, regions=move)
    assert not tie(parted, regions=score)


def test_other_answers_with_the_same_regions_are_none(parted: Changed) -> None:
    def move(boxes: Array) -> Array:
        boxes[0, 0] += 0.5
        return boxes

    assert not tie(parted, boxes=move)


def test_scores_that_differ_are_none_even_where_most_are_equal(parted: Changed) -> None:
    """Where most regions score the same, the scores of the regions decide."""
    detector: Any = copy.deepcopy(own())
    with torch.no_grad():
        detector.head.score_layer.weight.zero_()
        detector.head.score_layer.bias.zero_()

    def equal(scores: Array) -> Array:
        return np.where(np.isfinite(scores), np.float32(1 / 3), scores)  # of two classes and the background

    def lifted(scores: Array) -> Array:
        scores = equal(scores)
        scores[0, np.isfinite(scores[0]).nonzero()[0][0]] += 0.001
        return scores

    assert tie(parted, detector, **{"class scores": equal})
    assert not tie(parted, detector, **{"class scores": lifted})


def test_a_fast_rcnn_has_none(parted: Changed) -> None:
    assert not _is_a_tie(small("fast_rcnn"), parted, CASE, 0)  # type: ignore[arg-type]  # built as a FastRCNN
