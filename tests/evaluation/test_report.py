"""Running a detector over a data set, and the report."""

import json
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

from rcnnkit.data.records import Dataset, Record
from rcnnkit.evaluation.report import Evaluation, evaluate, judge, look
from rcnnkit.proposals.store import Store
from rcnnkit.structures import Detections, Proposals, Targets
from rcnnkit.tables import evaluation_table

NAMES = ("cat", "dog", "unicorn")


def record(folder, i, size, difficult=False):
    path = folder / f"p{i}.png"
    Image.new("L", size[::-1], i).save(path)  # a picture is known by its grey
    box = torch.tensor([[10.0, 10.0, 60.0, 60.0 + i]])  # each picture has its own
    targets = Targets(box, torch.tensor([i % 2]), difficult=torch.tensor([difficult]))
    return Record(f"p{i}", path, size, targets)


@pytest.fixture
def data(tmp_path):
    sizes = [(100, 200), (200, 100), (100, 190), (200, 110), (100, 100)]
    return Dataset("made/val", [record(tmp_path, i, size) for i, size in enumerate(sizes)], NAMES, (1, 2, 3))


class Oracle(nn.Module):
    """Answers with the truth, and remembers how it was called."""

    def __init__(self, data, names=NAMES):
        super().__init__()
        self.answers = {int(record.id[1:]): record.targets for record in data.records}
        self.names = names
        self.frozen = nn.BatchNorm2d(1)
        self.calls = []

    def forward(self, pictures):
        numbers = [int(picture[0, 0, 0]) for picture in pictures]
        self.calls.append((numbers, self.training, torch.is_grad_enabled()))
        found = [self.answers[number] for number in numbers]
        return [Detections(t.boxes, torch.full((len(t),), 0.9), t.labels, self.names) for t in found]


def test_the_truth_scores_one(data):
    result = evaluate(Oracle(data), data, batch_size=2)
    assert result.pictures == 5
    assert result.coco.numbers["AP"] == pytest.approx(1)
    assert result.voc.mean_ap_11 == result.voc.mean_ap_area == 1
    assert 0 < result.seconds_per_image * 5 < 60
    assert 0 < result.slowest_batch <= result.seconds_per_image * 5


def test_processes_that_share_the_batches_find_what_one_finds(data):
    """Each picture once, also where there are more processes than batches."""
    one = evaluate(Shifted(data), data, batch_size=2)
    assert 0.1 < one.coco.numbers["AP"] < 0.9
    for size in (2, 3, 5):
        detectors = [Shifted(data) for _ in range(size)]
        parts = [look(each, data, batch_size=2, turns=slice(i, None, size)) for i, each in enumerate(detectors)]
        assert sorted(i for part in parts for i in part.detections) == [0, 1, 2, 3, 4]
        several = judge(parts, data).to_json()
        times = ("seconds_per_image", "slowest_batch")
        assert {k: v for k, v in several.items() if k not in times} == {
            k: v for k, v in one.to_json().items() if k not in times
        }


class Shifted(Oracle):
    """Answers with boxes that miss the truth by more, the greater the picture's number is."""

    def forward(self, pictures):
        return [replace(each, boxes=each.boxes + (each.boxes[0, 3] - 60) * 4) for each in super().forward(pictures)]


class Given(Oracle):
    """Answers with the proposals it is given, and with the truth where there are none."""

    def forward(self, pictures, proposals=None):
        found = super().forward(pictures)
        if proposals is None:
            return found
        self.calls[-1] = ("given", *self.calls[-1])
        return [Detections(p.boxes, p.scores, each.labels, NAMES) for p, each in zip(proposals, found, strict=True)]


def test_stored_proposals_go_to_the_detector_and_other_pictures_are_left_to_it(data, tmp_path):
    store = Store.create(tmp_path / "proposals", "by-hand", {})
    for each in data.records[:3]:
        store.write(each.id, Proposals(each.targets.boxes, torch.tensor([0.5])), each.size, each.path)
    detector = Given(data)
    result = evaluate(detector, data, proposals=store, batch_size=2)
    assert result.coco.numbers["AP"] == pytest.approx(1)
    given = [call[1] for call in detector.calls if call[0] == "given"]
    searched = [call[0] for call in detector.calls if call[0] != "given"]
    assert sorted(i for some in given for i in some) == [0, 1, 2]
    assert sorted(i for some in searched for i in some) == [3, 4]


def test_proposals_of_another_data_set_are_refused(data, tmp_path):
    store = Store.create(tmp_path / "proposals", "by-hand", {})
    store.write("p0", Proposals(torch.zeros(0, 4), torch.zeros(0)), (7, 7))
    with pytest.raises(ValueError, match="holds the proposals of a picture 7 wide and 7 high"):
        evaluate(Given(data), data, proposals=store)


def test_like_shapes_share_a_batch(data):
    oracle = Oracle(data)
    evaluate(oracle, data, batch_size=2)
    # Width / height: 0.5 and 0.55, then 1 and 1.9, then 2.
    assert [numbers for numbers, _, _ in oracle.calls] == [[1, 3], [4, 2], [0]]


