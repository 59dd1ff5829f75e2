"""A part's settings stand beside its class, and are its argument: no default is written twice."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic.fields import FieldInfo

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


def fields_of(section: FieldInfo) -> dict[str, FieldInfo]:
    assert section.annotation is not None
    return section.annotation.model_fields


def test_detectors_and_their_parts_write_no_default_again() -> None:
    """A parameter of a detector's, head's, proposal method's or pool's constructor that is a setting has no default."""
    settings = {name for section in Settings.model_fields.values() for name in fields_of(section)}
    again = []
    for name, init in constructors():
        if not name.startswith(("detectors/", "heads/", "proposals/", "backbones/classifier")):
            continue
        positional = init.args.args[len(init.args.args) - len(init.args.defaults) :]
        keywords = [k for k, d in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True) if d is not None]
        again += [f"{name}.{each.arg}" for each in (*positional, *keywords) if each.arg in settings]
    assert not again


Signature = tuple[list[str], dict[str, str]]  # names of the positional parameters, and all defaults as written

# Nothing is asked for, or all stays as it is: no choice that could be another one elsewhere.
OFF = {"None", "False", "0", "0.0", "1.0", "''", "()"}
# Signatures of others: torch's methods, and operators under torchvision's or the papers' arguments.
OTHERS = ("train(mode)", "_apply(recurse)", "roi_align(", "warp_regions(")


def signature(function: ast.FunctionDef, skip: int = 0) -> Signature:
    """Of a function, without `self` where `skip` is 1."""
    positional = function.args.args[skip:]
    names = [parameter.arg for parameter in positional]
    with_defaults = names[len(names) - len(function.args.defaults) :]
    found = dict(zip(with_defaults, function.args.defaults, strict=True))
    for parameter, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if default is not None:
            found[parameter.arg] = default
    return names, {name: ast.unparse(default) for name, default in found.items()}


def fields(owner: ast.ClassDef) -> Signature:
    """Of a dataclass, whose fields are the parameters."""
    found = [node for node in owner.body if isinstance(node, ast.AnnAssign)]
    return (
        [ast.unparse(field.target) for field in found],
        {ast.unparse(field.target): ast.unparse(field.value) for field in found if field.value},
    )


def definitions(tree: ast.AST, owner: str = "") -> Iterator[tuple[str, ast.AST, Signature]]:
    """All functions; a constructor under the name of its class."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield (owner if node.name == "__init__" else node.name), node, signature(node, bool(owner))
            yield from definitions(node)
        elif isinstance(node, ast.ClassDef):
            if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
                yield node.name, ast.Pass(), fields(node)
            yield from definitions(node, node.name)
        else:
            yield from definitions(node, owner)


def written_again(trees: list[ast.AST], settings: dict[str, set[str]]) -> set[str]:
    """Parameters whose default is also that of the setting of their name, or of the parameter that they become.

    A constant is written once where both are that constant; an attribute, as of an object of all defaults, always.
    """
    all_definitions = [found for tree in trees for found in definitions(tree)]
    signatures: dict[str, list[Signature]] = {}
    for name, _, parameters in all_definitions:
        signatures.setdefault(name, []).append(parameters)
    again = set()
    for name, function, (_, defaults) in all_definitions:
        own = {k: v for k, v in defaults.items() if v not in OFF and not re.fullmatch(r"[A-Z]+\.\w+", v)}
        again |= {f"{name}({k})" for k, v in own.items() if v in settings.get(k, ())}
        called = {a.asname: a.name for n in ast.walk(function) if isinstance(n, ast.ImportFrom) for a in n.names}
        for call in [node for node in ast.walk(function) if isinstance(node, ast.Call)]:
            callee = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            for positional, theirs in signatures.get(called.get(callee, callee), []):
                given = [*zip(positional, call.args, strict=False)]
                given += [(k.arg, k.value) for k in call.keywords if k.arg]
                for parameter, value in given:
                    if isinstance(value, ast.Name) and value.id in own and theirs.get(parameter, "None") not in OFF:
                        one, other = own[value.id], theirs[parameter]
                        again |= set() if one == other and one.isidentifier() else {f"{name}({value.id})"}
    return again


def test_no_default_is_written_twice() -> None:
    """A literal stands in one place: with the setting, the function that all others call, or rcnnkit/defaults.py.

    So it is with the commands: what they show as a default is the one of what they call.
    """
    trees: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))]
    settings: dict[str, set[str]] = {}
    for section in Settings.model_fields.values():
        for name, field in fields_of(section).items():
            settings.setdefault(name, set()).add(repr(field.default))
    again = {found for found in written_again(trees, settings) if not found.startswith(OTHERS)}
    assert again == set()


def test_defaults_that_are_written_twice_are_seen() -> None:
    source = """
@dataclass(frozen=True)
class Options:
    threads: int = 2
    limit: int = 64
def load(path, device="auto", *, batch=4, size=SIZE): ...
def command(path, device="auto", count=BATCH, off=False, size=SIZE, threads=2, limit=DEFAULTS.limit):
    from here import load as read
    read(path, device, batch=count, size=size)
    Options(threads=threads, limit=limit)
def other(path, seed=7): ...
"""
    found = written_again([ast.parse(source)], {"seed": {"7"}})
    assert found == {"command(device)", "command(count)", "command(threads)", "other(seed)"}
