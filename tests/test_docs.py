"""The documents are true: links lead somewhere, what they name is there, commands are understood, examples run."""

import ast
import builtins
import importlib
import re
import shutil
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

import rcnnkit
from rcnnkit import weights
from rcnnkit.backbones.names import ARCHITECTURES
from rcnnkit.config import Settings
from rcnnkit.config_files import check_settings, read_settings
from rcnnkit.data.coco import write_coco
from rcnnkit.data.records import Dataset, Record
from rcnnkit.detecting import DetectedPicture
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.evaluation.report import Found, judge
from rcnnkit.proposals.store import Store
from rcnnkit.structures import Detections, Proposals, Targets
from tests import documents
from tests.detecting.squares import film, moving
from tests.documents import DOCUMENTS, NOTEBOOKS, NOW, PAGES, ROOT, anchors, blocks, name, spans
from tests.evaluation.made import made

GENERATED = documents.generated()
SECTIONS = Settings.model_fields
# What the documents call things in examples.
OBJECTS: dict[str, Any] = {"found": Detections, "detector": rcnnkit.FasterRCNN, "picture": DetectedPicture}
SOURCES = (".py", ".cpp", ".h", ".cu", ".cuh", ".toml", ".md")
FOLDERS = (".ci/", "configs/", "csrc/", "docs/", "examples/", "rcnnkit/", "tests/", "tools/")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# Links


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"^( *)```.*?^ *```$", "", read(document), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        path = document.parent / file if file else document
        assert path.exists(), f"{target} is not there"
        assert not file.startswith("/"), f"{target} is a path of one machine"
        if anchor:
            assert anchor in anchors(GENERATED.expand(read(path))), f"{file} has no heading for #{anchor}"


def test_every_page_is_linked() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in [ROOT / "README.md", *PAGES]
        for target in re.findall(r"\]\(([^)\s]+\.md[^)\s]*)\)", read(page))
    }
    trees = {
        path.resolve()
        for page in PAGES
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", read(page), re.DOTALL)
        for line in tree.splitlines()
        if line and not line.startswith(":")
        for path in page.parent.glob(f"{line}.md")
    }
    assert trees - {*NOTEBOOKS} == {page.resolve() for page in PAGES} - {ROOT / "docs" / "index.md"}
    assert {
        page.resolve() for page in PAGES if "project" not in page.parts and "python" not in page.parts
    } <= linked | {ROOT / "docs" / "index.md"}


# Names


@cache
def defined() -> set[str]:
    """Every name that the package defines: functions, classes, arguments, attributes, settings."""
    names = set()
    for path in (ROOT / "rcnnkit").rglob("*.py"):
        names |= {path.stem, *path.relative_to(ROOT).parts}
        for node in ast.walk(ast.parse(read(path))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.arg):
                names.add(node.arg)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                names.add(node.value)  # a name of a network, a column of a log
    return names


def resolves(dotted: str) -> bool:
    """Whether rcnnkit.a.b.c is a module or what one has, or a field of a class of one."""
    parts = dotted.split(".")
    value: Any = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], 2):
        try:
            value = importlib.import_module(".".join(parts[:i]))
        except ModuleNotFoundError:
            if not hasattr(value, part):
                return part in getattr(value, "__annotations__", {})
            value = getattr(value, part)
    return True


def is_there(span: str) -> bool:
    """Whether what a span of code names exists; True for what is no name of ours."""
    word = re.split(r"[\s=(\[]", span)[0].rstrip(".,")
    if word.endswith((".yaml", ".csv", ".txt")):
        return True  # of the reader's data
    if word.endswith(SOURCES):
        if "/" in word and not word.startswith(FOLDERS) and word.endswith((".toml", ".md")):
            return True  # a file of the reader
        bases = [ROOT, ROOT / "rcnnkit", ROOT / "rcnnkit" / "ops", ROOT / "rcnnkit" / "ops" / "csrc"]
        reader = ("settings.toml", "cells.toml", "report.md")
        return word in reader or any(list(base.glob(word)) or list(base.rglob(word)) for base in bases)
    if word.startswith(FOLDERS) and "_build" not in word:
        return any((base / word).exists() for base in (ROOT, ROOT / "rcnnkit" / "ops"))
    if word.startswith("rcnnkit."):
        return resolves(word)
    owner, _, member = word.partition(".")
    if member.isidentifier() and owner in OBJECTS:
        return hasattr(OBJECTS[owner], member) or member in dir(OBJECTS[owner]) or member in defined()
    if member.isidentifier() and owner in SECTIONS:
        return member in SECTIONS[owner].annotation.model_fields  # type: ignore[union-attr]  # always a model
    if word.isupper():
        return word in VARIABLES or not word.startswith("RCNNKIT_")
    if word.isidentifier() and (re.fullmatch(r"\w+\(.*\)", span) or "_" in word or re.match(r"[A-Z][a-z]+[A-Z]", word)):
        return word in defined() | {path.stem for path in (ROOT / "configs").glob("*.toml")} or hasattr(builtins, word)
    return True


