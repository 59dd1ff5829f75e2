"""Packed data sets are read as what they were packed from."""

import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from rcnnkit.data.layout import find_layout
from rcnnkit.data.loading import Pictures, draws, load_batches
from rcnnkit.data.packing import pack
from rcnnkit.data.reading import read_data, read_layout
from rcnnkit.data.records import BadData, Dataset
from rcnnkit.data.transforms import Augmentation, AugmentSettings
from rcnnkit.files import sha256
from rcnnkit.images import Preprocessing, read_picture


@pytest.fixture(scope="module")
def packed(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Dataset], Path]:
    splits = read_layout(find_layout(digits, "coco"))
    out = tmp_path_factory.mktemp("packed") / "shards"
    assert pack(splits, out, shard_bytes=20_000) > 2
    return splits, out


def seen(data: Dataset) -> list[object]:
    return [(each.id, each.path.name, each.size, each.targets.boxes.tolist()) for each in data.records]


def test_records_and_pixels_come_back(packed: tuple[dict[str, Dataset], Path]) -> None:
    splits, out = packed
    assert find_layout(out).splits == {split: f"{split}.json" for split in splits}
    for split, data in splits.items():
        read = read_data(out, split)
        assert seen(read) == seen(data)
        assert list(read.class_names) == list(data.class_names)
        for one, other in zip(read.records, data.records, strict=True):
            assert (read_picture(one.path) == read_picture(other.path)).all()
        batches = [
            next(load_batches(Pictures(each.records, augmentation, False), draws(each.records, 2, 0), workers=0))
            for augmentation in [Augmentation(AugmentSettings(), Preprocessing(short_side=64, long_side=64))]
            for each in (read, data)
        ]
        assert all(one.equal(other) for one, other in zip(*(batch.pictures for batch in batches), strict=True))


def test_archives_are_ordinary_and_the_same_each_time(packed: tuple[dict[str, Dataset], Path], tmp_path: Path) -> None:
    splits, out = packed
    pack(splits, tmp_path / "again", shard_bytes=20_000)
    shards = sorted(out.glob("*.tar"))
    assert shards[0].name == "train-000000.tar"
    for shard in shards:
        assert sha256(shard) == sha256(tmp_path / "again" / shard.name)
        assert shard.stat().st_size <= 30_720  # of which tar's own end is up to 10,240
        with tarfile.open(shard) as tar:
            assert all(name.count(".") == 1 for name in tar.getnames())


def test_pictures_of_one_name_and_with_dots_are_numbered(
    packed: tuple[dict[str, Dataset], Path], tmp_path: Path
) -> None:
    data = packed[0]["train"]
    paths = [tmp_path / "one" / "a.jpg", tmp_path / "two" / "a.jpg", tmp_path / "b.c.jpg", tmp_path / "d.jpg"]
    for path, record in zip(paths, data.records, strict=False):
        path.parent.mkdir(exist_ok=True)
        shutil.copy(record.path, path)
    records = [type(r)(r.id, path, r.size, r.targets) for path, r in zip(paths, data.records, strict=False)]
    pack({"val": Dataset("d", records, data.class_names, data.category_ids)}, tmp_path / "out", 10**9)
    read = read_data(tmp_path / "out", "val")
    assert [each.path.name for each in read.records] == ["000000.jpg", "000001.jpg", "000002.jpg", "d.jpg"]
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        pack({}, tmp_path / "out", 10**9)


def test_a_picture_that_is_missing_leaves_nothing(packed: tuple[dict[str, Dataset], Path], tmp_path: Path) -> None:
    data = packed[0]["train"]
    gone = type(data.records[0])(5, tmp_path / "gone.jpg", (9, 9), data.records[0].targets)
    bad = Dataset("d", [*data.records, gone], data.class_names, data.category_ids)
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        pack({"train": bad}, tmp_path / "out", 20_000)
    assert not (tmp_path / "out").exists()


def test_pictures_in_archives_of_others(digits: Path, tmp_path: Path) -> None:
    """Annotations that know nothing of archives: a .zip as the folder of pictures, and a folder of .tar files."""
    expected = read_data(digits, "train", format="coco")
    annotations = next(digits.glob("annotations/*train*.json"))
    shutil.copy(annotations, tmp_path / "train.json")
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as zipped:
        for record in expected.records:
            zipped.write(record.path, f"inside/{record.path.name}")
    read = read_data(tmp_path, "train", images=tmp_path / "pictures.zip" / "inside")
    assert seen(read) == seen(expected)
    (tmp_path / "shards").mkdir()
    for number in (0, 1):
        with tarfile.open(tmp_path / "shards" / f"{number}.tar", "w") as tar:
            for record in expected.records[number::2]:
                tar.add(record.path, record.path.name)
    read = read_data(tmp_path, "train", images=tmp_path / "shards")
    assert seen(read) == seen(expected)
    assert {each.path.parent.name for each in read.records} == {"0.tar", "1.tar"}
    damaged = tmp_path / "shards" / "0.tar"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    with pytest.raises((BadData, ValueError), match=r"0\.tar|cannot be read"):
        read_data(tmp_path, "train", images=tmp_path / "shards")
