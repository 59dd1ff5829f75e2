"""Digits with sentences."""

import json
from pathlib import Path

import numpy as np

from rcnnkit.data.digits import Scene
from rcnnkit.data.reading import read_data
from rcnnkit.data.told_digits import tell, write_told_digits
from rcnnkit.vocabulary import Vocabulary

NAMES = {"zero": "0", "three": "3", "four": "4", "six": "6", "seven": "7"}


def test_what_is_told() -> None:
    boxes = np.array([(10.0, 10.0, 30.0, 30.0), (70.0, 12.0, 90.0, 40.0), (45.0, 45.0, 60.0, 60.0)])
    looks = [("small", "red"), ("large", "blue"), ("small", "white")]
    assert tell(Scene(np.zeros((1, 1, 3)), boxes[:2], [7, 3], [], np.zeros(0), looks[:2])) == [
        ("a small red seven left of a large blue three", (0, 1)),
        ("a large blue three right of a small red seven", (1, 0)),
    ]
    three = Scene(np.zeros((1, 1, 3)), boxes, [7, 3, 0], [], np.zeros(0), looks)
    assert len(tell(three)) == 2  # the third is neither beside nor below the others
    assert tell(Scene(np.zeros((1, 1, 3)), boxes[::2], [7, 0], [], np.zeros(0), looks[::2])) == []


def test_what_is_written_is_what_is_seen(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_told_digits(tmp_path / name, train=3, val=2, size=(96, 96))
    for file in sorted((tmp_path / "a").rglob("*.*")):
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()
    objects = read_data(tmp_path / "a", "train", format="coco")
    told = read_data(tmp_path / "a", "train", format="captions")
    assert [record.path for record in objects.records] == [record.path for record in told.records]
    content = json.loads((tmp_path / "a" / "annotations" / "captions_train.json").read_text())
    by_id = {int(record.path.stem): record.targets for record in objects.records}
    assert len(content["annotations"]) == told.objects
    written = [each["caption"] for each in content["annotations"]]
    said = [words for each in told.records for words in Vocabulary(told.words).decode(each.targets.phrases)]
    assert said == written
    for annotation in content["annotations"]:
        words, targets = annotation["caption"].split(), by_id[annotation["image_id"]]
        assert [box is None for box in annotation["boxes"]] == [
            i in range(4, len(words) - 4) for i in range(len(words))
        ]
        for word, box in zip(words, annotation["boxes"], strict=True):
            if word in NAMES:  # its box is that of such a digit
                corners = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
                label = objects.class_names.index(NAMES[word])
                assert corners in targets.boxes[targets.labels == label].tolist()
    assert read_data(tmp_path / "a", "val", format="captions").objects == 2  # one each
