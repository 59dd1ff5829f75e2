"""Detecting in tensors of fixed sizes: the same boxes as ever, and one wait for the device."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from rcnnkit import fixed_sizes
from rcnnkit.detectors.detector import with_proposals
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.heads.box_head import BoxHead, HeadSettings
from rcnnkit.ops import batched_nms
from rcnnkit.proposals.rpn import RPN, RPNSettings
from rcnnkit.structures import ImageBatch, Proposals
from rcnnkit.suppression import Kept
from tests.ops.definitions import NASTY_BOXES, random_boxes

# Results whose size follows from values, and values for the host.
WAITING_OPERATORS = {
    *("aten::nonzero", "aten::masked_select", "aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero"),
    *("aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::bincount", "aten::repeat_interleave"),
    *("rcnnkit::nms", "rcnnkit::batched_nms", "torchvision::nms"),
}
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
WAITING_METHODS = {"item", "tolist", "numpy", "cpu", "cuda", "new_tensor", "__array__", "__bool__", "__int__"} | {
    "__float__",
    "__index__",
    "synchronize",
}


class Operators(TorchDispatchMode):
    """Notes what the operators would wait for on a GPU."""

    def __init__(self, waits: list[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition(".")[0]
        masks = name in INDEXING and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if masks or name in WAITING_OPERATORS:
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


class Methods(TorchFunctionMode):
    """Notes what reads a tensor, and copies to the device that wait for it."""

    def __init__(self, waits: list[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, options = getattr(func, "__name__", str(func)), kwargs or {}
        places = [*args[1:], options.get("device")]
        moves = name == "to" and any(isinstance(place, torch.device | str) for place in places)
        made_there = name in ("tensor", "as_tensor", "asarray") and options.get("device") is not None
        where_true = name == "where" and len(args) == 1
        if name in WAITING_METHODS or made_there or where_true or (moves and not options.get("non_blocking")):
            self.waits.append(name)
        return func(*args, **options)


def waits_of(call: Callable[[], Any]) -> tuple[list[str], Any]:
    """What a GPU would be waited for in a call, and its result."""
    waits: list[str] = []
    with torch.no_grad(), Methods(waits), Operators(waits):
        result = call()
    return waits, result


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], Any]:
    """Calls as on a GPU."""

    def call(function: Callable[[], Any]) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(fixed_sizes, "are_wanted", lambda tensor: True)
            return function()

    return call


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.where(x > 0),
        lambda x: x[0].item(),
        lambda x: x.tolist(),
        lambda x: bool(x.sum() > 0),
        lambda x: x.new_tensor([1.0]),
        lambda x: torch.tensor([1.0], device=x.device),
        lambda x: torch.ones(1).to(x.device),
        lambda x: x.masked_select(x > 0),
        lambda x: x.index_put((x > 0,), torch.zeros(())),
        lambda x: batched_nms(x.reshape(1, 4), x[:1], x[:1].long(), 0.5),
    ],
)
def test_what_waits_is_seen(call: Callable[[Tensor], Any]) -> None:
    x = torch.tensor([1.0, -1, 2, 3])
    assert waits_of(lambda: call(x))[0]


@pytest.mark.parametrize("seed", range(4))
def test_rows_are_suppressed_as_groups_are(seed: int) -> None:
    random = generator(seed)
    boxes = torch.cat([random_boxes(150, random), torch.tensor(NASTY_BOXES)]).repeat(3, 1)
    scores = (torch.rand(len(boxes), generator=random) * 20).round() / 20  # many ties
    scores[::17] = torch.nan
    groups = torch.arange(3).repeat_interleave(len(boxes) // 3)
    is_there = torch.rand(len(boxes), generator=random) < (0.0, 0.1, 0.9, 1.0)[seed]
    rows = torch.where(is_there, scores, -torch.inf).reshape(1, 3, -1)
    waits, left = waits_of(lambda: fixed_sizes.suppress(boxes.reshape(1, 3, -1, 4), rows, 0.4))
    assert not waits
    waits, (values, places) = waits_of(lambda: fixed_sizes.best(left.flatten(1), 25))
    assert not waits
    kept = batched_nms(boxes[is_there], scores[is_there], groups[is_there], 0.4)[:25]
    expected = torch.where(is_there)[0][kept]
    assert places[0, : len(kept)].equal(expected)
    torch.testing.assert_close(values[0, : len(kept)], scores[expected], rtol=0, atol=0, equal_nan=True)
    assert (values[0, len(kept) :] == -torch.inf).all()


@pytest.mark.parametrize(
    ("pictures", "maps", "options"),
    [
        (3, 3, {}),
        (1, 1, {"min_side": 12.0}),
        (1, 3, {"nms_iou": 0.05, "post_nms": 100}),  # fewer are left than there may be
        (3, 1, {"pre_nms": 5, "anchors": "detectron2", "convs": 2}),
    ],
)
def test_an_rpn_proposes_the_same(pictures: int, maps: int, options: dict[str, Any]) -> None:
    settings = RPNSettings.model_validate(
        {"anchor_sizes": [[8.0 * 2**i] for i in range(maps)], "pre_nms": 60, "post_nms": 40} | options
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rpn = RPN(4, [4 * 2**i for i in range(maps)], settings).eval()
        features = [torch.randn(pictures, 4, 16 // 2**i, 24 // 2**i) for i in range(maps)]
        torch.nn.init.normal_(rpn.delta_layer.weight, std=0.3)
    features[0][-1, :, 3, 3] = torch.nan  # scores that are not numbers come first
    sizes = [(64, 96), (40, 90), (50, 50)][:pictures]
    images = ImageBatch(torch.zeros(pictures, 3, 64, 96), sizes, sizes)
    with torch.no_grad():
        expected = rpn.propose(images, features)
    waits, found = waits_of(lambda: rpn.propose(images, features, fixed=True))
    assert not waits
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine[: len(other)].boxes, other.boxes, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(mine[: len(other)].scores, other.scores, rtol=0, atol=0, equal_nan=True)
        assert mine.boxes[len(other) :].isnan().all()
        assert (mine.scores[len(other) :] == -torch.inf).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"class_agnostic": True},
        {"score_threshold": 0.0, "max_detections": 0},
        {"score_threshold": 0.0, "max_detections": 5, "nms_iou": 0.1},
        {"score_threshold": 0.9999},  # nothing
        {"unnamed": 2, "min_side": 15.0, "measured_targets": True},
        {"svms": True, "score_threshold": -0.2},
    ],
)
def test_a_head_detects_the_same(options: dict[str, Any], forced: Callable[..., Any]) -> None:
    settings = HeadSettings.model_validate({"score_threshold": 0.3} | options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = BoxHead(torch.nn.Flatten(), 12, ["cat", "dog", "hen"], [1, 2, 3], settings).eval()
        torch.nn.init.normal_(head.score_layer.weight, std=0.5)
        torch.nn.init.normal_(head.delta_layer.weight, std=0.5)
        counts = (40, 0, 55)
        proposals = [Proposals(random_boxes(n, generator(n)), torch.ones(n)) for n in counts]
        regions = torch.randn(sum(counts), 3, 2, 2)
    regions[5], proposals[2].boxes[7] = torch.nan, torch.nan
    regions[10:20] = regions[20:30]  # ties
    sizes = [(90, 120), (10, 10), (60, 80)]
    for some in (slice(0, 3), slice(1, 2), slice(2, 3)):
        rows = slice(sum(counts[: some.start]), sum(counts[: some.stop]))
        arguments = regions[rows], proposals[some], sizes[some]
        with torch.no_grad():
            expected = head.detect(*arguments)
        waits, found = forced(functools.partial(waits_of, functools.partial(head.detect, *arguments)))
        assert waits == ["tolist"]
        for mine, other in zip(found, expected, strict=True):
            for name in Kept._fields:
                assert getattr(mine, name).equal(getattr(other, name)), name
    assert (sum(len(kept.boxes) for kept in expected) > 3) == (options != {"score_threshold": 0.9999})


def a_detector(kind: str, neck: str, pool: str, **more: Any) -> FastRCNN | FasterRCNN:
    settings: dict[str, Any] = {
        "model": {
            "kind": kind,
            "backbone": "resnet18",
            "neck": neck,
            "norm": "batch",
            "fpn_channels": 16,
            "pool": pool,
            "pool_size": 7 if neck == "fpn" else 6,
        },
        "head": {"hidden": 16, "score_threshold": 0.01},
        "input": {"short_side": 64, "long_side": 96},
    }
    if kind == "faster_rcnn":
        sizes = [[8], [16], [32], [64], [128]] if neck == "fpn" else [[16, 32, 64]]
        settings |= {"rpn": {"anchor_sizes": sizes, "post_nms": 30}}
    else:
        settings |= {"proposals": {"method": "precomputed", "count": 40}}
    for section, values in more.items():
        settings[section] = settings.get(section, {}) | values
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = build(DetectorSettings.model_validate(settings), ["cat", "dog", "hen"], [17, 18, 16])
        assert isinstance(detector, FastRCNN | FasterRCNN)
        with torch.no_grad():  # fresh layers answer almost the same everywhere
            detector.head.score_layer.weight.mul_(10)
            detector.head.delta_layer.weight.mul_(10)
    return detector.eval()


DETECTORS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("faster_rcnn", "fpn", "roi_align", {}),
    ("faster_rcnn", "fpn", "roi_pool", {"rpn": {"nms_iou": 0.1}}),  # fewer proposals than there may be
    ("faster_rcnn", "c4", "roi_align", {"head": {"class_agnostic": True}}),
    ("fast_rcnn", "fpn", "roi_align", {"head": {"measured_targets": True, "max_detections": 0}}),
    ("fast_rcnn", "c4", "roi_pool", {}),
    ("fast_rcnn", "fpn", "roi_align", {"input": {"scales": [48, 64]}}),
]


@pytest.mark.parametrize(("kind", "neck", "pool", "more"), DETECTORS)
def test_a_detector_waits_once_for_a_batch_and_finds_the_same(
    kind: str, neck: str, pool: str, more: dict[str, Any], forced: Callable[..., Any]
) -> None:
    detector = a_detector(kind, neck, pool, **more)
    random = generator()
    pictures = [torch.randint(256, (3, *size), generator=random).byte() for size in ((64, 96), (50, 96), (96, 80))]
    for some in (pictures[:1], pictures):
        (images,) = detector.batches(some)
        if detector.takes_proposals:
            given = [Proposals(random_boxes(20 + i, random, side=40.0), torch.ones(20 + i)) for i in range(len(some))]
            inside = [Proposals(p.boxes.clamp(0, 50), p.scores) for p in given]
            images = with_proposals(images, inside)
        detect = functools.partial(detector.detect, images)
        usual, expected = waits_of(detect)
        assert len(usual) > 1
        waits, found = forced(functools.partial(waits_of, detect))
        assert waits == ["tolist"]
        for mine, other in zip(found, expected, strict=True):
            assert len(other) > 3
            assert mine.labels.equal(other.labels)
            # Sums in another order where there are fillings among the regions
            torch.testing.assert_close(mine.scores, other.scores, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(mine.boxes, other.boxes, rtol=1e-5, atol=1e-4)
