"""From settings and annotated pictures to weights."""

__all__ = [
    "alignment",
    "alignment_settings",
    "alternating",
    "checkpoint",
    "classification",
    "detection",
    "fast_rcnn_svms",
    "features",
    "fine_tuning",
    "gradient",
    "loop",
    "phrases",
    "rcnn_stages",
    "run",
    "schedule",
    "stopping",
    "task",
    "train",
    "windows",
]
