import io
import json
import math
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from rcnnkit import weights
from rcnnkit.config_files import read_settings
from rcnnkit.data.digits import write_digits
from rcnnkit.data.records import BadData
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.structures import LossSum
from rcnnkit.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from rcnnkit.training.detection import Detection, read_splits
from rcnnkit.training.gradient import NonFiniteLoss
from rcnnkit.training.loop import note_scale, start_scaler
from rcnnkit.training.optimizers import make_optimizer, parts_of
from rcnnkit.training.stopping import Interrupted
from rcnnkit.training.train import train
from tests.training.runs import QUIET, Values, killed_in_iteration, settings


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def same(a: Path, b: Path) -> bool:
    (_, first), (_, second) = weights.read(a), weights.read(b)
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def test_a_run_leaves_all_that_is_promised(tiny: Values, tmp_path: Path) -> None:
    run = tmp_path / "run"
    best = train(settings(tiny, evaluate_every=2), run, console=QUIET)
    assert best == run / "best.safetensors"
    names = {path.name for path in run.iterdir()}
    assert names == {
        "best.safetensors",
        "last.safetensors",
        "previous.safetensors",
        "settings.toml",
        "log.jsonl",
        "evaluation.json",
        "report.html",
        "report",
        "tensorboard",
    }
    lines = log(run)
    steps = [line for line in lines if "loss" in line]
    assert [line["iteration"] for line in steps] == [1, 2, 3, 4]
    for line in steps:
        parts = [line[name] for name in ("rpn_objectness", "rpn_box", "class", "box")]
        assert line["loss"] == pytest.approx(sum(parts), abs=1e-5)
        assert line["images_per_second"] > 0
    # warm-up of 2 iterations from 1/1000, lr 0.02 for 16 pictures and 2 in a batch, drops after 2/3 and 8/9
    assert [line["lr"] for line in steps] == pytest.approx([2.5e-6, 0.0025 * 0.5005, 0.0025, 0.00025], abs=1e-6)
    assert [line["iteration"] for line in lines if "AP50" in line] == [2, 4]
    detector = weights.load(best, "cpu")
    assert detector.class_names == ("0", "3", "4", "6", "7")
    about, _ = weights.read(best)
    assert about["training"]["data"].endswith("train")


def test_the_runs_settings_repeat_it(tiny: Values, tmp_path: Path) -> None:
    train(settings(tiny), tmp_path / "one", console=QUIET)
    again = read_settings(tmp_path / "one" / "settings.toml")
    train(again, tmp_path / "two", console=QUIET)
    assert same(tmp_path / "one" / "best.safetensors", tmp_path / "two" / "best.safetensors")
    train(
        again.model_copy(update={"train": again.train.model_copy(update={"seed": 1})}),
        tmp_path / "three",
        console=QUIET,
    )
    assert not same(tmp_path / "one" / "best.safetensors", tmp_path / "three" / "best.safetensors")


