"""A data set's proposals: computed side by side, resumed, shared among processes, and never mixed up."""

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rcnnkit.data.proposals import check_proposals, compute_proposals, cores, import_proposals, read_proposals
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Dataset
from rcnnkit.images import read_picture
from rcnnkit.proposals.methods import PictureMethod, SlidingWindows
from rcnnkit.proposals.released import Released
from rcnnkit.proposals.store import Store
from rcnnkit.structures import Proposals
from rcnnkit.terminal import Console, progress


class Grey(PictureMethod):
    """One box, whose score is the mean of the picture: it shows which picture was looked at."""

    name = "grey"

    def __init__(self):
        self.settings = {}
        self.threads = []

    def find(self, picture):
        self.threads.append((threading.get_ident(), torch.get_num_threads()))
        return Proposals(torch.tensor([[0.0, 0, picture.shape[1], picture.shape[0]]]), torch.tensor([picture.mean()]))


@pytest.fixture
def data(digits: Path) -> Dataset:
    return read_data(digits, "train")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "p", "grey", {})


def expected(data):
    from rcnnkit.images import read_picture

    return [torch.tensor([read_picture(record.path).mean()]) for record in data.records]


def test_every_picture_gets_its_own(data, store):
    before = torch.get_num_threads()
    method = Grey()
    assert compute_proposals(data, method, store, workers=3) == 8
    assert torch.get_num_threads() == before
    assert {threads for _, threads in method.threads} == {max(1, before // 3)}
    check_proposals(data, store)
    for found, grey, record in zip(read_proposals(data, store), expected(data), data.records, strict=True):
        assert torch.equal(found.scores, grey.float())
        assert found.boxes.tolist() == [[0, 0, record.size[1], record.size[0]]]
    assert compute_proposals(data, method, store) == 0  # all there
    assert len(method.threads) == 8


def test_what_is_missing_or_damaged_is_computed_again(data, store):
    compute_proposals(data, Grey(), store)
    gone, cut = (store.path(data.records[i].id) for i in (2, 5))
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:50])
    with pytest.raises(FileNotFoundError, match=rf"no proposals of 2 of the 8 pictures of data/train \({gone.stem} is"):
        check_proposals(data, store)
    assert compute_proposals(data, Grey(), store) == 2
    check_proposals(data, store)


def test_processes_share_the_work(data, store):
    assert [compute_proposals(data, Grey(), store, share=(i, 3)) for i in range(3)] == [3, 3, 2]
    check_proposals(data, store)


def test_another_method_or_data_set_is_refused(data, store, tmp_path):
    compute_proposals(data, Grey(), store)
    with pytest.raises(ValueError, match="is for grey; make a store for sliding-windows's own settings"):
        compute_proposals(data, SlidingWindows(), store)
    elsewhere = tmp_path / "other.jpg"
    elsewhere.write_bytes(data.records[3].path.read_bytes() + b"\0")
    changed = [replace(record, path=elsewhere) if i == 3 else record for i, record in enumerate(data.records)]
    with pytest.raises(ValueError, match="it is another data set, or the picture was changed"):
        compute_proposals(replace(data, records=changed), Grey(), store)
    with pytest.raises(ValueError, match="another data set"):
        check_proposals(replace(data, records=changed), store)
    turned = [replace(record, size=(96, 97)) for record in data.records]
    with pytest.raises(ValueError, match="a picture 96 wide and 96 high, but this one is 97 wide"):
        list(read_proposals(replace(data, records=turned), store))


def test_pictures_that_cannot_be_read_are_named_and_the_others_done(data, store, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    records = [replace(record, path=bad) if i == 1 else record for i, record in enumerate(data.records)]
    with pytest.raises(ValueError, match=r"1 picture could not be read or searched, the .*:\n  .*bad\.jpg cannot be"):
        compute_proposals(replace(data, records=records), Grey(), store)
    assert [record.id in store for record in records] == [True, False, *[True] * 6]


def test_a_picture_that_takes_too_much_memory_stands_alone(data, store):
    class Large(Grey):
        def find(self, picture):
            if (picture == large).all():
                raise MemoryError
            return super().find(picture)

    large, path = read_picture(data.records[1].path), data.records[1].path
    with pytest.raises(ValueError, match=f"1 picture could not be .*, the others are done:\n  {path}: out of memory$"):
        compute_proposals(data, Large(), store)
    assert [record.id in store for record in data.records] == [True, False, *[True] * 6]


def test_a_full_disk_stops_with_the_count_that_is_safe(data, store, monkeypatch):
    written: list[Path] = []
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device.*The proposals of 3 of 8 pictures are safe"):
        compute_proposals(data, Grey(), store, workers=1)
    monkeypatch.undo()
    assert compute_proposals(data, Grey(), store) == 5


def test_a_failing_method_stops_the_others(data, store):
    class Broken(Grey):
        def find(self, picture):
            raise RuntimeError("broken")

    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="broken"):
        compute_proposals(data, Broken(), store, workers=2)
    assert torch.get_num_threads() == before


