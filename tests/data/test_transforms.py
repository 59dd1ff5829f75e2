"""Boxes follow the pixels: measured on solid rectangles."""

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from rcnnkit.backbones.classifier import ClassifierSettings
from rcnnkit.data.transforms import Augmentation, AugmentSettings, ClassifierAugmentation
from rcnnkit.images import Preprocessing
from rcnnkit.structures import Proposals, Targets

SIZE = (90, 120)
SAME_SIZE = Preprocessing(short_side=90, long_side=120)
LARGER = Preprocessing(short_side=150, long_side=230)
# xyxy, and the channels that each is drawn in; apart from each other
BOXES = [[12, 8, 40, 30], [70, 15, 101, 55], [30, 50, 52, 83]]
NONE = {"flip": 0.0}
EVERYTHING: dict[str, Any] = {"flip": 0.5, "flip_vertical": 0.5, "crop": 0.5, "scale": (0.6, 1.5)}


def scene() -> tuple[np.ndarray, Targets]:
    """Red, green and blue rectangles on black, labelled by their colour's channel."""
    picture = np.zeros((*SIZE, 3), dtype=np.uint8)
    for channel, (x1, y1, x2, y2) in enumerate(BOXES):
        picture[y1:y2, x1:x2, channel] = 255
    targets = Targets(
        torch.tensor(BOXES, dtype=torch.float32),
        torch.tensor([0, 1, 2]),
        difficult=torch.tensor([True, False, False]),
        truncated=torch.tensor([False, True, False]),
        crowd=torch.tensor([False, False, True]),
    )
    return picture, targets


def augment(seed: int, preprocessing: Preprocessing = SAME_SIZE, **settings: object) -> tuple[torch.Tensor, Targets]:
    return Augmentation(AugmentSettings.model_validate(NONE | settings), preprocessing)(*scene(), seed)[:2]


def extent(channel: torch.Tensor) -> list[float]:
    """Where a rectangle ends, to a fraction of a pixel: its brightness fades in the pixels at its edges."""
    unit = channel.numpy() / 255.0
    sides = []
    for axis in (0, 1):
        profile = unit.max(axis=axis)
        half = np.where(profile >= 0.5)[0]
        sides.append((half[0], half[-1] + 1))
    (x1, x2), (y1, y2) = sides
    return [x1, y1, x2, y2]


def check(pixels: torch.Tensor, targets: Targets, tolerance: float) -> None:
    assert sorted(targets.labels.tolist()) == [0, 1, 2]
    for box, label in zip(targets.boxes.tolist(), targets.labels.tolist(), strict=True):
        assert extent(pixels[label]) == pytest.approx(box, abs=tolerance)


def test_nothing_to_do_does_nothing() -> None:
    picture, targets = scene()
    pixels, same = augment(0)
    np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), picture)
    torch.testing.assert_close(same.boxes, targets.boxes, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("settings", "mirrored"),
    [
        ({"flip": 1.0}, [[80, 8, 108, 30], [19, 15, 50, 55], [68, 50, 90, 83]]),  # x1, x2 = 120 − x2, 120 − x1
        ({"flip_vertical": 1.0}, [[12, 60, 40, 82], [70, 35, 101, 75], [30, 7, 52, 40]]),  # 90 − y2, 90 − y1
    ],
)
def test_flips_are_exact(settings: dict, mirrored: list) -> None:
    pixels, targets = augment(0, **settings)
    # albumentations keeps boxes as float32 shares of the sides
    torch.testing.assert_close(targets.boxes, torch.tensor(mirrored, dtype=torch.float32), atol=1e-4, rtol=0)
    check(pixels, targets, 1e-4)


def test_a_flip_of_one_half_flips_half_of_the_time() -> None:
    flipped = [augment(seed, flip=0.5)[1].boxes[0, 0].item() > 50 for seed in range(200)]
    assert 100 - 6 * 7.1 < sum(flipped) < 100 + 6 * 7.1  # deviation √(200 / 4) = 7.1


