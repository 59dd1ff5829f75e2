"""What every detector shares: proposals that a caller gives arrive in the frame of the network's pixels."""

from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.images import Preprocessing
from rcnnkit.structures import Detections, ImageBatch, Proposals
from rcnnkit.suppression import Kept


class Echo(Detector):
    """Answers with the proposals of the batch."""

    takes_proposals = True

    def __init__(self) -> None:
        super().__init__()
        self.preprocessing = Preprocessing(short_side=20, long_side=40)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.eval()

    def detect(self, images: ImageBatch) -> list[Detections]:
        self.seen = images
        return [Detections(p.boxes, p.scores, torch.zeros(len(p), dtype=torch.int64)) for p in images.proposals]


def proposals(*boxes: tuple[float, ...]) -> Proposals:
    return Proposals(torch.tensor(boxes).reshape(-1, 4), torch.arange(len(boxes), 0, -1).float())


def test_proposals_are_scaled_with_their_pictures() -> None:
    echo = Echo()
    # 10 × 10 becomes 20 × 20; 40 × 20 (height × width) is left as it is
    pictures = [np.zeros((10, 10, 3), dtype=np.uint8), np.zeros((40, 20, 3), dtype=np.uint8)]
    found = echo(pictures, [proposals((1, 2, 3, 5), (0, 0, 10, 10)), proposals((1, 2, 3, 4))])
    assert found[0].boxes.tolist() == [[2, 4, 6, 10], [0, 0, 20, 20]]
    assert found[1].boxes.tolist() == [[1, 2, 3, 4]]
    assert found[0].scores.tolist() == [2, 1]
    assert echo(pictures[0], proposals((1, 2, 3, 5))).boxes.tolist() == [[2, 4, 6, 10]]
    assert len(echo(pictures[0], proposals())) == 0


def test_without_proposals_the_batch_has_none() -> None:
    echo = Echo()
    assert echo([np.zeros((10, 10, 3), dtype=np.uint8)]) == []
    assert echo.seen.proposals == ()


