"""Segments in their mean colour, pixel by pixel."""

import numpy as np
import pytest
import torch

from rcnnkit.drawing import draw_segments


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)


def test_segments_have_their_mean_colour_and_lines_between_them(picture):
    labels = np.full((200, 300), 7)
    labels[:, 100:] = -3  # any integers
    labels[150:, 200:] = 1000
    drawn = np.asarray(draw_segments(picture, labels))
    for part, inner in (
        (labels == 7, drawn[:, :99]),
        (labels == -3, drawn[:149, 100:]),
        (labels == 1000, drawn[150:, 200:]),
    ):
        mean = picture[part].astype(float).mean(axis=0)
        assert np.abs(inner - mean).max() <= 0.5
    assert (drawn[:, 99] == 255).all()
    assert (drawn[149, 200:] == 255).all()
    np.testing.assert_array_equal(drawn, draw_segments(picture, torch.from_numpy(labels).int()))


def test_one_segment_and_segments_of_one_pixel(picture):
    one = np.asarray(draw_segments(picture, np.zeros((200, 300), np.uint8)))
    assert (one == one[0, 0]).all()
    assert draw_segments(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), int)).size == (1, 1)
    each = np.asarray(draw_segments(picture, np.arange(60000).reshape(200, 300)))
    assert (each[-1, -1] == picture[-1, -1]).all()  # the only pixel with no other right or below


@pytest.mark.parametrize("labels", [np.zeros((300, 200), int), np.zeros((200, 300)), np.zeros((200, 300, 1), int)])
def test_labels_that_do_not_fit(picture, labels):
    with pytest.raises(ValueError, match=r"do not go with a picture 300 wide and 200 high; give one integer"):
        draw_segments(picture, labels)
