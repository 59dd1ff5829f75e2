"""How good detections are: COCO's numbers, Pascal VOC's, and a classifier's accuracy."""

__all__ = ["accuracy", "coco", "report", "voc"]
