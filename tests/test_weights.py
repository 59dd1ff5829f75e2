"""Weights files: written atomically, and nothing in them is run."""

import json
import os
import pickle
import re
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import rcnnkit
from rcnnkit import weights
from rcnnkit.backbones.two_fc import TwoFC
from rcnnkit.detectors.fast_rcnn import FastRCNN
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.heads.box_head import BoxHead, HeadSettings
from rcnnkit.heads.region_pool import PoolSettings, RegionPool
from rcnnkit.images import Preprocessing
from rcnnkit.inference import prepare
from rcnnkit.precision import pick_dtype
from rcnnkit.proposals.rpn import RPN, RPNSettings
from rcnnkit.weights import FORMAT, load, pick_device, read, save

SETTINGS = DetectorSettings.model_validate(
    {
        "model": {"backbone": "timm/test_resnet", "fpn_channels": 16},
        "rpn": {"anchor_sizes": [[8], [16], [32], [64], [128]], "post_nms": 20},
        "head": {"hidden": 16, "score_threshold": 0.0, "max_detections": 10},
        "input": {"short_side": 64, "long_side": 96},
    }
)


@pytest.fixture(scope="module")
def detector() -> FasterRCNN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = build(SETTINGS, ["cat", "dög"], [17, 3])
    assert isinstance(detector, FasterRCNN)
    return detector.eval()


@pytest.fixture
def file(detector: FasterRCNN, tmp_path: Path) -> Path:
    path = tmp_path / "new" / "folder" / "a.safetensors"
    save(detector, SETTINGS, path, {"iterations": 7, "note": "ü"}, {"momentum": torch.tensor([1.0, 2])})
    return path


def rewrite(file: Path, change) -> None:
    """Change what the file says of itself and keep its tensors."""
    about, tensors = read(file)
    save_file(tensors, file, {"rcnnkit": json.dumps(change(about))})


def test_the_same_detections_come_out(detector: FasterRCNN, file: Path) -> None:
    loaded = load(file, "cpu", for_training=True)
    assert not loaded.training
    assert loaded.class_names == ("cat", "dög")
    assert loaded.category_ids == (17, 3)
    assert loaded.preprocessing == SETTINGS.input
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    before, after = detector(picture), loaded(picture)
    assert len(after) == 10
    for one, other in ((before.boxes, after.boxes), (before.scores, after.scores), (before.labels, after.labels)):
        assert one.equal(other)
    assert after.class_names == ("cat", "dög")


def test_it_is_made_for_detecting_unless_it_is_for_training(detector: FasterRCNN, file: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    ready, expected = load(file, "cpu", "float32"), prepare(detector, "float32")(picture)
    assert ready.only_detects
    assert ready(picture).boxes.equal(expected.boxes)
    loaded = {p: load(file, "cpu", p).backbone for p in ("auto", "bf16")}
    type_of = {
        p: next(m for m in backbone.modules() if hasattr(m, "weight")).weight.dtype for p, backbone in loaded.items()
    }
    assert type_of == {"auto": pick_dtype("auto", torch.device("cpu")), "bf16": torch.bfloat16}

    trainable = load(file, "cpu", for_training=True)
    assert not trainable.only_detects
    assert all(p.dtype == torch.float32 and p.requires_grad for p in trainable.parameters())
    with pytest.raises(ValueError, match="for_training") as error:
        load(file, "cpu", "bf16", for_training=True)
    assert str(error.value) == (
        "precision='bf16' is for detecting, and for_training=True gives float32 weights; leave one of them out. To"
        " train in half precision, set train.precision, or call losses within torch.autocast"
    )


def test_it_says_itself_what_it_is(file: Path) -> None:
    about, tensors = read(file)
    assert about["format"] == FORMAT
    assert about["kind"] == "faster_rcnn"
    assert DetectorSettings.model_validate(about["settings"]) == SETTINGS
    assert about["class_names"] == ["cat", "dög"]
    assert about["category_ids"] == [17, 3]
    assert about["training"] == {"iterations": 7, "note": "ü"}
    assert tensors["training/momentum"].tolist() == [1, 2]


def test_every_tensor_comes_back_bit_for_bit_and_the_trainings_stay_out(detector: FasterRCNN, file: Path) -> None:
    ours = detector.state_dict()
    theirs = load(file, "cpu", for_training=True).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(theirs[name].equal(value) and theirs[name].dtype == value.dtype for name, value in ours.items())


def test_tensors_of_any_memory_order_are_saved_by_value(detector: FasterRCNN, tmp_path: Path) -> None:
    state = {"last": torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)}
    save(detector, SETTINGS, tmp_path / "a", state=state)
    assert load_file(tmp_path / "a")["training/last"].equal(state["last"])


