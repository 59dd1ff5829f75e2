"""A picture looked at in tiles, mirrored and at several scales, with a detector that sees dots of colour."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.images import Picture, Preprocessing
from rcnnkit.structures import Detections, ImageBatch, Proposals, Size

BLACK = np.zeros((10, 10, 3), dtype=np.uint8)


class Dots(Detector):
    """Finds the rectangles of each red level: those of red 10·k are of class k % 3, and score k / 100.

    It looks at the pictures as they were given, so it is exact at any size.
    """

    takes_proposals = True

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.preprocessing = Preprocessing.model_validate({"short_side": 50, "long_side": 100} | settings)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.class_names, self.category_ids = ("a", "b", "c"), (1, 2, 3)
        self.seen: list[tuple[Size, Size]] = []
        self.most = 0
        self.given: list[Sequence[Proposals]] = []
        self.eval()

    def detect(self, images: ImageBatch) -> list[Detections]:
        self.seen += zip(images.original_sizes, images.sizes, strict=True)
        self.most = max(self.most, len(images))
        self.given.append(images.proposals)
        found = []
        for picture in images.pictures:
            red, boxes, levels = picture[:, :, 0], [], []
            for level in sorted(set(np.unique(red).tolist()) - {0}, reverse=True):
                rows, columns = np.nonzero(red == level)
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                levels.append(level // 10)
            k = torch.tensor(levels, dtype=torch.int64)
            corners = torch.from_numpy(np.array(boxes, dtype=np.float32).reshape(-1, 4))
            found.append(Detections(corners, k / 100, k % 3, self.class_names, self.category_ids))
        return found


def scene(size: Size = (230, 310)) -> tuple[np.ndarray, list[list[int]]]:
    """25 rectangles of up to 18 pixels, one of each red level, and their boxes from the highest level on."""
    rng = np.random.default_rng(3)
    picture = np.zeros((*size, 3), dtype=np.uint8)
    boxes: list[list[int]] = []
    while len(boxes) < 25:
        h, w = rng.integers(4, 19, 2).tolist()
        y, x = int(rng.integers(size[0] - h + 1)), int(rng.integers(size[1] - w + 1))
        if not picture[max(0, y - 2) : y + h + 2, max(0, x - 2) : x + w + 2].any():
            boxes.append([x, y, x + w, y + h])
            picture[y : y + h, x : x + w, 0] = 10 * len(boxes)
    return picture, boxes[::-1]


@pytest.mark.parametrize(
    "settings",
    [
        {"tile": 64, "tile_overlap": 20},
        {"tile": 64, "tile_overlap": 20, "tile_whole": True, "merge": "inside"},
        {"test_flip": True},
        {"tile": 100, "tile_overlap": 18, "test_flip": True, "test_scales": [0.5, 1.5]},
        {"tile": 230, "tile_overlap": 30},  # as high as the picture
        {"tile": 1000},
    ],
)
def test_every_object_is_found_once_where_it_is(settings: dict[str, Any]) -> None:
    picture, boxes = scene()
    dots = Dots(**settings)
    found = dots(picture)
    assert found.boxes.tolist() == boxes
    assert found.scores.tolist() == pytest.approx([k / 100 for k in range(25, 0, -1)])
    assert found.names[:4] == ["b", "a", "c", "b"]
    assert found.category_ids == (1, 2, 3)
    assert dots.most <= 4  # parts at a time, however many there are
    once = Dots()(picture)
    assert torch.equal(once.boxes, found.boxes)


def test_parts_are_seen_at_the_sizes_asked_for() -> None:
    dots = Dots(tile=100, tile_overlap=20, test_scales=[1, 2], tile_whole=True)
    dots(scene((100, 180))[0])
    tile, whole = (100, 100), (100, 180)
    assert dots.seen == [
        *[(tile, (50, 50))] * 2,
        *[(tile, (100, 100))] * 2,
        (whole, (50, 90)),
        (whole, (100, 180)),
    ]


def test_pictures_of_one_tile_are_one_batch_as_without_tiles(tiny: dict[str, dict[str, Any]]) -> None:
    """The same answer to the bit, also beside a picture that is larger."""
    torch.manual_seed(0)
    settings = {key: tiny[key] for key in ("model", "rpn", "head")}
    settings["head"] = tiny["head"] | {"score_threshold": 0.0}
    settings["input"] = {"short_side": 64, "long_side": 96}
    detector = build(DetectorSettings.model_validate(settings), ["a", "b"]).eval()
    assert isinstance(detector, Detector)
    rng = np.random.default_rng(0)
    small = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((60, 80), (90, 50))]
    large = rng.integers(0, 256, (90, 150, 3), dtype=np.uint8)
    plain = detector(small)
    detector.preprocessing = detector.preprocessing.model_copy(update={"tile": 90, "tile_overlap": 20})
    tiled = detector(small)
    beside = detector([large, *small])
    assert sum(len(each) for each in plain) > 10
    for one, other, third in zip(plain, tiled, beside[1:], strict=True):
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(one.boxes, third.boxes)
        assert torch.equal(one.scores, other.scores)
        assert torch.equal(one.scores, third.scores)
    # of the large one, what its tiles show
    tiles = [detector(np.ascontiguousarray(large[:, x : x + 90])) for x in (0, 60)]
    best = max(float(tile.scores[0]) for tile in tiles)
    assert float(beside[0].scores[0]) == pytest.approx(best, abs=1e-5)
    assert len(beside[0]) <= sum(map(len, tiles))


def test_tensors_of_floats_are_not_rounded() -> None:
    class Keeps(Dots):
        def batches(self, pictures: Sequence[Picture], factor: float = 1.0) -> list[ImageBatch]:
            self.kinds = [(type(picture), getattr(picture, "dtype", None)) for picture in pictures]
            return super().batches(pictures, factor)

    picture, boxes = scene()
    keeps = Keeps(tile=64, tile_overlap=20, test_flip=True)
    assert keeps(torch.from_numpy(picture).permute(2, 0, 1) / 255).boxes.tolist() == boxes
    assert set(keeps.kinds) == {(torch.Tensor, torch.float32)}


def test_proposals_are_cut_to_tiles() -> None:
    picture = np.zeros((40, 100, 3), dtype=np.uint8)
    boxes = torch.tensor([[5.0, 5, 15, 15], [50, 0, 70, 40], [0, 0, 100, 40]])
    regions = Proposals(boxes, torch.tensor([3.0, 2, 1]))
    dots = Dots(tile=60, tile_overlap=20, short_side=0, long_side=100, test_flip=True)
    dots(picture, regions)
    shown = [p.boxes.tolist() for p in dots.given[0]]
    assert shown[0] == [[5, 5, 15, 15], [50, 0, 60, 40], [0, 0, 60, 40]]
    assert shown[1] == [[45, 5, 55, 15], [0, 0, 10, 40], [0, 0, 60, 40]]  # mirrored
    assert shown[2] == [[10, 0, 30, 40], [0, 0, 60, 40]]
    assert [p.scores.tolist() for p in dots.given[0]] == [[3, 2, 1]] * 2 + [[2, 1]] * 2
    with pytest.raises(ValueError, match="which lies outside the picture, 100 wide and 40 high"):
        dots(picture, Proposals(torch.tensor([[0.0, 0, 100, 60]]), torch.ones(1)))


def test_errors_name_the_picture(tmp_path: Path) -> None:
    dots = Dots(tile=64, tile_overlap=20)
    with pytest.raises(FileNotFoundError, match=r"gone\.png: no such picture"):
        dots(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"^pictures\[1\]: a float picture must lie in \[0, 1\]"):
        dots([BLACK, np.full((20, 20, 3), 200.0)])
    assert dots([]) == []


def test_files_and_pil_pictures(tmp_path: Path) -> None:
    picture, boxes = scene()
    file = tmp_path / "scene.png"
    Image.fromarray(picture).save(file)
    dots = Dots(tile=64, tile_overlap=20)
    for given in (file, str(file), file.read_bytes(), Image.fromarray(picture), file.open("rb")):
        assert dots(given).boxes.tolist() == boxes


def test_a_sketch_is_of_a_tile() -> None:
    dots = Dots(tile=100, tile_overlap=20, test_scales=[0.5, 2])
    dots.backbone = lambda pixels: [pixels]
    dots.count = 1
    dots.pool = type("Pool", (), {"empty": staticmethod(lambda features, number: features[0])})()
    pixels, _, _ = dots.sketch((4000, 3000), 2)
    assert pixels.shape == (2, 3, 128, 128)  # 100 × 100, padded


def settings(**changes: Any) -> DetectorSettings:
    return DetectorSettings.model_validate({"model": {"pretrained": False}} | changes)


def test_settings_that_leave_nothing_to_see_are_refused() -> None:
    settings(input={"tile": 64, "tile_overlap": 0})
    with pytest.raises(
        ValueError, match=r"input\.tile = 40 is 40 pixels for the network, less than a cell of .*, 64; set"
    ):
        settings(input={"tile": 40, "tile_overlap": 0, "short_side": 0})
    fast = {"kind": "fast_rcnn", "pretrained": False}
    with pytest.raises(
        ValueError, match=r"input\.tile = 20 is no larger than proposals\.min_side = 20, so that it holds"
    ):
        settings(model=fast, input={"tile": 20, "tile_overlap": 0})
    with pytest.raises(ValueError, match=r"input\.test_scales is not for a Fast R-CNN with input\.scales"):
        settings(model=fast, input={"scales": [400, 600], "test_scales": [1, 2]})
    classifier = {"kind": "classifier", "pretrained": False}
    with pytest.raises(ValueError, match=r"input\.tile is a detector's"):
        settings(model=classifier, input={"tile": 640})
