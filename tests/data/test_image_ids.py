import json
from pathlib import Path

import pytest

from rcnnkit.data.image_ids import Ids, ids_of, read_image_ids


def test_the_longest_end_of_a_path_gives_the_id() -> None:
    ids: Ids = {"a.jpg": 1, "val/a.jpg": 2, "b.jpg": "b"}
    pictures = [Path("/data/val/a.jpg"), Path("a.jpg"), Path("train/a.jpg"), Path("x/b.jpg")]
    assert ids_of(pictures, ids) == [2, 1, 1, "b"]
    with pytest.raises(ValueError, match=r"no id is known of 2 pictures: c.jpg, d.jpg; leave them out"):
        ids_of([Path("c.jpg"), Path("a.jpg"), Path("d.jpg")], ids)


def test_ids_are_read_without_annotations(tmp_path: Path) -> None:
    file = tmp_path / "info.json"
    file.write_text(json.dumps({"images": [{"id": 7, "file_name": "a.jpg"}, {"id": "x", "file_name": "./b/c.jpg"}]}))
    assert read_image_ids(file) == {"a.jpg": 7, "b/c.jpg": "x"}


@pytest.mark.parametrize(
    ("content", "said"),
    [([], "has no list of images"), ({"images": [{"id": True, "file_name": "a"}]}, r"images\[0\] needs a file_name")],
)
def test_other_files_are_refused(tmp_path: Path, content: object, said: str) -> None:
    (tmp_path / "f.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said):
        read_image_ids(tmp_path / "f.json")
