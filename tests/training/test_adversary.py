"""A-Fast-RCNN as a run: what it leaves, that it goes on, and what it does not go with."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from rcnnkit import weights
from rcnnkit.boxes import scale
from rcnnkit.config_files import SettingsError, check_settings
from rcnnkit.data.digits import write_digits
from rcnnkit.data.reading import read_data
from rcnnkit.demo import settings_for
from rcnnkit.detectors.detector import Detector
from rcnnkit.heads.spatial_dropout import hide, likely_cells, random_cells
from rcnnkit.inference import prepare
from rcnnkit.structures import Proposals
from rcnnkit.training.run import Run
from rcnnkit.training.start import add_adversary, start
from rcnnkit.training.train import dry_run, train
from tests.training.runs import QUIET, Values, killed_in_iteration, settings
from tests.training.test_loop import log, same

OWN = "head.adversary."
SMALL = {"hidden": 8, "start": 0.25, "pretrain": 0.25, "every": 1}  # of 4 iterations: one waits, one learns, two hide


def test_a_resumed_run_ends_where_the_whole_one_does(tiny: Values, tmp_path: Path) -> None:
    tiny["adversary"] = {"kind": "both", **SMALL}
    tiny["data"]["val"] = ""
    best = train(settings(tiny, ema=0.9), tmp_path / "whole", console=QUIET)
    with killed_in_iteration(4):  # the checkpoint is of three: the network of dropout has learnt
        train(settings(tiny, ema=0.9, save_every=3), tmp_path / "half", console=QUIET)
    train(settings(tiny, ema=0.9, resume=str(tmp_path / "half")), tmp_path / "half", console=QUIET)
    for name in ("last.safetensors", "best.safetensors"):
        assert same(tmp_path / "whole" / name, tmp_path / "half" / name)
    # Only what continues the run has its weights.
    assert not any(OWN in name for name in weights.read_shapes(best)[1])
    last = weights.read_shapes(tmp_path / "whole" / "last.safetensors")[1]
    kept = {name for name in last if OWN in name}
    assert {name.partition(OWN)[0] for name in kept} == {"training/passing/", "training/average/", "training/momentum/"}
    lines = [line for line in log(tmp_path / "whole") if "loss" in line]
    assert lines[0]["adversary"] == 0
    assert lines[1]["adversary"] > 0.1
    tiny["adversary"]["kind"] = "rotation"
    other = settings(tiny, ema=0.9, iterations=5, resume=str(tmp_path / "whole"))
    with pytest.raises(ValueError, match=r"was made with other settings: .* such as head\.adversary\.dropout\."):
        train(other, tmp_path / "whole", console=QUIET)
    weights.load(tmp_path / "whole" / "last.safetensors", "cpu")


def test_one_that_waits_changes_nothing_to_the_last_bit(tiny: Values, tmp_path: Path) -> None:
    tiny["data"]["val"] = ""
    plain = train(settings(tiny, iterations=2), tmp_path / "plain", console=QUIET)
    tiny["adversary"] = {"kind": "both", "start": 1.0, "pretrain": 0.0, "hidden": 8}
    assert same(plain, train(settings(tiny, iterations=2), tmp_path / "waits", console=QUIET))

    def losses(name: str) -> list[tuple[float, ...]]:
        lines = [line for line in log(tmp_path / name) if "loss" in line]
        return [tuple(line[part] for part in ("loss", "rpn_objectness", "rpn_box", "class", "box")) for line in lines]

    assert losses("plain") == losses("waits")


def test_it_is_listed_before_the_first_iteration(tiny: Values, tmp_path: Path) -> None:
    tiny["adversary"] = {"kind": "dropout", "start": 0.5}
    said = io.StringIO()
    dry_run(settings(tiny, iterations=100), tmp_path / "run", console=Console(file=said, width=300))
    # 16 channels: 9 · 16 · 256 and three times 9 · 256² weights, and few others
    assert (
        "the adversary, dropout, learns 1,809,665 weights of its own from iteration 50 on, and changes objects from"
        " iteration 80 on" in said.getvalue()
    )


def test_detecting_knows_nothing_of_it(tiny: Values, tmp_path: Path) -> None:
    made = settings(tiny)
    run = Run(made, tmp_path / "run", QUIET)
    detector: Any = start(run, read_data(made.data.root, "train", format=made.data.format), Detector)
    names = set(detector.state_dict())
    tiny["adversary"] = {"kind": "both", "hidden": 8}
    add_adversary(detector, settings(tiny))
    assert detector.head.adversary is not None
    assert set(detector.lasting_state()) == names < set(detector.state_dict())
    assert set(prepare(detector, "float32").state_dict()).isdisjoint(set(detector.state_dict()) - names)
    weights.save(detector, made, tmp_path / "w.safetensors")
    assert set(weights.read_shapes(tmp_path / "w.safetensors")[1]) == names
    with torch.no_grad():
        detector.head.score_layer.bias.fill_(0.5)
    again = weights.load(tmp_path / "w.safetensors", "cpu", for_training=True, into=detector)
    assert not again.head.score_layer.bias.any()
    assert again.head.adversary is not None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"model": {"kind": "rcnn"}}, 'which "rcnn" does not have; leave it out'),
        ({"model": {"kind": "classifier"}}, 'which "classifier" does not have; leave it out'),
        ({"train": {"rpn_only": True}}, "not for train.rpn_only = true; leave one out"),
        ({"alternating": {"enabled": True}}, "not for alternating.enabled = true; leave one out"),
        ({"model": {"pool_size": 1}}, "regions of 1 × 1 cell, which model.pool_size = 1 makes; set that to 2 or more"),
    ],
)
def test_settings_that_fit_no_regions(tiny: Values, values: Values, expected: str) -> None:
    tiny["adversary"] = {"kind": "rotation"}
    changed = {name: tiny.get(name, {}) | values.get(name, {}) for name in {*tiny, *values}}
    if values.get("model", {}).get("kind") == "classifier":
        changed["input"] = {}
    with pytest.raises(SettingsError) as error:
        settings(changed)
    assert 'adversary.kind = "rotation"' in str(error.value)
    assert expected in str(error.value)
    settings(changed | {"adversary": {"kind": "none"}})


def test_blocks_that_do_not_fit_are_found_before_training(tiny: Values, tmp_path: Path) -> None:
    tiny["adversary"] = {"kind": "rotation", "blocks": 5}
    with pytest.raises(ValueError, match=r"adversary\.blocks = 5 does not divide the 16 channels"):
        train(settings(tiny), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_what_hides_hurts_more_than_chance_on_held_out_digits(tmp_path: Path) -> None:
    write_digits(tmp_path / "data", train=256, val=64, size=(96, 96))
    values = settings_for("faster-rcnn", tmp_path, "cpu")
    values["input"] = {"short_side": 96, "long_side": 96}
    values["rpn"]["anchor_sizes"] = [[16], [24], [36], [54], [80]]
    values["train"] |= {"iterations": 700, "precision": "float32"}
    values["adversary"] = {"kind": "dropout", "start": 0.4, "pretrain": 0.6, "hidden": 64}
    made = check_settings(values, "test")
    best = train(made, tmp_path / "run", console=QUIET)
    detector: Any = weights.load(best, "cpu", for_training=True)
    add_adversary(detector, made)
    _, tensors = weights.read(best.with_name("last.safetensors"))
    own = {name.removeprefix("training/passing/"): tensor for name, tensor in tensors.items()}
    detector.load_state_dict({name: own[name] for name in detector.state_dict()})
    regions, labels = [], []
    data = read_data(tmp_path / "data", "val", class_names=detector.class_names)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for record in data.records:
            images = detector.preprocessing([record.path])
            boxes = scale(record.targets.boxes, images.original_sizes[0], images.sizes[0])
            regions.append(detector.regions(images, [Proposals(boxes, boxes[:, 0])]))
            labels.append(record.targets.labels)
        objects, classes = torch.cat(regions), torch.cat(labels)
        before = detector.head._probability(objects, classes)
        masks = {
            "own": likely_cells(detector.head.adversary.dropout(objects), 15, 20),
            "random": random_cells(len(objects), 7, 15, objects.device),
        }
        fall = {
            name: (before - detector.head._probability(hide(objects, mask), classes)).mean().item()
            for name, mask in masks.items()
        }
    assert before.mean() > 0.4  # chance is a sixth
    assert fall["own"] >= 1.5 * fall["random"] > 0, fall
