"""The strongest activations, found again by looking at every cell."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit.backbones.classifier import Classifier
from rcnnkit.boxes import iou
from rcnnkit.detectors.rcnn import RCNN, picture_of
from rcnnkit.drawing import deconvnet, strongest, strongest_examples
from rcnnkit.drawing.strongest import OVERLAP, Example, Network, NoActivations
from rcnnkit.images import centre_crop, read_picture

REGIONS = 12
SIDE, START = 163, -78  # of the receptive field of the first cell of AlexNet's conv5, worked out by hand


@pytest.fixture(autouse=True)
def few_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strongest, "REGIONS", REGIONS)


def seen(network: Network, picture: Path) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Everything that the network sees of a picture, (V, 3, h, w), and R-CNN's regions (V, 4)."""
    if isinstance(network, Classifier):
        return network.pixels([centre_crop(read_picture(picture), 110, 95)]), None
    images = network.preprocessing([picture])
    whole = picture_of(images, 0)
    if not isinstance(network, RCNN):
        return whole[None], None
    assert network.proposer is not None
    boxes = network.proposer.propose(images, ())[0].boxes[:REGIONS]
    return network.warp(whole, boxes), boxes


def convolutions(network: Network, pixels: torch.Tensor) -> torch.Tensor:
    body = network.backbone.body if isinstance(network, RCNN | Classifier) else network.backbone
    with torch.no_grad():
        return body(pixels)[0]


def peaks(values: np.ndarray) -> np.ndarray:
    """Where no neighbour is stronger."""
    rows, columns = values.shape
    return np.array(
        [
            [values[y, x] == values[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].max() for x in range(columns)]
            for y in range(rows)
        ]
    )


def greedy(values: np.ndarray, boxes: torch.Tensor) -> list[int]:
    """Suppression as the text states it: the strongest first, unless it overlaps one that is kept."""
    overlaps = iou(boxes, boxes).numpy()
    kept: list[int] = []
    for i in np.argsort(-values, kind="stable"):
        if values[i] > 0 and all(overlaps[i, j] <= OVERLAP for j in kept):
            kept.append(int(i))
    return kept


def test_every_cell_was_looked_at(network: Network, pictures: list[Path]) -> None:
    found = strongest_examples(network, pictures, "conv5", count=3, each=4)
    values: dict[int, list[tuple[float, int]]] = {}  # of each channel, what is kept of each picture
    most = torch.zeros(256)
    for number, picture in enumerate(pictures):
        pixels, regions = seen(network, picture)
        maps = convolutions(network, pixels)  # (V, C, h, w)
        most = torch.maximum(most, maps.amax(dim=(0, 2, 3)))
        for channel in found:
            if regions is None:
                flat = torch.from_numpy(maps[0, channel].numpy() * peaks(maps[0, channel].numpy())).flatten()
                y, x = torch.meshgrid(*(torch.arange(n) for n in maps.shape[2:]), indexing="ij")
                corner = START + 16 * torch.stack([x.flatten(), y.flatten()], dim=1)
                boxes = torch.cat([corner, corner + SIDE], dim=1).float()
            else:
                flat, boxes = maps[:, channel].amax(dim=(1, 2)), regions
            kept = [(float(flat[i]), number) for i in greedy(flat.numpy(), boxes)]
            values.setdefault(channel, []).extend(kept)
    assert list(found) == most.argsort(descending=True)[:3].tolist()
    for channel, examples in found.items():
        expected = sorted(values[channel], reverse=True)[:4]
        assert [e.activation.view.picture for e in examples] == [number for _, number in expected]
        got = [e.activation.value for e in examples]
        np.testing.assert_allclose(got, [value for value, _ in expected], rtol=1e-4)


def test_an_example_is_the_projection_cut_out(network: Network, pictures: list[Path]) -> None:
    """Receptive fields are larger than these pictures each way, so a patch is all that the network sees."""
    (examples,) = strongest_examples(network, pictures, "conv5", channels=[7], each=2).values()
    for example in examples:
        view = example.activation.view
        pixels, regions = seen(network, pictures[view.picture])
        if regions is not None:
            pixels = pixels[(regions == torch.tensor(view.region)).all(dim=1)]
        expected = deconvnet(network.get_submodule("backbone"), pixels[0], "conv5", 7, example.activation.cell)
        torch.testing.assert_close(example.patch, pixels[0])
        torch.testing.assert_close(example.projection, expected.pixels)
        assert example.activation.value == pytest.approx(expected.value)


