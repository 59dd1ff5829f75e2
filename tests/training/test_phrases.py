"""Training on described regions."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import rcnnkit
from rcnnkit import weights
from rcnnkit.config_files import SettingsError, check_settings, read_settings
from rcnnkit.data.described_digits import write_described_digits
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Dataset, Record
from rcnnkit.detectors.densecap import DenseCap
from rcnnkit.evaluation.described import describe_objects
from rcnnkit.evaluation.report import evaluate
from rcnnkit.training.phrases import learn_words
from rcnnkit.training.run import Run
from rcnnkit.vocabulary import Vocabulary
from tests.cli.commands import Command
from tests.cli.conftest import rcnnkit as rcnnkit_command  # noqa: F401
from tests.training.runs import QUIET, Values, settings

DESCRIBING: dict[str, Any] = {
    "model": {"kind": "densecap"},
    "captions": {"hidden": 16, "embedding": 16, "neighbours": True},
}


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR of equal words, without a start of Java."""
    monkeypatch.setattr("rcnnkit.evaluation.sentences.shutil.which", lambda name: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("described") / "data"
    write_described_digits(root, train=8, val=3, size=(96, 96))
    return root


def values(tiny: Values, data: Path, **captions: Any) -> Values:
    own = {"model": tiny["model"] | DESCRIBING["model"], "captions": DESCRIBING["captions"] | captions}
    return tiny | own | {"data": tiny["data"] | {"root": str(data)}}


def test_a_run(
    tiny: Values,
    data: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    rcnnkit_command: Command,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO, "rcnnkit")
    given = values(tiny, data, minimum_count=2)
    given["head"] = given["head"] | {"score_threshold": 0.0}
    wanted = settings(given, iterations=2)
    assert wanted.augment.flip == 0  # left would be right
    best = rcnnkit.train(wanted, tmp_path / "run", console=QUIET)
    training, held = read_data(data, "train"), read_data(data, "val")
    words = [word for word, number in training.words_of().items() if number >= 2]
    assert 0 < len(words) < len(training.words)
    assert f"learns {len(words)} words, which are" in caplog.text
    assert read_settings(tmp_path / "run" / "settings.toml").captions.words == words
    detector = weights.load(best, "cpu")
    assert isinstance(detector, DenseCap)
    assert detector.words == tuple(words)
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert 0 <= evaluation["captions"]["dense_AP"] <= evaluation["captions"]["regions_AP"] <= 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert any(line.get("words", 0) > 0 for line in lines)
    assert any(line.get("val_loss_words", 0) > 0 for line in lines)

    result = evaluate(detector, held, warn=False)
    assert result.captions is not None
    assert result.captions.numbers["dense_AP"] == pytest.approx(evaluation["captions"]["dense_AP"], abs=1e-6)
    assert result.headline[0] == "dense_AP"
    described = describe_objects(detector, held, batch_size=2)
    assert len(described.said) == len(described.wanted) == held.objects
    assert described.whole == sum(map(list.__contains__, described.wanted, described.said)) / held.objects

    picture = held.records[0].path
    assert rcnnkit_command("detect", best, picture, "--out", tmp_path / "out", "--min-score", "0") == 0
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert found
    assert all(isinstance(each["caption"], str) for each in found)
    assert rcnnkit_command("evaluate", best, data, "--split", "val", "--json", tmp_path / "e.json") == 0
    printed = capsys.readouterr().out
    assert "dense captions: AP" in printed
    assert "whole phrases right, from true boxes" in printed
    assert json.loads((tmp_path / "e.json").read_text())["true_boxes"]["whole_phrases"] == described.whole
    assert rcnnkit_command("info", best) == 0
    assert f"words     {len(words)}\n" in capsys.readouterr().out

    # It goes on with the same words; with others, those start afresh, and what sees regions goes on.
    more = settings(given, iterations=3, evaluate_every=0, resume=str(tmp_path / "run"))
    rcnnkit.train(more, tmp_path / "run", console=QUIET)
    assert read_settings(tmp_path / "run" / "settings.toml").captions.words == words
    again = settings(values(tiny, data, minimum_count=1), init=str(best), iterations=1, evaluate_every=0)
    rcnnkit.train(again, tmp_path / "again", console=QUIET)
    assert "start afresh: captioner.language.embed.weight, captioner.language.score_layer.weight" in caplog.text


def test_settings_that_fit_no_kind(tiny: Values, data: Path) -> None:
    for sections, said in (
        ({"captions": {"beam": 3}}, 'test: captions.beam is for model.kind = "densecap" or "captioner"; leave it out'),
        (
            DESCRIBING | {"alternating": {"enabled": True}},
            'test: alternating.enabled = true is for model.kind = "faster_rcnn", not for "densecap"; leave it out',
        ),
        (DESCRIBING | {"captions": {"beam": 0}}, "test: captions.beam = 0: input should be greater than 0"),
        (
            DESCRIBING | {"captions": {"words": ["Red"]}},
            "test: captions.words holds 'Red'; each is one word in lower case, without punctuation: ['red']",
        ),
    ):
        with pytest.raises(SettingsError) as caught:
            check_settings({"data": {"root": str(data)}} | sections, "test")
        assert str(caught.value).startswith(said)
    assert check_settings({"data": {"root": "d"}} | DESCRIBING | {"augment": {"flip": 0.5}}, "test").augment.flip == 0.5
    assert check_settings({"data": {"root": "d"}, "model": {"kind": "fast_rcnn"}}, "test").augment.flip == 0.5


def test_data_without_phrases(tiny: Values, digits: Path, data: Path, tmp_path: Path) -> None:
    plain = values(tiny, digits)
    plain["data"] = plain["data"] | {"format": "voc"}
    with pytest.raises(
        ValueError, match=r'data/train has no phrases, which model\.kind = "densecap" learns from; give'
    ):
        rcnnkit.train(settings(plain), tmp_path / "run", console=QUIET)
    with pytest.raises(ValueError, match=r"captions\.minimum_count = 999, and 'small', the most frequent word in") as e:
        rcnnkit.train(settings(values(tiny, data, minimum_count=999)), tmp_path / "run", console=QUIET)
    assert str(e.value).endswith("times; lower it")
    with pytest.raises(ValueError, match=r"captions\.words has none of the words of data/region_descriptions_train"):
        rcnnkit.train(settings(values(tiny, data, words=["cup"])), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run" / "settings.toml").exists()


def test_long_phrases_are_left_out(tiny: Values, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wanted = settings(values(tiny, data, max_words=3))
    training = read_data(data, "train")
    learn_words(Run(wanted, tmp_path / "run", QUIET), training, None)
    long = sum(len(phrase.split()) > 3 for each in training.records for phrase in phrases_of(training, each))
    assert f"{long} phrases are too long for captions.max_words = 3; these objects are learnt without" in caplog.text


def phrases_of(data: Dataset, record: Record) -> list[str]:
    return Vocabulary(data.words).decode(record.targets.phrases)
