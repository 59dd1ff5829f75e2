import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnnkit.checking.check import Checked, check_data
from rcnnkit.checking.drawings import STRONG, WIDEST, drawn
from rcnnkit.checking.histograms import histograms
from rcnnkit.checking.page import check_outputs, page, write_reports
from rcnnkit.detectors.settings import DetectorSettings
from tests.benchmark.report.test_page import parsed
from tests.checking.sets import data_set

STRANGE = '<script>alert("1")</script> \'"&amp; 🐈 \u202e\n'


@pytest.fixture
def strange(digits: Path, tmp_path: Path) -> Checked:
    """Names that are HTML, an object twice, a picture in two splits."""
    root = shutil.copytree(digits, tmp_path / "data")
    contents = {
        name: json.loads((root / f"annotations/instances_{name}.json").read_text()) for name in ("train", "val")
    }
    train, val = contents.values()
    for content in contents.values():
        content["categories"][0]["name"] = STRANGE
    old = next(root.rglob(Path(train["images"][0]["file_name"]).name))
    new = 'a"><script>alert(2)<b>🐈.jpg'
    old.rename(old.with_name(new))
    train["images"][0]["file_name"] = str(Path(train["images"][0]["file_name"]).with_name(new))
    annotation = next(each for each in train["annotations"] if each["image_id"] == train["images"][0]["id"])
    train["annotations"].append(annotation | {"id": 1000, "category_id": content["categories"][0]["id"]})
    train["annotations"].append(annotation | {"id": 1001, "bbox": [5, 5, 0, 10]})
    shutil.copyfile(old.with_name(new), old.with_name("again.jpg"))
    val["images"].append(
        train["images"][0]
        | {"id": 1000, "file_name": str(Path(train["images"][0]["file_name"]).with_name("again.jpg"))}
    )
    for name, content in contents.items():
        (root / f"annotations/instances_{name}.json").write_text(json.dumps(content))
    return check_data(root, {name: f"annotations/instances_{name}.json" for name in contents}, DetectorSettings())


def test_the_page_is_whole_and_names_are_harmless(strange: Checked) -> None:
    text = page(strange)
    elements = parsed(text)
    assert "<script" not in text
    assert "\u202e" not in text
    assert elements.loads
    assert all(each.startswith("data:image/jpeg;base64,") for each in elements.loads)
    assert "http" not in text
    words = " ".join(elements.text)
    assert '<script>alert("1")</script> \'"&amp; 🐈 \\u202e\\n' in words
    assert 'a"><script>alert(2)<b>🐈.jpg' in words
    assert 'Faults that stop training: a"><script>alert(2)<b>🐈.jpg, annotation 1001 (image 1)' in words  # it is drawn
    for title in (
        "A file is in two splits",
        "Delete it in the training split",
        "same-in-two-splits",
        "Pictures that look",
    ):
        assert title in words, title
    assert "@media print" in text


def test_histograms_count_all_objects_and_pictures(strange: Checked) -> None:
    areas, shapes, numbers, sides = histograms(strange)
    objects = sum(len(each) for each in strange.splits.values())
    assert areas.counts.sum() == shapes.counts.sum() == objects
    assert numbers.counts.sum() == sum(int((each.counts > 0).sum()) for each in strange.splits.values())
    assert sides.counts.sum() == len(strange.records) == 13
    assert areas.marks == [32, 64, 128, 256, 512]
    place = int(np.flatnonzero(sides.counts)[0])
    assert sides.edges[place] <= 96 < sides.edges[place + 1]


def test_an_empty_data_set_has_a_page() -> None:
    from rcnnkit.checking.objects import Objects

    checked = Checked("nothing", DetectorSettings(), {"train": Objects.of(data_set([]))}, [], [])
    words = " ".join(parsed(page(checked)).text)
    assert "Nothing." in words


def test_the_box_in_question_is_seen(tmp_path: Path) -> None:
    record = data_set([[((10, 10, 90, 60), 0)]], size=(480, 960)).records[0]
    Image.new("RGB", (960, 480), (200, 200, 200)).save(tmp_path / "p0.jpg")
    from dataclasses import replace

    jpeg = tmp_path / "drawn.jpg"
    jpeg.write_bytes(drawn(replace(record, path=tmp_path / "p0.jpg"), (400, 200, 600, 400)))
    with Image.open(jpeg) as picture:
        assert picture.size == (WIDEST, WIDEST // 2)
        pixels = np.asarray(picture).astype(int)
    assert np.abs(pixels[150, 200:203] - STRONG).max(axis=1).min() < 60  # the left edge, at half the size
    assert np.abs(pixels[150, 250] - 200).max() < 10


def test_nothing_is_overwritten(strange: Checked, tmp_path: Path) -> None:
    written = write_reports(strange, tmp_path / "out", tmp_path / "c.json")
    assert written == [tmp_path / "c.json", tmp_path / "out" / "report.html"]
    assert json.loads((tmp_path / "c.json").read_text()) == strange.to_json()
    for out, json_file, fix in (
        (tmp_path / "out", None, None),
        (None, tmp_path / "c.json", None),
        (None, None, tmp_path / "out"),
    ):
        with pytest.raises(FileExistsError):
            check_outputs(out, json_file, fix)
    check_outputs(tmp_path / "new", tmp_path / "new.json", tmp_path / "new")
