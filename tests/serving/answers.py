"""From what the server says back to detections."""

from typing import Any

import torch

from rcnnkit.structures import Detections


def detections(said: dict[str, Any]) -> Detections:
    found = said["detections"]
    return Detections(
        torch.tensor([one["box"] for one in found]).reshape(-1, 4),
        torch.tensor([one["score"] for one in found]),
        torch.tensor([one["label"] for one in found], dtype=torch.int64),
        ("cat", "dog"),
    )