def test_the_global_generator_is_left_alone(tiny: Values, tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train(settings(tiny, iterations=1), tmp_path / "run", console=QUIET)
    assert torch.rand(3).equal(expected)


def test_a_resumed_run_ends_where_the_whole_one_does(tiny: Values, tmp_path: Path) -> None:
    train(settings(tiny, schedule="cosine"), tmp_path / "whole", console=QUIET)
    # the same run, killed after three iterations: what it had is its checkpoint, which is of two
    half = settings(tiny, schedule="cosine", save_every=2)
    with killed_in_iteration(4):
        train(half, tmp_path / "half", console=QUIET)
    assert [line["iteration"] for line in log(tmp_path / "half") if "loss" in line] == [1, 2, 3]
    resumed = settings(tiny, schedule="cosine", resume=str(tmp_path / "half"))
    train(resumed, tmp_path / "half", console=QUIET)
    assert [line["iteration"] for line in log(tmp_path / "half") if "loss" in line] == [1, 2, 3, 4]
    assert read_settings(tmp_path / "half" / "settings-until-2.toml") == half
    assert read_settings(tmp_path / "half" / "settings.toml").train.resume is None
    assert same(tmp_path / "whole" / "best.safetensors", tmp_path / "half" / "best.safetensors")


def test_checkpoints_are_written_by_the_clock_too(
    tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    monkeypatch.setattr(Detection, "save", lambda task: saved.append(task.run.progress.iteration))
    train(settings(tiny, save_minutes=1e-9, save_every=100), tmp_path / "often", console=QUIET)
    assert saved == [1, 2, 3, 4, 4]  # and once more after the evaluation
    saved.clear()
    train(settings(tiny, save_minutes=9.0, save_every=100), tmp_path / "rarely", console=QUIET)
    assert saved == [4, 4]


def test_ctrl_c_keeps_a_checkpoint_and_says_how_to_go_on(tiny: Values, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def press() -> None:
        while not (run / "log.jsonl").exists() or not (run / "log.jsonl").read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(Interrupted, match=r"train\.resume=.*run") as stopped:
        train(settings(tiny, iterations=10_000), run, console=QUIET)
    presser.join()
    about, _ = weights.read(run / "last.safetensors")
    assert about["training"]["iteration"] == stopped.value.iteration >= 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_best_is_the_best_also_of_what_came_before_a_stop(
    tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aps = iter([0.1, 0.5, 0.3])
    from rcnnkit.training import detection

    evaluate = detection.judge

    def pretended(*arguments: Any, **options: Any) -> Any:
        evaluation = evaluate(*arguments, **options)
        evaluation.coco.numbers["AP"] = next(aps)
        return evaluation

    monkeypatch.setattr(detection, "judge", pretended)
    best = train(settings(tiny, iterations=2, evaluate_every=1), tmp_path / "run", console=QUIET)
    assert weights.read(best)[0]["training"]["AP"] == 0.5
    resumed = settings(tiny, iterations=3, evaluate_every=1, resume=str(tmp_path / "run"))
    train(resumed, tmp_path / "run", console=QUIET)
    assert weights.read(best)[0]["training"]["AP"] == 0.5
    assert weights.read(best)[0]["training"]["iteration"] == 2


def test_a_loss_that_is_not_finite_names_the_pictures_and_leaves_the_checkpoint(
    tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss_sums, count = FasterRCNN.loss_sums, []

    def poisoned(*arguments: Any) -> dict[str, LossSum]:
        count.append(1)
        sums = loss_sums(*arguments)
        return sums | {"box": LossSum(sums["box"].total * (float("nan") if len(count) == 3 else 1), 1)}

    monkeypatch.setattr(FasterRCNN, "loss_sums", poisoned)
    with pytest.raises(NonFiniteLoss, match=r"(?s)iteration 2 .*box nan.*00000\d\.jpg.*00000\d\.jpg"):
        train(settings(tiny, save_every=2), tmp_path / "run", console=QUIET)
    about, tensors = weights.read(tmp_path / "run" / "last.safetensors")
    assert about["training"]["iteration"] == 2
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_resume_needs_a_checkpoint_with_iterations_left(tiny: Values, tmp_path: Path) -> None:
    best = train(settings(tiny), tmp_path / "run", console=QUIET)
    with pytest.raises(ValueError, match=r"train\.init"):
        train(settings(tiny, resume=str(best), iterations=9), tmp_path / "run", console=QUIET)
    with pytest.raises(ValueError, match="4 iterations already"):
        train(settings(tiny, resume=str(tmp_path / "run")), tmp_path / "run", console=QUIET)
    with pytest.raises(FileNotFoundError):
        train(settings(tiny, resume=str(tmp_path / "none")), tmp_path / "none", console=QUIET)


def test_bad_annotations_of_both_splits_are_told_together(bccd: Path, tiny: Values) -> None:
    data = settings(tiny | {"data": {"root": str(bccd)}}).data
    with pytest.raises(BadData, match="has 2 problems:") as bad:
        read_splits(data)
    assert "BloodImage_00343" in str(bad.value)
    assert "BloodImage_00338" in str(bad.value)
    training, validation = read_splits(data.model_copy(update={"skip_bad": True}))
    assert validation is not None
    assert (len(training), len(validation)) == (205, 87)


def test_where_nothing_is_left_leaving_out_is_not_advised(tiny: Values, tmp_path: Path) -> None:
    write_digits(tmp_path / "data", train=1, val=1, size=(96, 96))
    for file in (tmp_path / "data" / "Annotations").iterdir():
        file.write_text("<annotation>")
    for skip_bad in (False, True):
        data = settings(tiny | {"data": {"root": str(tmp_path / "data"), "skip_bad": skip_bad}}).data
        with pytest.raises(BadData) as error:
            read_splits(data)
        assert str(error.value).splitlines()[-1] == "Fix them: without them, no picture is left."


def test_weight_decay_spares_biases_and_norms(tiny: Values) -> None:
    made = settings(tiny, weight_decay=0.5)
    detector = build(made, ["a"])
    decayed, spared = make_optimizer(parts_of(detector, 1.0), made.train).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in spared["params"]} == {1}
    assert len(decayed["params"]) + len(spared["params"]) == len(list(detector.parameters()))


def test_the_scaler_of_fp16_goes_on_where_it_was(tiny: Values, tmp_path: Path) -> None:
    made = settings(tiny)
    detector = build(made, ["a"])
    optimizer = make_optimizer(parts_of(detector, 1.0), made.train)
    save_checkpoint(tmp_path, detector, optimizer, made, Progress(1999, loss_scale=4.0, scale_steps=1999))
    file = tmp_path / "last.safetensors"
    progress = load_checkpoint(file, detector, optimizer)
    scaler = start_scaler(progress, torch.device("cpu"), torch.float16)
    layer = torch.nn.Linear(1, 1)
    small, seen = torch.optim.SGD(layer.parameters()), []
    for factor in (1, 1, math.inf):
        scaler.scale(layer(torch.ones(1, 1)).sum() * factor).backward()
        scaler.step(small)
        scaler.update()
        note_scale(scaler, progress)
        seen.append((progress.loss_scale, progress.scale_steps))
    assert seen == [(8.0, 0), (8.0, 1), (4.0, 0)]  # twice as much after 2000 iterations, half after an overflow
    about, tensors = weights.read(file)
    del about["training"]["scale_steps"]  # as older files are
    save_file(tensors, file, {"rcnnkit": json.dumps(about)})
    assert load_checkpoint(file, detector, optimizer) == Progress(1999, loss_scale=4.0)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision(tiny: Values, tmp_path: Path, precision: str) -> None:
    tiny["input"] = {"short_side": 64, "long_side": 64}  # a CPU's convolutions in fp16 take seconds
    best = train(settings(tiny, precision=precision, iterations=2, batch=1), tmp_path / "run", console=QUIET)
    _, tensors = weights.read(best)
    floats = [t for t in tensors.values() if t.is_floating_point()]
    assert all(t.dtype == torch.float32 and t.isfinite().all() for t in floats)
    assert all(line["loss"] > 0 for line in log(tmp_path / "run") if "loss" in line)


def test_coco_data_and_c4(tiny: Values, tmp_path: Path) -> None:
    tiny["data"] |= {"train": "annotations/instances_train.json", "val": "annotations/instances_val.json"}
    tiny["model"] = {"backbone": "resnet18", "norm": "group", "neck": "c4"}
    tiny["rpn"]["anchor_sizes"] = [[16, 32, 64]]
    best = train(settings(tiny, iterations=2), tmp_path / "run", console=QUIET)
    assert weights.load(best, "cpu").category_ids == (1, 2, 3, 4, 5)


def test_a_class_without_objects_is_told(tiny: Values, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny["data"]["class_names"] = ["0", "1", "3", "4", "6", "7", "9"]
    with caplog.at_level("WARNING", "rcnnkit"):
        train(settings(tiny, iterations=1), tmp_path / "run", console=QUIET)
    assert "train has no object to learn 1, 9 from; they will not be found" in caplog.text


def test_resume_refuses_other_classes(tiny: Values, tmp_path: Path) -> None:
    train(settings(tiny), tmp_path / "run", console=QUIET)
    tiny["data"]["class_names"] = ["7", "6", "4", "3", "0"]
    with pytest.raises(ValueError, match=r"trained on the classes 0, 3, 4, 6, 7, the data has 7, 6, 4, 3, 0"):
        train(settings(tiny, resume=str(tmp_path / "run"), iterations=9), tmp_path / "run", console=QUIET)


def test_a_picture_that_cannot_be_decoded_costs_no_iteration(tiny: Values, tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_digits(root, train=4, val=1, size=(96, 96))
    tiny["data"] |= {"root": str(root), "val": ""}
    picture = root / "JPEGImages" / "000003.jpg"
    whole = picture.read_bytes()

    from rcnnkit.training import detection

    def spoil(*arguments: Any, **options: Any) -> Any:
        picture.write_bytes(whole[:500])  # after the checks
        return load_batches(*arguments, **options)

    load_batches = detection.load_batches
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "load_batches", spoil)
        with pytest.raises(ValueError, match=r"000003\.jpg cannot be decoded"):
            train(settings(tiny), tmp_path / "run", console=QUIET)
    done = weights.read(tmp_path / "run" / "last.safetensors")[0]["training"]["iteration"]
    assert done < 3
    picture.write_bytes(whole)
    train(settings(tiny, resume=str(tmp_path / "run")), tmp_path / "run", console=QUIET)


def test_a_run_stopped_before_its_last_evaluation_can_be_finished(tiny: Values, tmp_path: Path) -> None:
    train(settings(tiny), tmp_path / "run", console=QUIET)
    (tmp_path / "run" / "best.safetensors").unlink()
    best = train(settings(tiny, resume=str(tmp_path / "run")), tmp_path / "run", console=QUIET)
    assert weights.load(best, "cpu").class_names == ("0", "3", "4", "6", "7")


@pytest.mark.parametrize(("every", "stop"), [(0, 4), (2, 4), (2, 2)])
def test_an_evaluation_that_was_stopped_comes_first(
    tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, stop: int
) -> None:
    from rcnnkit.training import detection

    evaluate_in, counts = detection.evaluate_in, iter(range(0 if every == 0 else 2, 99, every or 4))

    def stopped(*arguments: Any) -> Any:
        if next(counts) == (0 if every == 0 else stop):
            raise KeyboardInterrupt
        return evaluate_in(*arguments)

    made = settings(tiny, evaluate_every=every)
    whole = train(made, tmp_path / "whole", console=QUIET)
    with monkeypatch.context() as patch:
        patch.setattr(detection, "evaluate_in", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(made, tmp_path / "run", console=QUIET)
    resumed = settings(tiny, evaluate_every=every, resume=str(tmp_path / "run"))
    best = train(resumed, tmp_path / "run", console=QUIET)
    assert same(whole, best)
    assert weights.read(best)[0]["training"] == weights.read(whole)[0]["training"]
    (again, first) = ([line for line in log(tmp_path / run) if "AP" in line] for run in ("run", "whole"))
    assert again == first
    with pytest.raises(ValueError, match="4 iterations already"):  # nothing is left to do
        train(resumed, tmp_path / "run", console=QUIET)


def test_a_run_that_goes_on_elsewhere_has_a_best_of_its_own(tiny: Values, tmp_path: Path) -> None:
    train(settings(tiny), tmp_path / "one", console=QUIET)
    file = tmp_path / "one" / "last.safetensors"
    about, tensors = weights.read(file)
    about["training"]["best_ap"] = 0.9
    save_file(tensors, file, {"rcnnkit": json.dumps(about)})
    best = train(settings(tiny, resume=str(file), iterations=5), tmp_path / "two", console=QUIET)
    assert best == tmp_path / "two" / "best.safetensors"
    assert weights.read(best)[0]["training"]["iteration"] == 5


def test_of_the_rpn_alone_the_last_weights_are_kept(tiny: Values, tmp_path: Path) -> None:
    best = train(settings(tiny, rpn_only=True, evaluate_every=1), tmp_path / "run", console=QUIET)
    assert weights.read(best)[0]["training"] == {"iteration": 4, "data": "data/train"}
    assert not [line for line in log(tmp_path / "run") if "AP" in line]


def test_the_data_is_a_folder(tiny: Values, digits: Path) -> None:
    tiny["data"]["root"] = str(digits / "annotations" / "instances_train.json")
    with pytest.raises(ValueError, match="is a file; give its folder"):
        read_splits(settings(tiny).data)


def test_only_difficult_objects_are_nothing_to_learn(tiny: Values, tmp_path: Path) -> None:
    root = shutil.copytree(tiny["data"]["root"], tmp_path / "data")
    for file in (root / "Annotations").iterdir():
        file.write_text(file.read_text().replace("<difficult>0</difficult>", "<difficult>1</difficult>"))
    hard = tiny | {"data": tiny["data"] | {"root": str(root)}}
    with pytest.raises(ValueError, match=r"no object, only crowds and difficult ones, in any of its \d+ pictures"):
        train(settings(hard), tmp_path / "run", console=QUIET)
    train(
        settings(hard | {"data": hard["data"] | {"use_difficult": True}}, iterations=1), tmp_path / "run", console=QUIET
    )


def test_a_run_with_everything_ends_where_the_whole_one_does(tiny: Values, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        **{"optimizer": "adamw", "lr": 1e-3, "ema": 0.9, "accumulate": 2, "backbone_lr": 0.5, "patience": 9},
        **{"repeat_threshold": 0.9, "class_weights": {"7": 3.0}, "evaluate_every": 2},
    }
    made = settings(tiny, **options)
    whole = train(made, tmp_path / "whole", console=QUIET)
    from rcnnkit.training import loop

    real, calls = loop.step, []

    def killed(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            train(settings(tiny, **options, save_every=1), tmp_path / "half", console=QUIET)
    train(settings(tiny, **options, resume=str(tmp_path / "half")), tmp_path / "half", console=QUIET)
    assert same(whole, tmp_path / "half" / "best.safetensors")
    last, halves = (weights.read(tmp_path / name / "last.safetensors") for name in ("whole", "half"))
    assert all(last[1][name].equal(tensor) for name, tensor in halves[1].items())
    assert halves[0]["training"]["stale"] == last[0]["training"]["stale"]
    # What is kept as best are averaged weights, not those that learn.
    name = "head.score_layer.weight"
    average = last[1][f"training/average/{name}"]
    assert not average.equal(last[1][name])
    assert weights.read(whole)[1][name].equal(average) or last[0]["training"]["stale"]


def test_a_plateau_stops(tiny: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aps = iter([0.1, 0.5, 0.5, 0.3, 0.6, 0.1])
    from rcnnkit.training import detection

    evaluate = detection.judge

    def pretended(*arguments: Any, **options: Any) -> Any:
        evaluation = evaluate(*arguments, **options)
        evaluation.coco.numbers["AP"] = next(aps)
        return evaluation

    monkeypatch.setattr(detection, "judge", pretended)
    file = io.StringIO()
    console, options = Console(file=file, width=200), {"iterations": 9, "evaluate_every": 1}
    best = train(settings(tiny, **options, patience=2), tmp_path / "run", console=console)
    said = "stopped after 4 iterations: the last 2 evaluations were no better than 0.500 (train.patience = 2)"
    assert said in file.getvalue()
    assert weights.read(best)[0]["training"]["AP"] == 0.5
    resumed = {**options, "resume": str(tmp_path / "run")}
    with pytest.raises(
        ValueError, match=r"stopped after 2 evaluations that were no better than 0\.500 .*patience above 2"
    ):
        train(settings(tiny, **resumed, patience=2), tmp_path / "run", console=QUIET)
    best = train(settings(tiny, **resumed | {"iterations": 6}, patience=3), tmp_path / "run", console=QUIET)
    assert weights.read(best)[0]["training"]["AP"] == 0.6
    assert weights.read(tmp_path / "run" / "last.safetensors")[0]["training"]["stale"] == 1


def test_epochs_are_said_and_kept_in_iterations(tiny: Values, tmp_path: Path) -> None:
    del tiny["train"]["iterations"]
    file = io.StringIO()
    train(settings(tiny, epochs=1, batch=3), tmp_path / "run", console=Console(file=file, width=250))
    assert "1 epoch, which is 3 iterations; batches of 3" in file.getvalue()  # 8 pictures
    kept = read_settings(tmp_path / "run" / "settings.toml").train
    assert (kept.iterations, kept.epochs) == (3, None)


def test_class_weights_are_of_classes_that_there_are(tiny: Values, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train.class_weights names 8, and data/train has the classes 0, 3, 4, 6, 7;"):
        train(settings(tiny, class_weights={"8": 2.0, "7": 2.0}), tmp_path / "run", console=QUIET)
