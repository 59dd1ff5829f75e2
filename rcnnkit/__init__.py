"""rcnnkit: the R-CNN family in PyTorch.

    import rcnnkit

    detector = rcnnkit.load("best.safetensors")
    found = detector("street.jpg")
    rcnnkit.draw("street.jpg", found).save("found.jpg")

Names are imported when they are first used, so that `rcnnkit.ops` alone loads little.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rcnnkit.detecting import DetectedPicture, detect_each, detect_files
    from rcnnkit.detectors.densecap import DenseCap
    from rcnnkit.detectors.fast_rcnn import FastRCNN
    from rcnnkit.detectors.faster_rcnn import FasterRCNN
    from rcnnkit.detectors.kinds import build
    from rcnnkit.detectors.rcnn import RCNN
    from rcnnkit.drawing import draw
    from rcnnkit.exporting.export import export
    from rcnnkit.structures import Detections
    from rcnnkit.training.train import train
    from rcnnkit.weights import load, save

__version__ = "0.1.0"
__all__ = [
    "RCNN",
    "DenseCap",
    "DetectedPicture",
    "Detections",
    "FastRCNN",
    "FasterRCNN",
    "build",
    "detect_each",
    "detect_files",
    "draw",
    "export",
    "load",
    "save",
    "train",
]

_HOMES = {
    "DenseCap": "detectors.densecap",
    "DetectedPicture": "detecting",
    "Detections": "structures",
    "FastRCNN": "detectors.fast_rcnn",
    "FasterRCNN": "detectors.faster_rcnn",
    "RCNN": "detectors.rcnn",
    "build": "detectors.kinds",
    "detect_each": "detecting",
    "detect_files": "detecting",
    "draw": "drawing",
    "export": "exporting.export",
    "load": "weights",
    "save": "weights",
    "train": "training.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rcnnkit' has no attribute {name!r}")
    return getattr(import_module(f"rcnnkit.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