def test_proposals_of_another_picture_are_refused() -> None:
    picture = np.zeros((10, 20, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"hold \[0.0, 0.0, 20.0, 12.0\], which lies outside the picture, 20 wide"):
        Echo()(picture, proposals((0.0, 0.0, 20.0, 12.0)))
    with pytest.raises(ValueError, match="not finite"):
        Echo()(picture, proposals((0, 0, float("nan"), 4)))


def test_a_detector_with_proposals_of_its_own_takes_none() -> None:
    echo = Echo()
    echo.takes_proposals = False
    with pytest.raises(ValueError, match="Echo makes its own proposals"):
        echo(np.zeros((10, 20, 3), dtype=np.uint8), proposals((0, 0, 5, 5)))


def test_another_number_of_proposals_is_refused() -> None:
    pictures = [np.zeros((10, 10, 3), dtype=np.uint8)] * 2
    with pytest.raises(ValueError, match="1 proposals for 2 pictures"):
        Echo()(pictures, [proposals()])
    with pytest.raises(ValueError, match="proposals of several pictures are a list with one Proposals for each"):
        Echo()(pictures, proposals((0, 0, 1, 1), (0, 0, 2, 2)))  # type: ignore[call-overload]  # one for two pictures


def test_pictures_come_as_iterators_views_and_batches() -> None:
    picture = np.zeros((20, 20, 3), dtype=np.uint8)
    given = proposals((1, 2, 3, 5))
    named = {"a": picture, "b": picture}
    batch = np.stack([picture, picture])
    for pictures in (iter(named.values()), named.values(), batch, torch.tensor(batch).permute(0, 3, 1, 2)):
        found = Echo()(pictures, iter([given, given]))
        assert [each.boxes.tolist() for each in found] == [given.boxes.tolist()] * 2
    with pytest.raises(ValueError, match=r"^pictures\[1\]: a float picture must lie in \[0, 1\]"):
        Echo()([picture, np.full((20, 20, 3), 200.0), picture])


def test_a_long_list_in_batches() -> None:
    """The same answers, of so many pictures at a time, and errors that count all of them."""
    echo, picture = Echo(), np.zeros((20, 20, 3), dtype=np.uint8)
    given = [proposals((1, 2, 3 + i, 5)) for i in range(5)]
    whole = [found.boxes.tolist() for found in echo([picture] * 5, given)]
    seen: list[int] = []
    hook = echo.register_forward_hook(lambda _, inputs, found: seen.append(len(found)))
    found = echo((picture for _ in range(5)), iter(given), batch=2)
    hook.remove()
    assert [each.boxes.tolist() for each in found] == whole
    assert seen == [0, 2, 2, 1, 5]  # none, which raises where every picture would, the batches, and all
    assert echo(np.stack([picture] * 3), batch=2) == []  # it has no proposals to answer with
    assert echo([], batch=2) == []
    assert echo(picture, given[0], batch=2).boxes.tolist() == whole[0]
    with pytest.raises(ValueError, match=r"^pictures\[4\]: a float picture must lie in \[0, 1\]"):
        echo([picture] * 4 + [np.full((20, 20, 3), 200.0), picture], batch=3)
    with pytest.raises(ValueError, match="batch = 0; give 1 or more pictures at a time"):
        echo([picture], batch=0)
    with pytest.raises(ValueError, match="5 proposals for 4 pictures; give one"):
        echo([picture] * 4, given, batch=2)
    with pytest.raises(ValueError, match="1 proposals for 2 pictures"):
        echo([picture] * 4, given[:3], batch=2)
    with pytest.raises(ValueError, match="proposals of several pictures are a list with one Proposals for each"):
        echo([picture] * 2, given[0], batch=2)  # type: ignore[call-overload]
    with pytest.raises(RuntimeError, match="training mode"):
        echo.train()([picture], batch=2)


def test_boxes_go_back_to_the_pictures_as_given_and_are_cut_to_them() -> None:
    echo = Echo()
    echo.class_names, echo.category_ids = ("cat", "dog"), (17, 18)
    # the network saw (50, 100) of a canvas of (64, 128), and the picture was (200, 300); the other is as it was
    images = ImageBatch(torch.zeros(2, 3, 64, 128), [(50, 100), (64, 64)], [(200, 300), (64, 64)])
    boxes = torch.tensor([[10.0, 20, 30, 40], [80, 40, 100.00001, 50]])
    kept = [Kept(boxes, torch.tensor([0.9, 0.8]), torch.tensor([1, 0])), Kept(boxes[:0], boxes[:0, 0], boxes[:0, 0])]
    found, nothing = echo.in_pictures(kept, images)
    torch.testing.assert_close(found.boxes, torch.tensor([[30.0, 80, 90, 160], [240, 160, 300, 200]]))
    assert found.boxes.amax() == 300
    assert (found.names, found.category_ids) == (["dog", "cat"], (17, 18))
    assert nothing.boxes.shape == (0, 4)
    assert nothing.class_names == ("cat", "dog")


def test_what_is_found_can_be_changed_in_place() -> None:
    found = Echo()(np.zeros((20, 20, 3), dtype=np.uint8), proposals((1, 2, 3, 5)))
    found.boxes[:, 0::2] += 100
    found.scores.mul_(0.5)
    assert found.boxes.tolist() == [[101, 2, 103, 5]]
    assert found.scores.tolist() == [0.5]
    for tensor in (found.boxes, found.scores, found.labels):
        assert not tensor.is_inference()
        assert not tensor.requires_grad


@pytest.mark.parametrize("scales", [(), (64, 96)])
@pytest.mark.parametrize("name", ["rcnn", "fast_rcnn", "faster_rcnn"])
def test_a_sketch_has_the_shapes_of_detecting(
    tiny: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, name: str, scales: tuple[int, ...]
) -> None:
    """Of the largest input of the backbone and of all regions, as `detect` has them with `count` proposals."""
    values: dict[str, dict[str, Any]] = {section: tiny[section] for section in ("model", "rpn", "head", "input")}
    values["model"] = values["model"] | {"kind": name}
    values["input"] = {"short_side": 64, "scales": scales}
    values |= {"rcnn": {"size": 32, "context": 4, "batch": 5}, "proposals": {"method": "sliding_windows"}}
    settings = DetectorSettings.model_validate(values)
    detector = build(settings, ["a", "b"]).eval()
    with torch.device("meta"):
        sketched = build(settings, ["a", "b"]).eval()
    assert isinstance(detector, Detector)
    assert isinstance(sketched, Detector)
    detector.count = sketched.count = 7
    inputs: list[torch.Tensor] = []
    regions: list[torch.Tensor] = []
    detector.backbone.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    if isinstance(detector, RCNN):
        features = detector.compute_features

        def seen(*arguments: Any) -> dict[str, torch.Tensor]:
            layers = features(*arguments)
            regions.extend(layers.values())
            return layers

        monkeypatch.setattr(detector, "compute_features", seen)
    else:
        pool = detector.pool.pool_rois

        def pooled(*arguments: Any) -> torch.Tensor:
            regions.append(pool(*arguments))
            return regions[-1]

        monkeypatch.setattr(detector.pool, "pool_rois", pooled)
    detector([np.zeros((70, 100, 3), np.uint8)])
    pixels, maps, sketched_regions = sketched.sketch((70, 100), 1)
    assert pixels.shape == max((batch.shape for batch in inputs), key=lambda shape: shape.numel())
    assert sum(len(part) for part in regions) == sum(len(part) for part in sketched_regions)
    assert {part.shape[1:] for part in regions} == {part.shape[1:] for part in sketched_regions}
    assert all(part.is_meta for part in (pixels, *maps, *sketched_regions))
