"""The types that a user's program sees."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow  # `python tools/check.py` asks mypy about the same file
def test_a_users_program_has_the_types_it_should_have() -> None:
    pytest.importorskip("mypy", reason="mypy is not installed: pip install -e '.[dev]'")
    # With the settings of pyproject.toml: what is ignored there has to be an error.
    command = [sys.executable, "-m", "mypy", "tests/client.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "Success: no issues found in 1 source file\n", done.stdout + done.stderr


def test_the_package_says_that_it_has_types() -> None:
    assert (ROOT / "rcnnkit" / "py.typed").is_file()
