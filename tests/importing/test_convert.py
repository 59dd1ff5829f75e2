"""A file of torchvision's weights, or one of its names, becomes a file of ours that gives the same answers."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18
from torchvision.models.detection import (
    FasterRCNN,
    FasterRCNN_ResNet50_FPN_V2_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
    fasterrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from rcnnkit import weights
from rcnnkit.detectors import faster_rcnn
from rcnnkit.downloads import LICENCE
from rcnnkit.importing import sources
from rcnnkit.importing.convert import import_weights
from rcnnkit.weights import read

# Squares of many colours: regions that differ.
PICTURE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8).repeat(19, 0).repeat(19, 1)
LEFT = 150  # proposals; 1000 would take their time
COCO = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]


def trained(model: FasterRCNN) -> FasterRCNN:
    """Statistics, scores and deltas of the size that training leaves."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        module: Any
        for module in model.modules():
            if hasattr(module, "running_var"):
                for value in (module.running_mean, module.bias):
                    value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
                for value in (module.running_var, module.weight):
                    value.copy_(torch.rand(value.shape, generator=generator) * 0.5 + 0.5)
    heads, rpn = model.roi_heads.box_predictor, model.rpn.head
    sizes = {heads.cls_score: 1.5, heads.bbox_pred: 0.3, rpn.cls_logits: 1.0, rpn.bbox_pred: 0.3}
    hooks = [layer.register_forward_hook(scaled_to(size)) for layer, size in sizes.items()]
    with torch.no_grad():
        model.eval()([torch.tensor(PICTURE).permute(2, 0, 1) / 255])
    for hook in hooks:
        hook.remove()
    return model


