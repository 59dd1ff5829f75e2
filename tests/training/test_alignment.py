"""Training an aligner."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

import rcnnkit
from rcnnkit import weights
from rcnnkit.config_files import SettingsError, check_settings, read_settings
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import BadData
from rcnnkit.data.told_digits import write_told_digits
from rcnnkit.evaluation.aligned import evaluate_aligner
from rcnnkit.training.alignment_settings import align_settings
from rcnnkit.training.train import dry_run, train
from tests.training.aligners import QUICK, untrained_detector
from tests.training.runs import QUIET, Values, killed_in_iteration


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("told") / "data"
    write_told_digits(root, train=4, val=3, size=(96, 96))
    return root


@pytest.fixture
def detector(tiny: Values, tmp_path: Path) -> Path:
    return untrained_detector(tiny, tmp_path / "detector.safetensors")


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_run(told: Path, detector: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rcnnkit")
    best = train(align_settings(detector, told, QUICK), tmp_path / "run", console=QUIET)
    steps = [line for line in lines(tmp_path / "run") if "loss" in line]
    assert [line["iteration"] for line in steps] == [1, 2, 3, 4]
    assert all(line["alignment"] == line["loss"] for line in steps)
    judged = [line for line in lines(tmp_path / "run") if "R5" in line]
    assert [line["iteration"] for line in judged] == [2, 4]
    assert judged[0]["median_pictures"] in (1, 1.5, 2, 2.5, 3)
    assert judged[0]["val_loss_alignment"] > 0
    assert "learns" in caplog.text
    aligner, held = weights.load_aligner(best, "cpu", "float32"), read_data(told, "val", format="captions")
    about, _ = weights.read_shapes(best)
    numbers = evaluate_aligner(aligner, held, batch_size=2).numbers
    assert about["training"]["R5"] == max(line["R5"] for line in judged)
    assert numbers["R5"] == about["training"]["R5"]
    report = (tmp_path / "run" / "report.html").read_text()
    assert "best R5, %" in report
    _, before = weights.read(detector)
    _, after = weights.read(best)
    assert all(torch.equal(tensor, after[f"detector.{name}"]) for name, tensor in before.items())
    assert "seven" in about["settings"]["alignment"]["words"]

    # a run that is killed goes on to the same weights
    with killed_in_iteration(4):
        train(align_settings(detector, told, [*QUICK, "train.save_every=1"]), tmp_path / "killed", console=QUIET)
    settings = read_settings(tmp_path / "killed" / "settings.toml", [f"train.resume={tmp_path / 'killed'}"])
    rcnnkit.train(settings, tmp_path / "killed", console=QUIET)
    _, ended = weights.read(tmp_path / "run" / "last.safetensors")
    _, resumed = weights.read(tmp_path / "killed" / "last.safetensors")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in ended.items())


def test_a_dry_run_writes_nothing(told: Path, detector: Path, tmp_path: Path) -> None:
    dry_run(align_settings(detector, told, QUICK), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run").exists()


def test_data_that_cannot_be_aligned(told: Path, detector: Path, tmp_path: Path) -> None:
    content = json.loads((told / "annotations" / "captions_train.json").read_text())

    def captions(images: list[Any], annotations: list[Any]) -> Path:
        file = tmp_path / "captions.json"
        file.write_text(json.dumps({"images": images, "annotations": annotations}))
        return file

    def align(file: Path, *given: str) -> None:
        dry_run(align_settings(detector, file, [*QUICK, *given], images=told), tmp_path / "run", console=QUIET)

    images, annotations = content["images"], content["annotations"]
    with pytest.raises(BadData, match="annotation 1: its image_id is 999, which is no picture of this"):
        align(captions(images, [{"id": 1, "image_id": 999, "caption": "a seven"}, *annotations[1:]]))
    with pytest.raises(BadData, match=r"picture 999\.jpg: it is not in .*; correct its path"):
        align(captions([*images, {"id": 999, "file_name": "999.jpg"}], annotations))
    with pytest.raises(BadData, match=r'its caption has 200 words \("cup .*\), more than 50; shorten it, or delete'):
        align(captions(images, [{"id": 1, "image_id": images[0]["id"], "caption": "cup " * 200}, *annotations]))
    with pytest.raises(BadData, match='its caption is "", which has no word; describe what is there, or delete it'):
        align(captions(images, [{"id": 1, "image_id": images[0]["id"], "caption": ""}, *annotations]))
    one = [each for each in annotations if each["image_id"] == images[0]["id"]]
    with pytest.raises(ValueError, match="has 1 picture with sentences, which is always found; give pictures to tell"):
        align(captions(images[:1], one))
    with pytest.raises(ValueError, match=r"alignment\.minimum_count = 90, and 'a', the most frequent word in"):
        align(captions(images, annotations), "alignment.minimum_count=90")
    with pytest.raises(ValueError, match=r"alignment\.words has none of the words of .*; leave it out"):
        align(captions(images, annotations), 'alignment.words=["zebra"]')
    with pytest.raises(FileNotFoundError, match=r"instances_train\.json is not an annotation file of COCO's captions"):
        align(told / "annotations" / "instances_train.json")


def test_settings_that_fit_no_alignment(told: Path, detector: Path) -> None:
    for given, message in (
        ("train.accumulate=2", r"train\.accumulate is for the training of detectors, and alignment\.enabled = true"),
        ("augment.crop=true", r"augment\.crop is for the training of detectors"),
    ):
        with pytest.raises(SettingsError, match=message):
            align_settings(detector, told, [given])
    with pytest.raises(SettingsError, match=r"alignment\.enabled = true needs a trained detector; give its weights as"):
        check_settings({"data": {"root": str(told)}, "alignment": {"enabled": True}}, "test")
    four_steps = {"alignment": {"enabled": True}, "alternating": {"enabled": True}, "train": {"init": str(detector)}}
    with pytest.raises(SettingsError, match=r"alternating\.enabled = true trains a detector, which alignment"):
        check_settings({"data": {"root": str(told)}} | four_steps, "test")


def test_weights_that_are_not_a_detectors(told: Path, detector: Path, tmp_path: Path) -> None:
    about, tensors = weights.read(detector)
    for kind, message in (
        ("classifier", "w.safetensors holds a classifier, which finds no regions; give the weights of a detector"),
        ("captioner", "w.safetensors holds a captioner, which finds no regions; give the weights of a detector"),
        ("aligner", "w.safetensors holds an aligner; give the weights of the detector that it was trained on"),
    ):
        weights.write(tensors, about | {"kind": kind}, tmp_path / "w.safetensors")
        with pytest.raises(ValueError, match=message):
            align_settings(tmp_path / "w.safetensors", told)
    settings = align_settings(detector, told, [*QUICK, "head.hidden=8"])
    with pytest.raises(ValueError, match=r"does not hold a detector of these settings \(.*\); use `rcnnkit align`"):
        dry_run(settings, tmp_path / "run", console=QUIET)


def test_cocos_captions(coco256: Path, tiny: Values, detector: Path, tmp_path: Path) -> None:
    """Read, trained and grounded as they are."""
    file = coco256 / "annotations" / "captions_val2017.json"
    content = json.loads(file.read_text())
    known = {each["id"] for each in content["images"][:8]}
    content["images"] = [each for each in content["images"] if each["id"] in known]
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] in known]
    (tmp_path / "few.json").write_text(json.dumps(content))  # all of them take long
    best = train(
        align_settings(detector, tmp_path / "few.json", QUICK, images=coco256), tmp_path / "run", console=QUIET
    )
    aligner = weights.load_aligner(best, "cpu", "float32")
    first = content["annotations"][0]
    names = {each["id"]: each["file_name"] for each in content["images"]}
    (path,) = coco256.rglob(names[first["image_id"]])
    assert len(aligner.ground(path, first["caption"]).words) == len(first["caption"].split())


@pytest.mark.slow
def test_all_of_cocos_captions(coco256: Path, detector: Path, tmp_path: Path) -> None:
    best = train(
        align_settings(detector, coco256 / "annotations" / "captions_val2017.json", QUICK),
        tmp_path / "run",
        console=QUIET,
    )
    held = read_data(coco256, "val", format="captions")
    result = evaluate_aligner(weights.load_aligner(best, "cpu", "float32"), held)
    assert (result.pictures, len(result.picture_ranks)) == (128, 641)
