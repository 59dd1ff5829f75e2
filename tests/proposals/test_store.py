"""Proposals on disk: written atomically, known again, and never another picture's."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from rcnnkit.proposals.store import ABOUT, Store
from rcnnkit.structures import Proposals

SIZE = (40, 60)
SETTINGS = {"mode": "fast", "min_side": 20, "seed": 0}


def some(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner, side = torch.rand(n, 2, generator=generator) * 20, torch.rand(n, 2, generator=generator) * 20
    return Proposals(
        torch.cat([corner, corner + side], dim=1), torch.rand(n, generator=generator).sort().values.flip(0)
    )


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path, "selective-search", SETTINGS)


@pytest.mark.parametrize("n", [0, 1, 2000])
def test_what_is_written_is_read(store, n):
    store.write(139, some(n), SIZE)
    found = store.read(139, SIZE)
    assert torch.equal(found.boxes, some(n).boxes)
    assert torch.equal(found.scores, some(n).scores)
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    store.write(139, some(3, seed=1), SIZE)  # replaced
    assert len(store.read(139, SIZE)) == 3


def test_any_float_type_and_boxes_that_rounding_put_outside(store):
    boxes = torch.tensor([[-0.001, 0, 60.0001, 40]], dtype=torch.float64, requires_grad=True)
    store.write("a", Proposals(boxes, torch.ones(1, dtype=torch.bfloat16)), SIZE)
    found = store.read("a", SIZE)
    assert found.boxes.tolist() == [[0, 0, 60, 40]]
    assert found.boxes.dtype == found.scores.dtype == torch.float32


@pytest.mark.parametrize(
    "key",
    [
        "a/b",
        "../up",
        ".",
        "..",
        ".hidden",
        "",
        "%",
        "%2F",
        "two words",
        "ß漢字" * 60,
        "x" * 300,
        "x" * 301,
        "\udcff",
        "nul\0",
    ],
)
def test_ids_may_hold_anything(store, key):
    store.write(key, some(2), SIZE)
    path = store.path(key)
    assert path.parent == store.folder
    assert path.is_file()
    assert len(path.name.encode()) <= 255
    assert key in store
    assert len(store.read(key, SIZE)) == 2
    others = ["a_b", "up", "_", "a/b", "%", "", "x" * 300, "x" * 301, "ß漢字" * 61]
    assert len({store.path(each) for each in [*others, key]}) == len({*others, key})


def test_a_number_and_its_text_are_one_key(store):
    store.write(5, some(1), SIZE)
    assert "5" in store
    assert "000005" not in store


def test_a_file_of_another_id_is_not_taken(store):
    store.write("A", some(1), SIZE)
    store.path("A").rename(store.path("a"))  # what a file system without upper case makes of it
    assert "a" not in store
    with pytest.raises(ValueError, match="holds the proposals of picture 'A', not of 'a'"):
        store.read("a", SIZE)


def test_what_is_not_there(store):
    with pytest.raises(FileNotFoundError, match=r"holds no proposals of picture 7; it is empty"):
        store.read(7, SIZE)
    store.write("one/two", some(1), SIZE)
    with pytest.raises(FileNotFoundError, match=r"of picture 7; it holds those of 1 picture, such as one/two: is this"):
        store.check(7, SIZE)
    assert 7 not in store


def test_another_picture_under_the_same_id(store, tmp_path):
    picture, other = tmp_path / "5.jpg", tmp_path / "other" / "5.jpg"
    other.parent.mkdir()
    picture.write_bytes(b"1234")
    other.write_bytes(b"123456")
    store.write(5, some(1), SIZE, picture)
    store.check(5, SIZE, picture)
    store.check(5, SIZE)
    for look in (store.check, store.read):
        with pytest.raises(ValueError, match=r"a picture 60 wide and 40 high, but this one is 40 wide and 60 high"):
            look(5, SIZE[::-1])
        with pytest.raises(ValueError, match=r"a file of 4 bytes, but .*other/5\.jpg has 6: it is another data set"):
            look(5, SIZE, other)
    store.write(6, some(1), SIZE)  # its file was not known
    store.check(6, SIZE, other)


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_damaged_file_counts_as_missing(store, length):
    store.write(5, some(10), SIZE)
    path = store.path(5)
    path.write_bytes(path.read_bytes()[:length])
    assert 5 not in store
    with pytest.raises(ValueError, match=r"5\.safetensors is damaged .*; delete it"):
        store.read(5, SIZE)


def test_bad_proposals_are_refused(store):
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="proposals of picture 5 hold a number that is not finite"):
            store.write(5, Proposals(torch.tensor([[0, 0, bad, 4]]), torch.ones(1)), SIZE)
        with pytest.raises(ValueError, match="not finite"):
            store.write(5, Proposals(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([bad])), SIZE)
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 60, 45], [0, 0, 60, 40]])
    with pytest.raises(ValueError, match=r"picture 5 hold \[0.0, 0.0, 60.0, 45.0\], which lies outside the picture"):
        store.write(5, Proposals(boxes, torch.ones(3)), SIZE)
    assert 5 not in store


def test_boxes_that_were_changed_on_disk_are_refused(store):
    store.write(5, some(3), SIZE)
    path = store.path(5)
    with safe_open(path, framework="pt") as file:
        metadata, boxes = file.metadata(), file.get_tensor("boxes")
    for changed, said in ((boxes + 100, "lies outside the picture"), (boxes * float("nan"), "not finite")):
        save_file({"boxes": changed, "scores": torch.ones(3)}, path, metadata)
        with pytest.raises(ValueError, match=rf"5\.safetensors hold .*{said}"):
            store.read(5, SIZE)


def test_a_store_without_pictures_is_none_beside_one_with_some(tmp_path):
    full = Store.create(tmp_path, "selective-search", SETTINGS)
    Store.create(tmp_path, "imported", {})
    with pytest.raises(ValueError, match="2 kinds"):
        Store.open(tmp_path)
    full.write(1, some(1), SIZE)
    assert Store.open(tmp_path).folder == full.folder


def test_other_settings_are_another_store(tmp_path):
    first = Store.create(tmp_path, "selective-search", SETTINGS)
    first.write(1, some(1), SIZE)
    assert json.loads((first.folder / ABOUT).read_text()) == {
        "format": 1,
        "method": "selective-search",
        "settings": SETTINGS,
    }
    again = Store.create(tmp_path, "selective-search", dict(reversed(SETTINGS.items())))  # in any order
    assert again.folder == first.folder
    assert 1 in again
    assert Store.open(tmp_path).folder == Store.open(first.folder).folder == first.folder
    other = Store.create(tmp_path, "selective-search", SETTINGS | {"seed": 1})
    assert other.folder != first.folder
    assert 1 not in other
    other.write(1, some(1), SIZE)
    with pytest.raises(ValueError, match=r"proposals of 2 kinds; name the folder of one:") as error:
        Store.open(tmp_path)
    assert f"{first.folder}: selective-search, mode fast, min_side 20, seed 0" in str(error.value)
    assert f"{other.folder}: selective-search, mode fast, min_side 20, seed 1" in str(error.value)
    assert Store.open(other.folder).settings["seed"] == 1


def test_folders_that_are_no_store(tmp_path, store):
    with pytest.raises(FileNotFoundError, match="holds no proposals; `rcnnkit proposals compute` makes them"):
        Store.open(tmp_path / "nothing")
    about = store.folder / ABOUT
    good = about.read_text()
    for bad in ("", "[]", '{"format": 1}', "\xff"):
        about.write_text(bad, encoding="latin1")
        with pytest.raises(ValueError, match=r"about\.json does not say how proposals were made"):
            Store.open(store.folder)
    about.write_text(good.replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match="has format 2, this rcnnkit reads up to 1"):
        Store.open(store.folder)
    about.write_text(good.replace("fast", "quality"))
    with pytest.raises(ValueError, match="was changed by hand"):
        Store.create(tmp_path, "selective-search", SETTINGS)


def test_a_full_disk_leaves_what_was_there(store, monkeypatch):
    store.write(5, some(4), SIZE)

    def full(path: Path, data: bytes) -> int:
        path.open("wb").write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    for key in (5, 6):
        with pytest.raises(OSError, match=rf"{key}\.safetensors cannot be written \(No space left on device\)"):
            store.write(key, some(9), SIZE)
    assert len(store.read(5, SIZE)) == 4
    assert {path.name for path in store.folder.iterdir()} == {ABOUT, "5.safetensors"}


def test_a_folder_that_cannot_be_written(store):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    store.folder.chmod(0o555)
    try:
        with pytest.raises(OSError, match=r"cannot be written \(Permission denied\)"):
            store.write(5, some(1), SIZE)
        assert Store.create(store.folder.parent, "selective-search", SETTINGS) == store  # reading it still works
    finally:
        store.folder.chmod(0o755)


def test_killed_while_writing_leaves_only_whole_files(tmp_path):
    code = """
import sys, torch
from rcnnkit.proposals.store import Store
from rcnnkit.structures import Proposals
store = Store.create(sys.argv[1], "m", {})
print("go", flush=True)
for n in range(10**9):
    store.write(n % 50, Proposals(torch.arange(4.0).repeat(2000, 1), torch.full((2000,), float(n))), (9, 9))
"""
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    time.sleep(0.3)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    store = Store.open(tmp_path)
    files = [path for path in store.folder.glob("*.safetensors") if not path.name.startswith(".")]
    assert files
    for path in files:
        found = store.read(path.stem, (9, 9))
        assert (found.scores == found.scores[0]).all()
        assert len(found) == 2000


def test_a_file_describes_itself(store, tmp_path):
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"12345")
    contents = set()
    for _ in range(8):  # the same bytes every time
        store.write("ß", some(2), SIZE, picture)
        contents.add(store.path("ß").read_bytes())
    assert len(contents) == 1
    with safe_open(store.path("ß"), framework="np") as file:
        about = json.loads(file.metadata()["rcnnkit"])
        assert about == {"key": "ß", "height": 40, "width": 60, "bytes": 5}
        assert file.get_tensor("boxes").shape == (2, 4)
