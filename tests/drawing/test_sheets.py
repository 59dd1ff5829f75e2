"""The sheet of channels, pixel by pixel."""

import numpy as np
import torch

from rcnnkit.drawing import draw_sheet
from rcnnkit.drawing.sheets import GAP, LINE, MARGIN, TILE
from rcnnkit.drawing.strongest import Activation, Example, View
from rcnnkit.images import Preprocessing

PREPROCESSING = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.25, 0.5, 1.0))
SQUARE = 3 * TILE + 2 * GAP


def example(patch, projection, value=12.345):
    return Example(Activation(3, value, View(0, None), (0, 0)), patch, projection)


def tile(sheet, place, right):
    """The middle of a tile of the first block."""
    y = MARGIN + LINE + place // 3 * (TILE + GAP) + TILE // 2
    x = MARGIN + place % 3 * (TILE + GAP) + TILE // 2 + right * (SQUARE + MARGIN)
    return np.asarray(sheet)[y, x]


def test_patches_have_the_pictures_colours_and_projections_a_contrast_of_their_own():
    patch = torch.tensor([1.0, -0.4, 0.1])[:, None, None].expand(3, 20, 20)
    flat = torch.tensor([4.0, -1.0, 0.0])[:, None, None].expand(3, 20, 20)  # 1, -0.5 and 0 in units of the picture
    weak = 0.001 * flat
    nothing = torch.zeros(3, 20, 20)
    sheet = draw_sheet(
        {3: [example(patch, flat), example(patch, weak), example(patch, nothing)]}, "conv5", PREPROCESSING
    )
    assert sheet.size == (2 * SQUARE + 3 * MARGIN, LINE + SQUARE + 2 * MARGIN)
    np.testing.assert_allclose(tile(sheet, 0, right=1), 255 * np.array([0.75, 0.2, 0.4]), atol=0.51)
    for place in (0, 1):  # the weak one looks the same
        np.testing.assert_allclose(tile(sheet, place, right=0), [255, 63.75, 127.5], atol=0.51)
    np.testing.assert_allclose(tile(sheet, 2, right=0), 127.5, atol=0.51)
    for right in (0, 1):
        assert (tile(sheet, 3, right) == 235).all()  # no fourth example
        assert (tile(sheet, 8, right) == 235).all()


def test_a_patch_keeps_its_shape():
    white = torch.full((3, 10, 40), 9.0)
    sheet = np.asarray(draw_sheet({0: [example(white, white)]}, "conv5", PREPROCESSING))
    left, top = 2 * MARGIN + SQUARE, MARGIN + LINE
    shown = (sheet[top : top + TILE, left : left + TILE] == 255).all(axis=2)
    assert shown.sum() == TILE * TILE // 4
    assert shown[TILE * 3 // 8 : TILE * 5 // 8].all()


def test_blocks_do_not_overlap_and_titles_fit():
    some = [example(torch.zeros(3, 4, 4), torch.zeros(3, 4, 4), value=123456.7)] * 12  # nine are shown
    alone = np.asarray(draw_sheet({511: some}, "conv5_3", PREPROCESSING))
    title = alone[MARGIN : MARGIN + LINE]
    assert (title.min(axis=2) < 128).any()  # there are letters,
    assert (title[:, -MARGIN:] == 255).all()  # which end before the block does,
    assert (title[-1] == 255).all()  # and leave a line free
    blocks = np.asarray(draw_sheet({511: some, 2: [], 3: some}, "conv5_3", PREPROCESSING))
    height, width = alone.shape[:2]
    rows, columns = blocks.shape[0] // height, blocks.shape[1] // width
    assert rows * columns >= 3
    np.testing.assert_array_equal(blocks[:height, :width], alone)
    np.testing.assert_array_equal(blocks[-height:, :width][LINE + MARGIN :], alone[LINE + MARGIN :])