def test_a_picture_turned_by_exif_is_seen_as_its_boxes_were_drawn(data, tmp_path):
    path, exif = tmp_path / "turned.jpg", Image.Exif()
    exif[0x0112] = 6  # orientation: show it turned by 90°
    Image.new("L", (200, 100)).save(path, exif=exif)
    sizes: list[tuple[int, ...]] = []

    class Sizes(Oracle):
        def forward(self, pictures):
            sizes.extend(picture.shape for picture in pictures)
            return super().forward(pictures)

    for size in ((100, 200), (200, 100)):  # annotated as stored; as shown
        turned = Record("p0", path, size, data.records[0].targets)
        evaluate(Sizes(data), Dataset("turned/val", [turned], NAMES, (1, 2, 3)))
    assert sizes == [(100, 200, 3), (200, 100, 3)]


def test_eval_mode_without_gradients_meanwhile_and_every_module_as_before_afterwards(data):
    oracle = Oracle(data).train()
    oracle.frozen.eval()
    evaluate(oracle, data)
    assert {call[1:] for call in oracle.calls} == {(False, False)}
    assert oracle.training
    assert not oracle.frozen.training


def test_the_mode_comes_back_after_an_error_too(data):
    oracle = Oracle(data, names=("cat", "dog", "horse")).train()
    with pytest.raises(ValueError, match="does not know unicorn"):
        evaluate(oracle, data, batch_size=2)
    assert oracle.training
    assert len(oracle.calls) == 1  # and not after all pictures


def test_bad_calls_say_why(data):
    with pytest.raises(ValueError, match="none/val has no pictures"):
        evaluate(Oracle(data), Dataset("none/val", (), NAMES, (1, 2, 3)))
    with pytest.raises(ValueError, match="batch_size is 0"):
        evaluate(Oracle(data), data, batch_size=0)

    class Silent(nn.Module):
        def forward(self, pictures):
            return []

    with pytest.raises(ValueError, match="answered 0 times for 4 pictures"):
        evaluate(Silent(), data)


def test_json_has_null_where_a_number_is_undefined(data):
    report = json.loads(json.dumps(evaluate(Oracle(data), data).to_json(), allow_nan=False))
    assert report["pictures"] == 5
    assert report["coco"]["AP"] == pytest.approx(1)
    assert report["coco"]["APs"] is None
    assert report["voc"] == {"iou_threshold": 0.5, "mean_ap_11": 1, "mean_ap_area": 1}
    assert report["classes"][2] == {
        "name": "unicorn",
        "objects": 0,
        "difficult": 0,
        "AP": None,
        "AP50": None,
        "voc_ap_11": None,
        "voc_ap_area": None,
    }


def rendered(result: Evaluation) -> list[list[str]]:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(evaluation_table(result))
    return [line.replace("┃", "│").replace("│", " ").split() for line in console.export_text().splitlines()]


def test_table_shows_percent_a_mean_row_and_a_dash_for_undefined(data):
    lines = rendered(evaluate(Oracle(data), data))
    assert ["cat", "3", "100.0", "100.0", "100.0", "100.0"] in lines
    assert ["unicorn", "0", "–", "–", "–", "–"] in lines
    assert ["mean", "5", "100.0", "100.0", "100.0", "100.0"] in lines
    assert ["APs", "0.50:0.95", "<", "32²", "≤", "100", "–"] in lines
    assert ["AR1", "0.50:0.95", "all", "≤", "1", "100.0"] in lines


def test_difficult_objects_get_a_column_where_there_are_any(tmp_path):
    data = Dataset(
        "voc/val", [record(tmp_path, 0, (99, 99)), record(tmp_path, 2, (99, 99), difficult=True)], NAMES, (1, 2, 3)
    )
    lines = rendered(evaluate(Oracle(data), data))
    assert ["cat", "2", "1", "100.0", "100.0", "100.0", "100.0"] in lines


def test_what_is_done_is_reported(data, capsys):
    done = []
    evaluate(Oracle(data), data, batch_size=2, progress=lambda *work: done.append(work))
    assert done == [("made/val", i, 5) for i in (0, 2, 4, 5)]
    evaluate(Oracle(data), data)
    assert capsys.readouterr().out == ""


def test_an_untimed_evaluation_can_be_shown(data):
    timed = evaluate(Oracle(data), data)
    untimed = Evaluation(timed.dataset, timed.pictures, timed.coco, timed.voc, math.nan, math.nan)
    assert untimed.to_json()["seconds_per_image"] is None
    assert ["5", "pictures"] in rendered(untimed)


def test_the_headline_is_of_all_detections_where_pictures_are_crowded(data):
    result = evaluate(Oracle(data), data)
    assert result.headline == ("AP", "AP50")
    numbers = dict.fromkeys(["AP", "AP50", "AP_all", "AP50_all"], 0.5)
    assert replace(result, coco=replace(result.coco, numbers=numbers)).headline == ("AP_all", "AP50_all")
