"""A detector written for another runtime, proven equal, with a script that uses it."""

from __future__ import annotations

import copy
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rcnnkit
from rcnnkit.backbones.spatial_transformer import SpatialTransformer
from rcnnkit.data.records import Dataset
from rcnnkit.defaults import EXACT, EXPORTED, MAX_AP_LOSS, OPSET
from rcnnkit.detectors.describer import Describer
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.exporting.lowered import TYPES, Lowered, check_lowered, half_files, int8_files, keep_enough
from rcnnkit.exporting.proof import Proof, check_runs, prove
from rcnnkit.exporting.repository import check_repository, write_repository
from rcnnkit.exporting.runtimes import Exported, check_runtime
from rcnnkit.exporting.script import script
from rcnnkit.exporting.to_onnx import to_onnx, with_threshold
from rcnnkit.exporting.to_openvino import from_onnx, to_openvino
from rcnnkit.exporting.to_torch import program_with_threshold, to_aoti, to_torch
from rcnnkit.files import check_new, whole
from rcnnkit.progress import Report, silent
from rcnnkit.structures import Array

log = logging.getLogger("rcnnkit")

SCRIPT = "detect.py"


@dataclass(frozen=True, slots=True)
class Format:
    """What `--format` names."""

    suffix: str
    write: Callable[..., None]
    beside: tuple[str, ...] = ()  # endings of the files that it writes besides
    takes_opset: bool = False
    from_onnx: Callable[[Path, Path], object] | None = None  # makes the file of an ONNX file
    with_threshold: Callable[[Path, Path, float], None] | None = None  # writes a file once more, with another one


FORMATS = {
    "onnx": Format(".onnx", to_onnx, takes_opset=True, from_onnx=shutil.copyfile, with_threshold=with_threshold),
    "openvino": Format(".xml", to_openvino, beside=(".bin",), takes_opset=True, from_onnx=from_onnx),
    "torch": Format(".pt2", to_torch, with_threshold=program_with_threshold),
    "aoti": Format(".pt2", to_aoti),
}

INT8 = "int8"
PRECISIONS = (EXACT, *TYPES, INT8)


