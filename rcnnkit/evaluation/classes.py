"""The labels of a detector, said in the classes of the data set it is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rcnnkit.structures import Detections


def in_classes(detections: Detections, class_names: Sequence[str]) -> Detections:
    """The same detections with labels that index `class_names`.

    Detections that carry no names of their own are taken to speak of `class_names` already.
    Otherwise labels are matched by name; detections of classes that are not in `class_names`
    are left out, because nothing was annotated to compare them with.

    Args:
        detections: of one picture, on any device.
        class_names: the K names of the data set.

    Returns:
        Detections on the CPU with labels in [0, K).

    Raises:
        ValueError: a score or a box is not finite, a label has no class, or the detector does
            not know a class of the data set (its AP would read 0 without anyone knowing why).
    """
    detections = detections.to("cpu")
    own_names = tuple(detections.class_names or class_names)
    if not (detections.scores.isfinite().all() and detections.boxes.isfinite().all()):
        raise ValueError("a detection has a score or a box that is not finite; such a run cannot be evaluated")
    if len(detections) and not 0 <= int(detections.labels.min()) <= int(detections.labels.max()) < len(own_names):
        raise ValueError(
            f"detections have labels {int(detections.labels.min())} to {int(detections.labels.max())},"
            f" but there are {len(own_names)} classes; labels start at 0 and background has none"
        )
    if own_names == tuple(class_names):
        return detections
    if unknown := [name for name in class_names if name not in own_names]:
        raise ValueError(
            f"the detector does not know {', '.join(unknown)}; it knows {', '.join(own_names)}."
            " Evaluate it on a data set with its own classes"
        )
    new_labels = torch.tensor([class_names.index(name) if name in class_names else -1 for name in own_names])
    kept = detections[new_labels[detections.labels] >= 0]
    return Detections(kept.boxes, kept.scores, new_labels[kept.labels], tuple(class_names), phrases=kept.phrases)
