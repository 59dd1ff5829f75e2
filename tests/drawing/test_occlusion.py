"""Occlusion maps: the scores beside those of the detectors' own call, the picture pixel by pixel."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.drawing import Occlusion, draw_occlusion, occlusion
from rcnnkit.proposals.methods import ProposalSettings
from rcnnkit.structures import Proposals

BOX = (20.0, 12.5, 62.0, 44.0)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (61, 90, 3), dtype=np.uint8)


def loud(detector: Detector) -> Detector:
    """With last layers that make something of pixels, and everything detected."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(detector, RCNN):
        detector.svm_weight.normal_(generator=generator)
        detector.score_threshold = -math.inf
    else:
        assert isinstance(detector, FastRCNN | FasterRCNN)
        detector.head.score_layer.weight.data.normal_(generator=generator)
        detector.head.score_threshold = -1.0
    return detector


def by_its_call(detector: Detector, picture: np.ndarray, name: str) -> float:
    """What the detector itself says of BOX as the only proposal; a Faster R-CNN's parts as a Fast R-CNN."""
    if isinstance(detector, FasterRCNN):
        parts = detector.backbone, detector.pool, detector.head, detector.preprocessing
        detector = FastRCNN(*parts, ProposalSettings(method="precomputed")).eval()
    (score,) = detector(picture, Proposals(torch.tensor([BOX]), torch.ones(1))).of(name).scores.tolist()
    return score


@pytest.mark.parametrize(("square", "stride"), [(24, 30), (7, 40)])
def test_the_scores_are_the_detectors_own(detector: Detector, picture: np.ndarray, square: int, stride: int) -> None:
    detector = loud(detector)
    found = occlusion(detector, picture, BOX, "b", square=square, stride=stride, batch=4)
    assert found.score == pytest.approx(by_its_call(detector, picture, "b"), rel=1e-4)
    assert found.scores.shape == (math.ceil(61 / stride), math.ceil(90 / stride))
    expected = np.empty_like(found.scores)
    for row, column in np.ndindex(expected.shape):
        hidden = picture.copy()
        for y, x in np.ndindex(61, 90):  # pixels whose middles lie in the square
            middle = (row + 0.5) * stride, (column + 0.5) * stride
            if all(-square / 2 <= at + 0.5 - m < square / 2 for at, m in zip((y, x), middle, strict=True)):
                hidden[y, x] = (124, 116, 104)  # ImageNet's mean
        expected[row, column] = by_its_call(detector, hidden, "b")
    np.testing.assert_allclose(found.scores, expected, rtol=2e-4, atol=1e-5)
    assert np.ptp(found.scores) > 1e-3
    assert found.box == BOX
    assert found.name == "b"
    assert (found.picture == picture).all()


@pytest.mark.parametrize("detector", ["fast_rcnn"], indirect=True)
def test_the_class_that_scores_best_and_sizes_of_their_own(detector: Detector, picture: np.ndarray) -> None:
    detector = loud(detector)
    found = occlusion(detector, picture, BOX)
    scores = {name: by_its_call(detector, picture, name) for name in ("a", "b")}
    assert found.name == max(scores, key=scores.__getitem__)
    assert found.square == round(math.sqrt(42 * 31.5) / 3) == 12
    assert found.stride == 6
    assert found.scores.shape == (11, 15)
    assert occlusion(detector, picture, (0, 0, 3, 3), stride=50).square == 6  # a sixteenth of 90


@pytest.mark.parametrize("detector", ["rcnn"], indirect=True)
def test_what_is_outside_the_window_does_not_matter(detector: RCNN, picture: np.ndarray) -> None:
    loud(detector)
    detector.settings = detector.settings.model_copy(update={"context": 0})
    detector.preprocessing = detector.preprocessing.model_copy(update={"short_side": 61})  # pixels as they are
    found = occlusion(detector, picture, (30, 20, 50, 40), square=10, stride=10, batch=3)
    same = np.isclose(found.scores, found.score, rtol=1e-5)
    assert same.shape == (7, 9)
    assert not same[2:4, 3:5].any()
    same[2:4, 3:5] = True
    assert same.all()