def test_same_detector_same_bytes(detector: FasterRCNN, tmp_path: Path) -> None:
    save(detector, SETTINGS, tmp_path / "a")
    save(detector, SETTINGS, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_pretrained_weights_are_not_fetched_again(
    detector: FasterRCNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("fetched weights that the file holds")

    monkeypatch.setattr("rcnnkit.backbones.imagenet.state_of", no_network)
    pretrained = SETTINGS.model_copy(update={"model": SETTINGS.model.model_copy(update={"pretrained": True})})
    save(detector, pretrained, tmp_path / "a.safetensors")
    load(tmp_path / "a.safetensors", "cpu")
    assert read(tmp_path / "a.safetensors")[0]["settings"]["model"]["pretrained"] is True


@pytest.mark.parametrize("share", [0, 0.0001, 0.5, 0.999])
def test_a_file_cut_short(file: Path, share: float) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"a\.safetensors is not a whole \.safetensors file .*copy it again"):
        load(file)


def test_bytes_of_something_else(file: Path) -> None:
    for data in (np.random.default_rng(0).bytes(1000), b"hello", b"\0" * 100, b"\xff" * 8 + b"{}"):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=r"not a whole \.safetensors file"):
            load(file)


class Trap:
    """Unpickling this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("write", [lambda value, path: torch.save(value, path), None], ids=["torch", "pickle"])
def test_a_pickle_is_refused_and_not_opened(tmp_path: Path, write) -> None:
    path = tmp_path / "weights.pt"
    if write:
        write({"model": Trap(tmp_path / "sprung")}, path)
    else:
        path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(
        ValueError, match=r"Pickled weights \(\.pt, \.pth\) are not read, as they can run code; `rcnnkit"
    ):
        load(path)
    assert not (tmp_path / "sprung").exists()
    if not write:  # the trap works
        pickle.loads(path.read_bytes())
        assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"format": "pt"},
        {"rcnnkit": "{"},
        {"rcnnkit": "[]"},
        {"rcnnkit": "{}"},
        {"rcnnkit": '{"format": "1"}'},
        {"rcnnkit": "[" * 100_000},
    ],
)
def test_someone_elses_safetensors(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors", metadata)
    with pytest.raises(ValueError, match=r"other\.safetensors was not written by rcnnkit"):
        load(tmp_path / "other.safetensors")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors: no such weights file"):
        load(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="is a folder; name the file in it"):
        load(tmp_path)


def test_a_file_that_may_not_be_read_is_not_missing(forbidden: Path) -> None:
    with pytest.raises(PermissionError, match=rf"^{forbidden} may not be read \(permission denied\); change"):
        weights.load(forbidden)


def test_the_umask_says_who_may_read_them(detector: FasterRCNN, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        weights.save(detector, SETTINGS, tmp_path / "w.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "w.safetensors").stat().st_mode) == 0o640


def test_a_later_format(file: Path) -> None:
    rewrite(file, lambda about: about | {"format": FORMAT + 1})
    with pytest.raises(
        ValueError, match=rf"has format {FORMAT + 1}, this rcnnkit reads up to {FORMAT}; upgrade rcnnkit"
    ):
        load(file)


def test_tensors_of_another_detector_than_it_describes(file: Path) -> None:
    def changed(section: str, name: str, value: object):
        def change(about: dict) -> dict:
            about["settings"][section][name] = value
            return about

        return change

    changes = [
        changed("model", "backbone", "resnet34"),
        changed("model", "fpn_channels", 32),
        changed("head", "hidden", 24),
        changed("rpn", "anchor_sizes", [[8]]),  # does not go with five maps
        changed("model", "backbone", "resnet9000"),
        changed("model", "invented", 1),
        lambda about: about | {"class_names": ["a", "b", "c"]},
        lambda about: about | {"class_names": ["a", "a"]},
        lambda about: about | {"settings": {}},
        lambda about: {"format": FORMAT},
    ]
    whole = file.read_bytes()
    for change in changes:
        file.write_bytes(whole)
        rewrite(file, change)
        with pytest.raises(ValueError, match=r"a\.safetensors does not hold the detector it describes") as error:
            load(file)
        assert len(str(error.value).splitlines()) < 5 or "size mismatch" in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("class_names", None), ("class_names", "cat"), ("class_names", [1, 2]), ("training", [1]), ("category_ids", 7)],
)
def test_what_a_file_says_of_itself_has_the_right_kinds(file: Path, name: str, value: object) -> None:
    rewrite(file, lambda about: about | {name: value})
    with pytest.raises(ValueError, match="of another kind") as error:
        read(file)
    assert str(error.value) == (
        f"{file} does not hold the detector it describes (its {name} are missing or of another kind); save it again"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(file: Path, value: float) -> None:
    about, tensors = read(file)

    def write(**changed: torch.Tensor) -> None:
        save_file(tensors | {name.replace("-", "."): t for name, t in changed.items()}, file, metadata)

    metadata = {"rcnnkit": json.dumps(about)}
    bad = tensors["head.score_layer.weight"].clone()
    bad[0, :3] = value
    write(**{"head-score_layer-weight": bad})
    with pytest.raises(ValueError, match="NaN or infinite") as error:
        load(file, "cpu")
    assert str(error.value) == (
        f"{file} holds NaN or infinite weights: 3 of the {bad.numel()} values of head.score_layer.weight; its training"
        " diverged, so take an earlier checkpoint, or train again with a lower train.lr_for_16"
    )
    write(**{"head-score_layer-weight": bad, "head-score_layer-bias": bad[0].clone()})
    with pytest.raises(
        ValueError, match=r"of head\.score_layer\.(weight|bias), and so do 1 other tensors; its training"
    ):
        read(file)
    large = torch.full_like(bad, 3e38)  # finite, and their sum is not
    write(**{"head-score_layer-weight": large, "training/momentum": bad})  # which detecting does not need
    loaded = load(file, "cpu", for_training=True)
    assert isinstance(loaded, FasterRCNN)
    assert loaded.head.score_layer.weight.equal(large)


def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")
    for path in (tmp_path / "a.safetensors", Path("/dev/zero")):
        with pytest.raises(ValueError, match=f"^{path} is not a regular file; copy what it gives into one"):
            load(path)


def as_of_format_2(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Under the names that files of format 2 have for these."""
    old = {}
    for name, tensor in tensors.items():
        name = re.sub(r"(^|/)backbone\.layers\.", r"\1backbone.head.", name)
        name = re.sub(r"(^|/)head\.layers\.", r"\1head.features.", name)
        name = re.sub(r"(^|/)score_layer\.", r"\1classifier.", name)
        name = re.sub(r"(^|/)head\.(score|delta|svm)_layer\.", r"\1head.\2s.", name)
        name = re.sub(r"(^|/)rpn\.delta_layer\.", r"\1rpn.deltas.", name)
        old[re.sub(r"(^|/)rpn\.objectness_layer\.", r"\1rpn.objectness.", name)] = tensor
    return old


