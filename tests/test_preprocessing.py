"""What a network sees of pictures: their sizes, their pixels and their batch."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from rcnnkit.images import Picture, Preprocessing
from tests.pictures import noise, written


def test_the_array_given_is_not_changed_nor_shared() -> None:
    pixels = noise()
    Preprocessing(short_side=6, long_side=9)([pixels])
    np.testing.assert_array_equal(pixels, noise())


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1066)),  # 800/480 = 1.667; 640 · 1.667 = 1066.7
        ((640, 480), (1066, 800)),
        ((300, 600), (666, 1333)),  # 800/300 would make the longer side 1600, so 1333/600 = 2.2217
        ((800, 1333), (800, 1333)),
        ((1600, 1600), (800, 800)),
        ((1, 5000), (1, 1333)),  # 0.27 pixels high: at least one
        ((5000, 1), (1333, 1)),
        ((1, 1), (800, 800)),
    ],
)
def test_sizes_by_hand(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert Preprocessing(short_side=800, long_side=1333).resized(size) == expected


def test_factor_scales_the_sides() -> None:
    assert Preprocessing(short_side=100, long_side=200).resized((100, 150), 0.5) == (50, 75)
    assert Preprocessing(short_side=100, long_side=200).resized((100, 150), 1.25) == (125, 187)


def test_a_shorter_side_of_0_leaves_pictures_as_they_are_unless_they_are_long() -> None:
    as_it_is = Preprocessing(short_side=0, long_side=200)
    assert as_it_is.resized((37, 150)) == (37, 150)
    assert as_it_is.resized((400, 100)) == (200, 50)


def test_sizes_are_torchvisions() -> None:
    theirs = GeneralizedRCNNTransform(80, 133, [0.0] * 3, [1.0] * 3)
    ours = Preprocessing(short_side=80, long_side=133)
    rng = np.random.default_rng(0)
    for height, width in [*rng.integers(2, 300, (60, 2)).tolist(), (97, 97), (3, 299)]:
        if min(height, width) * 133 < max(height, width):
            continue  # torchvision would ask for a side of 0
        resized, _ = theirs.resize(torch.zeros(3, height, width))
        assert ours.resized((height, width)) == tuple(resized.shape[1:])


def test_floats_are_resized_as_torch_does_and_normalised_first() -> None:
    preprocessing = Preprocessing(short_side=20, long_side=50, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2))
    picture = torch.rand(3, 13, 17, generator=torch.Generator().manual_seed(0))
    normal = (picture - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.5, 0.25, 2])[:, None, None]
    expected = F.interpolate(normal[None], size=(20, 26), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(preprocessing.resize(picture), expected)


@pytest.mark.parametrize("short_side", [7, 20, 31, 90])
def test_bytes_are_resized_as_torch_does_within_a_grey_level(short_side: int) -> None:
    preprocessing = Preprocessing(short_side=short_side, long_side=1000)
    picture = noise(31, 45)
    resized = preprocessing.resize(picture)
    assert resized.dtype == torch.uint8
    floats = torch.tensor(picture).permute(2, 0, 1).float()
    expected = F.interpolate(floats[None], size=resized.shape[1:], mode="bilinear", align_corners=False)[0]
    # OpenCV interpolates bytes in fixed point: rounding, and weights of 11 bits
    assert (resized.float() - expected).abs().max() <= 1


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    picture = noise(20, 30)
    resized = Preprocessing(short_side=20, long_side=30).resize(picture)
    np.testing.assert_array_equal(resized.permute(1, 2, 0).numpy(), picture)


def test_batch_normalises_and_pads_with_zeros() -> None:
    preprocessing = Preprocessing(mean=(0.5, 0, 1), std=(0.5, 1, 2), divisor=16)
    one = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None].expand(3, 4, 17)
    two = torch.full((3, 18, 3), 7.0)  # floats from `resize` are normalised already
    images = preprocessing.batch([one, two], [(40, 170), (9, 1)], "cpu")
    assert images.pixels.shape == (2, 3, 32, 32)  # 18 and 17, up to multiples of 16
    assert images.sizes == [(4, 17), (18, 3)]
    assert images.original_sizes == [(40, 170), (9, 1)]
    # (0 − 0.5) / 0.5, (51/255 − 0) / 1, (1 − 1) / 2
    for channel, value in enumerate((-1, 0.2, 0)):
        torch.testing.assert_close(images.pixels[0, channel, :4, :17], torch.full((4, 17), float(value)))
    assert (images.pixels[1, :, :18, :3] == 7).all()
    assert images.pixels[0, :, 4:].eq(0).all()
    assert images.pixels[0, :, :, 17:].eq(0).all()
    assert images.pixels[1, :, 18:].eq(0).all()
    assert images.pixels[1, :, :, 3:].eq(0).all()


@pytest.mark.parametrize("divisor", [1, 32, 64])
def test_padded_sides_are_the_least_multiples(divisor: int) -> None:
    images = Preprocessing(divisor=divisor).batch([torch.zeros(3, 64, 65, dtype=torch.uint8)], [(64, 65)], "cpu")
    expected = tuple(math.ceil(side / divisor) * divisor for side in (64, 65))
    assert images.pixels.shape[2:] == expected


def test_call_with_mixed_sizes_and_kinds(tmp_path: Path) -> None:
    preprocessing = Preprocessing(short_side=16, long_side=40, divisor=8)
    a, b = noise(16, 24), noise(32, 20, seed=1)
    path = written(tmp_path / "a.png", Image.fromarray(a))
    grey = torch.full((1, 8, 30), 0.5)
    images = preprocessing([path, b, grey])
    assert images.original_sizes == [(16, 24), (32, 20), (8, 30)]
    assert images.sizes == [(16, 24), (25, 16), (10, 40)]  # 16/20; 40/30
    assert images.pixels.shape == (3, 3, 32, 40)
    mean, std = (torch.tensor(v)[:, None, None] for v in (preprocessing.mean, preprocessing.std))
    torch.testing.assert_close(images.pixels[0, :, :16, :24], (torch.tensor(a).permute(2, 0, 1) / 255 - mean) / std)
    torch.testing.assert_close(images.pixels[2, :, :10, :40], ((0.5 - mean) / std).expand(3, 10, 40))
    alone = preprocessing([b])
    torch.testing.assert_close(images.pixels[1, :, :25, :16], alone.pixels[0, :, :25, :16])


def test_the_batch_keeps_the_pictures_as_they_were_decoded(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    tensor = torch.tensor(pixels).permute(2, 0, 1)
    images = Preprocessing(short_side=16)([path, pixels, tensor, tensor / 255, Image.fromarray(pixels).convert("L")])
    assert np.shares_memory(images.pictures[1], pixels)  # no copy
    for picture in (images.pictures[0], *images.pictures[2:4]):
        np.testing.assert_array_equal(picture, pixels)
    assert (images.pictures[4].shape, images.pictures[4].dtype) == ((20, 30, 3), np.uint8)


def test_torchvisions_rule_is_exact_for_bytes() -> None:
    array = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    rule = Preprocessing(short_side=64, long_side=1000, resizing="torchvision")
    theirs = GeneralizedRCNNTransform(64, 1000, list(rule.mean), list(rule.std), size_divisible=rule.divisor).eval()
    (expected, _) = theirs([torch.from_numpy(array).permute(2, 0, 1) / 255])
    torch.testing.assert_close(rule([array]).pixels, expected.tensors, atol=1e-6, rtol=0)
    assert (rule([array]).pixels - rule.model_copy(update={"resizing": "opencv"})([array]).pixels).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1067)),  # 1066.67
        ((427, 640), (800, 1199)),  # 1199.06
        ((375, 1000), (500, 1333)),  # 499.88
        ((333, 500), (800, 1201)),  # 1201.2
    ],
)
def test_detectron2s_sides_are_rounded(size: tuple[int, int], expected: tuple[int, int]) -> None:
    rule = Preprocessing(resizing="detectron2")
    assert rule.resized(size) == expected
    assert rule.resized(size[::-1]) == expected[::-1]


def test_detectron2s_rule_averages_where_it_shrinks() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::4] = 200  # a quarter of it; four pixels become one
    rule = Preprocessing(short_side=16, resizing="detectron2")
    middle = rule.resize(stripes)[:, 4:12, 4:12].float()
    assert middle.mean().item() == pytest.approx(50, abs=1)
    assert middle.std() < 20
    expected = Image.fromarray(stripes).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(rule.resize(stripes).permute(1, 2, 0).numpy(), np.asarray(expected))


def test_pictures_one_by_one_and_without_pixels() -> None:
    rng = np.random.default_rng(0)
    preprocessing = Preprocessing(short_side=24, long_side=50, divisor=16)
    array, unit = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), torch.rand(3, 20, 50)  # not rounded to 8 bits
    pictures: list[Picture] = [array, unit]
    for alone, picture in zip(preprocessing.one_by_one(pictures), pictures, strict=True):
        expected = preprocessing([picture])
        assert alone.pixels.equal(expected.pixels)
        assert (alone.sizes, alone.original_sizes) == (expected.sizes, expected.original_sizes)
        np.testing.assert_array_equal(alone.pictures[0], expected.pictures[0])
    together, unseen = preprocessing([array, unit]), preprocessing.unseen([array, unit])
    assert unseen.pixels.shape == (2, 3, 0, 0)
    assert (unseen.sizes, unseen.original_sizes) == (together.sizes, together.original_sizes)
    assert unseen.sizes == [(24, 32), (20, 50)]
    assert all(map(np.array_equal, unseen.pictures, together.pictures))
    for method in (preprocessing.one_by_one, preprocessing.unseen):
        with pytest.raises(ValueError, match=r"^pictures\[1\]: "):
            method([array, unit[0]])
