"""The classifier sees, computes and calls what torchvision's classifiers do."""

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from rcnnkit.backbones.classifier import Classifier
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.images import centre_crop

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NAMES = [f"class {i}" for i in range(6)]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def made(backbone: str, **sections: dict) -> Classifier:
    model = {"kind": "classifier", "backbone": backbone}
    if backbone.startswith("resnet"):
        model["norm"] = "batch"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = build(DetectorSettings.model_validate({"model": model} | sections), NAMES)
    assert isinstance(classifier, Classifier)
    return classifier.eval()


@pytest.mark.parametrize("size", [(40, 57), (57, 40), (33, 33), (12, 90), (300, 211), (24, 24)])
def test_pixels_are_those_of_torchvisions_presets(size: tuple[int, int]) -> None:
    picture = noise(*size)
    theirs = Compose([Resize(24), CenterCrop(17)])(Image.fromarray(picture))
    np.testing.assert_array_equal(centre_crop(picture, 24, 17).permute(1, 2, 0).numpy(), np.array(theirs))


def test_normalised_as_torchvisions_presets() -> None:
    picture = noise(230, 300)
    theirs = Compose([Resize(72), CenterCrop(64), ToTensor(), Normalize(MEAN, STD)])(Image.fromarray(picture))
    ours = made("resnet18").pixels([centre_crop(picture, 72, 64)])
    assert ours.shape == (1, 3, 64, 64)  # nothing is padded to a multiple
    torch.testing.assert_close(
        ours[0], theirs, atol=1e-6, rtol=1e-6
    )  # division and subtraction are rounded in another order


def test_a_resnet_answers_as_torchvisions() -> None:
    ours = made("resnet18", classifier={"resize": 72, "crop": 64})
    theirs = torchvision.models.resnet18(num_classes=6).eval()
    state = ours.state_dict()
    parts = {"conv1": "stem.0", "bn1": "stem.1"} | {f"layer{i + 1}": f"stages.{i}" for i in range(4)}
    names = {
        name: "score_layer" + name.removeprefix("fc")
        if name.startswith("fc.")
        else "backbone.body." + parts[name.partition(".")[0]] + name[name.index(".") :]
        for name in theirs.state_dict()
    }
    assert sorted(names.values()) == sorted(state)
    theirs.load_state_dict({name: state[own] for name, own in names.items()})
    pictures = [noise(70, 90, 1), noise(120, 80, 2)]
    preset = Compose([Resize(72), CenterCrop(64), ToTensor(), Normalize(MEAN, STD)])
    with torch.no_grad():
        expected = theirs(torch.stack([preset(Image.fromarray(p)) for p in pictures])).softmax(dim=1)
    found = ours(pictures)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours(pictures[1]), expected[1], atol=1e-6, rtol=1e-5)  # one alone


def test_an_alexnet_answers_as_torchvisions() -> None:
    ours = made("alexnet", classifier={"resize": 72, "crop": 63}, head={"hidden": 8})
    theirs = torchvision.models.alexnet(num_classes=6).eval()
    theirs.classifier[1], theirs.classifier[4] = torch.nn.Linear(9216, 8), torch.nn.Linear(8, 8)
    theirs.classifier[6] = torch.nn.Linear(8, 6)
    values = list(ours.state_dict().values())  # convolutions, fc6, fc7, the classes: torchvision's order
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    pixels = torch.randn(2, 3, 63, 63, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(pixels), theirs(pixels), atol=1e-5, rtol=1e-5)


def test_grey_alpha_and_turned_pictures_are_seen_as_a_person_sees_them(tmp_path) -> None:
    classifier = made("resnet18", classifier={"resize": 40, "crop": 32})
    upright = noise(50, 70)
    picture = Image.fromarray(upright)
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90° clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    alpha = picture.copy()
    alpha.putalpha(7)
    alpha.save(tmp_path / "alpha.png")
    expected = classifier(upright)
    for path in ("turned.png", "alpha.png"):
        torch.testing.assert_close(classifier(tmp_path / path), expected)
    grey = picture.convert("L")
    torch.testing.assert_close(classifier(grey), classifier(np.repeat(np.array(grey)[:, :, None], 3, axis=2)))