@pytest.mark.parametrize(
    "settings",
    [{"flip": 0.5}, {"flip_vertical": 0.5}, {"crop": 1.0}, {"scale": (0.5, 2.0)}, EVERYTHING],
    ids=["flip", "flip_vertical", "crop", "scale", "everything"],
)
@pytest.mark.parametrize("preprocessing", [SAME_SIZE, LARGER], ids=["same size", "larger"])
def test_boxes_follow_the_pixels(settings: dict, preprocessing: Preprocessing) -> None:
    for seed in range(25):
        # enlarged, a pixel becomes several, and half brightness may lie beside the edge
        check(*augment(seed, preprocessing, **settings), tolerance=1.5)


def test_the_size_is_the_inputs_times_the_factor() -> None:
    heights = {augment(seed, LARGER, scale=(0.5, 2.0))[0].shape[1] for seed in range(30)}
    assert all(75 <= height <= 300 for height in heights)  # 150 · 0.5 and 150 · 2
    assert len(heights) > 20
    ratio = [h / w for h, w in (augment(seed, LARGER, scale=(0.5, 2.0))[0].shape[1:] for seed in range(9))]
    assert ratio == pytest.approx([90 / 120] * 9, abs=0.02)


@pytest.mark.parametrize(
    "given",
    [
        BOXES,
        [[20.6, 30.2, 70.7, 60.9]],  # between pixels
        [[50.2, 40.2, 50.7, 40.8]],  # within one pixel
        [[0, 0, 120, 90]],
        [[0, 0, 0.5, 0.5]],
        [[119.5, 89.5, 120, 90]],
        [[3, 7, 11, 19], [3, 7, 11, 19]],
    ],
    ids=str,
)
def test_a_crop_cuts_no_box(given: list) -> None:
    picture, _ = scene()
    boxes = torch.tensor(given, dtype=torch.float32)
    targets = Targets(boxes, torch.arange(len(boxes)))
    crop = Augmentation(AugmentSettings(flip=0, crop=1), SAME_SIZE)
    shrunk = 0
    for seed in range(200):
        pixels, moved, _ = crop(picture, targets, seed)
        crop.pipeline.set_random_seed(seed)
        # the same crop once more, for its size before it is resized
        cropped = crop.pipeline(image=picture, bboxes=boxes.numpy(), index=np.arange(len(boxes)), keypoints=[])["image"]
        shrunk += cropped.shape[:2] != SIZE
        y, x = pixels.shape[1] / cropped.shape[0], pixels.shape[2] / cropped.shape[1]
        sides = (moved.boxes[:, 2:] - moved.boxes[:, :2]) / torch.tensor([x, y])
        assert moved.labels.tolist() == targets.labels.tolist()
        torch.testing.assert_close(sides, boxes[:, 2:] - boxes[:, :2], atol=1e-3, rtol=1e-4)
    assert shrunk > 100 or boxes.tolist() == [[0, 0, 120, 90]]


def test_colours_change_pixels_and_no_boxes() -> None:
    picture, targets = scene()
    picture[:] = np.random.default_rng(0).integers(0, 256, picture.shape)
    for name, value in (("brightness", 0.5), ("contrast", 0.5), ("saturation", 0.9), ("hue", 0.4), ("brightness", 3)):
        colours = Augmentation(AugmentSettings.model_validate(NONE | {name: value}), SAME_SIZE)
        pixels, same, _ = colours(picture, targets, 1)
        difference = np.abs(pixels.permute(1, 2, 0).numpy().astype(int) - picture)
        assert difference.mean() > 3, name
        torch.testing.assert_close(same.boxes, targets.boxes, atol=1e-4, rtol=0)
        assert same.labels.equal(targets.labels)


def test_the_seed_decides() -> None:
    settings = EVERYTHING | {"brightness": 0.3, "hue": 0.1}
    one, boxes = augment(7, LARGER, **settings)
    again, boxes_again = augment(7, LARGER, **settings)
    assert one.equal(again)
    assert boxes.boxes.equal(boxes_again.boxes)
    augmentation = Augmentation(AugmentSettings.model_validate(settings), LARGER)
    augmentation(*scene(), 3)  # what came before plays no part
    assert augmentation(*scene(), 7)[0].equal(one)
    others = {tuple(augment(seed, LARGER, **settings)[1].boxes.flatten().tolist()) for seed in range(20)}
    assert len(others) > 15


