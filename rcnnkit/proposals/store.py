"""Proposals on disk: one file per picture, in a folder that says how they were made.

    DIR/selective-search-5f0c2a91b7d3/about.json         method and settings, whose hash is in the folder's name
    DIR/selective-search-5f0c2a91b7d3/000005.safetensors boxes, scores, and which picture they are of

A file appears atomically, so any number of processes and machines may write to one folder, and a run that
was killed goes on with what is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from rcnnkit.archives import bytes_of
from rcnnkit.boxes import check_inside, clip
from rcnnkit.files import check_regular, whole, write_json
from rcnnkit.structures import Proposals, Size
from rcnnkit.text import count, visible

FORMAT = 1
ABOUT = "about.json"
SUFFIX = ".safetensors"
LONGEST = 200  # bytes of a file name; most file systems take 255


@dataclass(frozen=True, slots=True)
class Store:
    """Proposals of one method with one choice of settings, in the pixels of each picture as it was given.

    `key` is a picture's id in its data set: a number and its text are the same key.
    """

    folder: Path
    method: str
    settings: Mapping[str, Any]

    @classmethod
    def create(cls, parent: Path | str, method: str, settings: Mapping[str, Any]) -> Store:
        """The store of these settings below `parent`, which is made where it is not there yet.

        Args:
            method: such as "selective-search"; part of the folder's name.
            settings: all that changes the boxes, as JSON can hold it.

        Raises:
            OSError: the folder cannot be made.
            ValueError: it is there and holds proposals made otherwise.
        """
        folder, about = cls._place(parent, method, settings)
        settings = about["settings"]
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / ABOUT).exists():
            write_json(folder / ABOUT, about)
        store = cls.open(folder)
        if (store.method, store.settings) != (method, settings):
            raise ValueError(f"{folder / ABOUT} was changed by hand: put it back, or move {folder} away")
        return store

    @classmethod
    def find(cls, parent: Path | str, method: str, settings: Mapping[str, Any]) -> Store | None:
        """The store that `create` would go on with, if there is one; nothing is made. Raises ValueError as `open`."""
        folder, _ = cls._place(parent, method, settings)
        return cls.open(folder) if (folder / ABOUT).is_file() else None

    @staticmethod
    def _place(parent: Path | str, method: str, settings: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
        """Where a store is, and what its about.json says."""
        about = {"format": FORMAT, "method": method, "settings": json.loads(json.dumps(dict(settings)))}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
        return Path(parent) / f"{method}-{digest}", about

    @classmethod
    def open(cls, folder: Path | str) -> Store:
        """The store in a folder, or the only one in the folders below it.

        Raises:
            FileNotFoundError: there is none.
            ValueError: there are several, which the message lists; or about.json is damaged or of a later format.
        """
        folder = Path(folder)
        if not (folder / ABOUT).is_file():
            inside = sorted(path.parent for path in folder.glob(f"*/{ABOUT}"))
            # What was begun and never got a picture is none beside those that have some.
            inside = [path for path in inside if any(path.glob(f"*{SUFFIX}"))] or inside
            if not inside:
                raise FileNotFoundError(f"{folder} holds no proposals; `rcnnkit proposals compute` makes them")
            if len(inside) > 1:
                listed = "\n".join(visible(f"  {path}: {cls.open(path).describe()}") for path in inside)
                raise ValueError(f"{folder} holds proposals of {len(inside)} kinds; name the folder of one:\n{listed}")
            folder = inside[0]
        try:
            about = json.loads((folder / ABOUT).read_bytes())
            if about["format"] > FORMAT:
                raise ValueError(
                    f"{folder / ABOUT} has format {about['format']}, this rcnnkit reads up to {FORMAT}; upgrade rcnnkit"
                )
            return cls(folder, about["method"], about["settings"])
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
            raise ValueError(f"{folder / ABOUT} does not say how proposals were made; put it back") from None

    def describe(self) -> str:
        """Method and settings in one line."""
        return ", ".join([self.method, *(f"{name} {value}" for name, value in self.settings.items())])

    def path(self, key: int | str) -> Path:
        """Where the proposals of a picture are or would be."""
        name = quote(str(key), safe="", errors="surrogatepass") or "%"  # letters, digits and _.-~ stay as they are
        if name.startswith("."):  # as unfinished files do
            name = f"%2E{name[1:]}"
        if len(name) > LONGEST:
            name = f"{name[: LONGEST - 33]}-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
        return self.folder / f"{name}{SUFFIX}"

    def __contains__(self, key: int | str) -> bool:
        """Whether there is a whole file for this key; a damaged one counts as missing."""
        try:
            self._load(key)
        except (FileNotFoundError, ValueError):
            return False
        return True

    def check(self, key: int | str, size: Size, picture: Path | None = None) -> None:
        """Raise what `read` would; looks at the head of the file only."""
        _check_picture(self.path(key), self._load(key)[0], size, picture)

    def read(self, key: int | str, size: Size, picture: Path | None = None) -> Proposals:
        """The proposals of a picture, in its pixels, best first.

        Args:
            size: (height, width) of the picture.
            picture: its file, which is known again by its number of bytes where the proposals were written with it.

        Raises:
            FileNotFoundError: there are none for this key.
            ValueError: the file is damaged, holds the proposals of another picture, or boxes that do not lie in it.
        """
        about, boxes, scores = self._load(key, "boxes", "scores")
        _check_picture(self.path(key), about, size, picture)
        check_inside(boxes, size, f"the proposals in {self.path(key)}")
        return Proposals(boxes, scores)

    def write(self, key: int | str, proposals: Proposals, size: Size, picture: Path | None = None) -> None:
        """Keep the proposals of a picture; those that were there for this key are replaced.

        Args:
            proposals: in the pixels of the picture; cut to it where rounding put them outside.
            size: (height, width) of the picture.
            picture: its file.

        Raises:
            OSError: the file cannot be written; nothing half remains.
            ValueError: a number is not finite, or a box lies more than 1 pixel outside the picture.
        """
        boxes, scores = proposals.boxes.detach().float().cpu(), proposals.scores.detach().float().cpu()
        check_inside(boxes, size, f"the proposals of picture {key}")
        if not scores.isfinite().all():
            raise ValueError(f"the proposals of picture {key} have a score that is not finite")
        about = {
            "key": str(key),
            "height": size[0],
            "width": size[1],
            "bytes": None if picture is None else bytes_of(picture),
        }
        tensors = {"boxes": clip(boxes, size).contiguous(), "scores": scores.contiguous()}
        with whole(self.path(key)) as half:
            half.write_bytes(save(tensors, {"rcnnkit": json.dumps(about)}))

    def _load(self, key: int | str, *names: str) -> tuple[Any, ...]:
        """What the file of a picture says of itself, and the named tensors."""
        path = self.path(key)
        check_regular(path)
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["rcnnkit"])
                tensors = [file.get_tensor(name) for name in names]
            written_for = about["key"]
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.folder} holds no proposals of picture {key}; {self._contents()}") from None
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}); delete it and compute it again") from None
        if written_for != str(key):  # "a" and "A", where the file system does not tell them apart
            raise ValueError(f"{path} holds the proposals of picture {written_for!r}, not of {str(key)!r}")
        return about, *tensors

    def _contents(self) -> str:
        files = sorted(self.folder.glob(f"*{SUFFIX}"))
        if not files:
            return "it is empty"
        pictures = count(len(files), "picture")
        return f"it holds those of {pictures}, such as {unquote(files[0].stem)}: is this the right data set?"


def _check_picture(path: Path, about: Mapping[str, Any], size: Size, picture: Path | None) -> None:
    stored_size = about["height"], about["width"]
    if stored_size != tuple(size):
        raise ValueError(
            f"{path} holds the proposals of a picture {stored_size[1]} wide and {stored_size[0]} high, but this one is"
            f" {size[1]} wide and {size[0]} high: they are of another data set; compute them into another folder"
        )
    if picture is not None and about["bytes"] not in (None, now := bytes_of(picture)):
        raise ValueError(
            f"{path} holds the proposals of a file of {about['bytes']:,} bytes, but {picture} has {now:,}: it is"
            " another data set, or the picture was changed; compute them into another folder"
        )
