import logging
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import tomli_w
from typer.models import OptionInfo

from rcnnkit import __version__
from rcnnkit.benchmark.measure.pictures import LEAST
from rcnnkit.cli import app, main
from rcnnkit.cli.proposals import app as proposals
from rcnnkit.cli.see import app as see
from tests.cli.commands import Command, Values, stdout_in


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "none.toml"], "none.toml: no such settings file"),
        (["train", "tiny.toml", "rpn.nms_iuo=0.5"], "rpn.nms_iuo is not a setting; did you mean rpn.nms_iou?"),
        (["train", "tiny.toml", "train.lr_for_16=fast"], "train.lr_for_16 = 'fast': "),
        (["train", "tiny.toml", "data.root=nowhere"], "nowhere does not exist"),
        (["train", "tiny.toml", "data.train=some"], "some.txt"),
        (["train", "tiny.toml", "train.device=tpu"], 'device "tpu" cannot be used'),
        (["train", "tiny.toml", "--out", "full"], "full is not an empty folder; choose another"),
        (["evaluate", "none.safetensors", "."], "none.safetensors: no such weights file"),
        (["evaluate", "half.safetensors", "."], "not a whole .safetensors file"),
        (["detect", "untrained.safetensors", "empty", "--out", "out"], "empty holds no pictures"),
        (["detect", "untrained.safetensors", "x.jpg", "--out", "out", "--precision", "int8"], "not one of auto"),
        (["evaluate", "untrained.safetensors", ".", "--json", "full/notes.txt"], "notes.txt is there already; choose"),
        (["evaluate", "untrained.safetensors", ".", "--json", "full"], "full is there already; choose another file"),
        (
            ["detect", "untrained.safetensors", "x.jpg", "--out", "tiny.toml"],
            "tiny.toml is a file; choose a folder",
        ),
        (["detect", "untrained.safetensors", "x.jpg", "--out", "out"], "x.jpg: no such picture"),
        (
            ["compress", "untrained.safetensors", "--rank", "fc6=4", "--out", "w.pth"],
            "w.pth must end with .safeten",
        ),
        (["demo", "--out", "out", "--device", "cuda:99"], 'device "cuda:99" cannot be used'),
        (
            ["compress", "w", "--rank", "fc6=8", "--rank", "fc6=4", "--out", "out"],
            "fc6 is given twice: 8 and 4; leave one out",
        ),
        (["demo", "--out", "full"], "full is not an empty folder; choose another, nothing"),
    ],
)
def test_errors_are_one_message_with_the_fix(
    rcnnkit: Command,
    tiny: Values,
    untrained: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    Path("tiny.toml").write_text(tomli_w.dumps(tiny))
    Path("half.safetensors").write_bytes(untrained.read_bytes()[:1000])
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    assert rcnnkit(*arguments) == 1
    error = capsys.readouterr().err
    if not error.startswith("error: "):  # what of the data can be read is read first
        _, _, error = error.partition("\n")
    assert error.startswith("error: ")
    assert words in error
    assert "Traceback" not in error
    assert Path("full/notes.txt").read_text() == "mine"
    assert not Path("out").exists()  # a corrected call is not refused for what this one left


def test_an_error_is_one_message(rcnnkit: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert rcnnkit("info", "a\x1b]0;title\x07\nwrote it") == 1
    assert capsys.readouterr().err == "error: a\\x1b]0;title\\x07\n  wrote it: no such weights file\n"


def test_weights_that_may_not_be_read(rcnnkit: Command, forbidden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rcnnkit("info", forbidden) == 1
    assert capsys.readouterr().err == (
        f"error: {forbidden} may not be read (permission denied); change its permissions, or ask its owner to do so\n"
    )


def test_messages_in_a_pipe_are_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """So that long paths in them can be searched for and copied."""
    words = "a path " * 40 + "with [brackets]"
    monkeypatch.setattr("rcnnkit.cli.application.app", lambda: logging.getLogger("rcnnkit").warning(words))
    main()
    assert f"WARNING {words}\n" in capsys.readouterr().err
    assert not logging.getLogger("rcnnkit").handlers  # of somebody who calls it in a process of his own


def test_help_in_a_process_of_its_own() -> None:
    shown = subprocess.run([sys.executable, "-m", "rcnnkit", "--help"], capture_output=True, text=True, check=True)
    for command in ("train", "evaluate", "detect", "crop", "demo"):
        assert command in shown.stdout


@pytest.mark.parametrize(
    ("given", "spins"), [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")]
)
def test_threads_that_wait_soon_sleep_unless_the_user_says_otherwise(given: dict[str, str], spins: str) -> None:
    code = (
        "import atexit, os; from rcnnkit.cli import main; before = os.environ.get('GOMP_SPINCOUNT');"
        "atexit.register(lambda: print(before, os.environ.get('GOMP_SPINCOUNT'))); main()"
    )
    unset = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    command = [sys.executable, "-c", code, "--version"]
    done = subprocess.run(command, env=unset | given, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["rcnnkit", __version__, str(given.get("GOMP_SPINCOUNT")), spins]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_help_on_any_terminal(rcnnkit: Command, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    printed = stdout_in(monkeypatch, encoding)
    for command in ("train", "detect", "benchmark", "see"):
        assert rcnnkit(command, "--help") == 0
    assert "--device" in printed.getvalue().decode(encoding)


def test_help_names_the_fewest_pictures_of_a_benchmark(rcnnkit: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert rcnnkit("benchmark", "--help") == 0
    assert f"{LEAST} or more, or 0: all" in " ".join(capsys.readouterr().out.replace("│", "").split())


def test_version(rcnnkit: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert rcnnkit("--version") == 0
    assert capsys.readouterr().out == f"rcnnkit {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["benchmark", "--dtype", "bf16"], "--dtype is now --precision"),
        (["benchmark", "--random", "--proposals=300"], "--proposals is now --max-proposals"),
        (["benchmark", "--images", "pictures"], "--data names the pictures now; --images is where those of a COCO"),
        (["info", "w.safetensors", "--json"], "--json is now --as-json"),
    ],
)
def test_earlier_flags_are_answered_with_todays(
    rcnnkit: Command, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert rcnnkit(*arguments) == 2
    assert words in " ".join(capsys.readouterr().err.replace("│", "").split())
    assert not list(Path().iterdir())


def plain_types(hint: Any) -> set[Any]:
    """str and NoneType of list[str] | None, and str of the words that a Literal allows."""
    if get_origin(hint) is Literal:
        return {type(word) for word in get_args(hint)}
    return set().union(*map(plain_types, get_args(hint))) if get_args(hint) else {hint}


def test_a_flag_means_the_same_in_every_command() -> None:
    """A folder here and a number there would be two meanings."""
    meanings: dict[str, set[Any]] = defaultdict(set)
    for group in (app, proposals, see):
        for command in group.registered_commands:
            for name, hint in get_type_hints(command.callback, include_extras=True).items():
                option = getattr(hint, "__metadata__", [None])[0]
                if isinstance(option, OptionInfo):
                    declared = option.default  # where Annotated has it, the first of typer.Option's arguments
                    flag = declared if isinstance(declared, str) else f"--{name.replace('_', '-')}"
                    meanings[flag] |= plain_types(hint.__origin__) - {type(None)}
    assert {"--out", "--max-proposals", "--precision", "--class"} < meanings.keys()
    assert {flag: kinds for flag, kinds in meanings.items() if len(kinds) > 1} == {}
