"""R-CNN, Fast R-CNN, Faster R-CNN and DenseCap, each in a file that reads like its paper."""

__all__ = [
    "aligner",
    "densecap",
    "detector",
    "fast_rcnn",
    "faster_rcnn",
    "kinds",
    "rcnn",
    "settings",
    "trained_rpn",
]
