"""What the adversary does when, inside the head."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from sklearn.datasets import load_digits
from torch import Tensor, nn

from rcnnkit.backbones.two_fc import TwoFC
from rcnnkit.data.digits import CLASSES as DIGITS
from rcnnkit.data.digits import scan_indices
from rcnnkit.heads.adversary import Adversary, AdversarySettings
from rcnnkit.heads.box_head import BoxHead, HeadSettings
from rcnnkit.heads.convs_fc import ConvsFC
from rcnnkit.heads.spatial_dropout import hide, likely_cells, random_cells

KINDS = ["random", "exhaustive", "dropout", "rotation", "both"]
CHANNELS, CLASSES = 8, 4


class Spy(nn.Module):
    """Keeps what the head's layers were given when they were trained."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.seen = layers, torch.zeros(0)

    def forward(self, regions: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.seen = regions
        found: Tensor = self.layers(regions)
        return found


def settings(kind: str, **values: Any) -> AdversarySettings:
    return AdversarySettings.model_validate({"kind": kind, "hidden": 16, **values})


def made(kind: str, layers: nn.Module | None = None, **values: Any) -> BoxHead:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = BoxHead(layers or Spy(TwoFC(CHANNELS, 7, 32)), 32, "abcd", [1, 2, 3, 4], HeadSettings())
        nn.init.normal_(head.score_layer.weight, std=0.3)
        if kind != "none":
            head.adversary = Adversary(CHANNELS, 7, settings(kind, **values))
            head.adversary.at(1, 2)  # the second iteration of two, in which regions are changed
    return head


def batch(count: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Regions, of which the last half is background, their labels and goals."""
    generator = torch.Generator().manual_seed(0)
    regions = torch.rand(count, CHANNELS, 7, 7, generator=generator)
    labels = torch.arange(count) % CLASSES
    labels[count // 2 :] = CLASSES
    return regions, labels, torch.randn(count, 4, generator=generator) * (labels < CLASSES)[:, None]


def losses(head: BoxHead, *given: Tensor) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return head.losses(*given)


@pytest.mark.parametrize("kind", KINDS)
def test_objects_alone_are_changed_and_only_in_their_iterations(kind: str) -> None:
    head = made(kind)
    assert isinstance(head.layers, Spy)
    assert head.adversary is not None
    if head.adversary.rotation is not None:
        nn.init.constant_(head.adversary.rotation.last_layer.bias, 1.0)
    regions, labels, goals = batch()
    found = losses(head, regions, labels, goals)
    assert found.keys() == {"class", "box"} | ({"adversary"} if kind in ("dropout", "both") else set())
    objects = labels < CLASSES
    assert head.layers.seen[~objects].equal(regions[~objects])
    changed = (head.layers.seen != regions).flatten(1).any(1)
    assert changed.equal(objects)
    hidden = (head.layers.seen[objects] == 0).all(1).flatten(1).sum(1)
    expected = {"random": 15, "exhaustive": 4, "dropout": 15, "rotation": 0}
    assert kind == "both" or (hidden == expected[kind]).all()

    plain = losses(made("none"), *batch())
    for iteration, iterations in ((0, 10), (1, 10), (3, 10), (8, 10)):  # waiting, learning, and between two changes
        head.adversary.at(iteration, iterations)
        again = losses(head, *batch())
        assert again["class"].equal(plain["class"])
        assert again["box"].equal(plain["box"])
    head.adversary.at(9, 10)
    assert not losses(head, *batch())["class"].equal(plain["class"])
    head.eval()
    assert losses(head, *batch()).keys() == {"class", "box"}
    assert losses(head, *batch())["class"].equal(plain["class"])


def test_the_iterations_of_each_phase() -> None:
    adversary = Adversary(CHANNELS, 7, settings("dropout"))
    said = []
    for iteration in range(10):
        adversary.at(iteration, 10)
        said.append("p" if adversary.pretrains else "a" if adversary.acts else ".")
    assert "".join(said) == "..pppa.a.a"
    assert adversary.plan(10) == (
        "learns 8,273 weights of its own from iteration 2 on, and changes objects from iteration 5 on"
    )
    assert Adversary(8, 7, settings("random")).plan(9) == "learns nothing, and changes objects from iteration 5 on"
    for iteration, phase in ((0, (False, False)), (3, (True, False)), (5, (False, True))):
        given = dict(each.removeprefix("adversary.").split("=") for each in settings("dropout").only(iteration, 10))
        again = Adversary(CHANNELS, 7, settings("dropout", **{name: float(value) for name, value in given.items()}))
        again.at(iteration, iteration + 1)
        assert (again.pretrains, again.acts) == phase


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_objects(kind: str) -> None:
    regions, labels, goals = batch()
    for iteration in (1, 3, 9):
        head = made(kind)
        assert head.adversary is not None
        head.adversary.at(iteration, 10)
        found = losses(head, regions[6:], labels[6:], goals[6:])
        assert found["box"] == 0
        assert found.get("adversary", torch.zeros(())) == 0
        torch.stack(list(found.values())).sum().backward()


def test_the_networks_own_loss() -> None:
    """In pre-training it is the cross-entropy of the hardest windows; later that of masks that worked, weighted."""
    head = made("dropout", min_drop=0.0)
    assert head.adversary is not None
    assert head.adversary.dropout is not None
    head.adversary.at(3, 10)
    found = losses(head, *batch())["adversary"]
    found.backward()
    assert 0.3 < found.item() < 3
    assert all(each.grad is not None for each in head.adversary.dropout.parameters())
    assert all(each.grad is None for each in head.layers.parameters())
    head.adversary.at(9, 10)
    regions, labels, goals = batch()
    with torch.no_grad():
        labels[:6] = head(regions[:6])[0][:, :CLASSES].argmax(1)  # right ones, which become less probable
    later = losses(head, regions, labels, goals)["adversary"].item()
    assert 0 < later <= 0.0025 * 3
    for iterations, name, value in ((10, "min_drop", 1.0), (10, "weight", 0.0), (11, "min_drop", 0.0)):
        again = made("dropout", None, **{name: value})
        assert again.adversary is not None
        again.adversary.at(9, iterations)
        loss = losses(again, regions, labels, goals)["adversary"].item()
        assert loss == (pytest.approx(later) if iterations == 11 else 0)


def test_probabilities_are_those_of_detecting() -> None:
    head = made("exhaustive", nn.Sequential(ConvsFC(CHANNELS, 7, 1, 32, "batch"), nn.Dropout(0.5)))
    regions, labels, _ = batch()
    head.layers[1].eval()  # type: ignore[index]  # a part that is not trained
    norms = {name: value.clone() for name, value in head.named_buffers()}
    assert norms
    found = head._probability(regions[:6], labels[:6])
    assert all(value.equal(norms[name]) for name, value in head.named_buffers())
    modes = [part.training for part in head.modules()]
    assert modes.count(False) == 1
    head.eval()
    with torch.no_grad():
        logits, _ = head(regions[:6])
    assert found.equal(logits.softmax(1)[torch.arange(6), labels[:6]])


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_keeps_the_heads_gradient(kind: str) -> None:
    """Weights that are converted for the probabilities have none, and must not be taken for the losses."""
    head = made(kind)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(head, batch()[0].bfloat16(), *batch()[1:])
    torch.stack(list(found.values())).sum().backward()
    for name, weight in head.named_parameters():
        if not name.startswith("adversary"):
            assert weight.grad is not None, name
            assert weight.grad.any(), name


def scans(part: str, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Handwritten digits as regions of one channel, and their classes; those held out were written by others."""
    indices = scan_indices(part)
    labels = torch.randint(len(indices), (count,), generator=generator)
    chosen = []
    for label in labels.tolist():
        of_class = indices[DIGITS[label]]
        chosen.append(int(of_class[int(torch.randint(len(of_class), (), generator=generator))]))
    return torch.from_numpy(load_digits().images[chosen]).float()[:, None] / 8, labels


def test_after_pretraining_masks_hurt_more_than_random_ones() -> None:
    """On held-out scans of digits; and cells that are not likely hurt less."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = BoxHead(TwoFC(1, 8, 64), 64, "03467", [1, 2, 3, 4, 5], HeadSettings())
        adversary = Adversary(1, 8, settings("dropout", start=0.0, pretrain=1.0))
        optimizer = torch.optim.SGD([*head.parameters(), *adversary.parameters()], lr=0.1, momentum=0.9)
        generator = torch.Generator().manual_seed(0)
        for iteration in range(120):
            head.adversary = adversary if iteration >= 60 else None
            regions, labels = scans("train", 64, generator)
            optimizer.zero_grad()
            torch.stack(list(head.losses(regions, labels, torch.zeros(64, 4)).values())).sum().backward()
            optimizer.step()
        regions, labels = scans("val", 400, generator)
        with torch.no_grad():
            assert adversary.dropout is not None
            heat = adversary.dropout(regions)
            masks = {
                "own": likely_cells(heat, adversary.cells, adversary.candidates),
                "random": random_cells(400, 8, adversary.cells, heat.device),
                "least": likely_cells(-heat, adversary.cells, adversary.candidates),
            }
            before = head._probability(regions, labels)
            fall = {
                name: (before - head._probability(hide(regions, mask), labels)).mean() for name, mask in masks.items()
            }
    assert before.mean() > 0.9
    assert fall["own"] >= 1.5 * fall["random"] > 0, fall
    assert fall["least"] < fall["random"], fall


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"start": 0.6, "pretrain": 0.5}, "pretrain = 0.5 and start = 0.6 are more than all iterations together"),
        ({"cells": 21}, "cells = 21 cannot be drawn from candidates = 20; give 20 at most"),
        ({"candidates": 50}, "candidates = 50 is more than the 49 cells; give 49 at most"),
        ({"cells": 49, "candidates": 49}, "cells = 49 would hide the whole region; give 48 at most"),
    ],
)
def test_settings_that_do_not_go_together(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        settings("dropout", **values)
    settings("dropout", cells=48, candidates=49)
