"""R-CNN, Fast R-CNN and Faster R-CNN, each in a file that reads like its paper."""

__all__ = ["detector", "fast_rcnn", "faster_rcnn", "kinds", "rcnn", "settings", "trained_rpn"]
