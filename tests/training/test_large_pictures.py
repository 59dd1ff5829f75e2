"""Training in tiles, from settings to weights that detect in them."""

import json
from pathlib import Path
from typing import Any

import pytest

from rcnnkit import weights
from rcnnkit.config_files import SettingsError, check_settings
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.training.train import train
from tests.training.runs import QUIET, Values, settings

TILES = {"tile": 64, "tile_overlap": 16}


def in_tiles(tiny: Values, **changes: Any) -> Values:
    return tiny | {"input": tiny["input"] | {"short_side": 64} | TILES} | changes


def test_an_epoch_is_as_many_tiles_as_there_are(tiny: Values, tmp_path: Path) -> None:
    """8 pictures of 96 × 96 have 4 tiles each."""
    values = in_tiles(tiny)
    values["train"] = {name: value for name, value in values["train"].items() if name != "iterations"}
    best = train(settings(values, epochs=1, batch=4, warmup=2), tmp_path / "run", console=QUIET)
    steps = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert max(step["iteration"] for step in steps if "iteration" in step) == 8
    assert weights.load(best, "cpu").preprocessing.tile == 64
    whole = weights.load(best, "cpu", input={"tile": 0, "test_flip": True})
    assert (whole.preprocessing.tile, whole.preprocessing.test_flip) == (0, True)
    assert whole.preprocessing.short_side == 64


def test_settings_of_the_input_are_checked(tiny: Values, tmp_path: Path) -> None:
    known = DetectorSettings.model_validate({name: tiny[name] for name in ("model", "rpn", "head", "input")})
    best = tmp_path / "weights.safetensors"
    weights.save(build(known, ["cat"]).eval(), known, best)
    for given, message in (
        ({"tiles": 5}, r"^input\.tiles is not a setting; did you mean input\.tile\?"),
        ({"tile": -5}, r"^input\.tile = -5: input should be greater than or equal to 0$"),
        (
            {"tile": 100},
            r"^input\.tile_overlap = 128 is not less than tile = 100, so the next tile would be no further",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            weights.load(best, "cpu", input=given)
    detector = weights.load(best, "cpu", for_training=True)
    with pytest.raises(ValueError, match=r"input is not for `into`, which has a preprocessing of its own"):
        weights.load(best, "cpu", input=TILES, into=detector)  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", ["rcnn", "alternating"])
def test_what_looks_at_whole_pictures_is_not_trained_in_tiles(tiny: Values, kind: str) -> None:
    values = in_tiles(tiny)
    if kind == "rcnn":
        values = {name: values[name] for name in ("input", "data")} | {"model": {"kind": "rcnn", "pretrained": False}}
    else:
        values["alternating"] = {"enabled": True}
    what = {"rcnn": "R-CNN", "alternating": "alternating training"}[kind]
    with pytest.raises(SettingsError, match=rf"input\.tile = 64 is not for {what}, which looks at whole pictures"):
        check_settings(values, "test")
