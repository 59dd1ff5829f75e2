"""What there is to detect in: each picture, video and camera that was named, found or given, before it is opened."""

from __future__ import annotations

import glob
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import numpy as np

from rcnnkit.data.checks import pictures_in
from rcnnkit.decoding import PICTURE_SUFFIXES, from_data
from rcnnkit.detecting.urls import LARGEST_VIDEO, download, download_to
from rcnnkit.detecting.videos import VIDEO_SUFFIXES, Video
from rcnnkit.images import Picture, each_picture, read_picture
from rcnnkit.structures import Array
from rcnnkit.text import count

log = logging.getLogger("rcnnkit")

Given = Picture | tuple[str, Picture]  # a picture may come with its name
Files = Given | Iterable[Given]

SUFFIXES = PICTURE_SUFFIXES | VIDEO_SUFFIXES
STREAMS = ("rtmp", "rtmps", "rtsp", "rtsps", "tcp", "udp")
STREAM_SUFFIXES = (".m3u8", ".mjpeg", ".mjpg")
NO_NAME = re.compile(r'[\x00-\x1f\x7f"*:<>?\\|]')  # not in names of files, here or on other systems
LONGEST_NAME = 100  # letters of a name that is taken from a URL


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A picture, or a video or camera, that is not opened yet."""

    name: str  # as it was given, or below a folder that was
    place: Path  # of what is written about it, below a folder and without an ending; no two of a run have the same
    read: Callable[[], Array] | None = None  # of a picture
    open: Callable[[], AbstractContextManager[Video]] | None = None  # of a video or camera
    file: Path | None = None  # that the picture is in


def sources_of(files: Files, out: Path | None = None) -> Iterator[Source]:
    """Each picture, video and camera of `files`, one after another; a file that is named twice comes once.

    Args:
        files: one or several of: a picture as of `rcnnkit.images.read_picture`, also as (name, picture); a folder, of
            which the pictures and videos are taken, also in sub-folders; a glob such as "in/**/*.png"; a video; a
            URL; "camera:0". An iterator is read as far as it is needed.
        out: a folder that is not looked into, since results go there.

    Raises:
        FileNotFoundError: a folder has no picture or video, or a glob matches none.
        TypeError: it is none of these.
        ValueError: a URL of another kind.
    """
    places, seen_names = _Places(), set[str]()
    several = each_picture(files)
    for number, entry in enumerate([files] if several is None else several):
        for name, place, make in _each(entry, number, out):
            if isinstance(entry, str | os.PathLike):
                if name in seen_names:
                    continue
                seen_names.add(name)
            yield make(name, places.take(place))


Make = Callable[[str, Path], Source]  # of its name and its place


def _each(entry: Any, number: int, out: Path | None) -> Iterator[tuple[str, Path, Make]]:
    """Name and wanted place of all that one thing stands for, and what makes its source of these."""
    if isinstance(entry, tuple):
        if len(entry) != 2 or not isinstance(entry[0], str):
            raise TypeError("a tuple among pictures is (name, picture), the name a string")
        yield entry[0], _inside(entry[0]), partial(_held, picture=entry[1])
    elif not isinstance(entry, str | os.PathLike):
        yield f"pictures[{number}]", Path(f"{number:06}"), partial(_held, picture=entry)
    elif scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", text := str(os.fspath(entry))):
        yield _of_url(text, scheme[1].lower())
    elif camera := re.fullmatch(r"camera:(\d+)|/dev/video(\d+)", text):
        device = int(camera[1] or camera[2])
        yield text, Path(f"camera-{device}"), partial(_video, source=device, live=True)
    else:
        for path, base in _paths(text, out):
            place = Path(path.name if base is None else path.relative_to(base)).with_suffix("")
            if path.suffix.lower() in VIDEO_SUFFIXES:
                yield str(path), place, partial(_video, source=path, live=False)
            else:
                yield str(path), place, partial(_held, picture=path, file=path)


def _paths(text: str, out: Path | None) -> Iterator[tuple[Path, Path | None]]:
    """The files that a path or a glob stands for, each with the folder that was named."""
    path = Path(text)
    if path.is_dir():
        yield from ((file, path) for file in pictures_in([path], out, SUFFIXES))
    elif not glob.has_magic(text) or os.path.lexists(path):
        yield path, None
    else:
        start = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
        base = Path(*path.parts[:start])
        matches = glob.glob(text, recursive=True)  # noqa: PTH207 - Path's own has hidden files, too
        found = sorted(map(Path, matches))
        folders = [] if "**" in text else [match for match in found if match.is_dir()]
        files = [match for match in found if match.is_file()]
        media = [match for match in files if match.suffix.lower() in SUFFIXES]
        if not (media or folders):
            what = f"matches {count(len(files), 'file')}, but no picture or video" if files else "matches no file"
            raise FileNotFoundError(f"{text} {what}; correct it, or name the folder to take all that is in it")
        if left_out := len(files) - len(media):
            log.warning("%s: %s taken, %s left out", text, count(len(media), "file"), count(left_out, "other file"))
        yield from ((file, base) for file in [*media, *pictures_in(folders, out, SUFFIXES)])


def _of_url(text: str, scheme: str) -> tuple[str, Path, Make]:
    """Name, wanted place and maker of what a URL leads to."""
    if "://" not in text:
        raise ValueError(f"{text} is no URL any more, since a Path has lost a slash of it; pass a string")
    parts = urlsplit(text)
    path = Path(unquote(parts.path))
    stem = NO_NAME.sub("_", path.stem).lstrip(".")[:LONGEST_NAME]
    place = Path(stem or NO_NAME.sub("_", parts.hostname or "") or "picture")
    # A password is for the camera, and not for results and logs.
    name = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    suffix = path.suffix.lower()
    if scheme in STREAMS or (scheme in ("http", "https") and suffix in STREAM_SUFFIXES):
        return name, place, partial(_video, source=text, live=True)
    if scheme not in ("http", "https"):
        raise ValueError(
            f"{name}: URLs of {scheme}:// are not read, but http, https, {', '.join(STREAMS)}; download it, and give"
            " the file"
        )
    if suffix in VIDEO_SUFFIXES:
        return name, place, partial(_video_of_url, url=text)
    return name, place, partial(_picture_of_url, url=text)


def _inside(name: str) -> Path:
    """A picture's name as a place in a folder, whatever it leads to elsewhere."""
    parts = [NO_NAME.sub("_", part) for part in Path(name).parts if part not in ("..", os.sep)]
    place = Path(*parts) if parts else Path("picture")
    return place.with_suffix("") if place.suffix.lower() in SUFFIXES else place


