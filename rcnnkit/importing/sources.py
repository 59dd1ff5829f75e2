"""Where weights from elsewhere come from: torchvision's, by name, or a file."""

from __future__ import annotations

import difflib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torchvision
from torchvision.models import WeightsEnum
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_V2_Weights, FasterRCNN_ResNet50_FPN_Weights

from rcnnkit.downloads import LICENCE, fetch, hash_of
from rcnnkit.files import check_regular, sha256
from rcnnkit.importing.tensors import SUFFIXES

ZOO_LICENCE = "CC BY-SA 3.0 (detectron2's model zoo)"
UNKNOWN_LICENCE = "not stated; ask where the file comes from"
DETECTORS: tuple[type[WeightsEnum], ...] = (FasterRCNN_ResNet50_FPN_Weights, FasterRCNN_ResNet50_FPN_V2_Weights)
CLASSIFIERS = ("alexnet", "vgg16", "vgg19", "googlenet", *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)))

EXAMPLES = ("FasterRCNN_ResNet50_FPN_Weights.COCO_V1", "ResNet50_Weights.IMAGENET1K_V2", "VGG16_Weights.IMAGENET1K_V1")


@dataclass(frozen=True, slots=True)
class Source:
    """A file of weights, on this machine."""

    path: Path
    sha256: str
    weights: Any = None  # the entry of a torchvision enum, where it is one of its files
    from_zoo: bool = False  # detectron2's

    @property
    def name(self) -> str:
        """As torchvision calls it, or the file's name."""
        return str(self.path.name) if self.weights is None else repr(self.weights)

    def origin(self, licence: str | None) -> dict[str, str]:
        """What a weights file keeps of where it comes from."""
        library, default, url = "", UNKNOWN_LICENCE, {}
        if self.weights is not None:
            library, default, url = "torchvision ", LICENCE, {"url": self.weights.url}
        elif self.from_zoo:
            library, default = "detectron2 model zoo ", ZOO_LICENCE
        return {"source": library + self.name, "licence": licence or default, "sha256": self.sha256} | url


def find(source: str) -> Source:
    """A file, or the one that torchvision has under a name such as "FasterRCNN_ResNet50_FPN_Weights.COCO_V1".

    Torchvision's are downloaded once, into its own cache, and checked by their hash each time.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder or device; no such name; the nearest ones are named.
        OSError: the weights cannot be downloaded, or are damaged.
    """
    path = Path(source)
    check_regular(path)
    if path.is_file():
        digest = sha256(path)
        # Torchvision's file under another name is known all the same.
        known = [each for each in torchvision_weights().values() if digest.startswith(hash_of(each))]
        return Source(path, digest, next(iter(known), None), _from_zoo(path))
    names = torchvision_weights()
    if source in names:
        path = fetch(names[source])
        return Source(path, sha256(path), names[source])
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the file in it")
    if path.suffix in SUFFIXES or path.name != source:
        raise FileNotFoundError(f"{path}: no such file")
    lower = {name.lower(): name for name in names}
    close = [lower[name] for name in difflib.get_close_matches(source.lower(), lower, n=3, cutoff=0.4)]
    hint = f"did you mean {' or '.join(close)}?" if close else f"such are {', '.join(EXAMPLES)}, …"
    raise ValueError(f"{source} is neither a file nor weights of torchvision; {hint}")


def torchvision_weights() -> dict[str, Any]:
    """The entries that can be imported, by full name. Those without classes are no whole networks."""
    enums = [*DETECTORS, *(torchvision.models.get_model_weights(name) for name in CLASSIFIERS)]
    return {
        f"{enum.__name__}.{name}": entry
        for enum in enums
        for name, entry in enum.__members__.items()
        if entry.meta["categories"]
    }


def _from_zoo(path: Path) -> bool:
    """Whether it is a file of detectron2's model zoo, which are called after their MD5. Raises OSError if it is cut."""
    match = re.fullmatch(r"model_final_([0-9a-f]{6})\.pkl", path.name)
    if match is None:
        return False
    with path.open("rb") as file:
        if not hashlib.file_digest(file, "md5").hexdigest().startswith(match[1]):
            raise OSError(f"{path} is not the model zoo's file of that name: copy it again, or rename your own file")
    return True
