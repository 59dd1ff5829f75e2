"""A sentence for the whole picture."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rcnnkit
from rcnnkit import weights
from rcnnkit.data.captions import read_captions
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import BadData
from rcnnkit.detectors.detector import with_proposals
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.picture_captioner import PictureCaptioner
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.evaluation.described import describe_objects
from rcnnkit.inference import prepare
from rcnnkit.structures import Proposals, Targets
from rcnnkit.vocabulary import Vocabulary
from tests.data.annotation_files import pictures
from tests.training.runs import QUIET, Values, settings

WORDS = ["a", "red", "cup", "tea"]
PICTURE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
SMALL: dict[str, Any] = {
    "model": {"kind": "captioner", "backbone": "resnet18", "norm": "batch"},
    "captions": {"words": WORDS, "hidden": 8, "embedding": 8, "max_words": 4},
    "input": {"short_side": 64, "long_side": 96},
}


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR of equal words, without a start of Java."""
    monkeypatch.setattr("rcnnkit.evaluation.sentences.shutil.which", lambda name: None)


@pytest.fixture
def captioner() -> PictureCaptioner:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = build(DetectorSettings.model_validate(SMALL), ["picture"]).eval()
        assert isinstance(made, PictureCaptioner)
        torch.nn.init.normal_(made.language.score_layer.weight)
        return made


def test_one_sentence_a_picture(captioner: PictureCaptioner, tmp_path: Path) -> None:
    one, other = captioner([PICTURE, np.ascontiguousarray(PICTURE.transpose(1, 0, 2))])
    assert one.boxes.tolist() == [[0, 0, 96, 64]]
    assert other.boxes.tolist() == [[0, 0, 64, 96]]
    ((said, score, _),) = captioner(PICTURE)
    assert score == 1
    assert said
    assert set(said.split()) <= set(WORDS)
    beside = np.ascontiguousarray(PICTURE[::-1])
    assert captioner([beside, PICTURE])[1].phrases == (said,)  # whatever shares its batch
    assert prepare(captioner, "float32")(PICTURE).phrases == (said,)
    weights.save(captioner, DetectorSettings.model_validate(SMALL), tmp_path / "w.safetensors")
    assert weights.load(tmp_path / "w.safetensors", "cpu")(PICTURE).phrases == (said,)
    box = Proposals(torch.tensor([[0.0, 0, 96, 64]]), torch.ones(1))
    with torch.no_grad():
        assert captioner.describe(with_proposals(captioner.preprocessing([PICTURE]), [box])) == [(said,)]


def test_all_sentences_of_a_picture_are_learnt(captioner: PictureCaptioner) -> None:
    captioner.train()
    images = captioner.preprocessing([PICTURE, np.ascontiguousarray(PICTURE[:, ::-1])])
    phrases = Vocabulary(WORDS).encode(["a red cup", "tea", "a cup"])
    box = torch.tensor([[0.0, 0, 96, 64]])
    targets = [
        Targets(box.expand(2, 4), torch.tensor([0, 0]), phrases=phrases[:2]),
        Targets(box, torch.tensor([0]), phrases=phrases[2:]),
    ]
    (sums,) = captioner.loss_sums(images, targets).values()
    assert sums.count == (3 + 1) + (1 + 1) + (2 + 1)  # words, and END of each
    sums.mean.backward()
    for name, parameter in captioner.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def write(file: Path, images: Any, annotations: Any) -> Path:
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    return file


