"""Faster R-CNN in four steps (arXiv:1506.01497v3, 3.2, "4-Step Alternating Training").

1. The region proposal network learns, on convolutions of its own.
2. Fast R-CNN learns, on other convolutions of its own, from the proposals of 1.
3. The region proposal network is trained again, on the convolutions of 2, which stay as they are.
4. The head of 2 learns on, on the same convolutions, from the proposals of 3.

3 and 4 share their convolutions, and together are one Faster R-CNN.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from rcnnkit import weights
from rcnnkit.config import Settings
from rcnnkit.config_files import read_settings
from rcnnkit.data.proposals import compute_proposals, cores
from rcnnkit.data.records import Dataset
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.trained_rpn import TrainedRPN
from rcnnkit.files import sha256
from rcnnkit.proposals.store import Store
from rcnnkit.terminal import progress
from rcnnkit.training.checkpoint import BEST, LAST
from rcnnkit.training.detection import evaluate_in, read_splits
from rcnnkit.training.run import Run
from rcnnkit.training.run_folder import differences
from rcnnkit.training.start import start
from rcnnkit.training.stopping import Interrupted

Train = Callable[..., Path]  # `rcnnkit.train`
STEPS = ("1-rpn", "2-fast-rcnn", "3-rpn", "4-fast-rcnn")


def train_alternating(settings: Settings, folder: Path, console: Console | None, train: Train) -> Path:
    """Train a Faster R-CNN in four steps, each a run in a folder of its own below `folder`.

    With `train.resume` naming `folder`, steps that are done are not done again, and one that was stopped goes on.
    `train.init` gives steps 1 and 2 their start, where it is not ImageNet's.

    Args:
        train: trains one step.

    Returns:
        The path of best.safetensors in `folder`, the detector of steps 3 and 4. It is the last, as nothing is
        evaluated before; evaluation.json says how good it is on `data.val`.

    Raises:
        As `rcnnkit.train`; and
        ValueError: a batch cannot be shared out among the processes; or `folder` is one step of such a run, or was
            begun with other settings.
    """
    run = Run(settings, folder, console, holds="settings.toml")
    ranks, options = run.ranks, settings.alternating
    for name, batch in (("rpn_batch", options.rpn_batch), ("head_batch", options.head_batch)):
        if ranks.size > 1 and batch < ranks.size * settings.train.accumulate:
            raise ValueError(
                f"alternating.{name} = {batch} pictures cannot be shared out among {ranks.size} processes, each with"
                f" train.accumulate = {settings.train.accumulate}; raise it to {ranks.size * settings.train.accumulate}"
                " or more, or start fewer processes"
            )
    if run.resume:
        _check_same(settings, folder)
    training, validation = read_splits(settings.data)
    if not settings.train.resume:
        run.keep_settings()

    def step(number: int, settings: Settings) -> Path:
        """The weights that a step ends with; nothing is left to do where they are there."""
        part = folder / STEPS[number - 1]
        done, started = ranks.from_first(((part / BEST).exists(), (part / LAST).exists()))
        if done:
            return part / BEST
        run.say(f"step {part.name}")
        if started:
            settings = _changed(settings, train={"resume": part})
        elif (
            ranks.first and part.exists()
        ):  # it was killed before its first checkpoint, and holds nothing but settings and log
            shutil.rmtree(part)
        return train(settings, part, console=run.console)

    try:
        rpn = step(1, _rpn_settings(settings))
        store = _proposals(run, rpn, training)
        fast = step(2, _head_settings(settings, store.folder))
        changes: dict[str, Any] = {"freeze_backbone": True, "init": fast}
        rpn = step(3, _rpn_settings(settings, **changes))
        store = _proposals(run, rpn, training)
        fast = step(4, _head_settings(settings, store.folder, **changes | {"init": rpn}))
    except Interrupted as stop:
        raise Interrupted(run.last, stop.iteration, stop.signal) from None  # the whole is what goes on

    detector = weights.load(rpn, run.device, for_training=True)
    _, tensors = weights.read(fast)
    head = {name.removeprefix("head."): value for name, value in tensors.items() if name.startswith("head.")}
    detector.get_submodule("head").load_state_dict(head)
    about: dict[str, Any] = {"iteration": 2 * (options.rpn_iterations + options.head_iterations), "data": training.name}
    if validation is not None:
        result = evaluate_in(run, detector, validation)
        about |= {} if result is None else run.evaluated(result, validation.name)
    run.save_best(detector, about)
    return run.best


def dry_run_alternating(
    settings: Settings, folder: Path, console: Console | None, try_step: Callable[..., Path]
) -> None:
    """The dry runs of steps 1 and 2: each network once, the second on proposals of the first as it starts.

    Args:
        try_step: `train_detector`.
    """
    training, _ = read_splits(settings.data)
    first = Run(_rpn_settings(settings), folder / STEPS[0], console, dry=True)
    first.say(f"step {STEPS[0]}")
    try_step(first)
    rpn = TrainedRPN(start(first, training, Detector).eval(), "untrained", training=True)
    second = Run(_head_settings(settings, folder / "proposals"), folder / STEPS[1], console, dry=True)
    second.say(f"step {STEPS[1]}")
    try_step(second, rpn)
    second.say(f"steps {STEPS[2]} and {STEPS[3]} train the same on convolutions that stay, in less memory and time")


def _check_same(settings: Settings, run: Path) -> None:
    """Steps that are done keep their settings, so a run goes on with those that it began with."""
    if run.name in STEPS and (run.parent / "settings.toml").exists():
        raise ValueError(f"{run} is one step of an alternating run; continue the whole run: train.resume={run.parent}")
    if (run / "settings.toml").exists():
        changes = differences(read_settings(run / "settings.toml"), settings)
        if changed := [f"{key} = {began}, not {now}" for key, (began, now) in changes.items()]:
            raise ValueError(f"{run} was begun with {'; '.join(changed)}: leave that as it was, or start another run")


def _rpn_settings(settings: Settings, **train: Any) -> Settings:
    options = settings.alternating
    steps: dict[str, Any] = {
        "iterations": options.rpn_iterations,
        "batch": options.rpn_batch,
        "lr_for_16": options.rpn_lr_for_16,
        "rpn_only": True,
    }
    return _step_settings(settings, steps | train)


def _head_settings(settings: Settings, proposals: Path, **train: Any) -> Settings:
    options = settings.alternating
    steps: dict[str, Any] = {
        "iterations": options.head_iterations,
        "batch": options.head_batch,
        "lr_for_16": options.head_lr_for_16,
        "steps": settings.train.steps if options.head_steps is None else options.head_steps,
    }
    stored = {"method": "precomputed", "folder": proposals, "train_count": settings.rpn.train_post_nms}
    settings = _changed(settings, model={"kind": "fast_rcnn"}, proposals=stored)
    return _step_settings(settings, steps | train)


def _step_settings(settings: Settings, train: dict[str, Any]) -> Settings:
    """Without validation, as half a detector says little, so that a step's best weights are its last."""
    changed = _changed(settings, train={"resume": None} | train, data={"val": ""}, alternating={"enabled": False})
    # Weights to start from are ImageNet's already.
    return _changed(changed, model={"pretrained": False}) if train.get("init") else changed


def _changed(settings: Settings, **sections: dict[str, Any]) -> Settings:
    new = {name: getattr(settings, name).model_copy(update=values) for name, values in sections.items()}
    return settings.model_copy(update=new)


def _proposals(run: Run, rpn: Path, data: Dataset) -> Store:
    """The proposals of a step's region proposal network in the training pictures."""
    detector = weights.load(rpn, run.device, for_training=True)
    method = TrainedRPN(detector, sha256(rpn)[:16], training=True)
    store = Store.create(run.folder / "proposals", method.name, method.settings)
    with progress(run.console) as report:
        share, workers = (run.ranks.rank, run.ranks.size), max(1, cores() // run.ranks.here)
        compute_proposals(data, method, store, workers=workers, share=share, progress=report)
    run.ranks.meet()
    return store