VARIABLES = {
    "RCNNKIT_CACHE",
    "RCNNKIT_CUDA",
    "RCNNKIT_CPU_LEVEL",
    "RCNNKIT_MAX_PIXELS",
    "RCNNKIT_TRACEBACK",
    "RCNNKIT_TEST_DATA",
}


@pytest.mark.parametrize("document", NOW, ids=name)
def test_what_is_named_is_there(document: Path) -> None:
    assert [span for span in spans(read(document)) if not is_there(span)] == []


def test_a_name_that_is_not_there_is_found() -> None:
    gone = [
        "rcnnkit.lode",
        "train.learning",
        "found.abov(0.5)",
        "tools/none.py",
        "configs/x.toml",
        "fit_svms()",
        "nms_by",
    ]
    assert [span for span in gone if is_there(span)] == []


def test_variables_of_the_environment_are_read() -> None:
    files = [ROOT / "CMakeLists.txt", *(ROOT / "tests").glob("*.py"), *(ROOT / "rcnnkit").rglob("*.[pc][yp]*")]
    source = "\n".join(read(file) for file in files if file.suffix != ".pyc" and file != Path(__file__))
    assert {variable for variable in VARIABLES if variable not in source} == set()
    page = read(ROOT / "docs" / "reference" / "environment.md")
    assert set(re.findall(r"RCNNKIT_\w+", page)) == VARIABLES


def test_every_public_package_has_its_page() -> None:
    shown = {package for page in PAGES for package in GENERATED.PUBLIC.findall(read(page))}
    packages = {
        ".".join(("rcnnkit", *path.parent.relative_to(ROOT / "rcnnkit").parts))
        for path in (ROOT / "rcnnkit").rglob("__init__.py")
    }
    inner = {"rcnnkit.benchmark.measure", "rcnnkit.benchmark.report"}  # on the page of what they are in
    assert packages - inner - {"rcnnkit.cli", "rcnnkit.cli.proposals", "rcnnkit.cli.see"} <= shown


def test_the_table_of_backbones_is_theirs() -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*?) \| (.*?) \|", read(ROOT / "docs" / "models" / "backbones.md"), re.MULTILINE)
    shown = {
        backbone: (tuple(re.findall(r"\w+", necks)), tuple(re.findall(r"\w+", norms)))
        for backbones, necks, norms in rows
        for backbone in re.findall(r"`(\w+)`", backbones)
    }
    assert shown == {each.name: (each.necks, each.norms) for each in ARCHITECTURES.values()}


# Commands


@pytest.mark.parametrize("document", NOW, ids=name)
def test_commands_are_understood(document: Path, tmp_path: Path) -> None:
    for words in documents.commands(read(document)):
        check_command(words, tmp_path)
    for span in spans(read(document)):
        if re.match(r"(rcnnkit|python|pip) [a-z-]", span) and "…" not in span:
            check_command(span.split(), tmp_path, whole=False)
        elif re.match(r"--[a-z]", span):
            assert span.split()[0].split("=")[0] in flags(), span


@cache
def leaves() -> dict[str, Any]:
    found: dict[str, Any] = GENERATED.leaves()
    return found


@cache
def flags() -> set[str]:
    own = {flag for command in leaves().values() for p in command.params for flag in [*p.opts, *p.secondary_opts]}
    return own | {"--version", "--help"}


