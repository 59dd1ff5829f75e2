"""Weights from elsewhere, with the same answers."""

__all__ = ["convert", "detectron2", "torchvision_classifiers", "torchvision_detectors"]
