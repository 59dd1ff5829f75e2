"""The notebooks beside the papers run as they are written."""

import shutil
from pathlib import Path

import pytest

from tests.documents import COURSE, NOTEBOOKS


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed: pip install rcnnkit[course]")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install rcnnkit[course]")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install rcnnkit[course]")
    shutil.copytree(COURSE, tmp_path / "course")  # what a notebook leaves lies beside it
    content = jupytext.read(notebook)
    resources = {"metadata": {"path": str(tmp_path / "course")}}
    nbclient.NotebookClient(content, timeout=600, kernel_name="python3", resources=resources).execute()
    assert all(cell.get("execution_count") for cell in content.cells if cell.cell_type == "code" and cell.source)
