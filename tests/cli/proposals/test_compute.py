import json
from pathlib import Path
from typing import Any

import pytest

from rcnnkit import weights
from rcnnkit.data.reading import read_data
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.images import read_picture
from rcnnkit.proposals.methods import SlidingWindows
from rcnnkit.proposals.store import Store
from tests.cli.commands import Command


def test_compute_and_evaluate(rcnnkit: Command, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compute = ("compute", digits, "--out", "p", "--method", "sliding-windows")
    assert rcnnkit("proposals", *compute) == 0
    assert "data/train: 8 new pictures" in capsys.readouterr().out
    store = Store.open("p")
    for record in read_data(digits, "train").records:
        own = SlidingWindows().find(read_picture(record.path))
        assert store.read(record.id, record.size).boxes.equal(own.boxes)

    assert rcnnkit("proposals", "evaluate", digits, "--proposals", "p", "--split", "val") == 1
    assert "has no proposals of 4 of the 4 pictures of data/val" in capsys.readouterr().err
    assert rcnnkit("proposals", *compute, "--split", "val") == 0  # into the same folder
    assert rcnnkit("proposals", "evaluate", digits, "--proposals", "p", "--split", "val", "--json", "v.json") == 0
    shown = capsys.readouterr().out
    assert "sliding-windows, sizes [32, 64, 128, 256, 512]" in shown
    numbers = json.loads(Path("v.json").read_text())
    assert (numbers["dataset"], numbers["pictures"], numbers["method"]) == ("data/val", 4, "sliding-windows")
    last = numbers["first"][3]
    assert (last["proposals"], last["min_area"]) == (2000, 0)
    assert 0 < last["mabo"] < 1
    assert f"{last['recall_50']:.3f}" in shown


def test_torchrun_gives_each_process_its_share(
    rcnnkit: Command, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    for rank, kept in ((0, 3), (1, 6), (2, 8)):
        monkeypatch.setenv("RANK", str(rank))
        assert rcnnkit("proposals", "compute", digits, "--out", tmp_path, "--method", "sliding-windows") == 0
        store = Store.open(tmp_path)
        assert sum(record.id in store for record in read_data(digits, "train").records) == kept
        assert bool(capsys.readouterr().out) == (rank == 0)  # one speaks for all


def test_the_proposals_of_a_trained_rpn(
    rcnnkit: Command,
    tiny: dict[str, Any],
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = DetectorSettings.model_validate({name: tiny[name] for name in ("model", "rpn", "head", "input")})
    file = tmp_path / "w.safetensors"
    annotations = digits / "annotations" / "instances_val.json"
    folders = []
    for _ in range(2):  # other weights are another folder
        weights.save(build(settings, ["0"]).eval(), settings, file)
        arguments = ("--method", "rpn", "--weights", file, "--device", "cpu")
        assert rcnnkit("proposals", "compute", annotations, "--out", tmp_path / "p", *arguments) == 0
        folders.append(Path(capsys.readouterr().out.split("proposals in ")[1].strip()))
    assert folders[0] != folders[1]
    for folder in folders:
        store = Store.open(folder)
        assert store.settings["post_nms"] == 50
        for record in read_data(annotations, "").records:
            assert 0 < len(store.read(record.id, record.size, record.path)) <= 50


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compute", ".", "--out", "p", "--method", "guess"], "--method guess is not one of selective-search, sliding"),
        (["compute", ".", "--out", "p", "--method", "rpn"], "--method rpn and --weights FILE go together"),
        (["compute", ".", "--out", "p", "--weights", "w"], "--method rpn and --weights FILE go together"),
        (
            ["compute", ".", "--out", "p", "--method", "rpn", "--weights", "w", "--mode", "fast", "--min-side", "9"],
            "--method rpn has no --mode, --min-side, which only selective search knows; leave it out",
        ),
        (["compute", ".", "--out", "p", "--method", "sliding-windows", "--seed", "0"], "sliding-windows has no --seed"),
        (["compute", "none", "--out", "p", "--method", "sliding-windows"], "the data set none does not exist"),
        (["evaluate", ".", "--proposals", "none"], "none holds no proposals; `rcnnkit proposals compute` makes them"),
        (["evaluate", ".", "--proposals", "p", "--json", "no/x.json"], "no is not a folder; make it"),
        (["evaluate", ".", "--proposals", "p", "--json", "."], ". is there already; choose another file"),
    ],
)
def test_errors_are_one_message_with_the_fix(
    rcnnkit: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    assert rcnnkit("proposals", *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert not list(tmp_path.iterdir())
