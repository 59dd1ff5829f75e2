"""How good detections are, and why: COCO's numbers, Pascal VOC's, a classifier's accuracy, mistakes, comparisons."""

__all__ = [
    "accuracy",
    "aligned",
    "analysis",
    "coco",
    "comparison",
    "dense_captions",
    "described",
    "errors",
    "matches",
    "operating",
    "report",
    "retrieval",
    "sentences",
    "voc",
]