def test_global_randomness_is_neither_used_nor_changed() -> None:
    np.random.seed(0)  # noqa: NPY002  # it is the global state that is looked at
    before = np.random.get_state(legacy=False), torch.random.get_rng_state()  # noqa: NPY002
    augment(3, **EVERYTHING)
    np.testing.assert_equal(np.random.get_state(legacy=False), before[0])  # noqa: NPY002
    assert before[1].equal(torch.random.get_rng_state())


@pytest.mark.parametrize("seed", range(10))
def test_a_picture_without_objects(seed: int) -> None:
    picture, _ = scene()
    nothing = Targets(torch.empty(0, 4), torch.empty(0, dtype=torch.int64))
    settings = AugmentSettings.model_validate(EVERYTHING | {"brightness": 0.3})
    pixels, targets, _ = Augmentation(settings, LARGER)(picture, nothing, seed)
    assert targets.boxes.shape == (0, 4)
    assert targets.boxes.dtype == torch.float32
    assert len(targets.labels) == len(targets.crowd) == len(targets.areas) == 0
    assert min(pixels.shape[1:]) > 0


@pytest.mark.parametrize("seed", range(8))
def test_labels_and_flags_stay_with_their_boxes(seed: int) -> None:
    _, before = scene()
    pixels, targets = augment(seed, LARGER, **EVERYTHING)
    check(pixels, targets, 1.5)  # each label's colour is where its box is
    for name in ("difficult", "truncated", "crowd"):
        flags = dict(zip(targets.labels.tolist(), getattr(targets, name).tolist(), strict=True))
        assert flags == dict(zip(before.labels.tolist(), getattr(before, name).tolist(), strict=True))
    sides = targets.boxes[:, 2:] - targets.boxes[:, :2]
    torch.testing.assert_close(targets.areas, sides.prod(dim=1))