def test_cocos_captions(tmp_path: Path) -> None:
    pictures(tmp_path, "1.jpg", "2.jpg")
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 60, "width": 80} for i in (1, 2)]
    sentences = [
        {"id": 8, "image_id": 1, "caption": "A red cup."},
        {"id": 9, "image_id": 1, "caption": "Tea, in a cup!"},
    ]
    file = write(tmp_path / "captions_train.json", images, sentences)
    data = read_data(tmp_path, "train")
    assert (len(data), data.objects, data.class_names) == (2, 2, ["picture"])
    first = data.records[0].targets
    assert first.boxes.tolist() == [[0, 0, 80, 60]] * 2
    assert Vocabulary(data.words).decode(first.phrases) == ["a red cup", "tea in a cup"]
    wrong = [
        {"id": 8, "image_id": 7, "caption": "A red cup."},
        {"id": 9, "image_id": 1, "caption": "..."},
        {"id": 10, "image_id": 1, "caption": "word " * 200},
        "a cup",
    ]
    write(file, [*images, {"id": 1, "file_name": "1.jpg"}, {"id": 3}], wrong)
    with pytest.raises(BadData) as caught:
        read_data(tmp_path, "train")
    assert [f"{problem.where}: {problem.message}" for problem in caught.value.problems][:4] == [
        "images[2]: the id 1 is that of another picture, too; list each picture once, with all it has",
        'images[3]: {"id": 3} needs an `id` and a `file_name`',
        "annotation 8: its image_id is 7, which is no picture of this file; correct it",
        'annotation 9: its caption is "...", which has no word; describe what is there, or delete it',
    ]
    file.write_text("[]")
    _, (finding,) = read_captions(file)
    assert finding.message.startswith("this holds []; expected COCO's captions: an object with the lists `images` and")


def test_real_captions(coco256: Path) -> None:
    data = read_data(coco256, "val", format="captions")
    written = json.loads((coco256 / "annotations" / "captions_val2017.json").read_text())["annotations"]
    words = {word for each in written for word in re.sub(r"[^\w\s]", "", each["caption"].lower()).split()}
    assert (len(data), data.objects, set(data.words)) == (128, 641, words)


def test_a_run_from_a_classifier(tiny: Values, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rcnnkit")
    root = tmp_path / "data"
    root.mkdir()
    pictures(root, "1.jpg", "2.jpg", "3.jpg")
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2, 3)]
    sentences = [{"id": i, "image_id": i % 3 + 1, "caption": ("a red cup", "tea")[i % 2]} for i in range(6)]
    write(root / "captions_train.json", images[:2], [each for each in sentences if each["image_id"] != 3])
    write(root / "captions_val.json", images[2:], [each for each in sentences if each["image_id"] == 3])
    start = DetectorSettings.model_validate(
        {"model": {"kind": "classifier", "backbone": "resnet18", "norm": "batch"}, "classifier": {"crop": 64}}
    )
    with torch.random.fork_rng():
        weights.save(build(start, ["cup"]), start, tmp_path / "classifier.safetensors")
    values = SMALL | {"captions": {"hidden": 8, "embedding": 8, "minimum_count": 1}, "train": tiny["train"]}
    values["data"] = {"root": str(root), "workers": 0}
    wanted = settings(values, init=str(tmp_path / "classifier.safetensors"), iterations=2)
    best = rcnnkit.train(wanted, tmp_path / "run", console=QUIET)
    afresh = next(message for message in caplog.messages if "start afresh" in message)
    assert "these start afresh: captioner.norms.0.weight" in afresh  # and nothing of the network
    loaded = weights.load(best, "cpu")
    assert isinstance(loaded, PictureCaptioner)
    held = read_data(root, "val")
    described = describe_objects(loaded, held)
    assert described.wanted == [["a red cup", "tea"]]  # several references for one picture
    assert described.whole in (0, 1)


def test_a_pyramid_is_of_no_use() -> None:
    model = {"kind": "captioner", "backbone": "resnet18"}
    assert DetectorSettings.model_validate({"model": model}).model.neck == "c4"
    with pytest.raises(
        ValueError, match=r'neck = "fpn" does not go with kind = "captioner", which sees one map; set neck'
    ):
        DetectorSettings.model_validate({"model": model | {"neck": "fpn"}})
    with pytest.raises(ValueError, match=r"captions\.neighbours = true is for model\.kind = \"densecap\"; a captioner"):
        DetectorSettings.model_validate({"model": model, "captions": {"neighbours": True}})