def test_no_pictures(data, store):
    assert compute_proposals(replace(data, records=[]), Grey(), store) == 0


def test_lines_instead_of_a_bar_where_nobody_watches(data, store, capsys):
    with progress(Console(width=100)) as report:
        compute_proposals(data, Grey(), store, progress=report)
    assert capsys.readouterr().out.splitlines()[-1] == "data/train, grey: 8 of 8 pictures"


SLOW = """
import sys, time, torch
from pathlib import Path
from rcnnkit.data.proposals import compute_proposals
from rcnnkit.data.reading import read_data
from rcnnkit.proposals.methods import PictureMethod
from rcnnkit.proposals.released import Released
from rcnnkit.proposals.store import Store
from rcnnkit.structures import Proposals

class Slow(PictureMethod):
    name, settings = "grey", {}
    def find(self, picture):
        print("one", flush=True)
        time.sleep(0.2)
        return Proposals(torch.zeros(0, 4), torch.zeros(0))

compute_proposals(read_data(Path(sys.argv[1]), "train"), Slow(), Store.open(sys.argv[2]), workers=1)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle(data, digits, store, number):
    run = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(digits), str(store.folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert run.stdout is not None
    for _ in range(3):  # two are written, the third is being worked on
        run.stdout.readline()
    began = time.monotonic()
    run.send_signal(number)
    _, error = run.communicate(timeout=10)
    assert time.monotonic() - began < 5
    kept = sum(record.id in store for record in data.records)
    assert 2 <= kept < 8
    if number == signal.SIGINT:
        assert f"The proposals of {kept} of 8 pictures are safe".encode() in error
    assert compute_proposals(data, Grey(), store) == 8 - kept


def test_real_pictures(coco256, tmp_path, caplog):
    data = read_data(coco256, "annotations/instances_train2017.json")
    few = replace(data, records=data.records[:6])
    method = SlidingWindows(sizes=(64, 128))
    store = Store.create(tmp_path, method.name, method.settings)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "rcnnkit"):
        assert compute_proposals(few, method, store) == 6
    assert not caplog.text
    moved = tmp_path / "moved"  # the folder may be moved
    shutil.move(store.folder, moved)
    assert all(len(found) > 50 for found in read_proposals(few, Store.open(moved)))


def released(ids, count=8, side=90.0):
    boxes = [np.array([[0, 0, side, 10.0 + i], [5, 5, 20, 20]]) for i in range(count)]
    return Released(Path("v.mat"), ids, boxes, [np.array([1, 0.5])] * count)


def test_released_proposals_go_to_the_pictures_of_their_names(data, store):
    names = [record.id for record in data.records]  # "000001" …
    strangers = ["999999", *reversed(names[2:])]  # two of ours are missing
    assert import_proposals(data, released(strangers, 7), store) == 6
    assert [record.id in store for record in data.records] == [False] * 2 + [True] * 6
    for place, name in enumerate(strangers[1:], start=1):
        assert store.read(name, (96, 96)).boxes.tolist() == [[0, 0, 90, 10 + place], [5, 5, 20, 20]]
        assert store.read(name, (96, 96)).scores.tolist() == [1, 0.5]
    numbers = [str(int(name)) for name in names]  # as Detectron writes them
    assert import_proposals(data, released(numbers), store) == 8
    check_proposals(data, store)
    with pytest.raises(ValueError, match="has none of the pictures of data/train: its ids are like x, y, and the data"):
        import_proposals(data, released(["x", "y"], 2), store)


def test_numbers_of_two_voc_years(data, store):
    ids = ["000001", "2008_000001", *(f"p{i}" for i in range(6))]
    both = replace(data, records=[replace(r, id=key) for r, key in zip(data.records, ids, strict=True)])
    assert import_proposals(both, released(["2008000001", "1"], 2), store) == 2
    assert store.read("2008_000001", (96, 96)).boxes[0].tolist() == [0, 0, 90, 10]
    assert store.read("000001", (96, 96)).boxes[0].tolist() == [0, 0, 90, 11]


def test_released_proposals_without_names_are_in_the_order_of_the_split(data, store):
    with pytest.raises(ValueError, match="the proposals of 7 pictures in the order of a split, but data/train has 8"):
        import_proposals(data, released(None, 7), store)
    assert import_proposals(data, released(None), store) == 8
    firsts = [found.boxes[0, 3].item() for found in read_proposals(data, store)]
    assert firsts == [10.0 + i for i in range(8)]


def test_released_proposals_of_other_pictures_are_refused(data, store):
    with pytest.raises(ValueError, match=r"picture 000001 hold \[0.0, 0.0, 120.0, 10.0\], which lies outside"):
        import_proposals(data, released(None, side=120.0), store)


def test_cores():
    assert 1 <= cores() <= (os.cpu_count() or 1)
