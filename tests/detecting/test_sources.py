"""Whatever is named or given becomes pictures and videos, each with a name and a place of its own."""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rcnnkit.detecting.sources import Source, sources_of
from tests.detecting.conftest import Web
from tests.detecting.squares import painted


def found(files: Any, out: Path | None = None) -> list[tuple[str, str, str]]:
    """Name, place and kind of each."""
    kinds = {(True, False): "picture", (False, True): "video"}
    return [
        (each.name, each.place.as_posix(), kinds[each.read is not None, each.open is not None])
        for each in sources_of(files, out)
    ]


def pixels(source: Source) -> np.ndarray:
    assert source.read is not None
    return source.read()


@pytest.fixture
def here(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(pictures.parent)
    return pictures


def test_files_and_folders_with_sub_folders(here: Path, clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    (here / "mon" / "clip.mp4").symlink_to(clip)
    (here / "notes.txt").write_text("none")
    everything = [
        ("in/a.png", "a", "picture"),
        ("in/mon/a.png", "mon/a", "picture"),
        ("in/mon/clip.mp4", "mon/clip", "video"),
        ("in/tue/none.png", "tue/none", "picture"),
    ]
    with caplog.at_level(logging.INFO, "rcnnkit"):
        assert found("in") == found(Path("in")) == everything
    assert caplog.messages[0] == "in: 3 pictures and 1 video taken, 1 other thing left out: 1 .txt"
    # a file that comes twice is taken once, and two of one name have two places
    assert found(["in/mon/a.png", "in/a.png", "in/mon", "in/none.png"]) == [
        ("in/mon/a.png", "a", "picture"),
        ("in/a.png", "a-2", "picture"),
        ("in/mon/clip.mp4", "clip", "video"),
        ("in/none.png", "none", "picture"),  # that it is not there is said when it is read
    ]
    (here / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"^in/empty holds no pictures \(\.3gp, \.apng, "):
        found("in/empty")
    assert found("in", Path("in/mon")) == [everything[0], everything[3]]  # where results go


def test_globs(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    (here / "notes.txt").write_text("none")
    (here / ".hidden.png").write_bytes(b"")
    (here / "[1].png").write_bytes(b"")
    assert found("in/**/a.png") == [("in/a.png", "a", "picture"), ("in/mon/a.png", "mon/a", "picture")]
    assert found("in/*/*.png") == [("in/mon/a.png", "mon/a", "picture"), ("in/tue/none.png", "tue/none", "picture")]
    assert found("in/[1].png") == [("in/[1].png", "[1]", "picture")]  # it is there
    assert not caplog.messages
    folders = [("in/mon/a.png", "mon/a", "picture"), ("in/tue/none.png", "tue/none", "picture")]
    assert found("in/*") == [("in/[1].png", "[1]", "picture"), ("in/a.png", "a", "picture"), *folders]
    assert caplog.messages == ["in/*: 2 files taken, 1 other file left out"]
    for pattern, words in (
        ("in/*.jpeg", r"^in/\*\.jpeg matches no file; correct it, or name the folder to take all that is in it$"),
        ("in/*.t?t", r"^in/\*\.t\?t matches 1 file, but no picture or video; correct it"),
    ):
        with pytest.raises(FileNotFoundError, match=words):
            found(pattern)


def test_pictures_that_a_program_holds(here: Path) -> None:
    picture = painted((0, 3, 3))
    data = (here / "a.png").read_bytes()
    given: list[Any] = [
        picture,
        ("cam/7.png", picture),
        data,
        io.BytesIO(data),
        Image.fromarray(picture),
        torch.tensor(picture).permute(2, 0, 1),
        ("../../cam/7", picture),
        "in/a.png",
        ("v1.2", picture),
        ("", picture),
    ]
    sources = list(sources_of(iter(given)))
    assert [(each.name, each.place.as_posix()) for each in sources] == [
        ("pictures[0]", "000000"),
        ("cam/7.png", "cam/7"),
        ("pictures[2]", "000002"),
        ("pictures[3]", "000003"),
        ("pictures[4]", "000004"),
        ("pictures[5]", "000005"),
        ("../../cam/7", "cam/7-2"),  # nothing is written elsewhere
        ("in/a.png", "a"),
        ("v1.2", "v1.2"),
        ("", "picture"),
    ]
    for source in sources:
        assert pixels(source).shape == (48, 64, 3)
    for batch in (np.stack([picture] * 2), torch.zeros(2, 3, 48, 64, dtype=torch.uint8)):
        assert found(batch) == [("pictures[0]", "000000", "picture"), ("pictures[1]", "000001", "picture")]
    assert found(picture) == [("pictures[0]", "000000", "picture")]


def test_an_iterator_is_read_as_far_as_it_is_needed() -> None:
    read = []

    def endless() -> Any:
        for number in range(10**9):
            read.append(number)
            yield painted()

    sources = sources_of(endless())
    assert [next(sources).name for _ in range(3)] == ["pictures[0]", "pictures[1]", "pictures[2]"]
    assert read == [0, 1, 2]


def test_a_thousand_pictures_of_one_name() -> None:
    places = [each.place.name for each in sources_of(("image.jpg", b"") for _ in range(1000))]
    assert places == ["image", *(f"image-{number}" for number in range(2, 1001))]
    assert [each.place.name for each in sources_of([("a-2", b""), ("a", b""), ("a", b"")])] == ["a-2", "a", "a-3"]


@pytest.mark.parametrize(
    ("files", "error", "words"),
    [
        ({"a.jpg"}, TypeError, "a set of pictures has no order to answer in"),
        ({"a": "a.jpg"}, TypeError, "a dict of pictures has no order to answer in"),
        (3, TypeError, "a value of type int is not a picture"),
        ([("a.jpg",)], TypeError, r"a tuple among pictures is \(name, picture\), the name a string"),
        ([(1, "a.jpg")], TypeError, r"a tuple among pictures is \(name, picture\)"),
        (
            "ftp://a.org/b.jpg",
            ValueError,
            r"^ftp://a\.org/b\.jpg: URLs of ftp:// are not read, but http, https, rtmp, ",
        ),
        ("s3://me:secret@a/b.jpg", ValueError, r"^s3://a/b\.jpg: URLs of s3:// are not read"),
        (Path("https://a.org/b.jpg"), ValueError, r"^https:/a\.org/b\.jpg is no URL any more, since a Path has lost"),
    ],
)
def test_what_is_neither(files: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        found(files)


def test_cameras_and_streams() -> None:
    assert found(["camera:0", "/dev/video2", "rtsp://me:secret@door:554/live.sdp", "https://a.org/cam/live.m3u8"]) == [
        ("camera:0", "camera-0", "video"),
        ("/dev/video2", "camera-2", "video"),
        ("rtsp://door:554/live.sdp", "live", "video"),  # without the password
        ("https://a.org/cam/live.m3u8", "live-2", "video"),
    ]


def test_urls_of_pictures_and_videos(web: Web, here: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(here.parent))
    monkeypatch.setattr("tempfile.tempdir", None)
    web.files = {"/mon/a%20b.png": (here / "a.png").read_bytes(), "/clip.mp4": clip.read_bytes(), "/": b"<html>"}
    urls = [f"{web.address}{path}" for path in ("/mon/a%20b.png?size=2", "/clip.mp4", "/", "/..")]
    picture, video, page, none = sources_of(urls)
    assert not web.asked  # until it is needed
    assert (picture.name, picture.place) == (urls[0], Path("a b"))
    np.testing.assert_array_equal(pixels(picture), painted((0, 10, 20)))
    before = sorted(here.parent.iterdir())
    assert video.open is not None
    with video.open() as opened:
        assert len([frame for frame, _ in opened.frames()]) == 12
        assert len(list(here.parent.iterdir())) == len(before) + 1
    assert sorted(here.parent.iterdir()) == before
    assert (page.place, none.place.name) == (Path("127.0.0.1"), "127.0.0.1-2")
    with pytest.raises(ValueError, match=f"^{urls[2]} cannot be decoded"):
        pixels(page)
    with pytest.raises(OSError, match="404 Not Found"):
        pixels(none)
