"""Little is imported until it is needed, and imports run downwards only."""

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "rcnnkit"
CONTRIBUTING = ROOT.parent / "CONTRIBUTING.md"

# Each may import those above it and, where a name ends with /, what is beside it in its folders. CONTRIBUTING.md shows
# them; `python tests/test_imports.py` writes them into it.
TIERS = [
    ["apart", "boxes", "colours", "defaults", "files", "precision", "processes", "progress", "settings", "text"],
    ["archives", "downloads", "memory", "pages", "pickles", "setting_list", "structures", "vocabulary"],
    ["mat_files", "tiles"],
    ["merging", "ops/"],
    ["decoding", "matching"],
    ["slides"],
    ["fixed_sizes", "images", "suppression"],
    ["looking", "model"],
    ["backbones/"],
    ["proposals/", "heads/"],
    ["cpu_layers"],
    ["detectors/"],
    ["inference"],
    ["weights"],
    ["compression", "drawing/", "data/", "evaluation/", "exporting/", "importing/", "info"],
    ["attacks/", "checking/", "labelling/", "stages"],
    ["reporting/"],
    ["detecting/", "serving/", "tables", "terminal"],
    ["training.schedule", "training.windows"],
    ["training.features"],
    ["config"],
    ["config_files"],
    ["training/"],
    ["demo"],
    ["benchmark/"],
    ["cli/"],
    ["__main__"],
]


