"""From settings and annotated pictures to weights."""

__all__ = [
    "alternating",
    "checkpoint",
    "fast_rcnn_svms",
    "features",
    "fine_tuning",
    "loop",
    "rcnn_stages",
    "schedule",
    "windows",
]
