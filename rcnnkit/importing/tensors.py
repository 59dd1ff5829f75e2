"""The tensors of somebody else's weights file, read without running anything in it, and carried to their places."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from rcnnkit.files import check_regular
from rcnnkit.pickles import read_pickle
from rcnnkit.text import visible

Tensors = dict[str, Tensor]
WRAPPED = ("model", "state_dict", "model_state_dict")  # what training scripts keep the weights under
# Of torch.compile, fully sharded training and activation checkpointing, wherever they stand in a name.
TORCH_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# What names begin with: DistributedDataParallel's, and what Lightning modules mostly call the network.
OUTER = ("module", "model", "net")
LISTED = 20  # entries of each kind in an error
SUFFIXES = (".pth", ".pt", ".ckpt", ".pkl", ".safetensors")


def read_tensors(path: Path) -> Tensors:
    """The state dict in a file.

    Args:
        path: a .pth, .pt or .ckpt of torch.save, a .pkl of numpy arrays as detectron2's, or a .safetensors. The weights
            may be under "model" or "state_dict" of a checkpoint.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder or device, cut short, of another kind, a pickle that asks for more than tensors, or
            rcnnkit's own.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the file in it")
    check_regular(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    readers: dict[str, Callable[[Path], Any]] = {
        ".pth": _from_torch,
        ".pt": _from_torch,
        ".ckpt": _from_torch,
        ".pkl": read_pickle,
        ".safetensors": _from_safetensors,
    }
    if path.suffix not in readers:
        raise ValueError(f"{path} does not end in one of {', '.join(SUFFIXES)}; rename it")
    content = readers[path.suffix](path)
    for name in WRAPPED:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds a {type(content).__name__} in place of names and tensors")
    tensors = {}
    for name, value in content.items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))  # a copy that can be written to
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{path} holds {name!r}: {type(value).__name__}, expected names and tensors; is this a file of weights?"
            )
        tensors[name] = value.detach()
    return tensors


def unwrapped(state: Mapping[str, Tensor]) -> Tensors:
    """A state dict with the names that it has in the network itself, without those of what was put around it.

    What does not lie in the wrapper, such as the weights of a loss beside Lightning's "model.", keeps its name. So does
    everything where two tensors would get the same one.
    """
    tensors = dict(state)
    inner = {".".join(part for part in name.split(".") if part not in TORCH_WRAPPERS): name for name in tensors}
    while len(inner) == len(tensors):
        tensors = {new: tensors[old] for new, old in inner.items()}
        outer = next((each for each in OUTER if any(name.startswith(f"{each}.") for name in tensors)), None)
        if outer is None:
            break
        inner = {name.removeprefix(f"{outer}."): name for name in tensors}
    return tensors


def _from_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, OSError, EOFError, AttributeError),
        *(IndexError, KeyError, TypeError, ValueError, UnicodeDecodeError, AssertionError),
    ) as error:
        # torch's text advises to switch the guard off
        if asks := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{path} is not read: it asks for {asks[1]}; save nothing but model.state_dict()"
            ) from None
        raise ValueError(
            f"{path} is not read: {type(error).__name__} in reading it. It is cut short, no file of torch.save, or a"
            " pickle that could run code: copy it again, or save nothing but model.state_dict()"
        ) from None


def _from_safetensors(path: Path) -> Tensors:
    try:
        with safe_open(path, framework="pt") as file:
            if "rcnnkit" in (file.metadata() or {}):
                raise ValueError(f"{path} is rcnnkit's own already; rcnnkit.load reads it")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole .safetensors file ({error}); copy it again") from None


def transfer(
    state: Mapping[str, Tensor],
    places: Mapping[str, str],
    target: nn.Module,
    source: str,
    change: Callable[[Tensors], None] = lambda state: None,
) -> None:
    """Fill `target` with every tensor of `state`, and all of it.

    Args:
        state: of the source, under its names.
        places: of the source's modules, their names among `target`'s modules.
        target: the module to fill.
        source: named in errors.
        change: what else is to be done to the tensors, under their new names, in place; entries may be missing.

    Raises:
        ValueError: lists, in the source's names, entries that are missing, have no place or another shape, are not
            finite, are variances below 0, or lie on the meta device and so have no values.
    """
    # The more special name first: "fpn.2.1" before "fpn.2".
    pairs = sorted(places.items(), key=lambda pair: len(pair[0]), reverse=True)
    expected = target.state_dict()
    origin: dict[str, str] = {}
    extra = []
    for name in state:
        theirs, ours = next((pair for pair in pairs if name.startswith(pair[0] + ".")), ("", ""))
        place = ours + name[len(theirs) :]
        if theirs and place in expected and place not in origin:
            origin[place] = name
        else:
            extra.append(name)
    values = {place: state[name] for place, name in origin.items()}
    change(values)
    back = {ours: theirs for theirs, ours in reversed(pairs)}
    missing = [_renamed(place, back) for place in expected if place not in values]
    misshapen = [
        f"{origin[place]} {tuple(value.shape)}, expected {tuple(expected[place].shape)}"
        for place, value in values.items()
        if value.shape != expected[place].shape
    ]
    real_values = {place: value for place, value in values.items() if not value.is_meta}
    infinite = [origin[n] for n, value in real_values.items() if not value.to(expected[n].dtype).isfinite().all()]
    negative = [origin[n] for n, value in real_values.items() if n.endswith("running_var") and (value < 0).any()]
    kinds = {"missing": missing, "without a place here": extra, "of another shape": misshapen}
    empty = [origin[place] for place, value in values.items() if value.is_meta and not expected[place].is_meta]
    kinds |= {"not finite": infinite, "of negative variances": negative, "without values": empty}
    if problems := [_listed(kind, names) for kind, names in kinds.items() if names]:
        raise ValueError(f"{source} does not fit:\n" + "\n".join(problems))
    target.load_state_dict(values)


def _renamed(name: str, places: Mapping[str, str]) -> str:
    ours = max((place for place in places if name.startswith(place + ".")), key=len, default=None)
    return name if ours is None else places[ours] + name[len(ours) :]


def _listed(kind: str, names: list[str]) -> str:
    more = [f"… and {len(names) - LISTED} more"] if len(names) > LISTED else []
    return "\n  ".join([f"{len(names)} {kind}:", *map(visible, names[:LISTED]), *more])
