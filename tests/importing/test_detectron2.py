"""detectron2's names, all of them, and its arithmetic, written down once more in plain torch."""

import hashlib
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import Tensor

from rcnnkit import weights
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.importing.convert import import_weights
from rcnnkit.importing.detectron2 import from_detectron2
from rcnnkit.structures import Proposals
from rcnnkit.weights import read

State = dict[str, Tensor]
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
# Squares of many colours, for regions that differ, and noise, for no two that score the same.
PICTURE = np.random.default_rng(0).integers(0, 206, (6, 9, 3), dtype=np.uint8).repeat(19, 0).repeat(19, 1)
PICTURE += np.random.default_rng(1).integers(0, 50, PICTURE.shape, dtype=np.uint8)
SIDE, LONGEST = 97, 150  # sides of the network's input that are no multiples of anything
LEFT = 40  # proposals; 1000 would take their time


def table(depth: int, pyramid: bool, classes: int, agnostic: bool = False, rpn: bool = True) -> dict[str, tuple]:
    """Names and shapes as detectron2 writes them."""
    bottom = "backbone.bottom_up" if pyramid else "backbone"
    shapes: dict[str, tuple] = {}

    def conv(name: str, outputs: int, inputs: int, side: int) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs, side, side)
        for kind in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.norm.{kind}"] = (outputs,)

    def layer(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    conv(f"{bottom}.stem.conv1", 64, 3, 7)
    inputs = 64
    for number, blocks in enumerate(BLOCKS[depth], start=2):
        narrow, wide = 2 ** (number + 4), 2 ** (number + 6)
        stage = "roi_heads.res5" if number == 5 and not pyramid else f"{bottom}.res{number}"
        for block in range(blocks):
            if block == 0:
                conv(f"{stage}.0.shortcut", wide, inputs, 1)
            conv(f"{stage}.{block}.conv1", narrow, inputs, 1)
            conv(f"{stage}.{block}.conv2", narrow, narrow, 3)
            conv(f"{stage}.{block}.conv3", wide, narrow, 1)
            inputs = wide
        if pyramid:
            layer(f"backbone.fpn_lateral{number}", 256, wide, 1, 1)
            layer(f"backbone.fpn_output{number}", 256, 256, 3, 3)
    channels, anchors = (256, 3) if pyramid else (1024, 15)
    if rpn:
        layer("proposal_generator.rpn_head.conv", channels, channels, 3, 3)
        layer("proposal_generator.rpn_head.objectness_logits", anchors, channels, 1, 1)
        layer("proposal_generator.rpn_head.anchor_deltas", 4 * anchors, channels, 1, 1)
    if pyramid:
        layer("roi_heads.box_head.fc1", 1024, 256 * 49)
        layer("roi_heads.box_head.fc2", 1024, 1024)
    layer("roi_heads.box_predictor.cls_score", classes + 1, 1024 if pyramid else 2048)
    layer("roi_heads.box_predictor.bbox_pred", 4 if agnostic else 4 * classes, 1024 if pyramid else 2048)
    return shapes


def random(shapes: dict[str, tuple]) -> State:
    """Weights that keep values in range, and statistics that do something."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            value = value * (2 / np.prod(shape[1:])) ** 0.5
        elif name.endswith(("norm.weight", "running_var")):
            value = torch.rand(shape, generator=generator) * 0.5 + 0.5
            value = value * 0.3 if "conv3.norm.weight" in name else value
        else:
            value = value * 0.1
        state[name] = value * 0.1 if "anchor_deltas" in name else value
    state[next(name for name in state if name.endswith("stem.conv1.weight"))] /= 60  # pixels up to 150, not to 2
    return state


class Reference:
    """detectron2's inference with its own tensors, in plain torch.

    BGR minus the mean; bottlenecks with the stride in their first convolution; anchors by size and then by ratio,
    unrounded, a stride apart; the best 1000 (C4: 6000) of each map, cut to the picture, suppressed at 0.7;
    RoIAlign with half a pixel's shift and as many samples as a bin has cells; scores above 0.05, suppressed at 0.5.
    """

    def __init__(self, state: State, pyramid: bool) -> None:
        self.state, self.pyramid = state, pyramid
        self.bottom = "backbone.bottom_up" if pyramid else "backbone"

    def conv(self, x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        bias = self.state.get(f"{name}.bias")
        x = F.conv2d(x, self.state[f"{name}.weight"], bias, stride, padding)
        if f"{name}.norm.weight" not in self.state:
            return x
        weight, bias, mean, var = (
            self.state[f"{name}.norm.{kind}"][:, None, None]
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def stage(self, x: Tensor, name: str, stride: int) -> Tensor:
        block = 0
        while f"{name}.{block}.conv1.weight" in self.state:
            step = stride if block == 0 else 1
            y = self.conv(x, f"{name}.{block}.conv1", step).relu()
            y = self.conv(y, f"{name}.{block}.conv2", padding=1).relu()
            y = self.conv(y, f"{name}.{block}.conv3")
            x = (y + (self.conv(x, f"{name}.0.shortcut", step) if block == 0 else x)).relu()
            block += 1
        return x

    def pixels(self, picture: np.ndarray) -> tuple[Tensor, tuple[int, int]]:
        h, w = picture.shape[:2]
        factor = min(SIDE / min(h, w), LONGEST / max(h, w))
        size = int(h * factor + 0.5), int(w * factor + 0.5)
        resized = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))
        x = torch.tensor(resized[:, :, ::-1].copy()).permute(2, 0, 1).float()
        x = x - torch.tensor([103.53, 116.28, 123.675])[:, None, None]
        divisor = 32 if self.pyramid else 1
        return F.pad(x, (0, -size[1] % divisor, 0, -size[0] % divisor))[None], size

    def maps(self, x: Tensor) -> list[Tensor]:
        x = F.max_pool2d(self.conv(x, f"{self.bottom}.stem.conv1", 2, 3).relu(), 3, 2, 1)
        found = []
        for number in (2, 3, 4, 5) if self.pyramid else (2, 3, 4):
            x = self.stage(x, f"{self.bottom}.res{number}", 1 if number == 2 else 2)
            found.append(x)
        if not self.pyramid:
            return found[-1:]
        top: Tensor | None = None
        pyramid: list[Tensor] = []
        for number in (5, 4, 3, 2):
            lateral = self.conv(found[number - 2], f"backbone.fpn_lateral{number}")
            top = lateral if top is None else lateral + F.interpolate(top, scale_factor=2.0, mode="nearest")
            pyramid.insert(0, self.conv(top, f"backbone.fpn_output{number}", padding=1))
        return [*pyramid, F.max_pool2d(pyramid[-1], 1, 2)]

    def linear(self, x: Tensor, name: str, size: float | None = None) -> Tensor:
        """With a `size`, the weights are first made such that each output has that deviation and mean 0."""
        name = f"roi_heads.{name}"
        if size is not None:
            y = x @ self.state[f"{name}.weight"].T
            self.state[f"{name}.weight"] *= (factor := size / y.std(0))[:, None]
            self.state[f"{name}.bias"] = -y.mean(0) * factor
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def propose(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        boxes, scores, levels = [], [], []
        for i, feature in enumerate(maps):
            hidden = self.conv(feature, "proposal_generator.rpn_head.conv", padding=1).relu()
            logits = self.conv(hidden, "proposal_generator.rpn_head.objectness_logits")[0]
            deltas = self.conv(hidden, "proposal_generator.rpn_head.anchor_deltas")[0]
            stride = 2 ** (i + 2) if self.pyramid else 16
            anchors = []
            for side in [2 ** (i + 5)] if self.pyramid else [32, 64, 128, 256, 512]:
                for ratio in (0.5, 1.0, 2.0):
                    width = (side**2 / ratio) ** 0.5
                    anchors.append((width, width * ratio))
            y, x = (stride * at for at in torch.meshgrid(*map(torch.arange, feature.shape[2:]), indexing="ij"))
            moved = []
            for a, sides in enumerate(anchors):
                dx, dy, dw, dh = deltas[4 * a : 4 * a + 4]
                moved.append(decode(dx, dy, dw, dh, x, y, *sides))
            box, score = torch.stack(moved, dim=2).reshape(-1, 4), logits.permute(1, 2, 0).flatten()
            top = score.topk(min(len(score), 1000 if self.pyramid else 6000)).indices
            boxes.append(cut(box[top], size))
            scores.append(score[top])
            levels.append(torch.full_like(top, i))
        box, score, level = torch.cat(boxes), torch.cat(scores), torch.cat(levels)
        real = (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
        box, score, level = box[real], score[real], level[real]
        return box[torchvision.ops.batched_nms(box, score, level, 0.7)[:LEFT]]

    def hidden(self, maps: list[Tensor], proposals: Tensor) -> Tensor:
        rois = torch.cat([torch.zeros(len(proposals), 1), proposals], dim=1)
        if not self.pyramid:
            regions = torchvision.ops.roi_align(maps[0], rois, 14, 1 / 16, 0, True)
            return self.stage(regions, "roi_heads.res5", 2).mean(dim=(2, 3))
        sides = ((proposals[:, 2] - proposals[:, 0]) * (proposals[:, 3] - proposals[:, 1])).sqrt()
        level = (4 + torch.log2(sides / 224 + 1e-8)).floor().clamp(2, 5)
        regions = torch.zeros(len(rois), 256, 7, 7)
        for number in (2, 3, 4, 5):
            here = level == number
            regions[here] = torchvision.ops.roi_align(maps[number - 2], rois[here], 7, 1 / 2**number, 0, True)
        return self.linear(self.linear(regions.flatten(1), "box_head.fc1").relu(), "box_head.fc2").relu()

    def detect(
        self, picture: np.ndarray, proposals: Tensor | None = None, spread: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes in the picture's pixels, scores and classes. `proposals` are in its pixels, too."""
        pixels, size = self.pixels(picture)
        maps = self.maps(pixels)
        h, w = picture.shape[:2]
        factor = torch.tensor([size[1] / w, size[0] / h] * 2)
        boxes = self.propose(maps, size) if proposals is None else proposals * factor
        hidden = self.hidden(maps, boxes)
        scores = self.linear(hidden, "box_predictor.cls_score", 1.5 if spread else None).softmax(1)[:, :-1]
        deltas = self.linear(hidden, "box_predictor.bbox_pred", 0.2 if spread else None)
        deltas = deltas.reshape(len(boxes), -1, 4).expand(-1, scores.shape[1], -1)
        region, label = torch.where(scores > 0.05)
        centre = (boxes[region, :2] + boxes[region, 2:]) / 2
        sides = boxes[region, 2:] - boxes[region, :2]
        moves = deltas[region, label] / torch.tensor([10.0, 10, 5, 5])
        found, score = cut(decode(*moves.T, *centre.T, *sides.T), size), scores[region, label]
        kept = torchvision.ops.batched_nms(found, score, label, 0.5)[:100]
        return found[kept] / factor, score[kept], label[kept]


def decode(
    dx: Tensor, dy: Tensor, dw: Tensor, dh: Tensor, x: Tensor, y: Tensor, w: float | Tensor, h: float | Tensor
) -> Tensor:
    """Boxes around the centre (x, y), moved, in a last dimension of 4."""
    half_w, half_h = (d.clamp(max=np.log(1000 / 16)).exp() * side / 2 for d, side in ((dw, w), (dh, h)))
    x, y = dx * w + x, dy * h + y
    return torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], dim=-1)


