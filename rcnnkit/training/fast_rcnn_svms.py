"""SVMs in place of Fast R-CNN's softmax, trained after it (arXiv:1504.08083, section 5.4)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rcnnkit import weights
from rcnnkit.data.proposals import check_proposals
from rcnnkit.data.records import Dataset, Record
from rcnnkit.defaults import DEVICE
from rcnnkit.detectors.detector import with_proposals
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.files import check_new
from rcnnkit.heads.svm import SVMSettings, SVMTrainer, feature_scale
from rcnnkit.images import read_picture
from rcnnkit.matching import class_overlaps
from rcnnkit.progress import Report, reported, silent
from rcnnkit.proposals.store import Store
from rcnnkit.structures import Proposals

NORM_PICTURES = NORM_BOXES = 200  # that the features' mean length is measured on (R-CNN's code)
SCORE_THRESHOLD = -1.0  # R-CNN's demo


def train_svms(
    path: Path | str,
    data: Dataset,
    store: Store,
    out: Path | str,
    *,
    use_difficult: bool = False,
    processes: int = 1,
    device: str = DEVICE,
    progress: Report = silent,
    svms: SVMSettings = SVMSettings(),  # noqa: B008  # it is frozen
) -> None:
    """Write a trained Fast R-CNN once more, with a linear SVM per class to score regions; all else stays.

    "The same training algorithm and hyper-parameters as in R-CNN": the objects are the positives, negatives are
    mined among the proposals, picture by picture, on the features of fc7. Boxes are refined by the deltas learnt
    before.

    Args:
        path: the weights file; left as it is.
        data: training pictures.
        store: the proposals of every one.
        out: the new weights file, which must not be there yet.
        use_difficult: whether VOC's difficult objects are positives. They are no negatives in any case.
        processes: that SVMs are trained in.
        svms: their settings; by default R-CNN's.

    Raises:
        FileExistsError: `out` is there.
        FileNotFoundError, ValueError: proposals are missing or of other pictures; the weights are not a Fast R-CNN's
            with a softmax; the classes differ; a class has no object or no negative; and as `weights.load`.
    """
    check_new(Path(out), ".safetensors")
    detector = weights.load(path, device, for_training=True)
    if not isinstance(detector, FastRCNN):
        raise ValueError(f"{path}: SVMs take the place of the softmax of a Fast R-CNN, which this is not")
    if detector.preprocessing.tile:
        raise ValueError(f"{path} looks at pictures in tiles, and the SVMs would be trained on whole ones")
    if detector.head.svm_layer is not None:
        raise ValueError(f"{path} has SVMs already; give the weights that they were made from")
    if tuple(data.class_names) != detector.class_names:
        raise ValueError(
            f"{path} knows the classes {', '.join(detector.class_names)}, {data.name} has {', '.join(data.class_names)}"
        )
    check_proposals(data, store)

    rng = np.random.default_rng(0)
    norm_pictures = set(rng.permutation(len(data))[:NORM_PICTURES].tolist())
    positives: list[list[np.ndarray]] = [[] for _ in data.class_names]
    norms = [np.zeros(0)]
    for number, record in enumerate(reported(data.records, "objects", progress)):
        targets = record.targets[~record.targets.crowd]
        targets = targets if use_difficult else targets[~targets.difficult]
        for label, feature in zip(targets.labels.tolist(), fc7(detector, record, targets.boxes), strict=True):
            positives[label].append(feature)
        if number in norm_pictures:
            boxes = store.read(record.id, record.size, record.path).boxes
            some = boxes[torch.from_numpy(rng.permutation(len(boxes))[:NORM_BOXES])]
            norms.append(np.linalg.norm(fc7(detector, record, some), axis=1))
    factor = feature_scale(np.concatenate(norms))
    none = np.zeros((0, detector.head.score_layer.in_features), dtype=np.float32)
    trainer = SVMTrainer(
        [np.stack(each) * np.float32(factor) if each else none for each in positives],
        data.class_names,
        svms,
        processes,
    )
    for number, record in enumerate(reported(data.records, "negatives", progress)):
        boxes = store.read(record.id, record.size, record.path)[: detector.train_count].boxes
        overlaps = class_overlaps(boxes, record.targets, len(data.class_names)).numpy()
        features = fc7(detector, record, boxes) * np.float32(factor)
        trainer.see(number, features, overlaps, last=number == len(data) - 1)

    detector.head.use_svms(torch.from_numpy(trainer.weight * np.float32(factor)), torch.from_numpy(trainer.bias))
    head = {"svms": True, "score_threshold": SCORE_THRESHOLD}
    weights.save_changed(detector, path, out, head=head, training={"svms": data.name})


@torch.inference_mode()
def fc7(detector: FastRCNN, record: Record, boxes: Tensor) -> np.ndarray:
    """(N, D) float32 features of (N, 4) boxes in the pixels of a picture."""
    pictures = [read_picture(record.path, record.size)]
    images = with_proposals(
        detector.preprocessing(pictures, detector.device), [Proposals(boxes, boxes.new_ones(len(boxes)))]
    )
    return detector.head.class_features(detector.regions(images, images.proposals)).cpu().numpy()
