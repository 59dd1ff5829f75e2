"""The documents as tests read them: their links, headings, code and commands."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
COURSE = ROOT / "docs" / "learn" / "with_the_papers"  # notebooks, which run in tests of their own
NOTEBOOKS = sorted(COURSE.glob("0*.md"))
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts and path not in NOTEBOOKS)
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
NOW = [path for path in DOCUMENTS if path.name not in ("CHANGELOG.md", "deprecations.md")]  # these say what was, too


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def generated() -> ModuleType:
    """docs/generated.py, which fills in what the documents take from the code."""
    spec = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "generated.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(text: str, *languages: str) -> list[str]:
    """Fenced code of these languages ("" for none), without the indentation that it has in a list."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", code, flags=re.M) for indent, language, code in found if language in languages]


def spans(text: str) -> list[str]:
    """Code within sentences."""
    text = re.sub(r"^( *)```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


def anchors(text: str) -> set[str]:
    """What "#…" may say of a document: its headings, as a forge and the site write them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings}


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command in indented code and in fenced code without a language."""
    lines = re.findall(r"^ {4,}(\S.*)$", re.sub(r"^( *)```\w+.*?^ *```$", "", text, flags=re.DOTALL | re.M), re.M)
    joined = "\n".join([*blocks(text, ""), *lines]).replace("\\\n", " ")
    for line in joined.splitlines():
        for command in re.split(r"&&|\|\|", line):
            words = shlex.split(command, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                del words[0]
            if words:
                yield words
