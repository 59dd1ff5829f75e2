"""What the documents take from the code when they are built: the commands, and the public names of each package."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import typer

COMMANDS = "<!-- the commands -->"
PUBLIC = re.compile(r"<!-- public: (\S+) -->")


def expand(text: str) -> str:
    """A document with its placeholders filled in."""
    if COMMANDS in text:
        text = text.replace(COMMANDS, commands())
    return PUBLIC.sub(lambda match: public(match[1]), text)


def leaves() -> dict[str, Any]:
    """Every command by its words: "rcnnkit train", "rcnnkit proposals compute"."""
    from rcnnkit.cli import app

    found: dict[str, Any] = {}

    def visit(command: Any, name: str) -> None:
        if hasattr(command, "commands"):
            for word, sub in command.commands.items():
                visit(sub, f"{name} {word}")
        else:
            found[name] = command

    visit(typer.main.get_command(app), "rcnnkit")
    return found


def commands() -> str:
    """The reference of the command line, as Markdown."""
    parts = []
    for name, command in leaves().items():
        words = [name, "[OPTIONS]", *(_placeholder(p) for p in command.params if p.param_type_name == "argument")]
        rows = "".join(f"`{flags}`\n: {text}\n\n" for flags, text in map(_row, command.params))
        parts.append(f"## {name}\n\n{_paragraphs(command.help)}\n\n```text\n{' '.join(words)}\n```\n\n{rows}")
    return "\n".join(parts)


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(lines.split()) for lines in inspect.cleandoc(text).split("\n\n"))


def _placeholder(parameter: Any) -> str:
    """What stands for the value of an argument or option."""
    text = parameter.metavar or parameter.name.upper().replace("_", "-")
    return f"{text}…" if parameter.nargs == -1 and not text.endswith("…") else str(text)


def _row(parameter: Any) -> tuple[str, str]:
    """One argument or option, and what it does."""
    text = parameter.help or ""
    if parameter.param_type_name == "argument":
        return _placeholder(parameter), text
    flags = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if isinstance(parameter.default, bool):
        return flags, text
    if parameter.required:
        text += " Required."
    elif parameter.default not in (None, "", ()) and "default" not in text:
        text += f" Default: `{parameter.default}`."
    return f"{flags} {_placeholder(parameter)}", text


def public(package: str) -> str:
    """The reference of a package, from its `__all__`; of a module, from what it defines."""
    module = importlib.import_module(package)
    names = getattr(module, "__all__", None)
    if names is None or not hasattr(module, "__path__"):
        return _rst(f".. automodule:: {package}\n   :members:\n")
    parts = []
    values = {name: _value(module, name) for name in names}
    for name, value in sorted(values.items(), key=lambda item: inspect.isclass(item[1])):  # functions first
        parts.append(f"## {package}.{name}\n")
        if inspect.ismodule(value):
            inner = public(value.__name__) if hasattr(value, "__path__") else ""
            parts.append(inner.replace("\n## ", "\n### ") or _rst(f".. automodule:: {value.__name__}\n   :members:\n"))
        else:
            # Indexed where it is defined: the package's own names, and a function that is called as its module.
            twice = package == "rcnnkit" or value.__module__ == f"{package}.{name}"
            kind = "autoclass" if inspect.isclass(value) else "autofunction" if callable(value) else "autodata"
            members = "   :members:\n" if kind == "autoclass" else ""
            members += "   :no-index:\n" if twice else ""
            parts.append(_rst(f".. {kind}:: {package}.{name}\n{members}"))
    return "\n".join(parts)


def _value(module: Any, name: str) -> Any:
    """What a public name of a package stands for; a module that was not imported yet is."""
    return getattr(module, name, None) or importlib.import_module(f"{module.__name__}.{name}")


def _rst(text: str) -> str:
    return f"```{{eval-rst}}\n{text}```\n"


def docstring(lines: list[str]) -> None:
    """Write a docstring's plain text as reStructuredText, in place: what is set in columns stays so."""
    written: list[str] = []
    section = False  # Args, Returns, Raises: napoleon reads these
    for text in re.split(r"\n(?:[ ]*\n)+", "\n".join(lines).strip("\n")):
        if not (paragraph := text.splitlines()):
            continue
        first, rest = paragraph[0], paragraph[1:]
        section = bool(re.fullmatch(r"[A-Z][a-z]+:", first)) or (section and first.startswith(" "))
        hangs = any(line.startswith("  ") for line in rest) and not first.startswith(("- ", "* "))
        if not section and (first.startswith("    ") or hangs):
            written += ["::", "", *(f"    {line}" for line in paragraph), ""]
        else:
            written += [*map(_escaped_text, paragraph), ""]
    lines[:] = written


def _escaped_text(line: str) -> str:
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(part if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _escaped(text: str) -> str:
    return re.sub(r"(\\|\*|\||(?<=\w)_(?!\w))", r"\\\1", text)
