"""Visual Genome's region_descriptions.json, and files like it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rcnnkit.data.flat import Records
from rcnnkit.data.hold_out import hold_out
from rcnnkit.data.layout import find_layout
from rcnnkit.data.reading import join_data, read_data
from rcnnkit.data.records import BadData, Dataset
from rcnnkit.data.visual_genome import read_regions, write_regions
from rcnnkit.vocabulary import UNKNOWN, Vocabulary
from tests.data.annotation_files import pictures, problems


def region(key: int, phrase: Any, *box: float, **more: Any) -> dict[str, Any]:
    x, y, width, height = box or (10, 20, 30, 15)
    return {"region_id": key, "phrase": phrase, "x": x, "y": y, "width": width, "height": height} | more


def write(file: Path, *entries: Any) -> Path:
    file.write_text(json.dumps(entries))
    return file


def described(data: Dataset) -> dict[Any, list[tuple[str, list[float]]]]:
    phrases = Vocabulary(data.words).decode
    return {
        record.id: list(zip(phrases(record.targets.phrases), record.targets.boxes.tolist(), strict=True))
        for record in data.records
    }


def test_both_versions(tmp_path: Path) -> None:
    pictures(tmp_path, "VG_100K/1.jpg", "VG_100K_2/2.jpg")
    regions = region(7, "The clock, GREEN"), region(8, "a wall of brick", 0, 0.5, 80, 40)
    write(tmp_path / "region_descriptions.json", {"regions": [each | {"image_id": 1} for each in regions], "id": 1})
    assert find_layout(tmp_path).title == "Visual Genome"
    data = read_data(tmp_path, "train")
    wanted = {"1": [("the clock green", [10, 20, 40, 35]), ("a wall of brick", [0, 0.5, 80, 40.5])]}
    assert described(data) == wanted
    assert (data.class_names, data.category_ids, data.name) == (
        ["region"],
        [1],
        f"{tmp_path.name}/region_descriptions",
    )
    assert data.words == ["a", "brick", "clock", "green", "of", "the", "wall"]
    old = [{("id" if k == "region_id" else k): v for k, v in (each | {"image": 1}).items()} for each in regions]
    write(tmp_path / "region_descriptions.json", {"id": 1, "regions": old}, {"id": 2, "regions": []})
    assert described(read_data(tmp_path, "train")) == wanted | {"2": []}
    about = [{"image_id": 1, "url": "https://x.org/VG_100K_2/2.jpg", "width": 80, "height": 60}]
    (tmp_path / "image_data.json").write_text(json.dumps(about))
    write(tmp_path / "region_descriptions.json", {"id": 1, "regions": list(regions)})
    data = read_data(tmp_path, "train")
    assert [record.path.name for record in data.records] == ["2.jpg"]
    assert described(data) == wanted


def test_splits_and_ids_of_ones_own(tmp_path: Path) -> None:
    pictures(tmp_path, "kitchen.png", "hall.png")
    write(tmp_path / "region_descriptions_train.json", {"id": "kitchen", "regions": [region(1, "a pan")]})
    write(tmp_path / "region_descriptions_val.json", {"id": "hall", "regions": [region(1, "a coat")]})
    assert described(read_data(tmp_path, "val")) == {"hall": [("a coat", [10, 20, 40, 35])]}
    parts = [read_data(tmp_path, split) for split in ("train", "val")]
    both = join_data(parts)
    assert both.words == ["a", "pan", "coat"]
    assert {key: [said for said, _ in each] for key, each in described(both).items()} == {
        "kitchen": ["a pan"],
        "hall": ["a coat"],
    }
    assert [described(part) for part in hold_out(both, 0.5, 0)] in (
        [described(parts[0]), described(parts[1])],
        [described(parts[1]), described(parts[0])],
    )


def test_words_of_another_vocabulary(tmp_path: Path) -> None:
    pictures(tmp_path, "1.jpg", "2.jpg")
    write(
        tmp_path / "train.json",
        {"id": 1, "regions": [region(1, "a red red cup"), region(2, "a pan")]},
        {"id": 2, "regions": [region(3, "a red")]},
    )
    data = read_data(tmp_path, "train")
    assert list(data.words_of().items()) == [("a", 3), ("red", 3), ("cup", 1), ("pan", 1)]
    mapped = data.with_words(["red", "green", "a"])
    assert mapped.flat.phrases.tolist() == [[6, 4, 4, UNKNOWN], [6, UNKNOWN, 0, 0], [6, 4, 0, 0]]
    assert described(mapped)["1"][0][0] == "a red red <unk>"
    assert data.with_words(data.words) is data
    assert mapped.flat[1:].phrases.tolist() == [[6, 4, 0, 0]]
    assert mapped.flat[[1, 0]].phrases.tolist() == [[6, 4, 0, 0], [6, 4, 4, UNKNOWN], [6, UNKNOWN, 0, 0]]
    short = Records.of(replace(record, targets=record.targets[:1]) for record in data.records)
    assert short.phrases[:, 2].tolist() == [data.flat.phrases[0, 2], 0]
    assert Records.of([]).phrases.shape == (0, 0)


def test_a_large_file_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rcnnkit.data.cache.FROM", 1)
    monkeypatch.setenv("RCNNKIT_CACHE", str(tmp_path / "cache"))
    pictures(tmp_path, "1.jpg")
    write(tmp_path / "train.json", {"id": 1, "regions": [region(1, "a red cup")]})
    first = read_data(tmp_path, "train")
    monkeypatch.setattr("rcnnkit.data.reading.read_regions", None)
    again = read_data(tmp_path, "train")
    assert described(again) == described(first)
    assert again.words == first.words


def test_what_is_written_is_read(tmp_path: Path) -> None:
    pictures(tmp_path, "1.jpg", "2.jpg")
    entries = {"id": 1, "regions": [region(1, "a cup", 1.5, 2, 3, 4)]}, {"id": 2, "regions": []}
    data = read_data(write(tmp_path / "train.json", *entries), "")
    (tmp_path / "again").mkdir()
    write_regions(data, tmp_path / "again" / "val.json")
    shutil.copy(tmp_path / "1.jpg", tmp_path / "again")
    shutil.copy(tmp_path / "2.jpg", tmp_path / "again")
    assert described(read_data(tmp_path / "again", "val")) == described(data)
    with pytest.raises(FileExistsError, match=r"val\.json"):
        write_regions(data, tmp_path / "again" / "val.json")


def test_what_is_wrong(tmp_path: Path) -> None:
    pictures(tmp_path, "1.jpg", "2.jpg")
    file = write(
        tmp_path / "train.json",
        {
            "id": 1,
            "regions": [
                region(1, ""),
                region(2, "word " * 200),
                region(3, None),
                region(4, "a cup", image_id=2),
                region(5, "a cup", 70, 20, 30, 15),
                region(6, "a cup", 70, 20, float("nan"), 15),
                region(7, "good"),
                "region",
            ],
        },
        {"id": 1, "regions": []},
        {"id": 2},
        7,
    )
    with pytest.raises(BadData) as caught:
        read_data(tmp_path, "train")
    said = [f"{problem.where}: {problem.message}" for problem in caught.value.problems]
    assert said[:4] == [
        'picture 1, region 1: its phrase is "", which has no word; describe what is there, or delete it',
        "picture 1, region 2: its phrase has 200 words"
        f' ("{("word " * 200)[:76]}...), more than 50; shorten it, or delete it',
        "picture 1, region 3: its phrase is missing, which has no word; describe what is there, or delete it",
        "picture 1, region 4: it is of picture 2, and is listed with picture 1; move it there, or delete it",
    ]
    assert "width is NaN, expected a number" in said[4]
    assert said[5].startswith("picture 1, region [7]: x is missing, expected a number")
    assert said[6] == ("picture 1: the id 1 is that of another picture, too; list each picture once, with all it has")
    assert "picture 2: this is an object with id; expected a list of pictures" in said[7]
    assert said[8].startswith("picture 3: this is 7; expected")
    assert "reaches 20 pixels beyond the right edge" in said[9]
    data = read_data(tmp_path, "train", skip_bad=True)
    assert described(data) == {"1": [("good", [10, 20, 40, 35])]}
    assert problems(tmp_path)
    assert read_regions(file)[1].objects == 7


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"image_id": 1, "objects": []}], "a list, the first entry of which is an object with image_id, objects"),
        ([{"id": 1, "regions": [{"x": 1}]}], "a list, the first entry of which is an object with id, regions"),
        ({"images": [], "annotations": []}, "an object with images, annotations"),
        ([], "an empty list"),
    ],
)
def test_another_version(tmp_path: Path, content: Any, said: str) -> None:
    (tmp_path / "train.json").write_text(json.dumps(content))
    data, (finding,) = read_regions(tmp_path / "train.json")
    assert finding.message.startswith(f"this holds {said}; expected a list of pictures, each with its `id`")
    assert "version 1.0 or 1.2" in finding.message
    assert (len(data), data.class_names) == (0, ["region"])
    with pytest.raises(FileNotFoundError, match=r"there is no"):
        read_regions(tmp_path / "missing.json")


def test_numbers_of_words_travel_with_boxes(tmp_path: Path) -> None:
    """Through selections, augmentation and mixing."""
    from rcnnkit.data.mixing import join
    from rcnnkit.data.transforms import Augmentation, AugmentSettings
    from rcnnkit.images import Preprocessing

    pictures(tmp_path, "1.jpg")
    write(tmp_path / "train.json", {"id": 1, "regions": [region(1, "a cup"), region(2, "pan", 50, 5, 20, 20)]})
    targets = read_data(tmp_path, "train").records[0].targets
    assert targets.phrases.tolist() == [[4, 5], [6, 0]]
    assert targets[1:].phrases.tolist() == [[6, 0]]
    assert join([targets, targets[:1], targets[:0]]).phrases.tolist() == [[4, 5], [6, 0], [4, 5]]
    augmentation = Augmentation(AugmentSettings(flip=1.0), Preprocessing(short_side=30, long_side=40))
    _, moved, _ = augmentation(np.zeros((60, 80, 3), np.uint8), targets, 0)
    assert moved.phrases.tolist() == [[4, 5], [6, 0]]
    assert moved.boxes.tolist() == [[20, 10, 35, 17.5], [5, 2.5, 15, 12.5]]
