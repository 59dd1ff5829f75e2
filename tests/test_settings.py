"""A part's settings stand beside its class, and are its argument: no default is written twice."""

import ast
from collections.abc import Iterator
from pathlib import Path

from rcnnkit.config import Settings

ROOT = Path(__file__).parents[1] / "rcnnkit"
MOST = 6  # parameters of a constructor


def constructors() -> Iterator[tuple[str, ast.FunctionDef]]:
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                name = f"{path.relative_to(ROOT)}: {node.name}"
                yield from ((name, f) for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__")


def test_constructors_have_few_parameters() -> None:
    many = {
        name: count
        for name, init in constructors()
        if (count := len(init.args.args) - 1 + len(init.args.kwonlyargs)) > MOST
    }
    assert not many


def test_detectors_and_their_parts_write_no_default_again() -> None:
    """A parameter of a detector's, head's, proposal method's or pool's constructor that is a setting has no default."""
    settings = {name for section in Settings.model_fields.values() for name in section.annotation.model_fields}
    again = []
    for name, init in constructors():
        if not name.startswith(("detectors/", "heads/", "proposals/", "backbones/classifier")):
            continue
        positional = init.args.args[len(init.args.args) - len(init.args.defaults) :]
        keywords = [k for k, d in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True) if d is not None]
        again += [f"{name}.{each.arg}" for each in (*positional, *keywords) if each.arg in settings]
    assert not again