def cut(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    x, y = boxes[:, 0::2].clamp(0, size[1]), boxes[:, 1::2].clamp(0, size[0])
    return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)


def shrunk(file: Path) -> weights.Detector:
    """The detector in a file, for a smaller input."""
    detector = weights.load(file, "cpu", for_training=True)
    assert (detector.preprocessing.short_side, detector.preprocessing.long_side) == (800, 1333)
    detector.preprocessing = detector.preprocessing.model_copy(update={"short_side": SIDE, "long_side": LONGEST})
    if isinstance(detector, FasterRCNN):
        assert detector.rpn.keep[1] == 1000
        detector.rpn.keep = (detector.rpn.keep[0], LEFT)
    return detector


@pytest.mark.parametrize(
    ("pyramid", "rpn", "agnostic"), [(True, True, False), (False, True, True), (True, False, False)], ids=str
)
def test_the_same_answers(pyramid: bool, rpn: bool, agnostic: bool, tmp_path: Path) -> None:
    """Through a file such as the model zoo's: Faster R-CNN with an FPN and C4, Fast R-CNN."""
    state = random(table(50, pyramid, 5, agnostic, rpn))
    reference = Reference(state, pyramid)
    given = None
    if not rpn:
        corner = torch.rand(40, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([100.0, 45])
        given = torch.cat([corner, corner + 15 + corner.flip(1) / 2], dim=1)
    with torch.inference_mode():
        reference.detect(PICTURE, given, spread=True)
        boxes, scores, labels = reference.detect(PICTURE, given)
    content = {name: value.numpy() for name, value in state.items()}
    text = pickle.dumps({"model": content, "__author__": "somebody", "matching_heuristics": True})
    file = tmp_path / f"model_final_{hashlib.md5(text).hexdigest()[:6]}.pkl"
    file.write_bytes(text)
    import_weights(str(file), tmp_path / "a.safetensors", class_names=list("abcde"))
    about, _ = read(tmp_path / "a.safetensors")
    assert about["kind"] == ("faster_rcnn" if rpn else "fast_rcnn")
    assert about["origin"]["licence"] == "CC BY-SA 3.0 (detectron2's model zoo)"
    detector = shrunk(tmp_path / "a.safetensors")
    found = detector(PICTURE, None if given is None else Proposals(given, torch.ones(len(given))))
    assert len(found) == len(boxes) > 20
    assert len(set(labels.tolist())) == 5
    # Each with the one that is most like it: scores that agree to 1e-7 may change places.
    apart = (found.boxes[:, None] - boxes).abs().amax(2)
    apart[found.labels[:, None] != labels] = torch.inf
    pairs = apart.argmin(1)
    assert sorted(pairs.tolist()) == list(range(len(boxes)))
    assert apart.amin(1).max() < 2e-3
    torch.testing.assert_close(found.scores, scores[pairs], atol=2e-5, rtol=0)


@pytest.mark.parametrize("depth", [50, 101])
@pytest.mark.parametrize(("pyramid", "rpn"), [(True, True), (True, False), (False, True)])
def test_every_tensor_has_one_place(depth: int, pyramid: bool, rpn: bool) -> None:
    """By numbers that only one tensor has."""
    shapes = table(depth, pyramid, 80, rpn=rpn)
    state = {name: torch.full((1,), float(i)).expand(shape) for i, (name, shape) in enumerate(shapes.items())}
    names = [str(i) for i in range(80)]
    detector, settings = from_detectron2(state, names, range(1, 81))
    ours = {float(value.flatten()[0]) for value in detector.state_dict().values()}
    assert len(detector.state_dict()) == len(state) == len(ours)
    assert settings.model.backbone == f"resnet{depth}"


def test_cocos_names_and_what_may_lie_beside_the_weights(tmp_path: Path) -> None:
    state = {name: torch.zeros(1).expand(shape) for name, shape in table(50, False, 80).items()}
    sides = [(32 * 2**i, r) for i in range(5) for r in (0.5, 1, 2)]
    cells = [[-s / r**0.5 / 2, -s * r**0.5 / 2, s / r**0.5 / 2, s * r**0.5 / 2] for s, r in sides]
    state |= {
        "proposal_generator.anchor_generator.cell_anchors.0": torch.tensor(cells),
        "pixel_mean": torch.tensor([103.53, 116.28, 123.675]).reshape(3, 1, 1),
        "pixel_std": torch.ones(3, 1, 1),
    }
    torch.save({"model": {n: v.clone() for n, v in state.items()}, "iteration": 7}, tmp_path / "mine.pth")
    import_weights(str(tmp_path / "mine.pth"), tmp_path / "a.safetensors")
    about, _ = read(tmp_path / "a.safetensors")
    pairs = dict(zip(about["category_ids"], about["class_names"], strict=True))
    assert (len(pairs), pairs[1], pairs[13], pairs[90]) == (80, "person", "stop sign", "toothbrush")
    assert about["settings"]["rpn"]["pre_nms"] == 6000
    names = [str(i) for i in range(80)]
    for name, value, words in (
        ("pixel_std", torch.tensor([57.375, 57.12, 58.395]), "has pixel_std = "),
        ("proposal_generator.anchor_generator.cell_anchors.0", torch.tensor(cells) * 2, "has other anchors"),
    ):
        with pytest.raises(ValueError, match=words):
            from_detectron2(state | {name: value}, names, range(1, 81))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s: s | {"roi_heads.mask_head.deconv.bias": torch.zeros(1)},
            "1 without a place here:\n  roi_heads.mask",
        ),
        (
            lambda s: {n: v for n, v in s.items() if "res3.1.conv2.norm" not in n},
            "4 missing:\n  backbone.bottom_up.res3.1.conv2.norm.weight\n",
        ),
        (lambda s: {n: v for n, v in s.items() if "fpn" not in n}, "is no Faster or Fast R-CNN of detectron2"),
        (
            lambda s: s | {"backbone.bottom_up.res2.0.conv2.weight": torch.zeros(256, 8, 3, 3)},  # ResNeXt
            r"res2.0.conv2.weight \(256, 8, 3, 3\), expected \(64, 64, 3, 3\)",
        ),
        (lambda s: {n: v for n, v in s.items() if "roi_heads" not in n}, "8 missing:\n  roi_heads.box_head.fc1.weight"),
    ],
    ids=["a mask head", "a norm is missing", "DC5", "ResNeXt", "an RPN alone"],
)
def test_what_does_not_fit(change, words: str) -> None:
    state = {name: torch.zeros(1).expand(shape) for name, shape in table(50, True, 2).items()}
    with pytest.raises(ValueError, match=words):
        from_detectron2(change(state), ["a", "b"], [1, 2], "mine.pkl")


def test_a_file_that_is_cut_short(tmp_path: Path) -> None:
    file = tmp_path / "model_final_b275ba.pkl"
    file.write_bytes(pickle.dumps({"model": {"a": np.zeros(9)}})[:-9])
    with pytest.raises(OSError, match=re.escape("model_final_b275ba.pkl is not the model zoo's file of that name")):
        import_weights(str(file), tmp_path / "a.safetensors")
    file = file.rename(tmp_path / "mine.pkl")
    with pytest.raises(ValueError, match=r"mine\.pkl is not read: "):
        import_weights(str(file), tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()
