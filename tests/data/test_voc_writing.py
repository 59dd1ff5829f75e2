"""What is written in VOC's layout, and its way back."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from rcnnkit.data.records import Dataset, Record
from rcnnkit.data.voc import read_voc
from rcnnkit.data.voc_writing import write_voc
from rcnnkit.structures import Targets
from tests.data.voc_files import add_picture, voc_object


def test_writing_and_reading_gives_the_same(tmp_path: Path) -> None:
    source, root = tmp_path / "elsewhere", tmp_path / "voc"
    source.mkdir()
    Image.new("RGB", (640, 480)).save(source / "x.png")
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(40, 2, generator=random) * torch.tensor([320.0, 240.0])
    sides = 1.1 + torch.rand(40, 2, generator=random) * torch.tensor([310.0, 230.0])
    targets = Targets(
        boxes=torch.cat([corners, corners + sides], dim=1),
        labels=torch.arange(40) % 3,
        difficult=torch.arange(40) % 2 == 0,
        truncated=torch.arange(40) % 5 == 0,
    )
    data = Dataset("d", [Record("x", source / "x.png", (480, 640), targets)], ["b", "a", "c & <d>"], [1, 2, 3])
    write_voc(data, root, "test")
    back, problems = read_voc(root, "test", data.class_names)
    assert problems == []
    assert (root / "JPEGImages/x.png").read_bytes() == (source / "x.png").read_bytes()
    for name in ("boxes", "labels", "difficult", "truncated"):
        assert torch.equal(getattr(back.records[0].targets, name), getattr(targets, name)), name


def test_blood_cells_survive_a_round_trip(bccd: Path, tmp_path: Path) -> None:
    data, _ = read_voc(bccd, "val")
    few = Dataset(data.name, data.records[:20], data.class_names, data.category_ids)
    write_voc(few, tmp_path, "val")
    back, problems = read_voc(tmp_path, "val", data.class_names)
    assert problems == []
    for old, new in zip(few.records, back.records, strict=True):
        assert (old.id, old.size) == (new.id, new.size)
        assert torch.equal(old.targets.boxes, new.targets.boxes)
        assert torch.equal(old.targets.labels, new.targets.labels)


def test_writing_overwrites_nothing(tmp_path: Path) -> None:
    add_picture(tmp_path, "a", voc_object((1, 1, 9, 9)))
    data, _ = read_voc(tmp_path, "train")
    before = (tmp_path / "Annotations/a.xml").read_text()
    with pytest.raises(FileExistsError, match=r"a\.xml exists"):
        write_voc(data, tmp_path, "new")
    assert (tmp_path / "Annotations/a.xml").read_text() == before
    assert not (tmp_path / "ImageSets/Main/new.txt").exists()


def test_writing_refuses_what_the_reader_would(tmp_path: Path) -> None:
    thin = Targets(torch.tensor([[0.0, 0, 9, 9], [5, 1, 6, 9]]), torch.zeros(2, dtype=torch.int64))
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    data = Dataset("d", [Record("a", tmp_path / "a.png", (30, 40), thin)], ["cat"], [1])
    with pytest.raises(ValueError, match=r"a\.png, object 1: .* no more than 1 pixel wide or high"):
        write_voc(data, tmp_path / "out", "train")
    assert not (tmp_path / "out").exists()


def test_writing_refuses_two_pictures_of_one_stem(tmp_path: Path) -> None:
    none = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    records = [Record(i, tmp_path / str(i) / "a.jpg", (30, 40), none) for i in (1, 2)]
    with pytest.raises(ValueError, match="would both be a"):
        write_voc(Dataset("d", records, [], []), tmp_path / "out", "train")