@pytest.mark.parametrize(
    ("values", "layers"),
    [
        (
            {"model": {"backbone": "resnet18", "norm": "batch", "fpn_channels": 8}},
            {"rpn.convs.0", "rpn.objectness", "rpn.deltas"}
            | {f"head.{name}" for name in ("features.fc6", "features.fc7", "scores", "deltas")},
        ),
        (
            {"model": {"kind": "fast_rcnn", "backbone": "alexnet"}, "head": {"svms": True, "fc6_rank": 3}},
            {
                f"head.{name}"
                for name in ("features.fc6.0", "features.fc6.1", "features.fc7", "scores", "deltas", "svms")
            },
        ),
        (
            {"model": {"kind": "rcnn", "backbone": "alexnet"}},
            {"svm", "ridge", "classifier", "backbone.head.fc6", "backbone.head.fc7"},
        ),
        (
            {"model": {"kind": "classifier", "backbone": "alexnet"}},
            {"classifier", "backbone.head.fc6", "backbone.head.fc7"},
        ),
    ],
    ids=["faster_rcnn", "fast_rcnn", "rcnn", "classifier"],
)
def test_files_of_format_2_still_load(tmp_path: Path, values: dict[str, dict], layers: set[str]) -> None:
    """`layers` are what the code of that format called them. What continues a run is renamed likewise."""
    settings = DetectorSettings.model_validate({"head": {}, "proposals": {"method": "precomputed"}} | values)
    settings = settings.model_copy(update={"head": settings.head.model_copy(update={"hidden": 8})})
    made, file = build(settings, ["cat", "dog"]), tmp_path / "a.safetensors"
    for buffer in made.buffers():
        buffer.add_(1)
    momentum = {f"momentum/{name}": torch.rand_like(value) for name, value in made.named_parameters()}
    save(made, settings, file, state=momentum)
    about, tensors = read(file)
    old = as_of_format_2(tensors)
    own = [
        name for name in old if not name.startswith(("backbone.body", "backbone.lat", "backbone.out", "backbone.stage"))
    ]
    assert {re.sub("[._](weight|bias)$", "", name) for name in own if "/" not in name} == layers
    save_file(old, file, {"rcnnkit": json.dumps(about | {"format": 2})})
    _, again = read(file)
    assert again.keys() == tensors.keys()
    assert all(again[name].equal(value) for name, value in tensors.items())
    (weights.load_classifier if "classifier" in layers and "svm" not in layers else load)(file, "cpu")


