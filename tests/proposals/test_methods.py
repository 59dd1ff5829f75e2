"""One call for every method; boxes in the frame of the batch's pixels."""

import numpy as np
import pytest
import torch

from rcnnkit.boxes import scale
from rcnnkit.images import Preprocessing
from rcnnkit.proposals import selective_search
from rcnnkit.proposals.methods import SearchSettings, SelectiveSearch, SlidingWindows
from rcnnkit.proposals.sliding_windows import sliding_windows
from rcnnkit.structures import ImageBatch


@pytest.fixture
def images():
    preprocessing = Preprocessing(short_side=100, long_side=200, divisor=32)
    return preprocessing([np.zeros((50, 80, 3), np.uint8), np.zeros((300, 200, 3), np.uint8)])


def test_sliding_windows_in_the_frame_of_the_batch(images):
    method = SlidingWindows(sizes=(16, 40), ratios=(1.0,), stride=0.5)
    small, tall = method.propose(images, [])
    own = sliding_windows((50, 80), [16, 40], [1.0], 0.5)
    torch.testing.assert_close(small.boxes, own.boxes * 2)  # 50 → 100 pixels
    assert torch.equal(small.scores, own.scores)
    torch.testing.assert_close(tall.boxes, sliding_windows((300, 200), [16, 40], [1.0], 0.5).boxes / 2)
    assert torch.equal(method.find(images.pictures[0]).boxes, own.boxes)


def test_selective_search_in_the_frame_of_the_batch():
    rng = np.random.default_rng(0)
    small, wide = (
        np.kron(rng.integers(0, 256, (*n, 3)), np.ones((20, 20, 1))).astype(np.uint8) for n in ((4, 5), (5, 9))
    )
    images = Preprocessing(short_side=200, long_side=400, divisor=32)([small, wide])
    method = SelectiveSearch(SearchSettings(min_side=15, seed=3, max_width=100))
    assert method.settings == {"mode": "fast", "min_side": 15, "seed": 3, "max_width": 100}
    found = method.propose(images, [])
    own = selective_search(small, min_side=15, seed=3)  # 100 wide: as it is
    torch.testing.assert_close(found[0].boxes, own.boxes * 2.5)
    assert torch.equal(found[0].scores, own.scores)
    resized = selective_search(wide, min_side=15, seed=3, width=100)
    assert torch.equal(method.find(wide).boxes, resized.boxes)
    assert not torch.equal(SelectiveSearch(SearchSettings(min_side=15, seed=3)).find(wide).boxes, resized.boxes)
    assert len(resized) > 5
    torch.testing.assert_close(found[1].boxes, scale(resized.boxes, (100, 180), images.sizes[1]))


@pytest.mark.parametrize("wrong", [{"mode": "slow"}, {"min_side": -1}, {"seed": -1}, {"max_width": -500}])
def test_selective_search_with_settings_that_make_no_sense(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        SearchSettings(**wrong)


def test_a_method_says_what_it_was_made_with():
    assert SlidingWindows().settings == {"sizes": [32, 64, 128, 256, 512], "ratios": [0.5, 1.0, 2.0], "stride": 0.5}
    assert 2000 < len(SlidingWindows().find(np.zeros((375, 500, 3), np.uint8))) < 4000
    with pytest.raises(ValueError, match="stride"):
        SlidingWindows(stride=-1)


def test_a_batch_without_pictures(images):
    bare = ImageBatch(images.pixels, images.sizes, images.original_sizes)
    with pytest.raises(ValueError, match="sliding-windows looks at the pictures as they were given"):
        SlidingWindows().propose(bare)
