"""Training by several processes: the result does not depend on their number, and none is left waiting."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rcnnkit import weights
from rcnnkit.config_files import check_settings, write_settings
from rcnnkit.detectors.kinds import build
from rcnnkit.training.ranks import Ranks, in_turn
from tests.training.runs import Values
from tests.training.several import Job, run_jobs

# Process 1 alone finds its pictures without objects in the second iteration.
EMPTY = """
inner = loop.step
def emptied(task, batch, scaler):
    if rank == 1 and task.run.progress.iteration == 1:
        object.__setattr__(batch, "targets", [each[:0] for each in batch.targets])
        print("empty")
    return inner(task, batch, scaler)
loop.step = emptied
"""
# … does not find it finite.
INFINITE = """
sums = detection.Detection.loss_sums
def summing(task, model, inputs, targets, generators):
    made = sums(task, model, inputs, targets, generators)
    if rank == 1 and task.run.progress.iteration == 2:
        made["box"].total.data.fill_(float("inf"))
    return made
detection.Detection.loss_sums = summing
"""
FAILING = """
step = loop.step
def stepping(task, batch, scaler):
    if rank == 1 and task.run.progress.iteration == 2:
        raise ValueError("process 1 has had enough")
    return step(task, batch, scaler)
loop.step = stepping
"""
UNREACHABLE = """
from datetime import timedelta
from rcnnkit.training import ranks
ranks.MEETING = timedelta(seconds=2)
if rank:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        os.environ["MASTER_PORT"] = str(closed.getsockname()[1])
"""
QUIET = "ranks.PATIENCE = 90\n"  # the first process says what stops all, however slow the machine is
KILLED = FAILING.replace('raise ValueError("process 1 has had enough")', "os.kill(os.getpid(), signal.SIGKILL)")
STOPPED = FAILING.replace('raise ValueError("process 1 has had enough")', "os.kill(os.getpid(), signal.SIGTERM)")


# Which pictures' features a process computes.
MADE = """
make = rcnn_stages.Features.make
def making(self, picture):
    print("made", picture)
    make(self, picture)
rcnn_stages.Features.make = making
"""
# The first process works for longer than others would be waited for.
LONG_WORK = """
from datetime import timedelta
ranks.TIMEOUT = timedelta(seconds=10)
finish = rcnn_stages._finish
def finishing(*given):
    time.sleep(13)
    finish(*given)
rcnn_stages._finish = finishing
"""


def tensors(run: Path) -> dict[str, torch.Tensor]:
    return weights.read(run / "last.safetensors")[1]


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def away(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Largest difference of a weight, as a share of its length."""
    assert one.keys() == other.keys()
    names = [name for name in one if not name.startswith(weights.TRAINING) and one[name].is_floating_point()]
    return max(float((one[n] - other[n]).norm() / one[n].norm().clamp(min=1e-6)) for n in names)


Write = Callable[..., list[str]]
FROZEN = {"backbone": "resnet18", "norm": "frozen", "fpn_channels": 16, "fpn_norm": "none"}