def check_command(words: list[str], folder: Path, whole: bool = True) -> None:
    """Assert that a command is understood; of a sentence's, which may lack arguments, its name and options."""
    said = " ".join(words)
    if "rcnnkit" in words[: None if words[0] == "torchrun" else 1]:
        words = words[words.index("rcnnkit") :]
        if words[1:] in (["--help"], ["--version"], ["COMMAND", "--help"]):
            return
        names = [" ".join(words[:n]) for n in (3, 2) if " ".join(words[:n]) in leaves()]
        groups = {key.rpartition(" ")[0] for key in leaves()}
        if not names and not whole and " ".join(words) in groups:
            return
        assert names, f"there is no command {said}"
        command, arguments = leaves()[names[0]], words[names[0].count(" ") + 1 :]
        if not whole:
            known = {flag for p in command.params for flag in [*p.opts, *p.secondary_opts]} | {"--help"}
            assert {word for word in arguments if word.startswith("--")} <= known, said
            return
        values = command.make_context(names[0], arguments).params  # raises on a wrong option, or one that is missing
        if names[0] == "rcnnkit train":
            check_overrides(values["config"], values["settings"] or [], folder)
        elif names[0] == "rcnnkit import" and values["source"].endswith(("_V1", "_V2")):
            torchvision.models.get_weight(values["source"])  # raises on a wrong name
    elif words[:2] == ["python", "-m"]:
        assert words[2] in ("pytest", "venv", "sphinx", "rcnnkit"), said
        assert all((ROOT / word).exists() for word in words if word.startswith("tests")), said
    elif words[0] == "python":
        source = read(ROOT / words[1])
        for word in words[2:]:
            assert not word.startswith("--") or f'"{word}"' in source, f"{said}: {word}"
    elif words[0] == "pip":
        extras = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
        assert {extra for word in words for extra in re.findall(r"\[(\w+)\]", word)} <= set(extras), said
    else:
        modules = {path.stem for path in (ROOT / "rcnnkit").rglob("*")}  # the order of imports, in CONTRIBUTING.md
        is_known = (
            words[0] in (".", "git", "pre-commit", "python3")
            or {re.split(r"[/.,]", word)[0] for word in words} <= modules
        )
        assert is_known, f"what is {said}?"


def check_overrides(config: Path, overrides: list[str], folder: Path) -> None:
    """Assert that the settings of `rcnnkit train` are right; the reader's own file stands for any."""
    file = ROOT / config
    if config.parts[0] != "configs":
        file = folder / "own.toml"
        file.write_text('[data]\nroot = "data"\n')
    read_settings(file, overrides)


def test_a_command_that_is_not_understood_is_found(tmp_path: Path) -> None:
    wrong = [
        "rcnnkit trains x.toml",
        "rcnnkit train x.toml train.learning_rate=1",
        "rcnnkit detect w.safetensors --out b",
        "rcnnkit detect w.safetensors a.jpg --out b --minscore 1",
        "rcnnkit import ResNet50_Weights.NONE_V2 --out x",
        "python tools/none.py",
        "python tools/check.py --none",
        "pip install -e .[none]",
        "make",
    ]
    for command in wrong:
        with pytest.raises(Exception, match=r".+"):
            check_command(command.split(), tmp_path)


# Settings


@pytest.mark.parametrize("document", NOW, ids=name)
def test_settings_are_right(document: Path) -> None:
    for code in blocks(read(document), "toml"):
        values = tomllib.loads(code)
        check_settings(values | {"data": {"root": "data"} | values.get("data", {})}, name(document))


# Examples


def detector(values: dict[str, Any], path: Path) -> None:
    """Untrained weights that detect something."""
    settings = DetectorSettings.model_validate(values)
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights.save(build(settings, ["RBC", "WBC"]).eval(), settings, path)


