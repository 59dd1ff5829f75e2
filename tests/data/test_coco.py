"""COCO's format: real files against pycocotools, the way back, and every kind of broken file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from rcnnkit.data.coco import read_coco, write_coco
from rcnnkit.data.records import Dataset, Record
from rcnnkit.decoding import turned
from rcnnkit.images import read_picture
from rcnnkit.structures import Targets


def small(root: Path, **changes: Any) -> Path:
    """Two 40 x 30 pictures, ids 7 and 5; categories 9 (ant) and 3 (cat); two good annotations."""
    (root / "train").mkdir(exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    for name in ("a", "b"):
        Image.new("RGB", (40, 30)).save(root / f"train/{name}.jpg")
    content = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 40, "height": 30},
            {"id": 5, "file_name": "b.jpg", "width": 40, "height": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "bbox": [1, 2, 3, 4], "area": 6.5, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 40, 30], "iscrowd": 1},
        ],
        "categories": [{"id": 9, "name": "ant"}, {"id": 3, "name": "cat"}],
    }
    file = root / "annotations/instances_train.json"
    file.write_text(json.dumps(content | changes))
    return file


def small_with(root: Path, **entry: Any) -> Path:
    """`small` with one more annotation of picture 7, with id 3."""
    file = small(root)
    content = json.loads(file.read_text())
    content["annotations"].append({"id": 3, "image_id": 7, "category_id": 3, "bbox": [1, 1, 2, 2]} | entry)
    file.write_text(json.dumps(content))
    return file


def test_reads_coco_as_pycocotools_does(coco256: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = coco256 / "annotations/instances_val2017.json"
    data, problems = read_coco(file)
    coco = COCO(str(file))
    assert problems == []
    assert data.name == "coco256/val2017"
    assert data.category_ids == sorted(coco.getCatIds())
    assert list(data.class_names) == [category["name"] for category in coco.loadCats(data.category_ids)]
    assert [record.id for record in data.records] == list(coco.imgs)
    for record in data.records:
        image = coco.imgs[record.id]
        assert record.size == (image["height"], image["width"])
        assert record.path == coco256 / "val2017" / image["file_name"]
        theirs = coco.loadAnns(coco.getAnnIds(record.id))
        corners = [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in theirs)]
        assert torch.equal(record.targets.boxes, torch.tensor(corners, dtype=torch.float32).reshape(-1, 4))
        ids = [data.category_ids[label] for label in record.targets.labels.tolist()]
        assert ids == [entry["category_id"] for entry in theirs]
        assert torch.equal(record.targets.areas, torch.tensor([float(entry["area"]) for entry in theirs]))
    assert sum(len(record.targets) == 0 for record in data.records) == len(coco.imgs) - len(
        {entry["image_id"] for entry in coco.anns.values()}
    )


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_coco_survives_a_round_trip(coco256: Path, tmp_path: Path, split: str) -> None:
    data, _ = read_coco(coco256 / f"annotations/instances_{split}.json")
    write_coco(data, tmp_path / "again.json")
    back, problems = read_coco(tmp_path / "again.json", images=coco256 / split)
    assert problems == []
    assert (back.class_names, back.category_ids) == (data.class_names, data.category_ids)
    for old, new in zip(data.records, back.records, strict=True):
        assert (old.id, old.path.resolve(), old.size) == (new.id, new.path.resolve(), new.size)
        for name in ("boxes", "labels", "crowd", "areas"):
            assert torch.equal(getattr(old.targets, name), getattr(new.targets, name)), name


def test_any_float32_box_survives(tmp_path: Path) -> None:
    Image.new("RGB", (640, 480)).save(tmp_path / "x.jpg")
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(200, 2, 2, generator=random).sort(dim=1).values * torch.tensor([640.0, 480.0])
    targets = Targets(
        boxes=corners.reshape(-1, 4),
        labels=torch.arange(200) % 2,
        crowd=torch.arange(200) % 3 == 0,
        areas=torch.rand(200, generator=random) * 1e5,
    )
    data = Dataset("d", [Record("x", tmp_path / "x.jpg", (480, 640), targets)], ["a", "b"], [4, 2])
    write_coco(data, tmp_path / "d.json")
    back, problems = read_coco(tmp_path / "d.json", class_names=["a", "b"])
    assert problems == []
    assert back.records[0].id == 1
    assert back.category_ids == [4, 2]
    for name in ("boxes", "labels", "crowd", "areas"):
        assert torch.equal(getattr(back.records[0].targets, name), getattr(targets, name)), name


def test_decimals_stay_short(coco256: Path, tmp_path: Path) -> None:
    file = coco256 / "annotations/instances_val2017.json"
    write_coco(read_coco(file)[0], tmp_path / "again.json")
    theirs = {tuple(entry["bbox"]) for entry in json.loads(file.read_text())["annotations"]}
    ours = {tuple(entry["bbox"]) for entry in json.loads((tmp_path / "again.json").read_text())["annotations"]}
    assert len(theirs & ours) > 0.99 * len(theirs)


def test_labels_areas_crowds_and_empty_pictures(tmp_path: Path) -> None:
    data, problems = read_coco(small(tmp_path))
    assert problems == []
    assert (data.class_names, data.category_ids) == (["cat", "ant"], [3, 9])
    first, second = data.records
    assert (first.id, second.id) == (7, 5)
    assert first.targets.boxes.tolist() == [[1, 2, 4, 6], [0, 0, 40, 30]]
    assert first.targets.labels.tolist() == [1, 0]
    assert first.targets.areas.tolist() == [6.5, 1200]
    assert first.targets.crowd.tolist() == [False, True]
    assert second.targets.boxes.shape == (0, 4)


def test_given_class_names_are_matched_by_name(tmp_path: Path) -> None:
    data, problems = read_coco(small(tmp_path), class_names=["dog", "ant"])
    assert data.category_ids == [10, 9]  # no category here is a dog: it gets an id that is free
    assert data.records[0].targets.labels.tolist() == [1]
    assert [p.where for p in problems] == ["category 3 ('cat')"]
    assert "1 annotation of this class, which is not one of dog, ant" in problems[0].message
    assert problems.objects == 1


@pytest.mark.parametrize("folder", ["train", "images/train", "images", ".", "annotations"])
def test_finds_the_picture_folder(tmp_path: Path, folder: str) -> None:
    file = small(tmp_path)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "train" / name).rename(tmp_path / folder / name)
    data, problems = read_coco(file)
    assert problems == []
    assert [record.path.parent for record in data.records] == [tmp_path / folder] * 2


def test_no_picture_anywhere_is_one_problem(tmp_path: Path) -> None:
    file = small(tmp_path)
    for path in (tmp_path / "train").iterdir():
        path.unlink()
    data, problems = read_coco(file)
    assert len(data) == 0
    assert len(problems) == 1
    for words in ("none of its 2 pictures", "a.jpg is the first", f"{tmp_path / 'images/train'}", "`images`"):
        assert words in problems[0].message


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"bbox": [1, 1, 0, 5]}, "leaves the box no width"),
        ({"bbox": [1, 1, 5, -2]}, "leaves the box no height"),
        ({"bbox": [39.99999, 1, 1e-9, 5]}, "leaves the box no width"),
        ({"bbox": [float("nan"), 1, 5, 5]}, "not finite"),
        ({"bbox": [1, 1, float("inf"), 5]}, "not finite"),
        ({"bbox": [1, 1, 10**400, 5]}, "int too large"),
        ({"bbox": [1, 1, 41, 5]}, "2 pixels beyond the right edge of the picture, which is 40 wide and 30 high"),
        ({"bbox": [1, -1.5, 4, 5]}, "1.5 pixels beyond the upper edge"),
        ({"bbox": [40.2, 1, 0.5, 5]}, "lies outside the picture"),
        ({"bbox": [1, 1, 5]}, "`bbox` is [1, 1, 5], expected four numbers"),
        ({"bbox": None}, "`bbox` is null"),
        ({"bbox": [1, "1", 5, 5]}, '`bbox` is [1, "1", 5, 5]'),
        ({"image_id": 99}, "image_id 99 is not the id of an image"),
        ({"image_id": [7]}, "`image_id` is [7]"),
        ({"category_id": 4}, "category_id 4 is not among the categories (3, 9)"),
        ({"category_id": "3"}, '`category_id` is "3"'),
        ({"iscrowd": 2}, "`iscrowd` is 2"),
        ({"area": -1}, "`area` is -1"),
        ({"area": "big"}, '`area` is "big"'),
    ],
)
def test_bad_annotation_is_left_out_alone(tmp_path: Path, entry: dict, words: str) -> None:
    file = small_with(tmp_path, **entry)
    data, problems = read_coco(file)
    assert [len(record.targets) for record in data.records] == [2, 0]
    assert len(problems) == problems.objects == 1
    assert problems[0].file == str(file)
    assert problems[0].where.startswith("annotation 3 (image ")
    assert words in problems[0].message


@pytest.mark.parametrize("entry", [3, None, {"id": 3}, {"image_id": 7, "category_id": 3}])
def test_annotation_without_its_keys(tmp_path: Path, entry: Any) -> None:
    _, problems = read_coco(small(tmp_path, annotations=[entry]))
    assert len(problems) == 1
    assert "expected an object" in problems[0].message or "is missing" in problems[0].message


def test_rounding_outside_is_cut_silently(tmp_path: Path) -> None:
    data, problems = read_coco(small_with(tmp_path, bbox=[-0.5, 0, 41.4, 31]))
    assert problems == []
    assert data.records[0].targets.boxes[-1].tolist() == pytest.approx([0, 0, 40, 30])


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ({"file_name": "c.jpg"}, "there is no such picture: "),
        ({"id": 5}, "2 images have the id 5"),
        ({"id": None}, "needs an `id`"),
        ({"file_name": 3}, "needs a `file_name`"),
        ({"width": "40"}, '`width` is "40"'),
        ({"width": 30, "height": 40}, "30 wide and 40 high, but"),
    ],
)
def test_bad_image_is_left_out(tmp_path: Path, image: dict, words: str) -> None:
    good = [{"id": i, "file_name": f"{name}.jpg", "width": 40, "height": 30} for i, name in ((5, "b"), (7, "a"))]
    data, problems = read_coco(small(tmp_path, images=[good[0], good[1] | image]))
    assert words in problems[0].message
    assert problems.pictures == (2 if image == {"id": 5} else 1)  # which of two is meant, nobody knows
    assert [record.id for record in data.records] == ([] if image == {"id": 5} else [5])
    # annotations of a picture left out go with it; only where its id is unknown are they strangers
    assert len(problems) == {5: 4, None: 3}.get(image.get("id", 7), 1)


def test_missing_size_is_taken_from_the_picture(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "a.jpg"}]
    data, problems = read_coco(small(tmp_path, images=images))
    assert problems == []
    assert data.records[0].size == (30, 40)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif"])
@pytest.mark.parametrize("said", ["nothing", "shown", "stored"])
def test_boxes_of_a_turned_picture_lie_on_what_was_annotated(tmp_path: Path, suffix: str, said: str) -> None:
    """The object is red: on the picture upright, 48 wide and 64 high, and on the picture as it is stored."""
    shown = np.full((64, 48, 3), (0, 0, 200), np.uint8)
    shown[5:35, 5:25] = (200, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    Image.fromarray(turned(shown, 8)).save(tmp_path / f"turned.{suffix}", exif=exif, **options)
    size = {"nothing": {}, "shown": {"width": 48, "height": 64}, "stored": {"width": 64, "height": 48}}[said]
    box = [5, 23, 30, 20] if said == "stored" else [5, 5, 20, 30]  # stored column is shown row, row is 48 - column
    file = small(
        tmp_path,
        images=[{"id": 1, "file_name": f"turned.{suffix}"} | size],
        annotations=[{"id": 1, "image_id": 1, "category_id": 3, "bbox": box}],
    )
    data, problems = read_coco(file)
    assert problems == []
    (record,) = data.records
    assert record.size == ((48, 64) if said == "stored" else (64, 48))
    picture = read_picture(record.path, record.size)
    assert picture.shape[:2] == record.size
    x1, y1, x2, y2 = record.targets.boxes[0].int().tolist()
    red = picture[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]  # JPEG blurs the border
    assert np.abs(red.astype(int) - (200, 0, 0)).max() < 20
    assert (picture[..., 0] > 100).sum() == pytest.approx(20 * 30, abs=60)  # and no other


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ('{"images": [\n}', "line 2", "this is not JSON"),
        ("[" * 100_000, "", "this is not JSON (maximum recursion depth exceeded"),
        ('{"images": ' + "9" * 5000 + "}", "", "this is not JSON (Exceeds the limit"),
        ("[]", "", "this holds a list, expected an object with images, annotations, categories"),
        ('{"images": [], "annotations": {}}', "", "`annotations` is an object, expected a list"),
        ('{"images": [], "annotations": []}', "", "`categories` is missing"),
    ],
)
def test_broken_file(tmp_path: Path, text: str, where: str, words: str) -> None:
    file = tmp_path / "d.json"
    file.write_text(text)
    data, problems = read_coco(file)
    assert len(data) == 0
    assert (problems[0].file, problems[0].where) == (str(file), where)
    assert any(words in problem.message for problem in problems)


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_bytes(b'{"images": "\xff\xfe\xfa"}')
    assert "not JSON" in read_coco(tmp_path / "d.json")[1][0].message


def test_bad_categories(tmp_path: Path) -> None:
    categories = [{"id": 3, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 4, "name": "cat"}, {"id": "9"}]
    _, problems = read_coco(small(tmp_path, annotations=[], categories=categories))
    assert [p.where for p in problems] == ["categories[1]", "categories[2]", "categories[3]"]
    assert "id 3 is 'cat' already" in problems[0].message


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.json"):
        read_coco(tmp_path / "no.json")
    with pytest.raises(ValueError, match="lists no picture"):
        read_coco(small(tmp_path, images=[]))
    with pytest.raises(FileNotFoundError, match="no picture folder"):
        read_coco(small(tmp_path), images=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="a name twice"):
        read_coco(small(tmp_path), class_names=["cat", "cat"])


def test_writing_overwrites_nothing(tmp_path: Path) -> None:
    file = small(tmp_path)
    before = file.read_text()
    with pytest.raises(FileExistsError):
        write_coco(read_coco(file)[0], file)
    assert file.read_text() == before
