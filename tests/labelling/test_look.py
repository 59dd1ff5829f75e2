from pathlib import Path

import numpy as np
import pytest
import torch

from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.rcnn import RCNN, picture_of
from rcnnkit.inference import prepare
from rcnnkit.labelling.look import look
from rcnnkit.labelling.pictures import read_any
from tests.exporting.conftest import small


def test_detections_and_descriptors(detector: Detector, folder: Path) -> None:
    assert isinstance(detector, FasterRCNN)
    dataset, told = read_any(folder), []
    seen = look(detector, dataset, lambda *what: told.append(what))
    assert told[-1] == (f"{folder}: looked at", 4, 4)
    for record, found, descriptor in zip(dataset.records, seen.detections, seen.descriptors, strict=True):
        alone = detector(record.path)
        assert found.boxes.equal(alone.boxes)
        assert found.scores.equal(alone.scores)
        with torch.no_grad():
            maps = detector.backbone(detector.preprocessing([record.path]).pixels)
        means = [np.asarray(each[0]).mean(axis=(1, 2)) for each in maps]
        expected = np.concatenate([mean / np.linalg.norm(mean) for mean in means]) / np.sqrt(len(maps))
        np.testing.assert_allclose(descriptor, expected, atol=1e-5)
    assert not detector.backbone._forward_hooks
    prepared = look(prepare(detector, "float32"), dataset)
    np.testing.assert_allclose(prepared.descriptors, seen.descriptors, atol=1e-4)


def test_windows(folder: Path) -> None:
    """R-CNN's descriptor is the mean of the features of its windows."""
    search = {"method": "sliding_windows", "count": 20}
    detector = small("rcnn", proposals=search, input={"short_side": 0}, rcnn={"batch": 8, "score_threshold": -9.0})
    assert isinstance(detector, RCNN)
    dataset = read_any(folder / "a.png")
    (descriptor,) = look(detector, dataset).descriptors
    with torch.no_grad():
        (images,) = detector.batches([folder / "a.png"])
        (proposals,) = detector.propose(images, [], detector.count)
        features = detector.compute_features(picture_of(images, 0), proposals.boxes)[detector.last_layer]
    each = np.asarray(features)
    mean = (each / np.linalg.norm(each, axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(descriptor, mean / np.linalg.norm(mean), atol=1e-4)


def test_proposals_that_are_missing(folder: Path) -> None:
    with pytest.raises(ValueError, match=r'train one with another proposals\.method, such as "selective_search"'):
        look(small("fast_rcnn"), read_any(folder))