def test_settings_in_files_go_by_their_old_names_too(tmp_path: Path) -> None:
    small = {"head": {"hidden": 8}, "proposals": {"method": "precomputed"}}
    pyramid = {"backbone": "resnet18", "norm": "batch", "fpn_channels": 8}
    for name, old, new, sections in (
        ("rpn", "anchors", "anchor_layout", {"model": pyramid, "rpn": {"anchor_layout": "detectron2"}}),
        ("rcnn", "scores", "scorer", {"model": {"kind": "rcnn", "backbone": "alexnet"}, "rcnn": {"scorer": "softmax"}}),
    ):
        settings, file = DetectorSettings.model_validate(small | sections), tmp_path / f"{name}.safetensors"
        save(build(settings, ["cat", "dog"]), settings, file)
        about, tensors = read(file)
        about["settings"][name][old] = about["settings"][name].pop(new)
        save_file(tensors, file, {"rcnnkit": json.dumps(about)})
        loaded = load(file, "cpu", for_training=True)
        if isinstance(loaded, FasterRCNN):
            assert loaded.rpn.settings.anchor_layout == "detectron2"
        else:
            assert isinstance(loaded, RCNN)
            assert loaded.settings.scorer == "softmax"


def test_files_of_format_1_still_load(detector: FasterRCNN, file: Path) -> None:
    """They had neither the detector's kind nor proposals among their settings, and no names for fc6 and fc7."""
    about, tensors = read(file)
    about["format"] = 1
    del about["settings"]["proposals"], about["settings"]["model"]["kind"]
    for name in ("fc6_rank", "fc7_rank", "background_low", "measured_targets"):
        del about["settings"]["head"][name]
    tensors = as_of_format_2(tensors)
    for new, name in {"head.features.fc6.": "head.features.1.", "head.features.fc7.": "head.features.3."}.items():
        tensors = {key.replace(new, name): value for key, value in tensors.items()}
    assert {"head.features.1.weight", "head.features.3.weight", "head.scores.weight"} <= tensors.keys()
    save_file(tensors, file, {"rcnnkit": json.dumps(about)})
    state = load(file, "cpu", for_training=True).state_dict()
    assert all(state[name].equal(value) for name, value in detector.state_dict().items())