def modules() -> list[str]:
    """boxes, heads.matching, …: all but empty packages' own files."""
    files = [path.relative_to(ROOT) for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py"]
    return sorted(".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files)


def tier(module: str) -> tuple[int, str]:
    """How far down a module is, and its name in the table."""
    for wanted in (module, module.partition(".")[0]):  # a module may lie lower than the rest of its folder
        for i, names in enumerate(TIERS):
            for name in names:
                if name.rstrip("/") == wanted:
                    return i, name
    raise AssertionError(f"rcnnkit.{module} has no tier in this test; say where it belongs")


def imported(module: str) -> set[str]:
    """The modules of rcnnkit that the source names anywhere in an import, without "rcnnkit."."""
    path = ROOT.joinpath(*module.split("."))
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            if node.module == "rcnnkit":
                found |= {alias.name for alias in node.names if alias.name != "__version__"}
            elif node.module and node.module.startswith("rcnnkit."):
                found.add(node.module.removeprefix("rcnnkit."))
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("rcnnkit.") for a in node.names if a.name.startswith("rcnnkit.")}
    return found


@pytest.mark.parametrize("module", modules())
def test_imports_run_downwards(module: str) -> None:
    here, own = tier(module)
    for other in imported(module):
        there, name = tier(other)
        if own.endswith("/") or name.endswith("/"):
            assert there <= here, f"rcnnkit.{module} imports rcnnkit.{other}, which is above it"
        else:
            assert there < here or other == module, f"rcnnkit.{module} imports rcnnkit.{other}, which is not below it"


def with_tiers(text: str) -> str:
    """The text of CONTRIBUTING.md with these tiers in the place of those that it shows."""
    shown = "".join(f"      {', '.join(names)}\n" for names in TIERS)
    before, mark, after = text.partition("  may import those above it:\n\n")
    assert mark
    return before + mark + shown + after[after.index("\n- ") :]


def test_contributing_shows_the_order_of_imports() -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    assert text == with_tiers(text), "run `python tests/test_imports.py`"


def test_the_imports_are_seen() -> None:
    assert imported("structures") == {"boxes", "settings"}
    assert {"proposals.rpn", "heads.box_head", "structures"} <= imported("detectors.faster_rcnn")


def test_nothing_is_imported_in_a_circle() -> None:
    """Also within a tier."""
    pending = {module: imported(module) for module in modules()}
    while pending:
        free = [module for module, needs in pending.items() if not needs & (pending.keys() - {module})]
        assert free, f"these import each other: {sorted(pending)}"
        for module in free:
            del pending[module]


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_importing_rcnnkit_loads_next_to_nothing() -> None:
    loaded = loaded_by("import rcnnkit")
    assert not loaded & {"torch", "numpy", "cv2", "pydantic", "torchvision"}
    assert {name for name in loaded if name.startswith("rcnnkit")} == {"rcnnkit"}


def test_help_waits_for_nothing_heavy() -> None:
    loaded = loaded_by("import rcnnkit.cli")
    assert "typer" in loaded
    assert not loaded & {"torch", "numpy", "cv2", "pydantic", "safetensors", "rich.logging"}


def test_importing_the_operators_loads_torch_and_little_else() -> None:
    loaded = loaded_by("import rcnnkit.ops")
    assert "torch" in loaded
    assert not loaded & {"cv2", "albumentations", "pydantic", "sklearn", "matplotlib", "pycocotools", "typer"}


def test_detecting_does_not_load_what_only_training_needs() -> None:
    loaded = loaded_by("import rcnnkit; rcnnkit.load")
    assert "rcnnkit.weights" in loaded
    assert not loaded & {"albumentations", "sklearn", "matplotlib", "pycocotools", "typer"}


def test_help_waits_for_no_library_of_the_commands() -> None:
    loaded = loaded_by("from rcnnkit.cli import app")
    assert "rcnnkit.cli.settings" in loaded
    assert not loaded & {"torch", "numpy", "cv2", "pydantic", "torchvision"}


def test_reading_settings_does_not_list_them() -> None:
    """Their meanings are parsed from the source, which is for those who ask."""
    assert [module for module in modules() if "setting_list" in imported(module)] == ["cli.settings"]


def test_every_name_is_there_and_others_are_not() -> None:
    import rcnnkit

    for name in rcnnkit.__all__:
        assert callable(getattr(rcnnkit, name)), name
    with pytest.raises(AttributeError, match="has no attribute 'Detection'"):
        rcnnkit.Detection  # noqa: B018
    assert dir(rcnnkit) == sorted([*rcnnkit.__all__, "__version__"])


def test_nothing_below_training_draws_on_a_terminal() -> None:
    """Results, data and detectors are for programs too; what they look like on a terminal comes later."""
    first = next(i for i, names in enumerate(TIERS) if "training.schedule" in names)
    for module in modules():
        if tier(module)[0] < first and module not in ("tables", "terminal"):
            path = ROOT.joinpath(*module.split("."))
            source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            imports = re.findall(r"^ *(?:from|import) (\w+)", source.read_text(encoding="utf-8"), re.M)
            assert "rich" not in imports, module


# The command is for people, and no library.
PACKAGES = sorted(
    ".".join(("rcnnkit", *path.parent.relative_to(ROOT).parts))
    for path in ROOT.glob("*/**/__init__.py")
    if "cli" not in path.parts
)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_is_public(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__doc__
    assert module.__all__ == sorted(module.__all__, key=lambda name: (not name[0].isupper(), name))
    for name in module.__all__:
        if not hasattr(module, name):
            importlib.import_module(f"{package}.{name}")


def test_the_documents_import_what_is_public() -> None:
    documents = [ROOT.parent / "README.md", *(ROOT.parent / "docs").rglob("*.md")]
    code = "\n".join(
        code for file in documents for code in re.findall(r"```python\n(.*?)```", file.read_text(), re.DOTALL)
    )
    seen = re.findall(r"^from (rcnnkit\.(\w+)\.(\w+)\S*) import", code, re.MULTILINE)
    assert len(seen) > 3
    for path, package, module in seen:
        assert module in importlib.import_module(f"rcnnkit.{package}").__all__, path


if __name__ == "__main__":
    CONTRIBUTING.write_text(with_tiers(CONTRIBUTING.read_text(encoding="utf-8")), encoding="utf-8")
