"""Settings that are chosen from data and machine."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from rcnnkit import weights
from rcnnkit.config_files import SettingsError, check_settings, read_settings
from rcnnkit.data.described_digits import write_described_digits
from rcnnkit.data.records import BadData, Dataset, Record
from rcnnkit.data.sizes import input_sides
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import build
from rcnnkit.proposals.fit import reach
from rcnnkit.structures import Targets
from rcnnkit.training import suggest as module
from rcnnkit.training.detection import read_splits
from rcnnkit.training.preflight import Trial
from rcnnkit.training.run import Run
from rcnnkit.training.start import start
from rcnnkit.training.suggest import Suggestion, is_data, suggest
from tests.test_downloads import publish
from tests.training.runs import QUIET, Values, settings

CPU = "train.device=cpu"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, and nothing in the cache, whose folder it gives."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(module, "why_not", lambda entry: "no network")
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def voc(digits: Path, tmp_path: Path) -> Path:
    """Eight pictures of digits in Pascal VOC's layout alone, with four to evaluate on."""
    shutil.copytree(digits, tmp_path / "digits", ignore=shutil.ignore_patterns("annotations"))
    return tmp_path / "digits"


def suggested(data: Path, *given: str, **options: Any) -> Suggestion:
    return suggest(data, [CPU, *given], **options)


def a_choice(*given: str) -> module._Choices:
    return module._Choices([CPU, *given])


def dataset(boxes: Sequence[Sequence[float]], labels: Sequence[int], names: Sequence[str] = ("a",)) -> Dataset:
    """One picture of 480 × 640 pixels."""
    targets = Targets(torch.tensor(boxes).float().reshape(-1, 4), torch.tensor(labels))
    return Dataset("d", [Record(1, Path("1.jpg"), (480, 640), targets)], names, list(range(1, len(names) + 1)))


def squares(side: float, number: int) -> list[list[float]]:
    return [[0, 0, side, side]] * number


def test_from_scratch_on_a_cpu(voc: Path) -> None:
    made = suggested(voc)
    values = made.settings
    assert made.summary == "read as Pascal VOC: 8 training pictures, 5 classes; splits: train, val"
    assert (values.model.backbone, values.model.norm, values.model.fpn_norm) == ("resnet18", "batch", "batch")
    assert values.train.batch == 2
    assert values.train.iterations == 4000  # 8,000 pictures, at least
    assert made.notes["train.iterations"] == "1,000 times each of 8 pictures"
    assert values.data.val == "val"
    assert values.augment.flip == 0
    assert values.augment.flip_vertical == 0
    assert "COCO's weights: they cannot be downloaded from " in made.remarks[0]
    assert made.remarks[0].endswith("fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth (no network)")
    assert made.remarks[2].startswith("so it starts from scratch")
    training, _ = read_splits(values.data)
    share = reach(input_sides(training, values.input, False), values.rpn, values.model.strides).mean()
    assert share > 0.9
    assert f"they reach {share:.0%}" in made.notes["rpn.anchor_sizes"] or f"reach {share:.0%}" in made.toml


def test_the_file_is_the_same_as_the_settings(voc: Path, tmp_path: Path) -> None:
    made = suggested(voc, "data.skip_bad=true", "train.seed=3")
    (tmp_path / "mine.toml").write_text(made.toml)
    assert read_settings(tmp_path / "mine.toml") == made.settings
    assert made.settings.train.seed == 3
    chosen = [line for line in made.toml.splitlines() if " = " in line and not line.startswith("#")]
    assert len(chosen) > 20
    assert all("  # " in line for line in chosen)  # each has its reason
    assert "seed = 3  # as you gave it" in made.toml


def test_what_is_given_stays_and_the_rest_goes_with_it(voc: Path) -> None:
    made = suggested(
        voc, "train.batch=8", "input.short_side=96", "model.norm=group", "rpn.anchor_sizes=[[8],[16],[32],[64],[128]]"
    )
    values = made.settings
    assert (values.train.batch, values.input.short_side, values.model.norm) == (8, 96, "group")
    assert values.rpn.anchor_sizes == [[8], [16], [32], [64], [128]]
    assert values.input.long_side == 159  # 96 × 1333 / 800
    assert values.train.lr_for_16 * 8 / 16 == pytest.approx(0.04, rel=0.02)  # twice that of 2
    assert values.train.iterations == 1000
    with pytest.raises(SettingsError, match=r"train\.batch = 0"):
        suggested(voc, "train.batch=0").settings  # noqa: B018


