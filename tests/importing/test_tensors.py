"""Files of tensors are read completely or refused, and nothing in them is run."""

import argparse
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rcnnkit import weights
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.importing.tensors import read_tensors, transfer, unwrapped

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1, 2], dtype=torch.int64)}


def written(path: Path, content: Any) -> Path:
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    elif path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors", ".pkl"])
def test_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    content = {n: v.numpy() for n, v in STATE.items()} if suffix == ".pkl" else STATE
    read = read_tensors(written(tmp_path / f"a{suffix}", content))
    assert read.keys() == STATE.keys()
    assert all(read[name].equal(value) and read[name].dtype == value.dtype for name, value in STATE.items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"model": s, "optimizer": {"lr": 0.1}, "epoch": 7},
        lambda s: {"state_dict": s},
        lambda s: {"state_dict": s, "pytorch-lightning_version": "2.5.0", "hyper_parameters": {"lr": 0.1}},
        lambda s: {name: nn.Parameter(value.float()) for name, value in s.items()},
    ],
)
def test_what_training_scripts_put_around_weights(tmp_path: Path, wrap) -> None:
    read = read_tensors(written(tmp_path / "a.pth", wrap(STATE)))
    assert read.keys() == STATE.keys()
    assert read["a.weight"].equal(STATE["a.weight"])
    assert not read["a.weight"].requires_grad


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "model.",
        "net.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model._orig_mod.module.",
    ],
)
def test_names_lose_what_was_put_around_the_network(prefix: str) -> None:
    inside: dict[str, Any] = {
        "a._orig_mod.weight": 0,
        "a.0._fsdp_wrapped_module.bias": 1,
        "model_a.weight": 2,
        "b.model.weight": 3,
    }
    found = unwrapped({prefix + name: value for name, value in inside.items()})
    assert found == {"a.weight": 0, "a.0.bias": 1, "model_a.weight": 2, "b.model.weight": 3}


def test_names_beside_the_network_stay_and_no_two_become_one() -> None:
    states: list[dict[str, Any]] = [{"model.a.weight": 0, "criterion.weight": 1}]
    assert unwrapped(states[0]) == {"a.weight": 0, "criterion.weight": 1}
    states = [{"model.a": 0, "a": 1}, {"a._orig_mod.b": 0, "a.b": 1}, {"module.model.a": 0, "module.a": 1}]
    for state in states:
        assert len(unwrapped(state)) == 2


def test_names_of_compiled_and_parallel_models_as_torch_makes_them() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    expected = list(network.state_dict())
    compiled: Any = torch.compile(network[1])
    network[1] = compiled
    compiled = torch.compile(network)
    for around in (network, compiled, nn.DataParallel(network), nn.DataParallel(compiled)):
        assert list(unwrapped(around.state_dict())) == expected


def test_bytes_of_the_other_order(tmp_path: Path) -> None:
    array = np.arange(3, dtype=">f4")
    assert read_tensors(written(tmp_path / "a.pkl", {"a": array}))["a"].tolist() == [0, 1, 2]