def test_boxes_at_the_border_survive_float32() -> None:
    # Shares of odd sides, rounded to float32, may come out a hair beyond 1.
    rng = np.random.default_rng(0)
    settings = AugmentSettings.model_validate(EVERYTHING)
    for height, width in rng.integers(5, 400, (40, 2)).tolist():
        picture = np.zeros((height, width, 3), dtype=np.uint8)
        targets = Targets(torch.tensor([[0.0, 0, width, height]]), torch.tensor([0]))
        pixels, moved, _ = Augmentation(settings, SAME_SIZE)(picture, targets, int(rng.integers(1000)))
        h, w = pixels.shape[1:]
        torch.testing.assert_close(moved.boxes, torch.tensor([[0.0, 0, w, h]]), atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("preprocessing", [SAME_SIZE, LARGER], ids=["same size", "larger"])
def test_proposals_go_where_the_same_boxes_of_objects_go(preprocessing: Preprocessing) -> None:
    picture, targets = scene()
    proposals = Proposals(targets.boxes.flip(0), torch.tensor([3.0, 2, 1]))
    augmentation = Augmentation(AugmentSettings.model_validate(EVERYTHING), preprocessing)
    for seed in range(40):
        pixels, moved, found = augmentation(picture, targets, seed, proposals)
        torch.testing.assert_close(found.boxes, moved.boxes.flip(0), atol=1e-3, rtol=1e-5)
        assert found.scores.tolist() == [3, 2, 1]
        assert augmentation(picture, targets, seed)[0].equal(pixels)  # they change nothing


def test_a_crop_cuts_proposals_and_drops_what_it_leaves_nothing_of() -> None:
    picture, targets = scene()
    targets = targets[:1]
    boxes = torch.tensor([[0.0, 0, 120, 90], [110, 80, 120, 90], [12, 8, 40, 30]])
    augmentation = Augmentation(AugmentSettings(flip=0, crop=1), SAME_SIZE)
    dropped = 0
    for seed in range(40):
        pixels, moved, found = augmentation(picture, targets, seed, Proposals(boxes, torch.tensor([3.0, 2, 1])))
        height, width = pixels.shape[1:]
        torch.testing.assert_close(found.boxes[0], torch.tensor([0.0, 0, width, height]))
        torch.testing.assert_close(found.boxes[-1], moved.boxes[0], atol=1e-3, rtol=1e-5)
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
        assert found.scores.tolist() in ([3, 2, 1], [3, 1])
        dropped += len(found) == 2
    assert 10 < dropped < 40


def test_training_draws_one_of_several_scales() -> None:
    several = SAME_SIZE.model_copy(update={"scales": (45, 90, 180), "long_side": 1000})
    heights = [augment(seed, several)[0].shape[1] for seed in range(60)]
    assert set(heights) == {45, 90, 180}
    assert all(heights.count(height) > 8 for height in set(heights))
    for seed in range(5):
        check(*augment(seed, several), tolerance=1.5)


def part_of(seed: int, sizes: ClassifierSettings, size: tuple[int, int] = (200, 250)) -> tuple[float, float]:
    """The share of the area, and width ÷ height, of the part that is drawn: read off a picture of coordinates."""
    height, width = size
    picture = np.zeros((*size, 3), dtype=np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(width), np.arange(height)[:, None]
    pixels = ClassifierAugmentation(AugmentSettings(flip=0), sizes)(picture, seed).numpy()
    # from the first pixel's centre to the last's, of `crop` pixels
    stretch = sizes.crop / (sizes.crop - 1)
    w = (pixels[0, 0, -1].astype(float) - pixels[0, 0, 0]) * stretch
    h = (pixels[1, -1, 0].astype(float) - pixels[1, 0, 0]) * stretch
    return w * h / (width * height), w / h


def test_parts_are_drawn_as_torchvision_draws_them() -> None:
    sizes = ClassifierSettings(resize=64, crop=64, area=(0.1, 0.6), ratio=(0.5, 2))
    parts = np.array([part_of(seed, sizes) for seed in range(300)])
    torch.manual_seed(0)
    blank = torch.zeros(3, 200, 250)
    theirs = np.array([RandomResizedCrop.get_params(blank, [0.1, 0.6], [0.5, 2])[2:] for _ in range(3000)])
    expected = np.stack([theirs[:, 0] * theirs[:, 1] / (200 * 250), theirs[:, 1] / theirs[:, 0]], axis=1)
    for ours, other in ((parts[:, 0], expected[:, 0]), (np.log(parts[:, 1]), np.log(expected[:, 1]))):
        error = other.std() / np.sqrt(300)  # of our mean
        assert abs(ours.mean() - other.mean()) < 4 * error
        assert ours.std() == pytest.approx(other.std(), rel=0.15)
    assert parts[:, 0].min() > 0.09  # a pixel or two less, where the first and the last are rounded
    assert parts[:, 0].max() < 0.62


def test_a_whole_picture_for_a_classifier_is_antialiased() -> None:
    """Stripes of one pixel become grey, not stripes again."""
    picture = np.zeros((120, 120, 3), dtype=np.uint8)
    picture[:, ::2] = 255
    sizes = ClassifierSettings(resize=40, crop=40, area=(1, 1), ratio=(1, 1))
    pixels = ClassifierAugmentation(AugmentSettings(flip=0), sizes)(picture, 0)
    assert pixels.shape == (3, 40, 40)
    assert ((pixels > 80) & (pixels < 175)).all()  # of three columns one or two are white


def test_a_classifiers_pictures_are_flipped_and_coloured() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    sizes = ClassifierSettings(resize=24, crop=24, area=(1, 1), ratio=(1, 1))

    def through(seed: int = 0, **settings: object) -> np.ndarray:
        augmentation = ClassifierAugmentation(AugmentSettings.model_validate(NONE | settings), sizes)
        return augmentation(picture, seed).permute(1, 2, 0).numpy()

    np.testing.assert_array_equal(through(), picture)
    np.testing.assert_array_equal(through(flip=1.0), picture[:, ::-1])
    np.testing.assert_array_equal(through(flip_vertical=1.0), picture[::-1])
    brighter = [through(seed, brightness=0.3).mean() / picture.mean() for seed in range(20)]
    assert min(brighter) < 0.9 < 1.05 < max(brighter)
    np.testing.assert_array_equal(through(3, brightness=0.3), through(3, brightness=0.3))