def test_the_call() -> None:
    classifier = made("resnet18", classifier={"resize": 32, "crop": 32})
    assert classifier([]).shape == (0, 6)
    assert classifier([noise(9, 40)]).sum(dim=1).item() == pytest.approx(1)
    with pytest.raises(FileNotFoundError, match=r"none\.jpg"):
        classifier("none.jpg")
    with pytest.raises(RuntimeError, match=r"classifier\.eval"):
        classifier.train()(noise(9, 40))


def test_the_loss_by_definition() -> None:
    classifier = made("resnet18", classifier={"resize": 32, "crop": 32, "label_smoothing": 0.1})
    pixels, labels = torch.randn(3, 3, 32, 32), torch.tensor([5, 0, 2])
    log = classifier.logits(pixels).log_softmax(dim=1)
    # 0.1 of the probability is shared out among all six
    expected = -(0.9 * log[range(3), labels] + 0.1 * log.mean(dim=1)).mean()
    torch.testing.assert_close(classifier.losses(pixels, labels)["class"], expected)
    classifier.settings = classifier.settings.model_copy(update={"label_smoothing": 0.0})
    classifier.class_weights = torch.tensor([2.0, 1, 4, 1, 1, 3])
    weighted = -(torch.tensor([3.0, 2, 4]) * log[range(3), labels]).sum() / 9
    torch.testing.assert_close(classifier.losses(pixels, labels)["class"], weighted)


def test_bad_labels_and_pixels_are_named() -> None:
    classifier = made("resnet18", classifier={"resize": 32, "crop": 32})
    pixels, labels = (
        classifier.pixels([centre_crop(noise(40, 40, i), 32, 32) for i in range(3)]),
        torch.tensor([5, 0, 2]),
    )
    assert classifier.losses(pixels, labels)["class"].isfinite()
    bad = {
        r"labels\[1\] = 6, but the classifier has 6 classes: labels go from 0 to 5": (pixels, torch.tensor([5, 6, 2])),
        r"labels\[2\] = -100, but": (pixels, torch.tensor([5, 0, -100])),  # cross_entropy would ignore it
        r"the pixels span \[0, 255\], but normalised ones lie in": (
            torch.linspace(0, 255, 9216).reshape(3, 3, 32, 32),
            labels.clone(),
        ),
        r"the pixels span \[nan, nan\]": (pixels * float("nan"), labels.clone()),
        r"pixels are uint8 of shape \(3, 3, 32, 32\), and must be float32": (pixels.byte(), labels),
        r"labels are int64 of shape \(2,\), and must be int64 of shape \(3,\)": (pixels, labels[:2]),
        r"labels are float32": (pixels, labels.float()),
        r"labels are on meta, but the classifier is on cpu": (pixels, labels.to("meta")),
    }
    for said, given in bad.items():
        with pytest.raises(ValueError, match=said):
            classifier.losses(*given)


def test_labels_are_looked_at_once() -> None:
    classifier = made("resnet18", classifier={"resize": 32, "crop": 32})
    pixels, labels = torch.zeros(2, 3, 32, 32), torch.tensor([5, 0])
    classifier.losses(pixels, labels)
    classifier.losses(pixels + 100, labels)
    with pytest.raises(ValueError, match="the pixels span"):
        classifier.losses(pixels + 100, labels.clone())


def test_iterators_batches_and_what_is_no_picture() -> None:
    classifier = made("resnet18", classifier={"resize": 40, "crop": 32})
    pictures = [noise(50, 60), noise(50, 60, 1)]
    expected = classifier(pictures)
    assert not expected.is_inference()
    for several in (iter(pictures), {"a": pictures[0], "b": pictures[1]}.values(), np.stack(pictures)):
        assert classifier(several).equal(expected)
    with pytest.raises(TypeError, match=r"^pictures\[1\]: None is not a picture"):
        classifier([pictures[0], None])  # type: ignore[list-item]  # not a picture


def test_weights_stay_float32_and_autocast_computes_in_half_precision() -> None:
    classifier = made("resnet18", classifier={"resize": 40, "crop": 32})
    with pytest.raises(TypeError, match=r"stay float32, not float16; .*call it within torch\.autocast"):
        classifier.half()
    with torch.autocast("cpu", torch.bfloat16):
        found = classifier([noise(50, 60)])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, classifier([noise(50, 60)]), rtol=0, atol=0.02)
