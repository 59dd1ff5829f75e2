"""The notebooks of docs/learn/with_the_papers run from beginning to end, and are kept without what they gave."""

import ast
import importlib
import re
import resource
from pathlib import Path

import pytest

COURSE = Path(__file__).parents[1] / "docs" / "learn" / "with_the_papers"
NOTEBOOKS = sorted(COURSE.glob("[0-9]*.md"))
CORES, SECONDS = 2, 240  # of which the page of the course says that a notebook takes no more


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_notebook_has_its_parts_in_order(notebook: Path) -> None:
    text = notebook.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    assert titles[0].startswith(f"{int(notebook.stem[:2])}. ")
    assert titles[-2] == "Exercises"
    assert titles[-1] in ("Paper and rcnnkit", "Papers and rcnnkit")
    opening = text[text.index("\n# ") : text.index("```{code-cell}")]
    assert re.search(r"\*\*The papers?:\*\*.*\*\*(Its|Their) questions?:\*\*.*\?", opening, re.DOTALL)
    assert 2 <= len(re.findall(r"^\d\. ", text[text.index("## Exercises") :], re.MULTILINE)) <= 3


def test_the_page_of_the_course_lists_every_notebook() -> None:
    listed = re.findall(r"\]\((\d\w+\.md)\)", (COURSE / "index.md").read_text(encoding="utf-8"))
    assert listed == [notebook.name for notebook in NOTEBOOKS]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_imports_is_there(notebook: Path) -> None:
    text = notebook.read_text(encoding="utf-8")
    cells = re.findall(r"^```\{code-cell\} python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    imports = [node for cell in cells for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if node.module and node.module.startswith("rcnnkit")]
    assert ours
    for node in ours:
        module = importlib.import_module(str(node.module))
        for alias in node.names:
            assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_notebook_runs(notebook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "{} is not installed: pip install -e '.[course]'"
    jupytext = pytest.importorskip("jupytext", reason=reason.format("jupytext"))
    nbclient = pytest.importorskip("nbclient", reason=reason.format("nbclient"))
    pytest.importorskip("ipykernel", reason=reason.format("ipykernel"))
    # The kernel is a process of its own, and imports the package that is tested.
    monkeypatch.setenv("PYTHONPATH", str(COURSE.parents[2]))
    book = jupytext.read(notebook, fmt="md:myst")
    assert not any(cell.get("outputs") for cell in book.cells)
    folder = {"metadata": {"path": str(COURSE)}}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    nbclient.NotebookClient(book, timeout=5 * SECONDS, kernel_name="python3", resources=folder).execute()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Not by the clock, which also counts what else the machine does.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < CORES * SECONDS
    written = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in written) >= 5  # pictures of the stages
    complaints = [output["text"] for output in written if output.output_type == "stream" and output.name == "stderr"]
    assert not complaints