def test_pictures_are_held_out_where_none_are_to_evaluate_on(voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (voc / "ImageSets" / "Main" / "val.txt").unlink()
    few = suggested(voc).settings
    assert (few.data.val, few.data.val_share) == ("", 0)  # 8 pictures are too few
    monkeypatch.setattr(module, "ENOUGH_TO_SPLIT", 8)
    made = suggested(voc)
    assert (made.settings.data.val, made.settings.data.val_share) == ("", 0.2)
    assert (
        made.notes["data.val_share"] == "this share is kept out of training to evaluate on; data.split_seed chooses it"
    )
    training, validation = read_splits(made.settings.data)
    assert validation is not None
    assert (len(training), len(validation)) == (6, 2)
    again, _ = read_splits(made.settings.data)
    assert [record.id for record in again.records] == [record.id for record in training.records]


def test_a_few_bad_objects_are_left_out(voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = voc / "Annotations" / "000001.xml"
    file.write_text(re.sub(r"<xmax>\d+</xmax>", "<xmax>1</xmax>", file.read_text(), count=1))
    with pytest.raises(BadData, match="1 problem"):
        suggested(voc)
    monkeypatch.setattr(module, "FEW_BAD", 0.05)
    made = suggested(voc)
    assert made.settings.data.skip_bad
    assert re.fullmatch(r"leaves out what has 1 problem, in \d+ objects", made.notes["data.skip_bad"])


@pytest.mark.parametrize(
    ("side", "chosen", "reason"),
    [
        (60.0, 256, "half of the a are below 60 pixels, and below 32 when resized"),  # 240 would do, and is little
        (45.0, 320, "half of the a are below 45 pixels, and below 30 when resized"),
        (12.0, 320, "half of the a are below 12 pixels, and below 8 when resized; more would take long on a CPU"),
    ],
)
def test_the_size_makes_small_objects_large_enough(side: float, chosen: int, reason: str) -> None:
    choices = a_choice()
    choices.choose("data.root", "nowhere", "")
    module._choose_size(choices, dataset(squares(side, 20), [0] * 20), module._Start("none"), gpu=False)
    assert choices.values["input"] == {"short_side": chosen, "long_side": int(chosen * 1333 / 800)}
    assert choices.notes["input.short_side"] == reason


def test_small_pictures_are_enlarged_a_little() -> None:
    choices = a_choice()
    choices.choose("data.root", "nowhere", "")
    data = dataset(squares(10, 20), [0] * 20)
    record = data.records[0]
    small = Dataset("d", [Record(1, record.path, (240, 250), record.targets)], ["a"], [1])
    module._choose_size(choices, small, module._Start("coco"), gpu=True)
    assert choices.values["input"]["short_side"] == 288  # 240 × 1.25 is 300


def test_with_tiles_the_size_is_that_of_a_tile() -> None:
    """Objects of 45 pixels in tiles of 240 are as large as in pictures of 240."""
    choices = a_choice()
    choices.choose("data.root", "nowhere", "")
    choices.choose("input.tile", 240, "")
    data = dataset(squares(45, 20), [0] * 20)
    large = Dataset("d", [Record(1, data.records[0].path, (4000, 4000), data.records[0].targets)], ["a"], [1])
    module._choose_size(choices, large, module._Start("none"), gpu=False)
    assert choices.values["input"]["short_side"] == 256  # 0.67 × 240 are enough, and 256 is the least
    without = a_choice()
    without.choose("data.root", "nowhere", "")
    module._choose_size(without, large, module._Start("none"), gpu=False)
    assert without.values["input"]["short_side"] == 320  # 2,667 would be, and 320 is the most


def test_a_rare_class_is_not_what_sizes_are_for() -> None:
    data = dataset(squares(100, 20) + squares(30, 15) + squares(5, 3), [0] * 20 + [1] * 15 + [2] * 3, ["a", "b", "c"])
    assert module._smallest_class(data, use_difficult=False) == ("b", 30)
    assert module._smallest_class(dataset(squares(5, 3), [0] * 3), use_difficult=False) == ("a", 5)


def test_crowds_get_more_of_everything() -> None:
    choices = a_choice()
    module._choose_counts(choices, [dataset(squares(9, 400), [0] * 400)], gpu=False)
    assert choices.values["head"] == {"max_detections": 600}
    assert choices.values["rpn"] == {
        "train_pre_nms": 1200,
        "train_post_nms": 1200,
        "pre_nms": 1200,
        "post_nms": 1200,
    }  # three of each
    choices = a_choice()
    module._choose_counts(choices, [dataset(squares(9, 3), [0] * 3)], gpu=True)
    assert choices.values["head"] == {"max_detections": 100}
    assert choices.values["rpn"] == {}


@pytest.mark.parametrize(
    ("names", "flip"),
    [
        (["2", "7"], 0.0),
        (["a", "B", "8", "plate"], 0.0),
        (["arrow left", "arrow up"], 0.0),
        (["left_hand"], 0.0),
        (["cleft", "righteous"], None),
        (["person", "X"], None),
    ],
)
def test_signs_are_not_mirrored(names: list[str], flip: float | None) -> None:
    choices, remarks = a_choice(), list[str]()
    module._choose_augmentation(choices, dataset([], [], names), remarks)
    assert choices.values["augment"].get("flip") == flip
    assert remarks[0].endswith("add augment.flip_vertical = 0.5")


def test_minutes_become_iterations(voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "try_batch", lambda *_: Trial("", 0.5, 0.1, None, None))
    made = suggested(voc, "data.workers=0", minutes=3)
    assert made.settings.train.iterations == 300  # of 0.6 s
    assert made.notes["train.iterations"] == "3 min at 0.6 s each on this machine"


def test_they_are_measured_for_real(voc: Path) -> None:
    given = ["input.short_side=96", "input.long_side=96", "model.fpn_channels=16", "head.hidden=16"]
    made = suggested(voc, *given, minutes=1)
    assert 5 < made.settings.train.iterations < 10_000


def test_from_a_file_of_another_run(tiny: Values, voc: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = settings(tiny)
    weights.save(build(first, ["3", "x"]), first, tmp_path / "first.safetensors")
    made = suggested(voc, start=str(tmp_path / "first.safetensors"))
    values = made.settings
    assert values.train.init == tmp_path / "first.safetensors"
    assert values.model == first.model.model_copy(update={"frozen_stages": 2})
    assert values.head.hidden == 16
    assert made.notes["model.fpn_channels"] == "as the weights to start from have it"
    assert "those of the weights" in made.notes["rpn.anchor_sizes"]
    training, _ = read_splits(values.data)
    with caplog.at_level("INFO", "rcnnkit"):
        start(Run(values, tmp_path / "run", QUIET, dry=True), training, Detector)
    assert re.search(
        r"these start afresh: head\.score_layer\.weight, .* but for the classes of the same names: 3\n", caplog.text
    )
    with pytest.raises(FileNotFoundError, match=r"--start nothing: no such file, and not one of coco, imagenet, none"):
        suggested(voc, start="nothing")


def test_from_cocos_detector(voc: Path, tmp_path: Path, offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector as torchvision publishes them, on a smaller network, from a server of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
        head, last = TwoMLPHead(256 * 49, 8), FastRCNNPredictor(8, 91)
        model = TorchvisionFasterRCNN(body, box_head=head, box_predictor=last)
    entry = publish(tmp_path / "server", model.state_dict())
    monkeypatch.setattr(module, "COCO", entry)
    with pytest.raises(
        OSError, match=r"--start coco: they cannot be downloaded from file://.* \(no network\); put that f"
    ):
        suggested(voc, start="coco")
    monkeypatch.setattr(module, "why_not", lambda entry: "")
    made = suggested(voc)
    values = made.settings
    imported = offline / Path(entry.url).with_suffix(".safetensors").name
    assert values.train.init == imported
    assert made.notes["train.init"] == "torchvision's Faster R-CNN, trained on COCO"
    assert len(weights.read_shapes(imported)[0]["class_names"]) == 80
    assert (values.model.backbone, values.model.norm, values.head.hidden) == ("resnet18", "frozen", 8)
    assert (values.input.resizing, values.model.pretrained) == ("torchvision", False)
    assert values.input.short_side == 128  # the pictures have 96 pixels
    assert values.train.lr_for_16 == 0.01
    training, _ = read_splits(values.data)
    begun = start(Run(values, tmp_path / "run", QUIET, dry=True), training, Detector)
    assert begun.state_dict()["backbone.body.stem.0.weight"].equal(model.state_dict()["backbone.body.conv1.weight"])
    Path(entry.url.removeprefix("file://")).unlink()
    (offline / Path(entry.url).name).unlink()
    monkeypatch.setattr(module, "why_not", lambda entry: "no network")
    assert suggested(voc, start="coco").settings == values  # it is cached by name


def test_from_imagenets_backbone(voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = publish(tmp_path / "server", {"conv1.weight": torch.zeros(1)})
    monkeypatch.setattr(module, "first_version", lambda name: entry)
    monkeypatch.setattr(module, "why_not", lambda asked: "" if asked is entry else "no network")
    made = suggested(voc)
    assert made.settings.model.pretrained
    assert (made.settings.model.norm, made.settings.model.frozen_stages) == ("frozen", 2)
    assert [remark.partition(":")[0] for remark in made.remarks[:1]] == ["COCO's weights"]
    assert suggested(voc, start="none").settings.model.pretrained is False


def test_what_is_data(tmp_path: Path) -> None:
    for name in ("a.toml", "a.json", "data.yaml", "run/settings.toml", "data/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [is_data(tmp_path / name) for name in ("a.json", "data.yaml", "data")] == [True] * 3
    assert [is_data(tmp_path / name) for name in ("a.toml", "run", "nothing", "nothing.json")] == [False] * 4


def test_another_backbone_goes_with_what_it_has(voc: Path) -> None:
    made = suggested(voc, "model.backbone=vgg16", "input.short_side=96")
    assert (made.settings.model.norm, made.settings.model.neck) == ("none", "none")
    assert made.settings.rpn.sizes([16])
    assert not any("COCO" in remark for remark in made.remarks)  # which has a ResNet-50


def test_a_data_set_to_evaluate_on_alone(voc: Path) -> None:
    shutil.move(voc / "ImageSets" / "Main" / "train.txt", voc / "ImageSets" / "Main" / "test.txt")
    with pytest.raises(ValueError, match=r"digits has no training pictures, but val, test; give data\.train"):
        suggested(voc)
    assert suggested(voc, "data.train=test").settings.data.train == "test"


def test_other_detectors_are_not_suggested(voc: Path, tmp_path: Path) -> None:
    only = "settings are suggested for Faster R-CNN and DenseCap, not for model.kind = "
    with pytest.raises(ValueError, match=re.escape(f'{only}"rcnn"; write a settings file')):
        suggested(voc, "model.kind=rcnn")
    for name in ("train", "val"):
        sentences = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "caption": "a two"}]}
        (tmp_path / "sentences" / f"captions_{name}.json").parent.mkdir(exist_ok=True)
        (tmp_path / "sentences" / f"captions_{name}.json").write_text(json.dumps(sentences))
    with pytest.raises(ValueError, match=re.escape(f'{only}"captioner"')):
        suggested(tmp_path / "sentences")


def test_boxes_with_phrases_are_for_densecap(tmp_path: Path, voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_described_digits(tmp_path / "data", train=6, val=2, size=(96, 96))
    made = suggested(tmp_path / "data", "train.batch=1", "rpn.train_post_nms=20", "head.hidden=16")
    assert made.summary == "read as Visual Genome: 6 training pictures, 1 class; splits: train, val"
    assert (made.settings.model.kind, made.notes["model.kind"]) == ("densecap", "the boxes have phrases")
    assert (made.settings.augment.flip, made.notes["augment.flip"]) == (
        0.0,
        "mirrored, what phrases say of sides would be wrong: left",
    )
    training, _ = read_splits(made.settings.data)
    least, counts = made.settings.captions.minimum_count, training.words_of()
    shares = [sum(n for n in counts.values() if n >= number) / counts.total() for number in (least, least + 1)]
    assert least < 5  # so small a set has few words often
    assert shares[0] >= 0.95 > shares[1]
    assert made.notes["captions.minimum_count"] == (
        f"words that occur so often are {shares[0]:.1%} of all that is said"
    )
    (tmp_path / "described.toml").write_text(made.toml)
    assert read_settings(tmp_path / "described.toml") == made.settings
    learnt = list[str]()

    def tried(task: Any, *_: Any) -> Trial:
        learnt.extend(task.model.words)
        return Trial("", 0.5, 0.1, None, None)

    monkeypatch.setattr(module, "try_batch", tried)
    assert module.seconds_of(made.settings) > 0
    assert learnt == [word for word, number in counts.items() if number >= least]

    assert suggested(tmp_path / "data", "model.kind=faster_rcnn").settings.model.kind == "faster_rcnn"
    with pytest.raises(ValueError, match=r'has no phrases, which model\.kind = "densecap" learns from; leave it out'):
        suggested(voc, "model.kind=densecap")


def test_a_start_from_a_densecap_has_its_captioner(tmp_path: Path) -> None:
    write_described_digits(tmp_path / "data", train=2, val=1, size=(96, 96))
    smaller = {"model": {"kind": "densecap", "backbone": "resnet18"}, "captions": {"hidden": 24, "words": ["two"]}}
    smaller |= {"head": {"hidden": 8}, "data": {"root": "none"}}
    old = check_settings(smaller, "test")
    weights.save(build(old, ["region"]), old, tmp_path / "old.safetensors")
    made = suggested(tmp_path / "data", start=str(tmp_path / "old.safetensors"))
    assert (made.settings.captions.hidden, made.settings.captions.words, made.settings.head.hidden) == (24, None, 8)
    assert made.notes["captions.hidden"] == "as the weights to start from have it"