def test_fast_rcnn_comes_back_with_its_target_statistics(tmp_path: Path) -> None:
    changed = {
        "model": SETTINGS.model.model_copy(update={"kind": "fast_rcnn"}),
        "head": SETTINGS.head.model_copy(update={"measured_targets": True}),
        "proposals": SETTINGS.proposals.model_copy(update={"folder": Path("here"), "count": 7}),
    }
    settings = SETTINGS.model_copy(update=changed)
    fast = build(settings, ["cat", "dog"])
    assert isinstance(fast, FastRCNN)
    fast.head.target_std.fill_(0.25)
    save(fast, settings, tmp_path / "a.safetensors")
    loaded = load(tmp_path / "a.safetensors", "cpu")
    assert isinstance(loaded, FastRCNN)
    assert loaded.head.target_std.tolist() == [[0.25] * 4] * 2
    assert loaded.count == 7
    about = read(tmp_path / "a.safetensors")[0]
    assert about["kind"] == "fast_rcnn"
    assert about["settings"]["proposals"]["folder"] is None  # of this machine


class Own(nn.Module):
    """A network that no settings know."""

    strides, channels = (8,), (4,)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.BatchNorm2d(4))

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        return [self.layers(pixels)]


def own(names: tuple[str, ...] = ("cat", "dog"), hidden: int = 8, **pixels: object) -> FasterRCNN:
    network = Own()
    rpn = RPN(4, network.strides, RPNSettings(anchor_sizes=[[16, 32]], post_nms=20), exact=True)
    layers = TwoFC(4, 3, hidden)
    head = BoxHead(layers, hidden, names, range(7, 7 + len(names)), HeadSettings(score_threshold=0.0))
    sizes = Preprocessing.model_validate({"short_side": 64, "long_side": 96} | pixels)
    return FasterRCNN(network, rpn, RegionPool(network.strides, 3, PoolSettings()), head, sizes)


def test_a_detector_of_ones_own_is_saved_and_comes_back_into_another(tmp_path: Path) -> None:
    path, picture = tmp_path / "own.safetensors", np.full((60, 90, 3), 90, np.uint8)
    picture[10:30, 20:70] = 200
    detector = own().eval()
    detector.origin = {"source": "mine"}
    rcnnkit.save(detector, None, path, {"iterations": 3}, {"momentum": torch.ones(2)})
    filled = own(short_side=32).train()  # sizes are the builder's
    assert rcnnkit.load(path, "cpu", for_training=True, into=filled) is filled
    assert not filled.training
    assert filled.origin == {"source": "mine"}
    assert all(filled.state_dict()[name].equal(value) for name, value in detector.state_dict().items())
    filled.preprocessing = detector.preprocessing
    assert filled(picture).boxes.equal(detector(picture).boxes)

    ready = rcnnkit.load(path, "cpu", "float32", into=own())
    assert ready.only_detects
    expected = prepare(detector, "float32")(picture)
    assert len(expected) > 0
    assert ready(picture).scores.equal(expected.scores)

    with pytest.raises(ValueError, match="that no settings describe") as error:
        rcnnkit.load(path)
    assert str(error.value) == (
        f"{path} holds a Faster R-CNN that no settings describe; build it as it was saved, and fill it with"
        f' rcnnkit.load("{path}", into=detector)'
    )
    with pytest.raises(ValueError, match="max_detections=5 is not for `into`, which has its own; set it there"):
        rcnnkit.load(path, max_detections=5, into=own())  # type: ignore[call-overload]  # not together
    with pytest.raises(ValueError, match="`into` only detects; give the detector as you built it"):
        rcnnkit.load(path, into=ready)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            lambda: own(hidden=5),
            "head.layers.fc6.weight is float32 (5, 36) in the detector and float32 (8, 36) in the file,"
            " head.layers.fc6.bias is float32 (5,) in the detector and float32 (8,) in the file, and 4 other tensors",
        ),
        (
            lambda: own(("cat", "dog", "emu")),
            "classes ['cat', 'dog', 'emu'] in the detector and ['cat', 'dog'] in the file; category ids [7, 8, 9] in"
            " the detector and [7, 8] in the file; head.score_layer.weight is float32 (4, 8) in the detector and"
            " float32 (3, 8) in the file, head.score_layer.bias is float32 (4,) in the detector and float32 (3,) in the"
            " file, and 2 other tensors",
        ),
        (lambda: own(("dog", "cat")), "classes ['dog', 'cat'] in the detector and ['cat', 'dog'] in the file"),
        (
            lambda: own(mean=(0, 0, 0)),
            "input.mean [0.0, 0.0, 0.0] in the detector and [0.485, 0.456, 0.406] in the file",
        ),
        (
            lambda: deaf(own()),
            "backbone.extra is in the detector alone, backbone.layers.1.num_batches_tracked is in the file alone",
        ),
    ],
)
def test_another_detector_is_not_filled(tmp_path: Path, other: Callable[[], FasterRCNN], words: str) -> None:
    rcnnkit.save(own(), None, tmp_path / "own.safetensors")
    wrong = other()
    before = {name: value.clone() for name, value in wrong.state_dict().items()}
    with pytest.raises(ValueError, match="another detector") as error:
        rcnnkit.load(tmp_path / "own.safetensors", "cpu", into=wrong)
    assert str(error.value) == (
        f"{tmp_path / 'own.safetensors'} holds another detector than `into`: {words}; build it as it was saved"
    )
    assert all(wrong.state_dict()[name].equal(value) for name, value in before.items())


