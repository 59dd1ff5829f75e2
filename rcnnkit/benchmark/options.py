"""What a benchmark can be asked for. Next to nothing is imported: `rcnnkit --help` shows the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rcnnkit.defaults import DEVICE


@dataclass(frozen=True, slots=True)
class Options:
    """What `rcnnkit benchmark` was asked for; in results with the device, type and threads that it came to."""

    demo: Path = Path("rcnnkit-demo")
    random: bool = False
    backbone: str = ""  # the weights' own; untrained: choice.BACKBONE
    data: Path | None = None  # the demo's pictures
    images: Path | None = None  # the folder of a COCO file's pictures
    split: str = "test"
    weights: tuple[Path, ...] = ()  # the demo's
    also: tuple[Path, ...] = ()  # exported files, or folders of them
    device: str = DEVICE
    precision: str = "float32"
    max_proposals: int = 0
    batch: int = 1
    threads: int = 0
    limit: int = 64
    growth: bool = False
