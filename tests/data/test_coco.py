"""COCO's format: real files against pycocotools, the way back, and every kind of broken file."""

import json
import os
import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from rcnnkit.data import coco, coco_objects
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
    names = ("train", "images/train", "images", "", "annotations")
    assert problems[0].message == (
        "none of its 2 pictures was found (a.jpg is the first);"
        f" looked in {', '.join(str(tmp_path / name) for name in names)}; give the folder that has them as data.images"
        " in settings, --images on the command line"
    )
    for name in ("a", "b"):
        Image.new("RGB", (40, 30)).save(tmp_path / f"{name}.jpg")
    assert len(read_coco(file, images=tmp_path)[0]) == 2


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
        ({"image_id": "99"}, 'image_id "99" is not the id of an image'),
        ({"image_id": "07"}, 'image_id "07" is not the id of an image'),
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


@pytest.mark.parametrize("size", [{}, {"width": None, "height": None}, {"width": 0, "height": 0}, {"width": 40}])
def test_missing_size_is_taken_from_the_picture(tmp_path: Path, size: dict[str, int | None]) -> None:
    images = [{"id": 7, "file_name": "a.jpg"} | size]
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
    options: dict[str, Any] = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
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
    file = small(tmp_path, categories=[{"id": 9, "name": "Löwe"}, {"id": 3, "name": "cat"}])
    text = json.dumps(json.loads(file.read_text()), ensure_ascii=False)
    file.write_text(text, encoding="latin-1")
    message = read_coco(file)[1][0].message
    assert message.startswith("this is not UTF-8 text ('utf-8' codec can't decode byte 0xf6")
    assert message.endswith("; save it as UTF-8")
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"):
        file.write_text(text, encoding=encoding)
        data, problems = read_coco(file)
        assert (data.class_names, problems) == (["cat", "Löwe"], [])


def test_bad_categories(tmp_path: Path) -> None:
    categories = [{"id": 3, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 4, "name": "cat"}, {"id": "9"}]
    _, problems = read_coco(small(tmp_path, annotations=[], categories=categories))
    assert [p.where for p in problems] == ["categories[3]", "category 3"]
    assert problems[1].message == "'cat', 'dog' have the id 3; give each its own"


def test_a_supercategory_may_have_the_name_of_its_class(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "ant"}, {"id": 9, "name": "ant", "supercategory": "ant"}, {"id": 3, "name": "cat"}]
    data, problems = read_coco(small(tmp_path, categories=categories))
    assert problems == []
    assert (data.class_names, data.category_ids) == (["cat", "ant"], [3, 9])
    assert data.records[0].targets.labels.tolist() == [1, 0]
    data, _ = read_coco(small(tmp_path, categories=categories, annotations=[]))  # a split without any object
    assert (data.class_names, data.category_ids) == (["cat", "ant"], [3, 9])


@pytest.mark.parametrize(
    ("categories", "where", "message"),
    [
        (
            [{"id": 9, "name": "ant"}, {"id": 3, "name": "ant"}],
            "categories 9, 3",
            "they have one name, 'ant', for 1 annotation of category 9, 1 annotation of category 3; rename all but one,"
            " or give these annotations one category_id",
        ),
        (
            [{"id": 9, "name": "ant"}, {"id": 9, "name": "bee"}, {"id": 3}],
            "category 9",
            "'ant', 'bee' have the id 9; give each its own",
        ),
    ],
)
def test_bad_categories_take_their_annotations_along(
    tmp_path: Path, categories: list, where: str, message: str
) -> None:
    data, problems = read_coco(small(tmp_path, categories=categories))
    assert (problems[-1].where, problems[-1].message) == (where, message)
    assert [p.where for p in problems[:-1]] == ["categories[2]"] * (len(categories) - 2)
    assert problems.objects == 2
    assert [len(record.targets) for record in data.records] == [0, 0]


@pytest.mark.parametrize(("listed", "used"), [((7, 5), ("7", "5")), (("7", "5"), (7, 5))])
def test_ids_may_be_numbers_here_and_text_there(tmp_path: Path, listed: tuple, used: tuple) -> None:
    file = small(tmp_path)
    content = json.loads(file.read_text())
    for image, key in zip(content["images"], listed, strict=True):
        image["id"] = key
    for entry in content["annotations"]:
        entry["image_id"] = used[0]
    file.write_text(json.dumps(content))
    data, problems = read_coco(file)
    assert problems == []
    assert [(record.id, len(record.targets)) for record in data.records] == [(listed[0], 2), (listed[1], 0)]


