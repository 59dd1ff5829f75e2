"""The features of every window of a data set, in half precision on disk as far as they may go there.

    FOLDER/about.json             which network, windows and pictures they are of
    FOLDER/000012.safetensors     of picture 12: those of its objects and of windows near them, the lengths of all,
                                  and, where the disk allowance reaches, all

A file appears atomically, so that a run that was stopped continues with the next picture.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from rcnnkit.files import remove_halves, whole, write_json
from rcnnkit.settings import NotNegative, Section
from rcnnkit.structures import Array
from rcnnkit.training.windows import Windows

ABOUT = "about.json"
HALF = 2  # bytes
GB = 1e9


class FeatureSettings(Section):
    """[feature_store]: where R-CNN keeps the features of its windows while the SVMs and the box regression are
    trained."""

    folder: Path | None = None
    """The folder that the features are kept in. Not given: features/ in the run's folder."""
    disk_gb: NotNegative = 200.0
    """How much disk space they may take, GB (10⁹ bytes). Features that do not fit are computed again when they are
    needed. VOC2007 with fc7 takes 85."""
    memory_gb: NotNegative = 4.0
    """How much memory decoded pictures may take, GB, at 12 bytes a pixel. Other pictures are decoded each time."""


class Features:
    """What a network makes of windows: computed picture by picture, then read back, or computed again.

    Either way they are rounded to half precision, so that it makes no difference which. Making this object writes
    nothing: what is wrong with the folder is found before the network is trained.

    Args:
        settings: with a folder, for this data set and network alone. Pictures that come first have their windows'
            features stored.
        about: what the features depend on besides the network's weights.
        windows: of each picture.
        compute: the features (N, D) that the SVMs see and pool5 (N, D5), of the windows of a picture.
        widths: D and D5; 0 where that layer is not needed.
        near_iou: see `Windows.near`; pool5 is kept of these.

    Raises:
        ValueError: `folder` holds features that depend on something else; or the allowance does not suffice for
            those of the objects and of what is near them, or the disk for the allowance.
    """

    def __init__(
        self,
        settings: FeatureSettings,
        about: Mapping[str, Any],
        windows: Sequence[Windows],
        compute: Callable[[int], tuple[Tensor, Tensor]],
        widths: tuple[int, int],
        near_iou: float,
    ) -> None:
        assert settings.folder is not None
        folder, disk_gb = settings.folder, settings.disk_gb
        self.folder, self.windows, self.compute = folder, windows, compute
        self.widths, self.near_iou = widths, near_iou
        small = [HALF * (len(w.objects) * widths[0] + len(w.near(near_iou)[0]) * widths[1]) for w in windows]
        large = np.cumsum([HALF * len(w) * widths[0] for w in windows])
        if sum(small) > disk_gb * GB:
            raise ValueError(
                f"feature_store.disk_gb = {disk_gb:g}, but the features of the objects and of what is near them take"
                f" {sum(small) / GB:.3g} GB; allow more, or set rcnn.box_regression = false"
            )
        room = disk_gb * GB - sum(small)
        self.stored = int(np.searchsorted(large, room, side="right")) if widths[0] else 0  # pictures
        self.bytes = sum(small) + (int(large[self.stored - 1]) if self.stored else 0)
        self.about = json.loads(json.dumps(dict(about)))  # as it will be read
        self._compare()
        existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        ready = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        if self.bytes - ready > (free := shutil.disk_usage(existing).free):
            raise ValueError(
                f"{existing} has {free / GB:.1f} GB left, but {(self.bytes - ready) / GB:.1f} GB of features are to be"
                " written; set feature_store.disk_gb lower, or feature_store.folder to another disk"
            )

    def begin(self, network: str) -> list[int]:
        """The pictures that `make` is still to be called for, with the network of this fingerprint.

        Others that share the folder may have kept less of a picture.

        Raises:
            ValueError: the folder holds the features of another.
        """
        remove_halves(self.folder)
        self.about["network"] = network
        if not self._compare():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / ABOUT, self.about)
        wanted = {"objects", "norms"} if self.widths[0] else set()
        wanted |= {"near", "pool5_norms"} if self.widths[1] else set()
        return [i for i in range(len(self.windows)) if not wanted <= self._names(i)]

    def join(self, network: str) -> None:
        """Take part in what another process has begun, as of `begin`.

        Raises:
            ValueError: it cannot be seen from here, or is of another network.
        """
        self.about["network"] = network
        if not self._compare():
            raise ValueError(
                f"what the first process writes to {self.folder} cannot be seen from {os.uname().nodename}; set"
                " feature_store.folder to a folder that all machines share"
            )

    def renew(self, *, own: bool) -> None:
        """Before the network is trained on: features that are there already will be another network's.

        Args:
            own: the folder belongs to this run, whose old features are deleted.

        Raises:
            ValueError: there are some, and the folder is not this run's own.
        """
        if not self._compare():
            return
        if not own:
            raise ValueError(
                f"{self.folder} holds features of a network already, and this one is yet to be trained; set"
                " feature_store.folder to another, or rcnn.fine_tune = false to use the network as it is"
            )
        for file in [self.folder / ABOUT, *self.folder.glob("*.safetensors")]:
            file.unlink()

    def _compare(self) -> bool:
        """Whether there are features already. Raises ValueError if they are others."""
        file = self.folder / ABOUT
        try:
            content = json.loads(file.read_bytes())
        except FileNotFoundError:
            return False
        except ValueError:
            raise ValueError(f"{file} is damaged; delete the folder, or set feature_store.folder to another") from None
        for name, value in self.about.items():
            if value != content.get(name):
                raise ValueError(
                    f"{self.folder} holds features of another {name} ({content.get(name)}, not {value});"
                    " delete the folder, or set feature_store.folder to another"
                )
        return True

    def path(self, picture: int) -> Path:
        return self.folder / f"{picture:06d}.safetensors"

    def make(self, picture: int) -> None:
        """Compute and write what is kept of a picture.

        Raises:
            ValueError: a feature is not finite, or too large for half precision.
            OSError: it cannot be written.
        """
        features, pool5 = self.compute(picture)
        windows = self.windows[picture]
        tensors: dict[str, Tensor] = {}
        if self.widths[0]:
            tensors |= {"objects": features[: len(windows.objects)].half(), "norms": features.norm(dim=1)}
            tensors |= {"features": features.half()} if picture < self.stored else {}
        if self.widths[1]:
            near = windows.near(self.near_iou)[0].to(pool5.device)
            tensors |= {"near": pool5[near].half(), "pool5_norms": pool5.norm(dim=1)}
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            largest = max(float(each.abs().max()) for each in (features, pool5))
            raise ValueError(
                f"{windows.record.path}: a feature is not finite in half precision (the largest is {largest:g});"
                " was the network trained with too high a learning rate?"
            )
        write_arrays({name: tensor.cpu().numpy() for name, tensor in tensors.items()}, self.path(picture))

    def all(self, picture: int) -> Array:
        """(N, D) float32: of all windows."""
        stored = self._get(picture, "features")
        return self.compute(picture)[0].half().float().cpu().numpy() if stored is None else stored

    def read(self, picture: int, name: str) -> Array:
        """float32: `objects` (G, D) and `norms` (N,); `near` (M, D5) and `pool5_norms` (N,).

        Raises:
            ValueError: the file is damaged.
        """
        array = self._get(picture, name)
        if array is None:
            raise ValueError(f"{self.path(picture)} has no {name}; delete it, and it is computed again")
        return array

    def _names(self, picture: int) -> set[str]:
        """What is kept of a picture; of a damaged file nothing."""
        try:
            with safe_open(self.path(picture), framework="np") as file:
                return set(file.keys())
        except (FileNotFoundError, SafetensorError):
            return set()

    def _get(self, picture: int, name: str) -> Array | None:
        path = self.path(picture)
        try:
            with safe_open(path, framework="np") as file:  # maps the file: only this array is read
                return file.get_tensor(name).astype(np.float32) if name in file.keys() else None  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); delete it, and it is computed again") from None


def write_arrays(arrays: Mapping[str, Array], path: Path) -> None:
    """Write a .safetensors file atomically. Raises OSError."""
    with whole(path) as half:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, half)


def fingerprint(network: nn.Module) -> str:
    """A short hash of all of a network's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
