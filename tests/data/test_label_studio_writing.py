"""Predictions for Label Studio: what its own export of them gives back."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from rcnnkit.data.label_studio import read_label_studio
from rcnnkit.data.label_studio_writing import write_label_studio
from rcnnkit.data.records import Dataset, Record
from rcnnkit.structures import Targets
from tests.data.annotation_files import pictures

STRANGE = "<script>\"&' \u0627\u0628 \U0001f431"


def test_predictions_read_back_when_they_are_accepted(tmp_path: Path) -> None:
    pictures(tmp_path, "images/a b#.png", "images/c.png")  # 80 × 60
    targets = Targets(torch.tensor([[8.0, 12, 32, 36], [0, 0, 80, 60]]), torch.tensor([1, 0]))
    none = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    records = [
        Record("a", tmp_path / "images" / "a b#.png", (60, 80), targets),
        Record("c", tmp_path / "images" / "c.png", (60, 80), none),
    ]
    dataset = Dataset("x", records, [STRANGE, "dog"], [1, 2])
    tasks, interface = tmp_path / "tasks.json", tmp_path / "label_config.xml"
    write_label_studio(dataset, [[0.75, 0.25], []], tasks, interface, "w")
    labels = [label.get("value") for label in ElementTree.parse(interface).iter("Label")]
    assert labels == [STRANGE, "dog"]
    entries = json.loads(tasks.read_text())
    assert [entry["predictions"][0]["score"] for entry in entries] == [0.5, 0.0]
    for entry in entries:  # as Label Studio copies a prediction that is accepted
        entry["annotations"] = [{"result": entry["predictions"][0]["result"]}]
    tasks.write_text(json.dumps(entries))
    read, findings = read_label_studio(tasks, class_names=dataset.class_names)
    assert not findings
    torch.testing.assert_close(read.records[0].targets.boxes, targets.boxes)
    assert read.records[0].targets.labels.tolist() == [1, 0]
    assert len(read.records[1].targets) == 0
    with pytest.raises(ValueError, match=r"the class 'a\\x01' has the character '\\x01', which XML does not allow"):
        write_label_studio(replace(dataset, class_names=["a\x01", "dog"]), [[0.75, 0.25], []], tasks, interface, "w")
