import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from rcnnkit.checking import looks
from rcnnkit.checking.findings import Finding
from rcnnkit.checking.looks import SIDE, look_at, look_at_all
from rcnnkit.checking.pictures import check_pictures, check_twins
from rcnnkit.checking.twins import Twin
from rcnnkit.data.records import Dataset, Record
from tests.checking.faults import turn
from tests.checking.sets import data_set

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(0, 256, (96, 160, 3)).astype(np.uint8)


def test_a_picture_is_seen_as_it_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(NOISE).save(path)
    look = look_at(path)
    assert look.digest == hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    assert (look.mode, look.stored, look.turn, look.highest) == ("RGB", (96, 160), 1, 0)
    grey = cv2.cvtColor(NOISE, cv2.COLOR_RGB2GRAY)
    wanted = grey.reshape(SIDE, 3, SIDE, 5).mean(axis=(1, 3))
    assert np.abs(look.small - wanted).max() < 2  # decoding, grey and the mean are rounded each


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif", ".gif", ".jp2", ".ppm"])
@pytest.mark.parametrize("size", [(1, 1), (40, 30), (700, 500)])
def test_every_format_and_size_is_looked_at(suffix: str, size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    picture = np.zeros((*size, 3), np.uint8)
    picture[:, : size[1] // 2] = 200
    Image.fromarray(picture).save(path)
    look = look_at(path)
    assert look.stored == size
    assert look.small.shape == (SIDE, SIDE)
    if size != (1, 1):
        assert np.abs(look.small[:, : SIDE // 2 - 1].mean() - 200) < 8
        assert look.small[:, SIDE // 2 + 1 :].mean() < 8


@pytest.mark.parametrize("name", ["grey.png", "colour.png", "grey.tif", "colour.tif"])
def test_16_bits_are_seen_in_grey_and_in_colour(name: str, tmp_path: Path) -> None:
    deep = NOISE.astype(np.uint16) * 16
    deep[0, 0] = 4095
    cv2.imwrite(str(tmp_path / name), deep if "colour" in name else deep[:, :, 0])
    assert look_at(tmp_path / name).highest == 4095
    cv2.imwrite(str(tmp_path / name), NOISE if "colour" in name else NOISE[:, :, 0])
    assert look_at(tmp_path / name).highest == 0


def test_many_pictures_are_looked_at_by_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []
    for i in range(5):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(NOISE[: 40 + i]).save(paths[-1])
    told: list[tuple[int, int]] = []
    here = look_at_all(paths, lambda _, done, total: told.append((done, total)))
    assert told == [(0, 5), (5, 5)]
    monkeypatch.setattr(looks, "FEW", 1)
    monkeypatch.setattr(looks, "CHUNK", 2)
    apart = look_at_all(paths)
    assert [(each.digest, each.stored, each.small.tolist()) for each in apart] == [
        (each.digest, each.stored, each.small.tolist()) for each in here
    ]
    assert look_at_all([]) == []


def found_in(path: Path, size: tuple[int, int]) -> list[Finding]:
    targets = data_set([[((1, 1, 9, 9), 0)]]).records[0].targets
    record = Record(0, path, size, targets)
    return list(check_pictures(Dataset("d", [record], ["cat"], [1]), [look_at(path)], "train"))


def test_depth_colours_and_blanks(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), NOISE[:, :, 0].astype(np.uint16) * 16)
    (found,) = found_in(path, (96, 160))
    assert (found.kind.name, found.message) == (
        "16-bit",
        "its highest value is 4,080 of 65,535, which becomes 15 of 255",
    )
    Image.fromarray(NOISE).convert("CMYK").save(tmp_path / "a.jpg")
    assert [each.kind.name for each in found_in(tmp_path / "a.jpg", (96, 160))] == ["cmyk"]
    Image.new("RGB", (160, 96), (90, 90, 90)).save(path)
    (found,) = found_in(path, (96, 160))
    assert (found.kind.name, found.message) == ("blank-picture", "it shows one colour, and has 1 object")


def test_orientation_is_doubtful_where_the_size_does_not_tell(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(NOISE).save(path)
    assert found_in(path, (96, 160)) == []
    turn(path)
    assert found_in(path, (160, 96)) == []  # as it is shown
    (found,) = found_in(path, (96, 160))
    assert found.message == (
        "EXIF rotates it by 90°, and the annotation has the size before that, 160 wide and 96 high; the boxes are taken"
        " to be those of the unrotated picture"
    )
    Image.fromarray(NOISE[:, :96]).save(path)
    turn(path)
    (found,) = found_in(path, (96, 96))
    assert found.kind.name == "turned-picture"
    assert found.message.startswith("EXIF rotates it by 90°, and the annotated size does not show")


def test_twins_say_where_they_are_and_whether_their_objects_are_the_same(tmp_path: Path) -> None:
    box, other = (1.0, 1.0, 9.0, 9.0), (2.0, 2.0, 8.0, 8.0)
    records = data_set([[(box, 0), (other, 1)], [(other, 1), (box, 0)], [(box, 0)]]).records
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    seen = [look_at(tmp_path / "a.png")] * 3
    twins = [Twin(0, 1, same=True), Twin(0, 2, same=False)]
    found = list(check_twins(twins, records, seen, ["train", "train", "val"]))
    assert [(each.kind.name, each.split, each.file, each.message) for each in found] == [
        ("same-picture", "train", "p1.jpg", "it has the same bytes as p0.jpg; their objects are the same"),
        (
            "similar-in-two-splits",
            "val",
            "p2.jpg",
            "it looks like p0.jpg of train (both 160 × 96); their objects differ",
        ),
    ]