@pytest.fixture(scope="module")
def desk(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the examples name."""
    folder = tmp_path_factory.mktemp("desk")
    picture = digits / "JPEGImages" / "000001.jpg"
    for copy in ("blood.jpg", "blood1.jpg", "kitchen.jpg", "folder/a.jpg", "rcnnkit-demo/data/JPEGImages/000513.jpg"):
        (folder / copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, folder / copy)
    Image.open(picture).save(folder / "cell.png")
    shutil.copytree(digits, folder / "pets")
    film(folder / "clip.mp4", moving(3))
    small = {"hidden": 8, "score_threshold": 0.01}
    size = {"short_side": 96, "long_side": 96}
    plain = {"model": {"backbone": "alexnet"}, "head": small, "input": size}
    fast = plain | {"model": {"backbone": "alexnet", "kind": "fast_rcnn"}, "proposals": {"count": 50}}
    for file in ("best.safetensors", "runs/cells/best.safetensors", "rcnnkit-demo/faster-rcnn/best.safetensors"):
        detector(plain, folder / file)
    detector(fast, folder / "runs/fast/best.safetensors")
    windows = {"model": {"backbone": "resnet18", "norm": "batch", "kind": "rcnn"}, "proposals": {"count": 20}}
    detector(windows | {"rcnn": {"size": 32, "context": 4}}, folder / "runs/rcnn/best.safetensors")
    classes = {"model": {"backbone": "resnet18", "norm": "batch", "kind": "classifier"}}
    detector(classes, folder / "runs/classifier/best.safetensors")
    for kind in ("densecap", "captioner"):
        describing = {"model": classes["model"] | {"kind": kind}, "captions": {"words": ["a", "cup"], "hidden": 8}}
        detector(describing | {"head": small, "input": size}, folder / f"runs/{kind}/best.safetensors")
    words = {"enabled": True, "words": ["a", "red", "cup"], "space": 8, "embedding": 8, "hidden": 8}
    detector(plain | {"alignment": words}, folder / "runs/aligner/best.safetensors")
    (folder / "annotated" / "images").mkdir(parents=True)
    shutil.copy(picture, folder / "annotated" / "images" / "blood.jpg")
    objects = Targets(torch.tensor([[9.0, 9, 40, 40]]), torch.tensor([1]))
    record = Record(1, folder / "annotated" / "images" / "blood.jpg", (96, 96), objects)
    cells = Dataset("cells", [record], ["RBC", "WBC"], [1, 2])
    write_coco(cells, folder / "annotated" / "annotations" / "instances_test.json")
    store = Store.create(folder / "proposals" / "cells", "selective-search", {})
    store.write("BloodImage_00001", Proposals(torch.tensor([[1.0, 2, 30, 40]]), torch.ones(1)), (480, 640))
    return folder


GIVEN: dict[str, dict[str, Any]] = {
    "docs/howto/proposals.md": {
        "targets": Targets(torch.tensor([[0.0, 0, 40, 40]]), torch.tensor([0])),
        "class_names": ["RBC"],
    },
    "docs/howto/import_weights.md": {"class_names": ["RBC", "WBC"]},
}
WITH_CODE = [path for path in NOW if blocks(read(path), "python") and path.name != "own_network.md"]


@pytest.mark.parametrize("document", WITH_CODE, ids=name)
def test_examples_run(document: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    names: dict[str, Any] = {"__name__": "example"} | GIVEN.get(name(document), {})
    if document.name == "import_weights.md":
        names["torchvision_model"] = small_torchvision()
    if document.name == "read_evaluation.md":
        monkeypatch.setattr("rcnnkit.evaluation.intervals.samples_of", lambda pictures: 10)
        detections, names["dataset"] = made(0)
        names["result"] = judge([Found(dict(enumerate(detections)), [1.0])], names["dataset"])
    for code in blocks(read(document), "python"):
        exec(compile(code, name(document), "exec"), names)
    shutil.rmtree(desk / "found", ignore_errors=True)
    (desk / "found.csv").unlink(missing_ok=True)


def small_torchvision() -> Any:
    models = torchvision.models.detection
    backbone = models.backbone_utils.resnet_fpn_backbone(backbone_name="resnet50", weights=None)
    return models.FasterRCNN(backbone, num_classes=3)


def test_a_network_of_your_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks(read(ROOT / "docs" / "howto" / "own_network.md"), "python")
    picture = np.random.default_rng(0).integers(0, 60, (128, 160, 3), dtype=np.uint8)
    picture[30:90, 20:80] += 150
    Image.fromarray(picture).save(tmp_path / "pets.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile(code, "docs/howto/own_network.md", "exec"), names)
    found = names["detector"]("pets.jpg")
    assert found.names[0] == "dog"
    assert float(found.scores[0]) > 0.5
    assert (found.boxes[0] - torch.tensor([20.0, 30, 80, 90])).abs().max() < 10
    assert capsys.readouterr().out.startswith("[('dog', 0.")
