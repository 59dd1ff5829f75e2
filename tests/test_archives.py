"""Files in archives are those that tarfile and zipfile find."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rcnnkit import archives
from rcnnkit.archives import bytes_of, is_folder, names_in, read_file, split_path, stamp_of

LONG = "folder/" + "n" * 150 + ".jpg"
FILES = {"a.jpg": b"first", "folder/b.png": bytes(range(256)) * 9, LONG: b"long", "ä/empty.jpg": b""}


@pytest.fixture(params=["plain.tar", "stored.zip", "deflated.ZIP"])
def archive(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RCNNKIT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / request.param
    if path.suffix == ".tar":
        with tarfile.open(path, "w") as tar:
            for name, data in FILES.items():
                about = tarfile.TarInfo(name)
                about.size = len(data)
                tar.addfile(about, io.BytesIO(data))
            folder = tarfile.TarInfo("nothing")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
    else:
        method = zipfile.ZIP_STORED if "stored" in path.name else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", method) as zipped:
            for name, data in FILES.items():
                zipped.writestr(name, data)
            zipped.mkdir("nothing")
    return path


def test_every_member_is_read_as_it_is(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "KEPT", 2)
    for _ in range(2):  # the second time from what was kept
        for name, data in FILES.items():
            found = read_file(archive / name)
            assert found.tobytes() == data
            assert found.dtype == np.uint8
            assert found.flags.writeable
            assert bytes_of(archive / name) == len(data)
            assert split_path(archive / name) == (str(archive), name)
        assert sorted(names_in(archive)) == sorted(FILES)
        archives._index.cache_clear()
    assert len(list((archive.parent / "cache" / "archives").iterdir())) == 1


def test_what_is_not_there(archive: Path) -> None:
    for name in ("c.jpg", "nothing", "folder", "a.jpg/x"):
        assert stamp_of(archive / name) is None
        with pytest.raises(FileNotFoundError, match="there is no"):
            read_file(archive / name)
        with pytest.raises(FileNotFoundError, match="there is no"):
            bytes_of(archive / name)
    assert is_folder(archive)
    assert is_folder(archive / "folder")
    assert not is_folder(archive.with_name("other.tar"))
    plain = archive.with_name("plain.txt")
    plain.write_bytes(b"1234")
    assert split_path(plain) is None
    assert read_file(plain).tobytes() == b"1234"
    with pytest.raises(FileNotFoundError):
        read_file(plain / "x.jpg")


def test_a_changed_archive_is_looked_at_again(archive: Path) -> None:
    assert stamp_of(archive / "a.jpg") is not None
    if archive.suffix == ".tar":
        with tarfile.open(archive, "a") as tar:
            tar.addfile(tarfile.TarInfo("new.jpg"), io.BytesIO())
    else:
        with zipfile.ZipFile(archive, "a") as zipped:
            zipped.writestr("new.jpg", b"")
    assert bytes_of(archive / "new.jpg") == 0


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    for name in ("a.tar", "a.zip"):
        (tmp_path / name).write_bytes(b"x" * 2000)
        with pytest.raises(ValueError, match=r"a\.\w+ is not an archive that can be read \(.*\); copy it again"):
            read_file(tmp_path / name / "b.jpg")