def deaf(detector: FasterRCNN) -> FasterRCNN:
    detector.backbone.layers[1].num_batches_tracked = None
    detector.backbone.extra = nn.Parameter(torch.zeros(1))
    return detector


def test_a_file_with_settings_fills_a_detector_too(detector: FasterRCNN, file: Path) -> None:
    with torch.random.fork_rng():
        fresh = build(SETTINGS, ["cat", "dög"], [17, 3])
        assert isinstance(fresh, FasterRCNN)
        filled = load(file, "cpu", for_training=True, into=fresh)
    assert all(filled.state_dict()[name].equal(value) for name, value in detector.state_dict().items())


def test_settings_that_build_another_detector_are_refused(
    detector: FasterRCNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    before = torch.get_rng_state()
    narrow = SETTINGS.model_copy(update={"head": SETTINGS.head.model_copy(update={"hidden": 8})})
    with pytest.raises(ValueError, match="build another detector") as error:
        save(detector, narrow, path)
    assert str(error.value) == (
        "these settings build another detector: head.layers.fc6.weight is float32 (16, 784) in the detector and"
        " float32 (8, 784) in what they build, head.layers.fc6.bias is float32 (16,) in the detector and float32 (8,)"
        " in what they build, and 4 other tensors; save it with the settings that it was built from. One that you built"
        " yourself is saved with settings=None, and loaded with rcnnkit.load(path, into=detector)"
    )
    assert not path.exists()
    save(detector, SETTINGS, path)
    # A training saves often: the settings are built once, and nothing is drawn.
    monkeypatch.setattr(weights, "build", None)
    save(detector, SETTINGS, path)
    assert torch.get_rng_state().equal(before)
    with pytest.raises(ValueError, match=r"backbone\.layers\.0\.weight is in the detector alone"):
        save(own(("cat", "dög")), SETTINGS, path)


def test_a_classifier_is_saved_with_its_settings(tmp_path: Path) -> None:
    model = SETTINGS.model.model_copy(update={"kind": "classifier"})
    classifier = build(DetectorSettings(model=model), ["a", "b"])
    with pytest.raises(ValueError, match="a classifier is saved with the settings that it was built from, not with"):
        save(classifier, None, tmp_path / "a.safetensors")


def test_saving_fails_whole(detector: FasterRCNN, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def full(tensors: dict, path: Path, metadata: dict) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(OSError, match="no space left"):
        save(detector, SETTINGS, file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_saving_replaces(detector: FasterRCNN, file: Path) -> None:
    save(detector, SETTINGS, file, {"iterations": 8})
    assert read(file)[0]["training"] == {"iterations": 8}
    assert list(file.parent.iterdir()) == [file]


def test_the_old_file_stays_whole_until_the_new_one_is(detector: FasterRCNN, file: Path) -> None:
    before = file.read_bytes()
    with file.open("rb") as reader:  # who reads the old one while the new one is written
        reader.read(100)
        save(detector, SETTINGS, file, {"iterations": 8})
        assert reader.read() == before[100:]
    assert file.read_bytes() != before


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for bad in ("cuda:99", "quantum"):
        with pytest.raises(ValueError, match=f'device "{bad}" cannot be used .*; try "auto" or "cpu"'):
            pick_device(bad)