class Runs:
    """Unpickled, it calls `function(*arguments)`."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nothing_runs(tmp_path: Path, suffix: str, protocol: int) -> None:
    mark = tmp_path / "ran"
    array = np.empty(1, dtype=object)
    array[0] = Runs(os.mkdir, str(mark))
    path = tmp_path / f"hostile{suffix}"
    for content in (
        Runs(os.mkdir, str(mark)),
        {"model": {"a.weight": Runs(os.mkdir, str(mark))}},
        {"a.weight": torch.zeros(1), "b": Runs(exec, f"import os; os.mkdir({str(mark)!r})")},
        {"a.weight": array},
        {"a.weight": Runs(getattr, nn.Linear, "forward")},
        {"a.weight": Runs(torch.load, str(tmp_path / "other.pth"))},
        nn.Linear(1, 1),  # a whole model: its class would have to be run
    ):
        for legacy in (False, True):
            if suffix == ".pkl" or legacy:
                path.write_bytes(pickle.dumps(content, protocol))  # torch.load reads plain pickles too
            else:
                torch.save(content, path, pickle_protocol=protocol)
            with pytest.raises(ValueError, match=rf"hostile\{suffix} is not read: "):
                read_tensors(path)
            assert not mark.exists()
    path.write_bytes(pickle.dumps(Runs(os.mkdir, str(mark)), protocol))
    pickle.loads(path.read_bytes())  # it would have run
    assert mark.exists()


def test_what_a_file_asks_for_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pth", {"model": STATE, "options": argparse.Namespace(lr=0.1)})
    with pytest.raises(ValueError, match="is not read") as error:
        read_tensors(path)
    assert str(error.value) == (
        f"{path} is not read: it asks for argparse.Namespace; save nothing but model.state_dict()"
    )


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pkl"])
@pytest.mark.parametrize("share", [0, 0.2, 0.7, 0.98])
def test_a_file_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    content: dict[str, Any] = {f"{i}": np.random.default_rng(i).random(50, dtype=np.float32) for i in range(9)}
    if suffix != ".pkl":
        content = {name: torch.tensor(value) for name, value in content.items()}
    path = written(tmp_path / f"a{suffix}", content)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"a\{suffix} is not"):
        read_tensors(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pkl"])
@pytest.mark.parametrize("data", [b"hello", b"<html>404</html>", b"PK\x03\x04rest", b"\0" * 100, b"\x80\x02."])
def test_bytes_of_something_else(tmp_path: Path, suffix: str, data: bytes) -> None:
    (tmp_path / f"a{suffix}").write_bytes(data)
    with pytest.raises(ValueError, match=rf"a\{suffix} is not"):
        read_tensors(tmp_path / f"a{suffix}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "holds a list in place of names and tensors"),
        ({}, "holds a dict in place of names and tensors"),
        ({"epoch": 3}, "holds 'epoch': int, expected names and tensors"),
        ({1: torch.zeros(1)}, "holds 1: Tensor, expected names and tensors"),
    ],
)
def test_what_is_no_state_dict(tmp_path: Path, content: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_tensors(written(tmp_path / "a.pth", content))


def test_files_of_other_names(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.pth: no such file"):
        read_tensors(tmp_path / "a.pth")
    for suffix in (".pth", ".pkl", ".safetensors"):
        os.mkfifo(tmp_path / f"fifo{suffix}")
        with pytest.raises(ValueError, match=rf"fifo\{suffix} is not a regular file; copy what it gives into one"):
            read_tensors(tmp_path / f"fifo{suffix}")
    (tmp_path / "a.onnx").touch()
    with pytest.raises(ValueError, match=r"a\.onnx does not end in one of \.pth, \.pt, \.ckpt, \.pkl, \.safetensors"):
        read_tensors(tmp_path / "a.onnx")
    settings = DetectorSettings.model_validate({"model": {"backbone": "resnet18", "fpn_channels": 8}})
    weights.save(build(settings, ["a"]), settings, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a\.safetensors is rcnnkit's own already"):
        read_tensors(tmp_path / "a.safetensors")


def test_transfer_takes_the_most_special_place() -> None:
    target = nn.ModuleDict({"x": nn.Linear(3, 2), "y": nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))})
    layers = [target.get_submodule(path) for path in ("x", "y.0", "y.1")]
    state = {
        f"{name}.{kind}": getattr(layer, kind).detach() + 1
        for name, layer in zip(("old.0", "old.1", "old.1.new"), layers, strict=True)
        for kind in ("weight", "bias")
    }
    transfer(state, {"old.0": "x", "old.1": "y.0", "old.1.new": "y.1"}, target, "it")
    assert target.get_parameter("x.weight").equal(state["old.0.weight"])
    assert target.get_parameter("y.0.bias").equal(state["old.1.bias"])
    assert target.get_parameter("y.1.weight").equal(state["old.1.new.weight"])


def test_transfer_lists_all_at_once() -> None:
    target = nn.ModuleDict({"x": nn.Linear(3, 2), "y": nn.Linear(2, 1)})
    before = {name: value.clone() for name, value in target.state_dict().items()}
    state = {
        "a.weight": torch.zeros(2, 4),
        "a.bias": torch.zeros(2),
        "b.weight": torch.zeros(1, 2),
        "c": torch.zeros(1),
        "a.bias2": torch.zeros(1),
    }
    with pytest.raises(ValueError, match="does not fit") as error:
        transfer(state, {"a": "x", "b": "y"}, target, "mine.pth")
    assert str(error.value) == (
        "mine.pth does not fit:\n1 missing:\n  b.bias\n2 without a place here:\n  c\n  a.bias2\n"
        "1 of another shape:\n  a.weight (2, 4), expected (2, 3)"
    )
    assert all(value.equal(before[name]) for name, value in target.state_dict().items())


def test_transfer_takes_no_numbers_that_are_none() -> None:
    target = nn.ModuleDict({"x": nn.Linear(2, 1), "y": nn.BatchNorm1d(2)})
    state = {f"a.{name}": value for name, value in target["x"].state_dict().items()}
    state |= {f"b.{name}": value for name, value in target["y"].state_dict().items()}
    state |= {
        "a.weight": torch.tensor([[1, torch.nan]]),
        "a.bias": torch.tensor([1e300], dtype=torch.float64),  # more than float32 holds
        "b.running_mean": torch.tensor([-1.0, -torch.inf]),
        "b.running_var": torch.tensor([1.0, -0.5]),
    }
    with pytest.raises(ValueError, match="does not fit") as error:
        transfer(state, {"a": "x", "b": "y"}, target, "mine.pth")
    assert str(error.value) == (
        "mine.pth does not fit:\n3 not finite:\n  a.weight\n  a.bias\n  b.running_mean\n"
        "1 of negative variances:\n  b.running_var"
    )


def test_transfer_takes_no_tensors_without_values() -> None:
    with pytest.raises(ValueError, match=r"^mine\.pth does not fit:\n2 without values:\n  a\.weight\n  a\.bias$"):
        transfer(
            {f"a.{name}": value for name, value in nn.Linear(1, 1, device="meta").state_dict().items()},
            {"a": "x"},
            nn.ModuleDict({"x": nn.Linear(1, 1)}),
            "mine.pth",
        )


def test_two_tensors_for_one_place() -> None:
    target = nn.ModuleDict({"x": nn.Linear(1, 1)})
    state = {f"{name}.{kind}": torch.zeros(1, 1) for name in "ab" for kind in ("weight", "bias")}
    state |= {"a.bias": torch.zeros(1), "b.bias": torch.zeros(1)}
    with pytest.raises(ValueError, match=re.escape("2 without a place here:\n  b.weight\n  b.bias")):
        transfer(state, {"a": "x", "b": "x"}, target, "it")