@pytest.mark.parametrize("images", [None, "images", "."])
@pytest.mark.parametrize(
    "prefix", ["images\\", "images/", "C:\\data\\images\\", "/data/upload/images/", "..\\..\\images\\"]
)
def test_pictures_named_by_another_computers_paths(tmp_path: Path, prefix: str, images: str | None) -> None:
    names = [{"id": key, "file_name": f"{prefix}{name}.jpg"} for key, name in ((7, "a"), (5, "b"))]
    file = small(tmp_path, images=names).rename(tmp_path / "result.json")
    (tmp_path / "train").rename(tmp_path / "images")
    data, problems = read_coco(file, images=None if images is None else tmp_path / images)
    assert problems == []
    pictures = [tmp_path / "images/a.jpg", tmp_path / "images/b.jpg"]
    assert [record.path.resolve() for record in data.records] == pictures


@pytest.mark.parametrize(("stored", "named"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_may_be_composed_otherwise(tmp_path: Path, stored: str, named: str) -> None:
    names = {key: unicodedata.normalize(key, "é.jpg") for key in ("NFC", "NFD")}
    file = small(tmp_path, images=[{"id": 7, "file_name": names[named]}, {"id": 5, "file_name": "b.jpg"}])
    (tmp_path / "train/a.jpg").rename(tmp_path / "train" / names[stored])
    data, problems = read_coco(file)
    assert problems == []
    assert data.records[0].path.name == names[stored]


def test_one_picture_in_two_entries(tmp_path: Path) -> None:
    images = [{"id": key, "file_name": name} for key, name in ((7, "a.jpg"), (5, "b.jpg"), (4, "./a.jpg"))]
    data, problems = read_coco(small(tmp_path, images=images))
    assert [record.id for record in data.records] == [5]
    assert (len(problems), problems.pictures) == (1, 2)
    assert problems[0].where == "image 7 (a.jpg)"
    assert problems[0].message == (
        "2 images are this picture (ids 7, 4); give all their annotations one image_id, and delete the other images"
    )


def test_a_box_in_shares_among_boxes_in_pixels(tmp_path: Path) -> None:
    data, problems = read_coco(small_with(tmp_path, bbox=[0.25, 0.5, 0.5, 0.25]))
    assert [len(record.targets) for record in data.records] == [2, 0]
    assert [(p.where, p.message) for p in problems] == [
        (
            "annotation 3 (image 7)",
            "bbox [0.25, 0.5, 0.5, 0.25] (x, y, width, height) is not in pixels: all four numbers lie between 0 and 1;"
            " multiply them by the picture's width and height",
        )
    ]
    assert problems.objects == 1


def boxes(root: Path, *bboxes: list, **more: Any) -> Path:
    """`small` with these boxes as its annotations, all of picture 7."""
    annotations = [{"id": i, "image_id": 7, "category_id": 3, "bbox": bbox} | more for i, bbox in enumerate(bboxes)]
    return small(root, annotations=annotations)


def test_a_file_in_shares_is_one_problem(tmp_path: Path) -> None:
    data, problems = read_coco(boxes(tmp_path, [0.25, 0.5, 0.5, 0.25], [1, 2, 3, 4], [0, 0, 1, 1]))
    assert len(data) == 0  # the third box is not trusted either
    assert [p.message for p in problems] == [
        "2 of 3 boxes are not in pixels: all four numbers lie between 0 and 1 (the first is annotation 0 (image 7):"
        " bbox [0.25, 0.5, 0.5, 0.25] (x, y, width, height)); multiply them by the picture's width and height"
    ]
    assert (problems.objects, problems.pictures) == (0, 2)


def test_corners_are_told_by_all_boxes_together(tmp_path: Path) -> None:
    """Of the first and the last, one cannot see what they are."""
    corners = [[1, 2, 20, 20], [20, 10, 30, 20], [30, 20, 40, 30], [2, 2, 12, 7]]
    data, problems = read_coco(boxes(tmp_path, *corners))
    assert len(data) == 0
    assert [p.message for p in problems] == [
        "`bbox` seems to be x1, y1, x2, y2, expected x, y, width, height: 2 of its 4 annotations would reach far beyond"
        " their pictures; write x2 - x1 and y2 - y1"
    ]
    assert (problems.objects, problems.pictures) == (0, 2)
    right = [[a, b, c - a, d - b] for a, b, c, d in corners]
    data, problems = read_coco(boxes(tmp_path, *right))
    assert problems == []
    assert data.records[0].targets.boxes.tolist() == corners


def test_corners_that_happen_to_fit_are_told_by_their_areas(tmp_path: Path) -> None:
    data, problems = read_coco(boxes(tmp_path, [1, 2, 11, 12], [2, 2, 12, 12], area=100))
    assert len(data) == 0
    assert [p.message for p in problems] == [
        "`bbox` seems to be x1, y1, x2, y2, expected x, y, width, height: `area` is (x2 - x1) (y2 - y1) in 2 of its 2"
        " annotations; write x2 - x1 and y2 - y1"
    ]


def test_corners_that_happen_to_fit_without_an_area_are_doubted(tmp_path: Path) -> None:
    corners = [[a, b, a + 10, b + 9] for a in range(10) for b in range(2)]
    data, problems = read_coco(boxes(tmp_path, *corners))
    assert (problems, len(data.records[0].targets)) == ([], 20)
    ((_, first),) = problems.warnings.values()
    assert first.message == (
        "`bbox` may be x1, y1, x2, y2, expected x, y, width, height: in 20 of its 20 annotations the third number is"
        " greater than the first and the fourth than the second; look at some of the boxes"
    )
    assert read_coco(boxes(tmp_path, *corners[:19]))[1].warnings == {}  # of few it may be by chance


@pytest.mark.parametrize("area", [{}, {"area": 132}, {"area": 90}])  # none, the box's own, a mask's
def test_large_objects_are_not_taken_for_corners(tmp_path: Path, area: dict) -> None:
    _, problems = read_coco(boxes(tmp_path, [1, 2, 11, 12], [2, 2, 12, 11], **area))
    assert problems == []


def test_what_is_odd_is_kept_and_counted(tmp_path: Path) -> None:
    same = {"image_id": 7, "category_id": 9, "bbox": [1, 2, 3, 4]}
    thin = {"image_id": 7, "category_id": 9, "bbox": [5, 5, 1, 8]}
    annotations = [{"id": key} | entry for key, entry in ((1, same), (2, same), (2, thin), (3, same))]
    annotations.append(same | {"id": 4, "category_id": 3})  # another class is another object
    data, problems = read_coco(small(tmp_path, annotations=annotations))
    assert problems == []
    assert len(data.records[0].targets) == 5
    assert {what: (number, first.where, first.message) for what, (number, first) in problems.warnings.items()} == {
        "an object that is annotated twice": (
            2,
            "annotation 2 (image 7)",
            "its box and class are those of annotation 1 (image 7) too; delete one",
        ),
        "an annotation id that is used already": (
            1,
            "annotations[2]",
            "annotations[1] has the id 2 too; give each its own",
        ),
        "a box that is at most 1 pixel wide or high": (
            1,
            "annotation 2 (image 7)",
            "bbox [5, 5, 1, 8] (x, y, width, height); delete it unless it is meant",
        ),
    }


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_good_data_are_not_accused(coco256: Path, split: str) -> None:
    _, problems = read_coco(coco256 / f"annotations/instances_{split}.json")
    assert (problems, problems.warnings) == ([], {})


def test_many_categories_take_no_square_of_time(tmp_path: Path) -> None:
    many = range(20_000)
    categories = [{"id": i, "name": f"class {i}"} for i in many]
    annotations = [{"image_id": 7, "category_id": i, "bbox": [1, 1, 2, 2]} for i in many]
    file = small(tmp_path, categories=categories, annotations=annotations)
    began = time.process_time()
    data, _ = read_coco(file)
    _, problems = read_coco(file, class_names=[f"kind {i}" for i in many])
    assert time.process_time() - began < 10  # each square alone took more
    assert (len(data.class_names), len(data.records[0].targets), len(problems)) == (20_000,) * 3


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"a\.json is not a regular file; copy what it gives into one"):
        read_coco(tmp_path / "a.json")


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


@pytest.mark.parametrize("box", [None, []])
def test_a_polygon_stands_in_for_a_box_that_is_missing(tmp_path: Path, box: list[float] | None) -> None:
    polygons = [[1, 2, 10.5, 2, 10, 20], [5, 1.5, 6, 3, 4, 3, 4, 2]]
    data, findings = read_coco(small_with(tmp_path, bbox=box, segmentation=polygons))
    assert findings == []
    (targets,) = (record.targets for record in data.records if record.id == 7)
    assert [1, 1.5, 10.5, 20] in targets.boxes.tolist()
    for wrong in ([[1, 2, 3, 4]], [[1, 2, 3, 4, 5, "6"]], [], {"counts": "x"}):
        _, (problem,) = read_coco(small_with(tmp_path, bbox=box, segmentation=wrong))
        assert problem.message.startswith("`bbox` is ")
    _, (problem,) = read_coco(small_with(tmp_path, bbox=box, segmentation=[[1, 2, 3, 4]]))
    assert problem.message == (
        "`bbox` is missing, and `segmentation` is [[1, 2, 3, 4]], where a polygon needs three corners or more:"
        " [[x, y, x, y, x, y, …], …]; correct it or delete the annotation"
    )


@pytest.mark.parametrize(
    ("box", "hint"),
    [
        ([30, 20, 38, 28], True),
        ([30, 20, 38, 20], False),  # which would have no height as corners
        ([20, 10, 21, 12], False),  # beyond by a pixel, which a slip explains
        ([20, 10, 41, 12], False),  # beyond, and beyond as corners
        ([1, 2, 30, 20], False),  # lies in the picture either way
    ],
)
def test_one_box_that_looks_like_corners(tmp_path: Path, box: list[float], hint: bool) -> None:
    plain = [{"image_id": 7, "category_id": 9, "bbox": [x, 20, 5, 5]} for x in range(10, 20)]
    data, problems = read_coco(small(tmp_path, annotations=[*plain, {"image_id": 7, "category_id": 9, "bbox": box}]))
    hints = [
        f"bbox {box} (x, y, width, height) reaches beyond the picture, which is 40 wide and 30 high, but would lie in"
        " it as x1, y1, x2, y2; if it is that, write x2 - x1 and y2 - y1, or else correct the box"
    ]
    assert [each.message for each in problems if "x1, y1" in each.message] == hints * hint
    assert len(data.records[0].targets) == (10 if problems else 11)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_annotations_are_read_alike_however_many_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Usual and odd ones, of a picture that is left out, without an id or with ids of all kinds."""
    ids: list[Any] = [1, "1", 2**70, 2**70, None, None, 1.5, 1.5, 1, "1", True, -3, -3]
    entries = [
        {"id": key, "image_id": 7, "category_id": 3, "bbox": [i, 1, 2, 2], "iscrowd": i == 4, "difficult": i == 5}
        for i, key in enumerate(ids)
    ]
    entries += [{"id": 50, "image_id": "7", "category_id": 9, "bbox": [1, 1, 5, 5], "truncated": 1}]
    entries += [{"id": 51, "image_id": 5, "category_id": 9, "bbox": [1, 1, 5, 5]}]  # whose picture is missing
    entries += [{"id": 52, "image_id": 8, "category_id": 9, "bbox": [1, 1, 5, 5]}]
    file = small(tmp_path, annotations=entries)
    (tmp_path / "train/b.jpg").unlink()
    found = []
    for at_a_time in (4096, number):
        monkeypatch.setattr(coco_objects, "AT_A_TIME", at_a_time)
        data, problems = read_coco(file)
        found.append((data.flat.objects.tobytes(), list(problems), problems.objects, problems.warnings))
    assert found[0] == found[1]
    objects = data.flat.objects
    assert objects["box"][:, 0].tolist() == [*range(len(ids)), 1]
    for flag, place in (("crowd", 4), ("difficult", 5), ("truncated", 13)):
        assert np.flatnonzero(objects[flag]).tolist() == [place]
    assert [problem.where for problem in problems] == ["image 5 (b.jpg)", "annotation 52 (image 8)"]
    assert problems.objects == 1
    times, first = problems.warnings["an annotation id that is used already"]
    assert times == 5  # 2 ** 70, 1, "1", true and -3
    assert first.where == "annotations[3]"
    assert first.message == f"annotations[2] has the id {2**70} too; give each its own"


def test_text_that_is_not_utf8_is_found_wherever_a_part_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco, "TEXT_AT_A_TIME", 3)
    file = small(tmp_path, categories=[{"id": 9, "name": "Ameise äöü 🐜"}, {"id": 3, "name": "Katze"}])
    file.write_text(json.dumps(json.loads(file.read_text()), ensure_ascii=False), encoding="utf-8")
    assert read_coco(file)[0].class_names == ["Katze", "Ameise äöü 🐜"]
    file.write_bytes(file.read_bytes()[:-1] + "ä".encode()[:1])
    assert "this is not UTF-8 text" in read_coco(file)[1][0].message