@pytest.mark.parametrize("detector", ["fast_rcnn"], indirect=True)
def test_bad_input(detector: Detector, picture: np.ndarray) -> None:
    for box in (
        (20, 10, 92, 40),
        (-5, 0, 10, 10),
        (30, 10, 20, 40),
        (20, 10, 20, 40),
        (math.nan, 0, 10, 10),
        (-1, 0, -0.5, 9),
    ):
        with pytest.raises(ValueError, match="does not lie in the picture, which is 90 wide and 61 high"):
            occlusion(detector, picture, box)
    assert occlusion(detector, picture, (-0.5, 0, 90.5, 61), square=200, stride=100).box == (0, 0, 90, 61)
    with pytest.raises(ValueError, match=r"knows no class 'c'; it knows a, b"):
        occlusion(detector, picture, BOX, "c")
    detector.class_names = ("platelet", "cell")
    with pytest.raises(
        ValueError, match=r"knows no class 'platelets'; did you mean platelet\? It knows platelet, cell"
    ):
        occlusion(detector, picture, BOX, "platelets")
    wrong: list[dict[str, Any]] = [{"square": -1}, {"stride": -1}, {"batch": 0}]
    for sizes in wrong:
        with pytest.raises(ValueError, match=f"{next(iter(sizes))} = {next(iter(sizes.values()))}"):
            occlusion(detector, picture, BOX, **sizes)
    with pytest.raises(FileNotFoundError, match=r"none\.jpg"):
        occlusion(detector, "none.jpg", BOX)
    with pytest.raises(RuntimeError, match=r"call detector\.eval\(\)"):
        occlusion(detector.train(), picture, BOX)


def found(scores: np.ndarray, picture: np.ndarray, score: float = 0.9) -> Occlusion:
    return Occlusion(picture, (10.0, 10.0, 30.0, 30.0), "cell", score, scores.astype(np.float32), 60, 50)


def test_heat_is_where_the_score_falls() -> None:
    picture = np.full((430, 520, 3), (90, 120, 150), np.uint8)
    scores = np.full((9, 11), 0.9)
    scores[4, 5] = 0.1
    scores[6, 2] = 1.0  # raised: no heat
    drawn = np.asarray(draw_occlusion(found(scores, picture))).astype(int)
    margin = round(520 / 50)
    first, second = (drawn[margin : margin + 430, x : x + 520] for x in (0, 520 + margin))
    assert drawn.shape[:2] == (430 + 2 * margin, drawn.shape[1])
    np.testing.assert_array_equal(first[100:], picture[100:])
    heat = np.ptp(second, axis=2)  # grey has none
    assert heat[225, 275] > 50  # the middle of cell (4, 5)
    grey = second[heat == 0]
    assert ((grey == 120) | (grey == 255) | (grey == 0)).mean() > 0.99
    far = np.ones_like(heat, dtype=bool)
    far[175:275, 225:325] = False  # heat fades towards the middles of the cells around it
    far[:35] = False  # the text and the box
    assert not heat[far].any()
    bar = drawn[margin : margin + 430, 2 * (520 + margin) + margin // 2]
    assert np.abs(bar[0] - second[225, 275]).max() < 20  # the pixel beside the middle has a little less
    assert np.ptp(bar[0]) > 50
    assert np.ptp(bar[-1]) == 0
    letters = drawn[:, 2 * (520 + margin) + margin + margin // 4 :].min(axis=2) < 128
    assert letters.any()
    assert not letters[:, -margin // 2 :].any()  # nothing is cut off at the right


def test_without_dependence_there_is_no_heat() -> None:
    picture = np.full((100, 100, 3), 90, np.uint8)
    drawn = np.asarray(draw_occlusion(found(np.full((2, 2), 0.9), picture, float(np.float32(0.9))))).astype(int)
    margin = 10
    assert drawn.shape[0] == 400 + 2 * margin  # four times as large
    panel = drawn[margin + 150 : margin + 400, 400 + margin : 800 + margin]
    assert (panel == 90).all()