@pytest.mark.parametrize("network", ["faster_rcnn"], indirect=True)
def test_patches_are_receptive_fields_moved_into_the_picture(network: Network, pictures: list[Path]) -> None:
    """conv1: 11 pixels, from 4 · cell - 2 on."""
    (examples,) = strongest_examples(network, pictures, "conv1", channels=[3], each=50).values()
    assert len(examples) == 50
    assert [e.activation.value for e in examples] == sorted((e.activation.value for e in examples), reverse=True)
    moved = 0
    for example in examples:
        pixels, _ = seen(network, pictures[example.activation.view.picture])
        y, x = (max(0, min(4 * at - 2, 128 - 11)) for at in example.activation.cell)
        moved += (y, x) != tuple(4 * at - 2 for at in example.activation.cell)
        torch.testing.assert_close(example.patch, pixels[0, :, y : y + 11, x : x + 11])
        assert example.projection.shape == (3, 11, 11)
        assert example.projection.any()
    assert 0 < moved < 50


@pytest.mark.parametrize("network", ["faster_rcnn", "rcnn"], indirect=True)
def test_a_channel_that_is_never_active(network: Network, pictures: list[Path]) -> None:
    body: Any = network.backbone.body if isinstance(network, RCNN | Classifier) else network.backbone
    body.stages[4][0].bias.data[5:] = -1e6
    found = strongest_examples(network, pictures, "conv5", count=16)
    assert sorted(found) == [0, 1, 2, 3, 4]
    asked: dict[int, list[Example]] = strongest_examples(network, pictures[:1], "conv5", channels=[9, 0])
    assert list(asked) == [9, 0]
    assert asked[9] == []
    assert asked[0]


@pytest.mark.parametrize("network", ["faster_rcnn", "rcnn"], indirect=True)
def test_networks_without_activations(network: Network, pictures: list[Path]) -> None:
    body: Any = network.backbone.body if isinstance(network, RCNN | Classifier) else network.backbone
    body.stages[4][0].bias.data[:] = -1e6
    with pytest.raises(NoActivations, match="no channel of conv5 is active in these pictures"):
        strongest_examples(network, pictures[:1], "conv5")
    body.stages[4][0].bias.data[3] = torch.nan
    for channels in (None, [3], [4]):
        with pytest.raises(NoActivations, match="activations of conv5 are not finite"):
            strongest_examples(network, pictures[:1], "conv5", channels=channels)
    assert strongest_examples(network, pictures[:1], "conv1", count=1)


@pytest.mark.parametrize("network", ["rcnn"], indirect=True)
def test_regions_where_there_are_none(network: RCNN, pictures: list[Path]) -> None:
    even = np.full((96, 96, 3), 90, np.uint8)
    network.proposer = None  # made for precomputed ones: selective search's, of which an even picture has one
    (examples,) = strongest_examples(network, [even, pictures[0]], "conv5", channels=[7]).values()
    assert {e.activation.view.picture for e in examples} <= {0, 1}
    assert examples


@pytest.mark.parametrize("network", ["faster_rcnn"], indirect=True)
def test_bad_input_is_found_before_anything_is_read(network: Network) -> None:
    with pytest.raises(ValueError, match="no pictures"):
        strongest_examples(network, [], "conv5")
    with pytest.raises(ValueError, match=r"no layer 'conv6'; did you mean conv5\?"):
        strongest_examples(network, ["none.jpg"], "conv6")
    with pytest.raises(ValueError, match="conv5 has channels 0 to 255, not 256"):
        strongest_examples(network, ["none.jpg"], "conv5", channels=[3, 256])
    with pytest.raises(FileNotFoundError, match=r"none\.jpg"):
        strongest_examples(network, ["none.jpg"], "conv5", channels=[3])
