"""What a training leaves where its loss or gradient stops being finite: enough to see why, and to see it again."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from rcnnkit.colours import class_colour
from rcnnkit.config_files import write_settings
from rcnnkit.drawing.canvas import Canvas
from rcnnkit.files import free_folder
from rcnnkit.model import Model
from rcnnkit.training.run import Run

FOLDER, REPORT = "diverged", "diverged.json"
ITERATIONS = 50  # that are reported, up to it


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One iteration, before its step."""

    iteration: int
    losses: Mapping[str, float]
    rate: float
    names: Sequence[str]  # of the P weights that have a gradient
    weights: Tensor  # (P,) length of each weight, on the device; nothing waits for it
    gradients: Tensor  # (P,) of each gradient, before it is shortened

    @classmethod
    def of(cls, iteration: int, losses: Mapping[str, float], rate: float, model: nn.Module) -> Record:
        learning = {name: weight for name, weight in model.named_parameters() if weight.grad is not None}
        gradients = [weight.grad for weight in learning.values() if weight.grad is not None]
        weights = [weight.detach() for weight in learning.values()]
        norms = (torch.stack(torch._foreach_norm(each)) for each in (weights, gradients))
        return cls(iteration, losses, rate, tuple(learning), *norms)

    @property
    def gradient_norm(self) -> Tensor:
        """Of all gradients together, ()."""
        return torch.linalg.vector_norm(self.gradients)

    def to_json(self) -> dict[str, Any]:
        """With one norm for each of the model's parts: backbone, rpn, head."""
        norms = {
            kind: _by_part(self.names, values.tolist())
            for kind, values in (("weight_norms", self.weights), ("gradient_norms", self.gradients))
        }
        return {"iteration": self.iteration, "lr": self.rate, "losses": dict(self.losses), **norms}


def _by_part(names: Sequence[str], norms: Sequence[float]) -> dict[str, float]:
    squares: dict[str, float] = {}
    for name, norm in zip(names, norms, strict=True):
        part = name.partition(".")[0]
        squares[part] = squares.get(part, 0.0) + norm**2
    return {part: math.sqrt(value) for part, value in squares.items()}


def leave(
    run: Run, model: Model, batch: Any, losses: Mapping[str, float], history: Iterable[Record]
) -> tuple[Path, str]:
    """Write the folder `diverged` in the run's: settings, report and the batch's pictures. The checkpoint that goes
    with them, of before this iteration, is the caller's to write.

    A run that repeats the iteration from there writes nothing new.

    Args:
        model: gives the names of the classes, and how pixels were normalised.
        batch: what was learnt from; `pictures` and `targets` or `labels` are drawn where it has them.
        losses: of this iteration.
        history: of iterations before it, the last ones last; and of this one where its gradient is known.

    Returns:
        The folder, and a command that repeats this iteration alone.
    """
    repeats = (run.folder / REPORT).exists()
    folder = run.folder if repeats else free_folder(run.folder / FOLDER)
    iteration, train = run.progress.iteration, run.settings.train
    changes = [f"train.resume={folder}", f"train.iterations={iteration + 1}", "train.evaluate_every=0"]
    if run.settings.adversary.kind != "none":
        changes += run.settings.adversary.only(iteration, train.iterations)
    changes += ["train.patience=0"] if train.patience else []
    changes += ["train.loggers=[]"] if set(train.loggers) - {"tensorboard"} else []
    command = shlex.join(["rcnnkit", "train", str(folder / "settings.toml"), *changes])
    if repeats:
        return folder, command
    folder.mkdir(parents=True)
    write_settings(run.settings, folder / "settings.toml")
    _draw(batch, model, folder)
    report = {
        "iteration": iteration,
        "losses": dict(losses),
        "seed": run.settings.train.seed,
        "device": str(run.device),
        "precision": run.precision,
        "pictures": [str(path) for path in batch.paths],
        "repeat": command,
        "last_iterations": [each.to_json() for each in history],
    }
    text = json.dumps(_plain(report), indent=1, allow_nan=False)
    (folder / REPORT).write_text(text, encoding="utf-8")
    return folder, command


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity; they become words."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _draw(batch: Any, model: Model, folder: Path) -> None:
    """The pictures as the network saw them, with their boxes."""
    targets, class_names = getattr(batch, "targets", None), model.class_names
    for number, picture in enumerate(getattr(batch, "pictures", ())):
        if picture.is_floating_point():  # normalised before it was resized: see `input.resizing`
            mean, std = (torch.tensor(v)[:, None, None] for v in (model.preprocessing.mean, model.preprocessing.std))
            picture = ((picture * std + mean) * 255).round().clamp(0, 255).byte()
        pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
        name = f"{number:02d}-{batch.paths[number].stem}"
        if targets is None:
            Image.fromarray(pixels).save(folder / f"{name}-{class_names[int(batch.labels[number])]}.png")
            continue
        canvas, objects = Canvas(pixels), targets[number]
        colours = [class_colour(label) for label in objects.labels.tolist()]
        frames = canvas.outline(objects.boxes, colours, canvas.pixels(2))
        for frame, colour, label in zip(frames, colours, objects.labels.tolist(), strict=True):
            if frame:
                canvas.write(frame, class_names[label], colour)
        canvas.image.save(folder / f"{name}.png")