def export(
    detector: Detector,
    out: Path | str,
    format: str = EXPORTED,
    *,
    with_preprocessing: bool = False,
    verify: Dataset | None = None,
    opset: int = OPSET,
    repository: Path | str | None = None,
    precision: str = EXACT,
    calibration: Sequence[Array] = (),
    max_ap_loss: float = MAX_AP_LOSS,
    progress: Report = silent,
) -> Proof | Lowered:
    """Write a detector for another runtime, with a script beside it that uses it without rcnnkit.

    The file is run in its runtime before it is kept, and answers as the detector does. The script is `detect.py`. If
    that is there for another kind of file, it is named after the file, such as `detect_cells_openvino.py`.

    Args:
        detector: as of `rcnnkit.load(file, for_training=True)`; it is left as it is.
        out: the new file: .onnx, .xml (with a .bin beside it) or .pt2.
        format: one of `FORMATS`: "onnx", "openvino", "torch" or "aoti".
        with_preprocessing: the file resizes pictures itself, and all of a batch are of one size.
        verify: pictures of yours for the proof, the first 16; AP is compared too where they are annotated.
        opset: of ONNX.
        precision: one of `PRECISIONS`. With fewer bits than float32 the answers differ. So in place of the proof, the
            AP on all of `verify`, which must be annotated, is compared before and after.
        calibration: for int8: pictures (H, W, 3) uint8 RGB that the ranges of numbers are taken from.
        max_ap_loss: how much lower the AP may be after. Layers stay in float32 until it is.
        repository: of ONNX: a folder of models for Triton, which a copy goes into; see
            `rcnnkit.exporting.repository.write_repository`.

    Returns:
        What was compared.

    Raises:
        rcnnkit.exporting.proof.Unequal: the file answers otherwise; it is not kept.
        rcnnkit.exporting.lowered.TooMuchLost: no file with fewer bits keeps enough of the AP; none is kept.
        FileExistsError: a file is there already.
        ValueError: a library of the format is missing, and which extra has it; the detector only detects; or it, or an
            option, has no place in the format.
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    kind, out = FORMATS[format], Path(out)
    if opset != OPSET and not kind.takes_opset:
        raise ValueError(f"opset {opset} is for ONNX, and {format} has none; leave it out")
    _check_precision(precision, format, detector, verify, calibration)
    if repository is not None:
        if format != "onnx":
            raise ValueError(f"a repository for Triton is for ONNX, and not for {format}; leave it out")
        check_repository(Path(repository), out.stem)
        check_new(out.with_suffix(".yaml"))
    for suffix in (kind.suffix, *kind.beside):
        check_new(out.with_suffix(suffix) if suffix != kind.suffix else out, suffix)
    if detector.only_detects:
        raise ValueError(
            "a detector that only detects cannot be exported; give the one that it was made from, such as"
            " rcnnkit.load(file, for_training=True)"
        )
    if any(isinstance(part, SpatialTransformer) for part in detector.modules()):
        raise ValueError(
            'a detector with a spatial transformer cannot be exported; train one with transformer.kind = "none"'
        )
    if isinstance(detector, Describer):
        raise ValueError(f"a {type(detector).__name__} cannot be exported: its phrases are made word by word")
    check_runtime(kind.suffix)
    own = copy.deepcopy(detector).to("cpu").eval().requires_grad_(False)
    if own.preprocessing.has_views:
        log.warning("the exported file looks at every picture once, as a whole; cut tiles, and put together, yourself")
        own.preprocessing = own.preprocessing.once()
    about = describe(own, with_preprocessing) | {"precision": precision}
    text = script(format, kind.suffix, about)
    beside = _beside(out, format, text)
    options: dict[str, Any] = {"with_preprocessing": with_preprocessing}
    if kind.takes_opset:
        options["opset"] = opset

    def write(one: Detector, file: Path) -> None:
        _write(kind, format, one, file, about, options)

    with whole(out) as half:
        result: Proof | Lowered
        if precision == EXACT:
            write(own, half)

            def again(threshold: float, inside: bool) -> Exported:
                with tempfile.TemporaryDirectory(dir=half.parent) as folder:
                    path = Path(folder) / out.name
                    if kind.with_threshold and not inside:
                        kind.with_threshold(half, path, threshold)
                    else:
                        with _threshold(own, threshold):
                            kind.write(own, path, about, **options, inside=inside)
                    return Exported(path)

            result = prove(own, Exported(half), again, verify, progress)
        else:
            assert verify is not None
            if precision in TYPES:
                files = half_files(own, half, write, precision)
            else:
                assert kind.from_onnx is not None

                def write_onnx(one: Detector, file: Path) -> None:
                    _write(FORMATS["onnx"], "onnx", one, file, about, options)

                files = int8_files(own, half, write_onnx, kind.from_onnx, calibration, progress)
            result = keep_enough(own, files, verify, precision, max_ap_loss, progress)
            check_runs(own, Exported(half))
        for suffix in kind.beside:
            half.with_suffix(suffix).replace(out.with_suffix(suffix))
        beside.write_text(text, encoding="utf-8")
    if repository is not None:
        write_repository(out, Path(repository))
    return replace(result, script=beside)


def _beside(out: Path, format: str, text: str) -> Path:
    """Where the script goes: detect.py, unless that is of another kind of file.

    Raises:
        FileExistsError: neither that name nor the file's own is free.
    """
    paths = [out.with_name(SCRIPT), out.with_name(f"detect_{out.stem}_{format}.py")]
    for path in paths:
        if not path.exists() or path.read_bytes() == text.encode():
            return path
    raise FileExistsError(
        f"{' and '.join(str(path) for path in paths)} are there already, and are of other exports; choose another"
        " folder"
    )


def _check_precision(
    precision: str, format: str, detector: Detector, verify: Dataset | None, calibration: Sequence[Array]
) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    if precision == EXACT:
        return
    if precision == INT8:
        able = [name for name, kind in FORMATS.items() if kind.from_onnx]
        if format not in able:
            raise ValueError(
                f"{INT8} is onnxruntime's quantisation, which {format} has no place for; choose {' or '.join(able)}"
            )
        if not len(calibration):
            raise ValueError(f"{INT8} needs pictures to calibrate with; give --calibrate PICTURES")
    check_lowered(detector, verify, precision)


def _write(
    kind: Format, name: str, detector: Detector, path: Path, about: dict[str, Any], options: dict[str, Any]
) -> None:
    """Write the file. Raises ValueError where torch or a library cannot."""
    try:
        kind.write(detector, path, about, **options)
    except (OSError, ValueError):
        raise
    except Exception as error:  # of as many kinds as there are libraries
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        others = ", ".join(other for other in FORMATS if other != name)
        raise ValueError(
            f"this {type(detector).__name__} cannot be written as {name} ({reason}); try another format: {others}"
        ) from error


@contextmanager
def _threshold(detector: Detector, threshold: float) -> Iterator[None]:
    head: Any = detector.head
    before, head.score_threshold = head.score_threshold, threshold
    try:
        yield
    finally:
        head.score_threshold = before


def describe(detector: Detector, with_preprocessing: bool) -> dict[str, Any]:
    """What a file says of itself, so that it can be used without anything else."""
    head: Any = getattr(detector, "head", detector)
    about: dict[str, Any] = {
        "format": 1,
        "rcnnkit": rcnnkit.__version__,
        "kind": detector.kind,
        "class_names": list(detector.class_names),
        "category_ids": list(detector.category_ids),
        "score_threshold": head.score_threshold,
        "nms_iou": head.nms_iou,
        "max_detections": head.max_detections,
        "scores": "margins" if detector.scores_are_margins else "probabilities",
        "precision": "float32",
        "device": "cpu",
        "with_preprocessing": with_preprocessing,
        "input": detector.preprocessing.model_dump(mode="json"),
        "origin": dict(detector.origin or {}),
        "licence": (detector.origin or {}).get("licence"),
    }
    if isinstance(detector, RCNN):
        about |= {"window": detector.settings.size, "context": detector.settings.context}
    return about
