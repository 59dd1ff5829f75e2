"""What a spatial transformer makes of windows, as pictures."""

from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit.backbones.classifier import Classifier
from rcnnkit.backbones.spatial_transformer import SpatialTransformer
from rcnnkit.detectors.detector import Detector
from rcnnkit.drawing import Look, draw_looks, looks
from rcnnkit.drawing.transformed import GAP, LINE, SIDE
from tests.detectors.test_kinds import KINDS, PICTURE, made, turn


@pytest.mark.parametrize("kind", KINDS)
def test_windows_of_every_kind(kind: str) -> None:
    model: Any = made(kind, "affine")[0]
    (transformer,) = (part for part in model.modules() if isinstance(part, SpatialTransformer))
    shown = looks(model, PICTURE, -9)
    assert shown
    assert all(look.theta.equal(torch.eye(2, 3)) for look in shown)
    assert all(look.seen.equal(look.window) for look in shown)
    turn(model)
    with torch.no_grad():
        transformer.last_layer.weight.zero_()
    shown = looks(model, PICTURE, -9)
    expected = torch.eye(2, 3) + torch.tanh(transformer.last_layer.bias.detach()).view(2, 3)
    assert all(torch.allclose(look.theta, expected) for look in shown)
    assert all(0 <= float(look.window.min()) <= float(look.window.max()) <= 1 for look in shown)
    if isinstance(model, Classifier):
        (look,) = shown
        assert (look.window * 255).round().byte().equal(model.see(PICTURE))
        probabilities = model(PICTURE)
        assert look.name == model.class_names[int(probabilities.argmax())]
        assert look.score == pytest.approx(float(probabilities.max()), abs=1e-6)
    else:
        assert isinstance(model, Detector)
        found = model(PICTURE)
        assert [look.name for look in shown] == found.names
        assert [look.score for look in shown] == pytest.approx(found.scores.tolist())


def test_a_model_without_one() -> None:
    model = made("classifier", "none")[0]
    assert isinstance(model, Classifier)
    with pytest.raises(ValueError, match=r'there is no spatial transformer; train with transformer\.kind = "rotation"'):
        looks(model, PICTURE)


def test_the_sheet_shows_the_quadrilateral_and_what_is_seen() -> None:
    window = torch.zeros(3, 16, 16)
    window[0, :, 8:] = 1  # the right half is red
    half_turn = torch.tensor([[-1.0, 0, 0], [0, -1, 0]])
    sheet = np.asarray(draw_looks([Look(window, half_turn, "a", 0.5), Look(window, torch.eye(2, 3), "b", 1.0)]))
    assert sheet.shape == (SIDE + LINE + 2 * GAP, 2 * (2 * SIDE + 3 * GAP), 3)
    seen = sheet[GAP + LINE :, 2 * GAP + SIDE :][:SIDE, :SIDE]
    assert seen[SIDE // 2, 4].tolist() == [255, 0, 0]  # turned: red is on the left
    assert seen[SIDE // 2, -4].tolist() == [0, 0, 0]
    tile = sheet[GAP + LINE :, GAP:][:SIDE, :SIDE].astype(int)
    blue = (tile == [0, 160, 255]).all(-1)
    assert np.flatnonzero(blue.any(1)).min() > SIDE / 2  # what is below becomes the upper edge
    upright = sheet[GAP + LINE :, 2 * SIDE + 4 * GAP :][:SIDE, :SIDE].astype(int)
    assert np.flatnonzero((upright == [0, 160, 255]).all(-1).any(1)).max() < SIDE / 2
