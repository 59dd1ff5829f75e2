"""A file appears atomically."""

import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rcnnkit.files import (
    check_free,
    check_new,
    check_regular,
    free_folder,
    is_free,
    is_running,
    remove_halves,
    sha256,
    whole,
    write_json,
)


def test_nothing_is_in_the_way_of_a_new_file(tmp_path: Path) -> None:
    check_new(tmp_path / "a.txt", ".txt")
    check_new(Path("a-file-that-is-not-here"))
    with pytest.raises(ValueError, match=r"a\.pth must end with \.safetensors"):
        check_new(tmp_path / "a.pth", ".safetensors")
    with pytest.raises(FileNotFoundError, match=r"none is not a folder; make it, or write a\.txt elsewhere"):
        check_new(tmp_path / "none" / "a.txt")
    for path in (tmp_path, tmp_path / "a.txt"):
        path.touch()
        with pytest.raises(FileExistsError, match=f"{path} is there already; choose another file, nothing is overw"):
            check_new(path)


def test_nothing_is_in_a_new_folder(tmp_path: Path) -> None:
    check_free(tmp_path / "none")
    check_free(tmp_path)
    (tmp_path / "a.txt").touch()
    for path in (tmp_path, tmp_path / "a.txt"):
        with pytest.raises(FileExistsError, match=f"{path} is not an empty folder; choose another, nothing is overw"):
            check_free(path)


def test_json_is_for_people(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"AP": [0.5, None]})
    assert (tmp_path / "a.json").read_text() == '{\n "AP": [\n  0.5,\n  null\n ]\n}'
    with pytest.raises(OSError, match=r"none/a\.json cannot be written"):
        write_json(tmp_path / "none" / "a.json", {})


def write(path: Path, error: BaseException | None = None) -> None:
    with whole(path) as half:
        half.write_text("new")
        assert not path.exists() or path.read_text() == "old"
        if error:
            raise error


def test_what_was_there_is_replaced_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    before = path.stat().st_mode
    write(path)
    assert (path.read_text(), path.stat().st_mode) == ("new", before)
    write(tmp_path / "b.txt")
    assert {file.name for file in tmp_path.iterdir()} == {"a.txt", "b.txt"}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left"), r"a\.txt cannot be written \(No space left\); fix that"),
        (OSError("so"), r"a\.txt cannot be written \(so\); fix that, or choose another folder"),
        (ValueError("mine"), "^mine$"),
        (KeyboardInterrupt(), "^$"),
    ],
)
def test_an_error_leaves_what_was_there(tmp_path: Path, error: BaseException, words: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error), match=words):
        write(path, error)
    assert (list(tmp_path.iterdir()), path.read_text()) == ([path], "old")


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_umask_says_who_may_read_it(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        for name in ("text", "weights"):
            with whole(tmp_path / name) as half:
                save_file({"a": torch.zeros(1)}, half) if name == "weights" else half.write_text("new")
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask, name
    finally:
        os.umask(before)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"none/a\.txt cannot be written \(No such file or directory\)"):
        write(tmp_path / "none" / "a.txt")


def test_what_safetensors_cannot_write(tmp_path: Path) -> None:
    def save() -> None:
        with whole(tmp_path / "a.safetensors") as half:
            half.unlink()
            half.mkdir()
            save_file({"a": torch.zeros(1)}, half)

    with pytest.raises(OSError, match=r"a\.safetensors cannot be written \(.*directory"):
        save()


def killed_in_whole(path: Path) -> Path:
    """What a process leaves that is killed while it writes."""
    if (process := os.fork()) == 0:
        with whole(path) as half:
            half.write_bytes(b"much")
            (half.parent / ".tmpA1b2C3").touch()  # as safetensors has on its way
            os._exit(0)
    os.waitpid(process, 0)
    (left,) = [each for each in path.parent.iterdir() if each.name.startswith(f".half-{process}-")]
    return left


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    own, elsewhere = killed_in_whole(path), killed_in_whole(path)
    elsewhere = elsewhere.rename(tmp_path / f".half-1-another-machine-{'0' * 32}")
    mine = tmp_path / ".half-finished"  # a user's
    mine.touch()
    with whole(path) as living:
        remove_halves(tmp_path)
        assert {*tmp_path.iterdir()} == {path, elsewhere, mine, living.parent}
        assert not own.exists()
    remove_halves(tmp_path, alone=True)
    assert {*tmp_path.iterdir()} == {path, mine}


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "a.txt", tmp_path, tmp_path / "none"):  # the last two have words of their own elsewhere
        check_regular(path)
    for path in (tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(ValueError, match=f"{path} is not a regular file; copy what it gives into one"):
            check_regular(path)


def test_what_may_not_be_read(forbidden: Path) -> None:
    with pytest.raises(PermissionError) as caught:
        check_regular(forbidden)
    assert str(caught.value) == (
        f"{forbidden} may not be read (permission denied); change its permissions, or ask its owner to do so"
    )


def test_free_folder(tmp_path: Path) -> None:
    assert free_folder(tmp_path / "run") == tmp_path / "run"
    (tmp_path / "run").mkdir()
    assert free_folder(tmp_path / "run") == tmp_path / "run"  # empty: nothing to lose
    (tmp_path / "run" / "x").touch()
    (tmp_path / "run-2").touch()
    assert free_folder(tmp_path / "run") == tmp_path / "run-3"
    assert [is_free(tmp_path / name) for name in ("run", "run-2", "run-3")] == [False, False, True]


def test_a_process_runs_until_it_has_ended() -> None:
    assert is_running(os.getpid())
    assert is_running(1)  # somebody else's, where tests do not run as root
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert not is_running(process.pid)
