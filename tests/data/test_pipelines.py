"""Pipelines of albumentations from files: what they do to boxes, and that a file runs nothing."""

import json
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch

from rcnnkit.backbones.classifier import ClassifierSettings
from rcnnkit.data.pipelines import read_pipeline
from rcnnkit.data.transforms import Augmentation, AugmentSettings, ClassifierAugmentation
from rcnnkit.images import Preprocessing
from rcnnkit.structures import Targets

SIZE = Preprocessing(short_side=90, long_side=120)
TARGETS = Targets(torch.tensor([[10.0, 20, 50, 40], [100, 60, 120, 90]]), torch.tensor([3, 4]))


def saved(folder: Path, *steps: A.BasicTransform, suffix: str = ".yaml") -> Path:
    file = folder / f"pipeline{suffix}"
    boxes = A.BboxParams(format="coco", label_fields=["theirs"])  # which ours take the place of
    A.save(A.Compose(list(steps), bbox_params=boxes), file, data_format=suffix.removeprefix("."))
    return file


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_boxes_follow_a_pipeline_of_ones_own(tmp_path: Path, suffix: str) -> None:
    file = saved(tmp_path, A.Transpose(p=1), A.Crop(0, 0, 60, 120, p=1), suffix=suffix)
    picture = np.zeros((90, 120, 3), dtype=np.uint8)
    picture[20:40, 10:50] = 200
    augmentation = Augmentation(AugmentSettings(pipeline=file), Preprocessing(short_side=60, long_side=120))
    pixels, targets, _ = augmentation(picture, TARGETS, 0)
    assert pixels.shape == (3, 120, 60)
    # x and y change places; of the other object, at x from 60 to 90, nothing is left
    torch.testing.assert_close(targets.boxes, torch.tensor([[20.0, 10, 40, 50]]), atol=1e-4, rtol=0)
    assert targets.labels.tolist() == [3]
    assert (pixels[0, 10:50, 20:40] == 200).all()


def test_an_object_that_is_cut_nearly_away_is_dropped(tmp_path: Path) -> None:
    file = saved(tmp_path, A.Crop(0, 0, 103, 90, p=1))  # 3 of 20 columns are left, and 1 of 20
    picture = np.zeros((90, 120, 3), dtype=np.uint8)
    size = Preprocessing(short_side=0)
    assert len(Augmentation(AugmentSettings(pipeline=file), size)(picture, TARGETS, 0)[1]) == 2
    file = saved(tmp_path, A.Crop(0, 0, 101, 90, p=1))
    assert len(Augmentation(AugmentSettings(pipeline=file), size)(picture, TARGETS, 0)[1]) == 1


def test_the_seed_decides(tmp_path: Path) -> None:
    file = saved(tmp_path, A.OneOf([A.GaussNoise(p=1), A.HorizontalFlip(p=1)], p=0.7), A.RandomGamma(p=0.5))
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    one, other = (Augmentation(AugmentSettings(pipeline=file), SIZE) for _ in range(2))
    results = [one(picture, TARGETS, seed)[0] for seed in range(6)]
    assert all(other(picture, TARGETS, seed)[0].equal(result) for seed, result in reversed([*enumerate(results)]))
    assert len({result.numpy().tobytes() for result in results}) > 2


def test_a_classifiers_part_is_cut_out_afterwards(tmp_path: Path) -> None:
    file = saved(tmp_path, A.Solarize(threshold_range=(0, 0), p=1))
    sizes = ClassifierSettings(resize=32, crop=32)
    picture = np.full((50, 60, 3), 200, dtype=np.uint8)
    pixels = ClassifierAugmentation(AugmentSettings(pipeline=file), sizes)(picture, 0)
    assert pixels.shape == (3, 32, 32)
    assert (pixels == 55).all()


def described(**transform: object) -> str:
    return json.dumps({"transform": transform})


STEP = {"__class_fullname__": "HorizontalFlip", "p": 0.5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as a pipeline"),
        ("[]", 'has no "transform"; write it with albumentations.save'),
        (described(p=1), "lists something that is not a transform"),
        (described(__class_fullname__="Compose", transforms=3), "the transforms of Compose are not a list"),
        (described(__class_fullname__="os.system", command="true"), "names os.system, which is not a transform of"),
        (
            described(__class_fullname__="Compose", transforms=[STEP | {"__class_fullname__": "Lambda"}]),
            "names Lambda",
        ),
        (described(__class_fullname__="rcnnkit.data.transforms.SafeCrop", p=1), "names rcnnkit.data.transforms.SafeCr"),
        (described(__class_fullname__="TextImage", font_path="/etc/passwd"), "names TextImage, which is not a trans"),
        (described(__class_fullname__="BboxParams"), "names BboxParams, which is not a trans"),
        (described(**STEP, sides=3), "transform 1, HorizontalFlip, cannot be made ("),
        (described(__class_fullname__="Blur", blur_limit="far", p=1), "transform 1, Blur, cannot be made ("),
    ],
)
def test_what_a_file_may_not_have(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.json") as error:
        read_pipeline(file)
    assert said in str(error.value)


def test_a_yaml_file_makes_no_objects(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(f"transform: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    with pytest.raises(ValueError, match="cannot be read as a pipeline"):
        read_pipeline(file)
    assert not (tmp_path / "made").exists()
    with pytest.raises(FileNotFoundError, match=r"augment.pipeline: there is no .*none.yaml"):
        read_pipeline(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (A.Normalize(p=1), "makes something else of a picture than 8-bit colours"),
        (A.ToGray(num_output_channels=1, p=1), "makes something else of a picture than 8-bit colours"),
        (A.Crop(0, 0, 5000, 5000, p=1), "fails on a picture of 800 × 600 pixels: "),
    ],
    ids=["Normalize", "ToGray", "Crop"],
)
def test_what_cannot_be_learnt_from_is_found_before_training(tmp_path: Path, step: A.BasicTransform, said: str) -> None:
    with pytest.raises(ValueError, match=r"pipeline\.yaml") as error:
        Augmentation(AugmentSettings(pipeline=saved(tmp_path, step)), SIZE)
    assert said in str(error.value)


def test_the_pipeline_takes_the_place_of_other_steps() -> None:
    with pytest.raises(ValueError, match=r"hue is what pipeline = a.yaml takes the place of; leave one of them out"):
        AugmentSettings(pipeline=Path("a.yaml"), hue=0.1)