def _held(name: str, place: Path, picture: Picture, file: Path | None = None) -> Source:
    return Source(name, place, partial(read_picture, picture), file=file)


def _video(name: str, place: Path, source: Path | str | int, live: bool) -> Source:
    return Source(name, place, open=lambda: closing(Video(name, source, live)))


def _picture_of_url(name: str, place: Path, url: str) -> Source:
    def read() -> Array:
        return from_data(np.frombuffer(bytearray(download(url)), np.uint8), name, None, False)

    return Source(name, place, read)


def _video_of_url(name: str, place: Path, url: str) -> Source:
    @contextmanager
    def opened() -> Iterator[Video]:
        with tempfile.NamedTemporaryFile(suffix=Path(urlsplit(url).path).suffix) as file:
            download_to(file, url, LARGEST_VIDEO)
            file.flush()
            with closing(Video(name, Path(file.name), live=False)) as video:
                yield video

    return Source(name, place, open=opened)


class _Places:
    """Gives each its own: the one that it wants, or that with a number behind it."""

    def __init__(self) -> None:
        self._taken: dict[
            str, int
        ] = {}  # place -> the last number that was tried behind it; text is smaller than paths

    def take(self, wanted: Path) -> Path:
        first = place = str(wanted)
        while place in self._taken:
            self._taken[first] += 1
            place = f"{first}-{self._taken[first]}"
        self._taken[place] = 1
        return Path(place)