def scaled_to(size: float) -> Callable[..., torch.Tensor]:
    """A hook that gives each of a layer's channels mean 0 and this deviation, by its weights."""

    def scale(layer: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        flat = output.transpose(0, 1).flatten(1)  # a channel's values in a row
        factor = size / flat.std(1) if flat.shape[1] > 1 else torch.ones(len(flat))
        layer.weight.mul_(factor.reshape(-1, *[1] * (layer.weight.ndim - 1)))
        layer.bias.copy_((layer.bias - flat.mean(1)) * factor)
        return layer.forward(inputs[0])

    return scale


def check_same(theirs: FasterRCNN, file: Path, tmp_path: Path, ids: list[int]) -> None:
    """In a picture's file and the tensor of it, 8 bits each, at a size that is resized."""
    Image.fromarray(PICTURE).save(tmp_path / "picture.png")
    tensor = torch.tensor(PICTURE).permute(2, 0, 1)
    with torch.no_grad():
        (expected,) = theirs([FasterRCNN_ResNet50_FPN_Weights.COCO_V1.transforms()(tensor)])
    named = torch.tensor([label in ids for label in expected["labels"].tolist()])
    count = int(named.sum())
    assert 5 < count < len(named) or len(ids) < 80  # some of what torchvision finds is called N/A
    ours = weights.load(file, "cpu", for_training=True)
    assert isinstance(ours, faster_rcnn.FasterRCNN)
    assert (ours.preprocessing.short_side, ours.preprocessing.long_side, ours.rpn.keep) == (800, 1333, (1000, 1000))
    ours.preprocessing = ours.preprocessing.model_copy(update={"short_side": 160, "long_side": 320})
    ours.rpn.keep = (1000, LEFT)
    for picture in (tensor, tmp_path / "picture.png"):
        found = ours(picture)[:count]
        # Each with the one that is most like it: scores that agree to 1e-7 may change places.
        labels = torch.tensor(ours.category_ids)[found.labels]
        apart = (found.boxes[:, None] - expected["boxes"][named]).abs().amax(2)
        apart[labels[:, None] != expected["labels"][named]] = torch.inf
        pairs = apart.argmin(1)
        assert sorted(pairs.tolist()) == list(range(count))
        assert apart.amin(1).max() < 1e-3
        torch.testing.assert_close(found.scores, expected["scores"][named][pairs], atol=1e-5, rtol=0)


@pytest.mark.parametrize("version", [1, 2])
def test_by_name(version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torchvision had published random weights."""
    enum = {1: FasterRCNN_ResNet50_FPN_Weights, 2: FasterRCNN_ResNet50_FPN_V2_Weights}[version].COCO_V1
    sizes = {"num_classes": 91, "min_size": 160, "max_size": 320, "rpn_post_nms_top_n_test": LEFT}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if version == 1:  # what its function builds for these weights
            body = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d)
            theirs = FasterRCNN(body, **sizes)
            overwrite_eps(theirs, 0.0)
        else:
            theirs = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **sizes)
    state = trained(theirs).state_dict()
    file = tmp_path / "hub" / "checkpoints" / enum.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(OSError, match=r"is not what torchvision published under that name .* delete it"):
        import_weights(repr(enum), tmp_path / "a.safetensors")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for module in ("importing.sources", "downloads"):
        monkeypatch.setattr(f"rcnnkit.{module}.hash_of", lambda each: digest if each is enum else "none")
    import_weights(repr(enum), tmp_path / "a.safetensors")
    about, _ = read(tmp_path / "a.safetensors")
    assert about["origin"] == {
        "source": f"torchvision {enum!r}",
        "licence": LICENCE,
        "url": enum.url,
        "sha256": digest,
    }
    assert about["class_names"] == [name for name in COCO[1:] if name != "N/A"]
    assert about["settings"]["model"]["norm"] == ("frozen" if version == 1 else "batch")
    ids = [i for i, name in enumerate(COCO) if i and name != "N/A"]
    assert about["category_ids"] == ids
    check_same(theirs, tmp_path / "a.safetensors", tmp_path, ids)
    if version == 2:
        return
    # The file is known by its hash, too, wherever it lies; written before torchvision 0.13, it had these names.
    old = {
        re.sub(r"(_blocks\.\d)\.0", r"\1", name).replace("rpn.head.conv.0.0", "rpn.head.conv"): v
        for name, v in state.items()
    }
    assert len(old.keys() - state.keys()) == 18
    torch.save(old, tmp_path / "mine.pth")
    digest = hashlib.sha256((tmp_path / "mine.pth").read_bytes()).hexdigest()
    import_weights(str(tmp_path / "mine.pth"), tmp_path / "b.safetensors")
    about, tensors = read(tmp_path / "b.safetensors")
    assert about["settings"]["model"]["norm_eps"] == 0
    assert about["origin"]["url"] == enum.url
    expected = read(tmp_path / "a.safetensors")[1]
    assert tensors.keys() == expected.keys()
    assert all(tensors[name].equal(value) for name, value in expected.items())


def test_no_class_is_torchvisions_detectors(tmp_path: Path) -> None:
    for number, name in enumerate(("conv1.weight", "backbone.stem.conv1.weight")):
        torch.save({name: torch.zeros(1)}, tmp_path / f"{number}.pth")
        with pytest.raises(
            ValueError, match=r'\d\.pth is not a detector of torchvision\'s, .* "N/A"; give each class a name'
        ):
            import_weights(str(tmp_path / f"{number}.pth"), tmp_path / "a.safetensors", ["cat", "N/A"])


def test_what_norm_eps_is_not_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(
        ("conv1.weight", "backbone.stem.conv1.weight", "backbone.bottom_up.stem.conv1.weight")
    ):
        torch.save({name: torch.zeros(1)}, tmp_path / f"{number}.pth")
        with pytest.raises(ValueError, match=r"norm_eps = 0 is for torchvision's detectors, and .*\d\.pth is not one"):
            import_weights(str(tmp_path / f"{number}.pth"), tmp_path / "a.safetensors", norm_eps=0.0)
    torch.save({"backbone.body.conv1.weight": torch.zeros(1)}, tmp_path / "own.pth")
    digest = hashlib.sha256((tmp_path / "own.pth").read_bytes()).hexdigest()
    enum = FasterRCNN_ResNet50_FPN_Weights.COCO_V1
    for module in ("importing.sources", "downloads"):
        monkeypatch.setattr(f"rcnnkit.{module}.hash_of", lambda each: digest if each is enum else "none")
    with pytest.raises(ValueError, match=r"COCO_V1 was trained with norm_eps = 0, not 0\.001; leave it out"):
        import_weights(str(tmp_path / "own.pth"), tmp_path / "a.safetensors", norm_eps=1e-3)


@pytest.mark.parametrize(("options", "eps"), [({}, 1e-5), ({"norm_eps": 0.0}, 0.0)])
def test_a_file_of_your_own(
    options: dict[str, Any], eps: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What frozen norms add to the variance, no file says."""
    body = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=FrozenBatchNorm2d)
    torch.save(FasterRCNN(body, 3).state_dict(), tmp_path / "mine.pth")
    with caplog.at_level("INFO"):
        import_weights(str(tmp_path / "mine.pth"), tmp_path / "a.safetensors", ["cat", "dog"], **options)
    assert ("import it again with --norm-eps 0" in caplog.text) == (not options)
    ours = weights.load(tmp_path / "a.safetensors", "cpu", for_training=True)
    assert ours.backbone.body.stem[1].eps == eps
    assert read(tmp_path / "a.safetensors")[0]["origin"]["licence"] == sources.UNKNOWN_LICENCE


def test_a_compiled_network_in_a_lightning_checkpoint(tmp_path: Path) -> None:
    state = resnet18(num_classes=2).state_dict()
    content = {"state_dict": {f"model._orig_mod.{name}": value for name, value in state.items()}, "epoch": 3}
    torch.save(content, tmp_path / "mine.ckpt")
    import_weights(str(tmp_path / "mine.ckpt"), tmp_path / "a.safetensors", ["cat", "dog"])
    found = weights.load_classifier(tmp_path / "a.safetensors", "cpu").state_dict()
    assert found["backbone.body.stem.0.weight"].equal(state["conv1.weight"])
    assert found["score_layer.weight"].equal(state["fc.weight"])
