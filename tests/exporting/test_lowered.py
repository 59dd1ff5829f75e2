"""Files with fewer bits: what they cost in AP is measured, and layers stay in float32 until it is little."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rcnnkit.data.records import Dataset, Record
from rcnnkit.detectors.detector import Detector
from rcnnkit.exporting import lowered
from rcnnkit.exporting.export import FORMATS, export
from rcnnkit.exporting.lowered import TooMuchLost, _error, halved, keep_enough
from rcnnkit.exporting.proof import random_picture
from rcnnkit.exporting.runtimes import Exported
from rcnnkit.images import read_picture
from rcnnkit.structures import Array, Detections, Proposals, Targets
from tests.exporting.conftest import small

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'rcnnkit[export]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'rcnnkit[export]'")


def annotated(detector: Detector, folder: Path, pictures: int = 4) -> Dataset:
    """Pictures whose objects are what the detector itself finds, so that its AP is 1."""
    generator = np.random.default_rng(5)
    records = []
    for number in range(pictures):
        path = folder / f"{number}.png"
        Image.fromarray(random_picture(120, 160, generator)).save(path)
        found = detector(path)
        records.append(Record(number, path, (120, 160), Targets(found.boxes, found.labels)))
    return Dataset("own", records, detector.class_names, detector.category_ids)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return small()


@pytest.fixture(scope="module")
def data(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return annotated(detector, tmp_path_factory.mktemp("own"))


@pytest.fixture
def few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rcnnkit.exporting.proof.SIDES", ((96, 130),))


def weights(file: Path) -> dict[str, int]:
    """How many weights of each type the layers have."""
    import onnx

    counted: dict[str, int] = {}
    for value in onnx.load(file).graph.initializer:
        if len(value.dims) > 1:
            name = onnx.TensorProto.DataType.Name(value.data_type)
            counted[name] = counted.get(name, 0) + int(np.prod(value.dims))
    return counted


def test_fp16_halves_the_file_and_keeps_the_ap(
    detector: Detector, data: Dataset, tmp_path: Path, few_cases: None
) -> None:
    # A random network's scores are close together, so that rounding changes their order.
    done = export(detector, tmp_path / "a.onnx", precision="fp16", verify=data, max_ap_loss=0.3)
    assert isinstance(done, lowered.Lowered)
    assert (done.before, done.left_out) == (pytest.approx(1), ())
    assert 0.7 < done.after < 1
    low, high = done.interval
    assert low <= done.before - done.after <= high
    assert str(done) == (
        f"fp16: AP 1.0000 before and {done.after:.4f} after, on 4 pictures; a loss of {done.before - done.after:.4f}"
        f" ({low:.4f} to {high:.4f} with 95 % confidence)"
    )
    counted = weights(tmp_path / "a.onnx")
    assert counted["FLOAT16"] > 50 * counted["FLOAT"]
    assert Exported(tmp_path / "a.onnx").about["precision"] == "fp16"


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_int8(detector: Detector, data: Dataset, tmp_path: Path, few_cases: None, format: str) -> None:
    pytest.importorskip(format)
    pictures = [read_picture(record.path) for record in data.records[:2]]
    file = tmp_path / f"a{FORMATS[format].suffix}"
    options: dict[str, Any] = {"format": format, "precision": "int8", "verify": data, "calibration": pictures}
    done = export(detector, file, **options, max_ap_loss=1)
    assert isinstance(done, lowered.Lowered)
    assert (done.before, done.left_out) == (pytest.approx(1), ())
    assert Exported(file).about["precision"] == "int8"
    if format == "onnx":
        counted = weights(file)
        assert counted["INT8"] > 20 * counted["FLOAT"]
    words = r"int8 loses more than 1e-09 of the AP of 1.0000: a loss of 0\.\d+ \(.*\) with 0 of 47 left in float32; "
    with pytest.raises(TooMuchLost, match=words):
        export(detector, file.with_stem("b"), **options, max_ap_loss=1e-9)
    assert {path.stem for path in tmp_path.iterdir()} == {"a", "detect"}


def test_layers_are_left_out_until_little_is_lost(detector: Detector, data: Dataset) -> None:
    opened = []

    def files() -> Iterator[tuple[tuple[str, ...], int, Any]]:
        """Each finds half of what is there, then three quarters, and all."""
        for number, left_out in ((2, ()), (4, ("a",)), (99, ("a", "b")), (99, ("a", "b", "c"))):
            opened.append(left_out)

            def find(pictures: Sequence[Array], number: int = number) -> list[Detections]:
                return [found[: min(number, len(found))] for found in detector(list(pictures))]

            yield left_out, 9, find

    done = keep_enough(detector, files(), data, "int8", 0.005)
    assert (done.left_out, done.layers, done.pictures) == (("a", "b"), 9, 4)
    assert (done.before, done.after) == (pytest.approx(1), pytest.approx(1))
    assert opened == [(), ("a",), ("a", "b")]
    assert str(done) == (
        "int8: AP 1.0000 before and 1.0000 after, on 4 pictures; a loss of 0.0000 (0.0000 to 0.0000 with 95 %"
        " confidence); 2 of 9 layers left in float32"
    )


def test_few_pictures_cannot_tell(detector: Detector, data: Dataset) -> None:
    """One picture of four loses all its detections, so that samples without it lose nothing."""
    unlucky = read_picture(data.records[0].path)

    def find(pictures: Sequence[Array]) -> list[Detections]:
        (found,) = detector(list(pictures))
        return [found[:0] if np.array_equal(pictures[0], unlucky) else found]

    with pytest.raises(TooMuchLost) as raised:
        keep_enough(detector, iter([((), 9, find)]), data, "int8", 0.005)  # type: ignore[list-item]  # as a file
    told = str(raised.value)
    lost = re.match(r"int8 loses more than 0\.005 of the AP of 1\.0000: a loss of (0\.\d{4}) \(0\.0000 to ", told)
    assert lost
    assert 0.1 < float(lost[1]) < 0.5  # the share of the objects that were in the picture, about
    assert told.endswith(
        "with 95 % confidence) with 0 of 9 left in float32; on 4 pictures that may be chance, so give more with"
        " --verify, or allow more with --max-ap-loss, or leave --precision out"
    )


def test_errors_count_by_scores() -> None:
    def outputs(boxes: list[list[float]], scores: list[float]) -> dict[str, np.ndarray]:
        arrays = np.array([boxes], np.float32).reshape(1, -1, 4), np.array([scores], np.float32)
        count = len(scores)
        return {"boxes": arrays[0], "scores": arrays[1], "labels": np.zeros((1, count)), "counts": np.array([count])}

    one = outputs([[0, 0, 10, 10], [20, 0, 30, 10]], [0.8, 0.4])
    assert _error(one, one) == pytest.approx(0)
    moved = outputs([[0, 0, 10, 5], [20, 0, 30, 10]], [0.7, 0.4])  # an IoU of a half, and 0.1 of the score
    assert _error(one, moved) == pytest.approx(0.8 * 0.5 + 0.1)
    assert _error(one, outputs([[0, 0, 10, 10]], [0.8])) == pytest.approx(0.4)
    assert _error(one, outputs([], [])) == pytest.approx(1.2)


def test_a_fast_rcnn_is_judged_with_the_proposals_of_its_own_method(tmp_path: Path) -> None:
    detector = small("fast_rcnn", proposals={"method": "sliding_windows", "count": 40})
    data, given = annotated(detector, tmp_path, 2), list[int]()

    def find(pictures: Sequence[Array], regions: Sequence[Proposals]) -> list[Detections]:
        given.extend(len(each) for each in regions)
        return detector(list(pictures), list(regions))

    done = keep_enough(detector, iter([((), 3, find)]), data, "fp16", 0.005)  # type: ignore[list-item]  # as a file
    assert done.after == pytest.approx(1)
    assert given == [40, 40]


def test_what_is_between_the_parts_stays_float32() -> None:
    detector = small()
    changed: Any = halved(detector, torch.bfloat16, ["backbone", "rpn"])
    assert {value.dtype for value in changed.backbone.parameters()} == {torch.bfloat16}
    assert {value.dtype for value in changed.head.parameters()} == {torch.float32}
    assert {value.dtype for value in detector.parameters()} == {torch.float32}
    pixels = torch.rand(1, 3, 64, 64)
    exact: Any = detector
    with torch.no_grad():
        for ours, theirs in zip(changed.backbone(pixels), exact.backbone(pixels), strict=True):
            assert ours.dtype == torch.float32
            assert 0 < (ours - theirs).abs().max() < 0.1 * theirs.abs().max()


def test_what_cannot_be_is_said(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    def told(**options: Any) -> str:
        given: dict[str, Any] = {"precision": "int8", "verify": data, "calibration": [np.zeros((9, 9, 3), np.uint8)]}
        given |= options
        one = given.pop("detector", detector)
        with pytest.raises(ValueError, match=r".") as raised:
            export(one, tmp_path / given.pop("out", "a.onnx"), **given)
        return str(raised.value)

    assert told(precision="int4") == "precision 'int4' is not one of float32, fp16, bf16, int8"
    assert told(format="torch", out="a.pt2") == (
        "int8 is onnxruntime's quantisation, which torch has no place for; choose onnx or openvino"
    )
    assert told(calibration=[]) == "int8 needs pictures to calibrate with; give --calibrate PICTURES"
    assert told(verify=None) == ("int8 needs annotated pictures, for the AP before and after; give --verify DATA")
    assert told(detector=small("rcnn")).startswith("of an R-CNN the classifier of windows is exported, which has no AP")
    assert told(detector=small("fast_rcnn")).startswith("int8 needs the AP, and this detector the proposals of each")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_onnx_has_no_convolution_in_bf16(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^onnxruntime does not take this detector in bf16 \(") as raised:
        export(detector, tmp_path / "a.onnx", precision="bf16", verify=data)
    assert str(raised.value).endswith("is invalid.); choose another --precision or --format")
    assert list(tmp_path.iterdir()) == []