PARTS = {"accumulate": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def write(folder: Path, digits: Path) -> Write:
    """Writes the settings of a run, and gives the arguments that start it."""
    values: Values = {
        "model": {"backbone": "resnet18", "norm": "batch", "fpn_channels": 16, "fpn_norm": "none"},
        "rpn": {
            "anchor_sizes": [[16], [32], [64], [128], [256]],
            **dict.fromkeys(("pre_nms", "post_nms", "train_pre_nms", "train_post_nms"), 50),
        },
        "head": {"hidden": 16, "samples": 16},
        "input": {"short_side": 64, "long_side": 64},
        "augment": {"scale": [0.7, 1.0]},
        "data": {"root": str(digits), "workers": 0},
        "train": {"iterations": 2, "batch": 4, "warmup": 2, "log_every": 1, "evaluate_every": 2, "device": "cpu"},
    }
    values["train"] |= {"precision": "float32", "loggers": []}
    made = check_settings(values, "test")
    torch.manual_seed(0)
    detector = build(made, ["0", "3", "4", "6", "7"])
    with torch.no_grad():
        for name, weight in detector.named_parameters():
            if "bn2.weight" in name:
                weight.mul_(0.2)  # without norms that learn, larger ones would make a tenfold of rounding every step
    weights.save(detector, made, folder / "start.safetensors")
    values["model"], values["train"]["init"] = FROZEN, str(folder / "start.safetensors")

    def write(name: str, **sections: dict[str, Any]) -> list[str]:
        merged = values | {section: values.get(section, {}) | more for section, more in sections.items()}
        write_settings(check_settings(merged, name), folder / f"{name}.toml")
        return ["train", str(folder / f"{name}.toml"), "--out", str(folder / name)]

    return write


def of_size(write: Write, size: int) -> Job:
    """A batch of four pictures, shared out among so many processes."""
    # Proposals that do not hang on the last bits of the weights: then the samples do not either.
    given = {"method": "sliding_windows", "train_count": 300}
    train = {"iterations": 6, "lr_for_16": 0.03, "evaluate_every": 0}
    name = f"{size}x{4 // size}"
    arguments = write(name, model=FROZEN | {"kind": "fast_rcnn"}, proposals=given, data={"val": ""}, train=train)
    return name, size, {}, arguments, ""


def of_rcnn(write: Write, folder: Path, size: int, name: str, code: str = "", **rcnn: Any) -> Job:
    """R-CNN, all stages; without fine-tuning, with the network of the run by one process."""
    given = {"method": "sliding_windows", "train_count": 40, "folder": str(folder / "windows")}
    options = {"size": 32, "context": 4, "samples": 16, "ridge": 10} | rcnn
    train: dict[str, Any] = {"iterations": 3, "batch": 2, "lr_for_16": 0.03, "validation_losses": False}
    if not options.get("fine_tune", True):
        train["init"] = str(folder / "rcnn-1" / "best.safetensors")
    model = {"kind": "rcnn", "backbone": "resnet18", "norm": "frozen"}
    sections = {"model": model, "proposals": given, "rcnn": options, "train": train, "augment": {"scale": [1.0, 1.0]}}
    return name, size, {}, write(name, **sections), code


@pytest.fixture(scope="module")
def runs(folder: Path, write: Write) -> dict[str, Any]:
    """The runs of these tests, so that torch is loaded once: name → exit statuses, what was printed, seconds."""
    few = {"iterations": 3, "batch": 2, "evaluate_every": 0, "validation_losses": False}
    taken = socket.create_server(("127.0.0.1", 0))
    jobs: list[Job] = [
        *(of_size(write, size) for size in (1, 2)),
        of_rcnn(write, folder, 1, "rcnn-1"),
        of_rcnn(write, folder, 2, "rcnn-2", scorer="softmax", box_regression=False),
        of_rcnn(write, folder, 2, "rcnn-stages", MADE, fine_tune=False),
        ("alone", 1, {}, write("alone"), ""),
        ("parts", 2, {}, write("parts", train=PARTS), ""),
        ("infinite", 2, {}, write("infinite", train=few), QUIET + INFINITE),
        ("failing", 2, {}, write("failing", train=few), FAILING),
        ("stopped", 2, {}, write("stopped", train=few | {"iterations": 9}), EMPTY + STOPPED),
        ("other", 2, {}, write("other"), QUIET + 'sys.argv += ["train.seed=1"] if rank else []'),
        ("many", 2, {}, write("many", train={"batch": 1}), QUIET),
        ("port", 2, {"MASTER_PORT": str(taken.getsockname()[1])}, write("port"), ""),
        ("again", 2, {}, [*write("again")[:2], "--out", str(folder / "alone")], QUIET),
    ]
    with taken:
        return {"folder": folder} | run_jobs(folder, jobs)


@pytest.fixture(scope="module")
def longer_runs(folder: Path, write: Write, runs: dict[str, Any]) -> dict[str, Any]:
    """Those that take long, besides the others."""
    four = PARTS | {"iterations": 4}
    jobs: list[Job] = [
        of_size(write, 4),
        of_rcnn(write, folder, 2, "rcnn-patient", LONG_WORK, fine_tune=False),
        ("whole", 2, {}, write("whole", train=four), ""),
        ("killed", 2, {}, write("killed", train=four), KILLED),
        ("restarted", 2, {"TORCHELASTIC_RESTART_COUNT": "1"}, write("killed", train=four), ""),
        ("unreachable", 2, {}, write("unreachable"), UNREACHABLE),
    ]
    return runs | run_jobs(folder, jobs)


OF_RUNS = ["runs", pytest.param("longer_runs", marks=pytest.mark.slow)]


@pytest.fixture(params=OF_RUNS)
def some_runs(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = request.getfixturevalue(request.param)
    return found


def test_the_number_of_processes_does_not_change_the_training(some_runs: dict[str, Any]) -> None:
    folder = some_runs["folder"]
    one, name = tensors(folder / "1x4"), "4x1" if "4x1" in some_runs else "2x2"
    assert some_runs[name][0] == [0] * int(name[0]), some_runs[name][1]
    assert away(one, tensors(folder / name)) < 1e-5
    start = weights.read(folder / "start.safetensors")[1]
    assert max(float((one[n] - start[n]).norm() / one[n].norm()) for n in start if n in one and "layer" in n) > 0.01
    for line, other in zip(log(folder / "1x4"), log(folder / name), strict=True):
        assert line["iteration"] == other["iteration"]
        assert line.get("loss") == pytest.approx(other.get("loss"), abs=2e-6)


def test_only_the_first_process_prints_and_writes(runs: dict[str, Any]) -> None:
    first, *others = runs["2x2"][1]
    assert "on cpu in float32, 2 processes; batches of 4" in first
    assert "wrote " in first
    assert others == [""]
    names = {path.name for path in (runs["folder"] / "2x2").iterdir()}
    assert names == {path.name for path in (runs["folder"] / "1x4").iterdir()}


def test_parts_and_evaluation_are_those_of_one_process(runs: dict[str, Any]) -> None:
    assert runs["parts"][0] == [0, 0], runs["parts"][1]
    assert away(tensors(runs["folder"] / "alone"), tensors(runs["folder"] / "parts")) < 1e-5
    one, two = (log(runs["folder"] / name)[2] for name in ("alone", "parts"))
    assert one.keys() == two.keys()
    assert one["iteration"] == two["iteration"] == 2
    for name in one:
        assert two[name] == pytest.approx(one[name], abs=1e-5), name


def test_a_loss_that_is_not_finite_names_the_pictures_of_its_process(runs: dict[str, Any]) -> None:
    statuses, (first, second), seconds = runs["infinite"]
    assert statuses[0] == 1
    assert statuses[1] != 0
    assert second == ""
    assert "the loss is not finite in iteration 2 (" in first
    assert "box inf" in first
    assert "with the pictures of process 1\n" in first
    report = json.loads((runs["folder"] / "infinite" / "diverged" / "diverged.json").read_text())
    assert len(report["pictures"]) == 1
    assert all(name in first for name in report["pictures"])
    assert weights.read(runs["folder"] / "infinite" / "diverged" / "last.safetensors")[0]["training"]["iteration"] == 2
    assert seconds < 60


def test_an_error_in_one_process_ends_all_and_what_is_done_is_kept(some_runs: dict[str, Any]) -> None:
    name = "killed" if "killed" in some_runs else "failing"
    statuses, (first, second), seconds = some_runs[name]
    assert all(statuses)
    assert seconds < 60
    assert "error: another process of this training ended or cannot be reached" in first
    assert second == ("" if name == "killed" else "error: process 1 has had enough\n")
    assert weights.read(some_runs["folder"] / "failing" / "last.safetensors")[0]["training"]["iteration"] == 2


def test_a_signal_to_one_process_stops_all(runs: dict[str, Any]) -> None:
    """Also where one had pictures without objects only."""
    statuses, (first, second), _ = runs["stopped"]
    assert statuses in ([143, 143], [143, -15])
    assert "stopped after 3 iterations; continue with" in first
    assert second == "empty\n"
    assert weights.read(runs["folder"] / "stopped" / "last.safetensors")[0]["training"]["iteration"] == 3


def test_what_does_not_go_together_is_said_at_the_start(runs: dict[str, Any]) -> None:
    first = {name: runs[name][1][0] for name in ("other", "many", "again")}
    assert (
        "process 1 has train.seed = 1, not 0 as the first process; start all with the same settings" in first["other"]
    )
    assert "a batch of 1 images cannot be shared out among 2 processes; raise train.batch to 2 or more" in first["many"]
    assert "alone is not an empty folder; choose another, or continue it with train.resume=" in first["again"]
    assert all(all(runs[name][0]) for name in first)
    assert all(runs[name][1][1] == "" for name in first)


def test_a_port_in_use_is_reported(runs: dict[str, Any]) -> None:
    statuses, (first, _), seconds = runs["port"]
    assert all(statuses)
    assert "is in use, perhaps by another training; start torchrun with --standalone" in first
    assert seconds < 30


def test_rcnn_is_fine_tuned_by_several_as_by_one(runs: dict[str, Any]) -> None:
    folder = runs["folder"]
    assert runs["rcnn-1"][0] == [0], runs["rcnn-1"][1]
    assert runs["rcnn-2"][0] == [0, 0], runs["rcnn-2"][1]
    assert runs["rcnn-2"][1][1] == ""
    one, two = (tensors(folder / name) for name in ("rcnn-1", "rcnn-2"))
    network = [name for name in one if name.startswith(("backbone.", "score_layer."))]
    assert away({name: one[name] for name in network}, {name: two[name] for name in network}) < 1e-5
    lines, others = ([line["loss"] for line in log(folder / name) if "loss" in line] for name in ("rcnn-1", "rcnn-2"))
    assert lines == pytest.approx(others, abs=2e-6)
    assert len({*lines}) == 3


def test_rcnns_other_stages_are_those_of_one_process_to_the_last_bit(some_runs: dict[str, Any]) -> None:
    name = "rcnn-patient" if "rcnn-patient" in some_runs else "rcnn-stages"
    statuses, said, _ = some_runs[name]
    assert statuses == [0, 0], said
    if name == "rcnn-stages":
        made = [[int(line.split()[1]) for line in text.splitlines() if line.startswith("made ")] for text in said]
        assert made == [[0, 2, 4, 6], [1, 3, 5, 7]]
    one, two = some_runs["folder"] / "rcnn-1", some_runs["folder"] / name
    for file in ("before-mining.safetensors", "best.safetensors"):
        (_, whole), (_, shared) = (weights.read(run / file) for run in (one, two))
        assert whole.keys() == shared.keys()
        assert all(whole[key].equal(shared[key]) for key in whole)
    assert whole["svm_weight"].abs().max() > 0
    assert whole["ridge_weight"].abs().max() > 0
    numbers, others = (json.loads((run / "evaluation.json").read_text()) for run in (one, two))
    for name in numbers.keys() - {"seconds_per_image", "slowest_batch"}:
        assert numbers[name] == others[name], name


@pytest.mark.slow
def test_who_cannot_meet_says_so(longer_runs: dict[str, Any]) -> None:
    statuses, (first, second), seconds = longer_runs["unreachable"]
    assert all(statuses)
    assert "the first process cannot be reached at 127.0.0.1:" in first + second or "not all of 2 processes" in first
    assert "; check that torchrun was started on every machine" in first + second
    assert seconds < 30


@pytest.mark.slow
def test_torchrun_restarts_a_killed_run_which_ends_as_the_whole_one_to_the_last_bit(
    longer_runs: dict[str, Any],
) -> None:
    statuses, (first, _), _ = longer_runs["restarted"]
    assert statuses == [0, 0], first
    assert "going on after iteration 2 of 4" in first
    whole, restarted = (tensors(longer_runs["folder"] / name) for name in ("whole", "killed"))
    assert whole.keys() == restarted.keys()
    assert all(whole[name].equal(restarted[name]) for name in whole)


def test_shares_cover_a_batch_without_gaps() -> None:
    for number in range(1, 20):
        for size in range(1, number + 1):
            parts = [range(number)[Ranks(rank, size).share(number)] for rank in range(size)]
            assert [each for part in parts for each in part] == list(range(number))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
            turns = [range(number)[Ranks(rank, size).turns] for rank in range(size)]
            assert in_turn(turns) == list(range(number))
