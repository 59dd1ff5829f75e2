"""Which pictures come when, with which class, and that workers change nothing."""

import multiprocessing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rcnnkit.backbones.classifier import SEEN, ClassifierSettings
from rcnnkit.data.class_folders import Example
from rcnnkit.data.class_loading import ClassBatch, load_class_batches, shuffled
from rcnnkit.data.transforms import AugmentSettings, ClassifierAugmentation
from rcnnkit.images import Preprocessing

SIZES = ClassifierSettings(resize=24, crop=16, area=(1, 1), ratio=(1, 1))


@pytest.fixture
def records(tmp_path: Path) -> list[Example]:
    """Picture i is grey of level 51 · i, in every mode that pictures come in; its label is i."""
    made = []
    for i, mode in enumerate(["RGB", "L", "RGBA", "P", "1"]):
        path = tmp_path / f"{i}.png"
        level = 51 * i if mode != "1" else 255
        Image.new("RGB", (30, 30), (level,) * 3).convert(mode).save(path)
        made.append(Example(path, i))
    return made


def load(records: list[Example], number: int, sizes: ClassifierSettings = SIZES, **options: Any) -> list[ClassBatch]:
    options = {"workers": 0} | options
    augmentation = ClassifierAugmentation(AugmentSettings(), sizes)
    return list(islice(load_class_batches(records, augmentation, shuffled(len(records), 2, 5), **options), number))


def test_every_picture_comes_once_an_epoch() -> None:
    drawn = list(islice(shuffled(5, 2, seed=1), 50))  # 20 epochs
    order = [index for batch in drawn for index, _ in batch]
    assert all(sorted(order[i : i + 5]) == [0, 1, 2, 3, 4] for i in range(0, 100, 5))
    assert len({seed for batch in drawn for _, seed in batch}) == 100
    assert list(islice(shuffled(5, 2, seed=1), 50)) == drawn
    assert list(islice(shuffled(5, 2, seed=2), 50)) != drawn


def test_pictures_and_labels_belong_together(records: list[Example]) -> None:
    for batch in load(records, 5):
        assert batch.pictures.dtype == torch.uint8
        for pixels, label, path in zip(batch.pictures, batch.labels.tolist(), batch.paths, strict=True):
            assert path.stem == str(label)
            assert pixels.shape == (3, 16, 16)
            assert (pixels == (255 if label == 4 else 51 * label)).all()  # grey, palette and alpha become RGB
    pixels, labels = load(records, 1)[0].to(
        torch.device("cpu"), Preprocessing(mean=(0.5, 0, 0), std=(1, 1, 2), divisor=1)
    )
    grey = torch.where(labels == 4, 255, 51 * labels) / 255
    torch.testing.assert_close(pixels[:, 0, 3, 3], grey - 0.5)
    torch.testing.assert_close(pixels[:, 2, 3, 3], grey / 2)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_the_classifier_need_not_look_at_its_labels(records: list[Example]) -> None:
    _, labels = load(records, 1)[0].to(torch.device("cpu"), Preprocessing())
    assert getattr(labels, SEEN) == 1 + int(labels.max())


def test_workers_and_a_later_start_change_nothing(records: list[Example], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    many, sizes = [*records, Example(tmp_path / "noise.png", 5)], ClassifierSettings(resize=24, crop=16)
    whole, side, later = load(many, 6, sizes), load(many, 6, sizes, workers=2), load(many, 3, sizes, start=3)
    for ours, theirs in [*zip(whole, side, strict=True), *zip(whole[3:], later, strict=True)]:
        assert ours.pictures.equal(theirs.pictures)
        assert ours.labels.equal(theirs.labels)
        assert list(ours.paths) == list(theirs.paths)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_named(records: list[Example], workers: int) -> None:
    records[3].path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"3\.png cannot be decoded"):
        load(records, 5, workers=workers)
