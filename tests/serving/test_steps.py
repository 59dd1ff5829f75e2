"""What each step did: times, counts, maps, proposals and cells, beside what the detector's parts give."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit.boxes import scale
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.images import read_picture
from rcnnkit.serving.limits import ServerLimits
from rcnnkit.structures import Array, Proposals
from tests.exporting.conftest import small
from tests.serving.conftest import jpeg

PICTURE = jpeg(150, 200)


@pytest.fixture(scope="module")
def client(detector: Detector) -> Iterator[Any]:
    from fastapi.testclient import TestClient

    from rcnnkit.serving.application import application

    with TestClient(application(detector, ServerLimits(megabytes=0.2, megapixels=0.1))) as client:
        yield client


def grid(feature: Array) -> Array:
    strength: Array = np.abs(feature).mean(axis=0)
    scaled: Array = 255 * (strength - strength.min()) / max(strength.max() - strength.min(), 1e-12)
    return scaled


def test_every_step(client: Any, detector: Detector) -> None:
    assert isinstance(detector, FasterRCNN)
    said = client.post("/steps", content=PICTURE).json()
    detected = client.post("/detect", content=PICTURE).json()
    assert (said["width"], said["height"]) == (200, 150)
    assert [step["name"] for step in said["steps"]] == ["image", "features", "proposals", "regions", "detections"]
    assert all(step["milliseconds"] > 0 for step in said["steps"])
    for one, other in zip(said["detections"], detected["detections"], strict=True):
        assert (one["name"], one["label"]) == (other["name"], other["label"])
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert one["box"] == pytest.approx(other["box"], abs=1e-2)

    images = detector.preprocessing([PICTURE])
    with torch.no_grad():
        features = detector.backbone(images.pixels)
        (proposals,) = detector.rpn.propose(images, features)
        pooled = detector.pool(features, [proposals])
        boxes = torch.tensor([one["box"] for one in said["detections"]])
        framed = scale(boxes, images.original_sizes[0], images.sizes[0])
        of_found = detector.pool(features, [Proposals(framed, torch.ones(len(framed)))])
    strides = np.array(detector.pool.strides)
    for regions, expected, at in (("proposals", pooled, proposals.boxes), ("detections", of_found, framed)):
        assert len(said[regions]) == len(expected)
        for one, cells in zip(said[regions], expected, strict=True):
            np.testing.assert_allclose(one["cells"], grid(np.asarray(cells.float())), atol=6)
        assert [one["stride"] for one in said[regions]] == strides[detector.pool.level(at)].tolist()
    first = scale(proposals.boxes, images.sizes[0], images.original_sizes[0])[0]
    assert said["proposals"][0]["box"] == pytest.approx(first.tolist(), abs=1e-2)
    assert {one["label"] for one in said["proposals"]} == {-1}
    for one, feature in zip(said["maps"], features, strict=True):
        assert (one["channels"], one["height"], one["width"]) == tuple(feature.shape[1:])
        np.testing.assert_allclose(one["cells"], grid(np.asarray(feature[0].float())), atol=6)
    words = {step["name"]: step["made"] for step in said["steps"]}
    height, width = images.sizes[0]
    assert words == {
        "image": f"200 × 150 pixels, resized to {width} × {height}",
        "features": f"5 maps of 16 channels, the finest with {features[0].shape[3]} × {features[0].shape[2]} cells",
        "proposals": f"{len(proposals)} places where an object might be",
        "regions": f"{len(proposals)} regions of 7 × 7 cells and 16 channels",
        "detections": f"{len(said['detections'])} objects of any score",
    }
    assert detector.backbone.__dict__.get("forward") is None  # nothing of the watching stays


def test_a_form_of_one(client: Any) -> None:
    alone = client.post("/steps", content=PICTURE).json()
    form = client.post("/steps", files=[("pictures", ("a.jpg", PICTURE, "image/jpeg"))]).json()
    assert form["proposals"] == alone["proposals"]
    two = client.post("/steps", files=[("pictures", (name, PICTURE, "image/jpeg")) for name in ("a.jpg", "b.jpg")])
    assert (two.status_code, two.json()["detail"]) == (400, "/steps is for one picture, and the form has 2; send one")
    bad = client.post("/steps", content=PICTURE[:300])
    assert bad.status_code == 400


def test_other_detectors() -> None:
    from rcnnkit.serving.steps import trace

    picture = read_picture(jpeg(40, 50))
    windows = {"method": "sliding_windows", "count": 20}
    for kind, made, options in (
        ("rcnn", "regions, each warped to one size", {"rcnn": {"score_threshold": -9.0}}),
        ("fast_rcnn", "regions of 7 × 7 cells and 16 channels", {}),
        ("fast_rcnn", "regions from these maps", {"input": {"scales": [32, 64], "short_side": 64}}),
    ):
        detector = small(kind, proposals=windows, **options)
        seen = trace(detector, picture)
        number = len(seen.proposals)
        assert 10 < number <= 20
        assert seen.steps[3].made == f"{number} {made}"
        found = detector(picture)
        assert [one.score for one in seen.detections] == pytest.approx(found.scores.tolist(), abs=1e-5)
        assert bool(seen.maps) == bool(seen.proposals[0].cells) == made.endswith("channels")
        for one in seen.proposals:
            x1, y1, x2, y2 = one.box
            assert 0 <= x1 < x2 <= 50
            assert 0 <= y1 < y2 <= 40
