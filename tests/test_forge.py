"""What can only run on a forge, or is read by one: its syntax, and that it agrees with the project."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

import rcnnkit
from rcnnkit.config import Settings
from rcnnkit.setting_list import sections_of

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "custom.github-workflows-require-timeout": WORKFLOWS,
    "vendor.dependabot": [GITHUB / "dependabot.yml"],
    "vendor.github-issue-forms": [GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml" for name in ("bug", "idea")],
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.citation-file-format": [ROOT / "CITATION.cff"],
}


def read_yaml(path: Path) -> Any:
    return pytest.importorskip("yaml").safe_load(path.read_text(encoding="utf-8"))


def project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


@pytest.mark.skipif(not shutil.which("check-jsonschema"), reason="check-jsonschema is not installed")
@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_schema_holds(schema: str) -> None:
    assert all(path.is_file() for path in SCHEMAS[schema])
    files = map(str, SCHEMAS[schema])
    command = ["check-jsonschema", "--default-filetype", "yaml", "--builtin-schema", schema, *files]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_file_of_the_forge_has_a_schema() -> None:
    assert {*GITHUB.rglob("*.yml"), ROOT / "CITATION.cff"} == {path for paths in SCHEMAS.values() for path in paths}


def test_the_matrix_begins_with_what_is_promised() -> None:
    jobs = read_yaml(GITHUB / "workflows" / "tests.yml")["jobs"]
    matrix = jobs["tests"]["strategy"]["matrix"]
    about = project()["project"]
    assert f">={matrix['python'][0]}" == about["requires-python"]
    assert f"torch>={matrix['torch'][0]}" in about["dependencies"]
    named = [line.rpartition(" ")[2] for line in about["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert named == matrix["python"]
    assert jobs["oldest"]["steps"][1]["with"]["python-version"] == matrix["python"][0]


def test_the_version_stands_in_one_place() -> None:
    about = project()
    assert about["project"]["dynamic"] == ["version"]
    assert about["tool"]["scikit-build"]["metadata"]["version"] == {
        "provider": "scikit_build_core.metadata.regex",
        "input": "rcnnkit/__init__.py",
    }
    source = (ROOT / "rcnnkit" / "__init__.py").read_text(encoding="utf-8")
    assert re.findall(r'^__version__ = "(\d+\.\d+\.\d+)"$', source, re.MULTILINE) == [rcnnkit.__version__]
    assert "version" not in read_yaml(ROOT / "CITATION.cff")


def test_the_hooks_are_the_tools_of_the_checks() -> None:
    (repository,) = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        _, *command = hook["entry"].split()
        if command[0] == "-m":
            assert f'"{command[1]}"' in (ROOT / "tools" / "check.py").read_text(encoding="utf-8")
        else:
            assert (ROOT / command[0]).is_file()


def test_old_names_of_settings_are_listed() -> None:
    text = (ROOT / "docs" / "project" / "deprecations.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(\S+)` \| `(\S+)` \|$", text, re.MULTILINE))
    sections = {(f"[{old}]", f"[{new}]") for old, new in Settings.renamed.items()}
    assert listed == sections | {
        (f"{name}.{old}", f"{name}.{new}")
        for name, section in sections_of(Settings).items()
        for old, new in section.renamed.items()
    }
