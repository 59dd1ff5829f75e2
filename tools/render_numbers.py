"""The numbers of the documents, rendered from what the benchmarks wrote.

    python tools/render_numbers.py add NAME FILE   # takes what a benchmark wrote with --json; then renders
    python tools/render_numbers.py                 # renders every table and number again

`docs/numbers/measured/NAME.json` keeps every measurement of NAME, the newest last. Documents name what they show, and
what lies between two such comments is written by this command:

    <!-- table NAME | KEY FORMAT = HEADING | … -->   a column a KEY, a row a row; HEADING is KEY if not given
    <!-- /table -->
    <!-- number NAME ROW KEY FORMAT -->…<!-- /number -->   one value; ROW is the first column's
    <!-- conditions NAME -->…<!-- /conditions -->          where, when and with what it was measured

FORMAT is Python's, such as .2f; × after it marks a ratio, and … a range of two values. A row without a value has an
empty cell, and a row without any is left out. The greatest value of *KEY is bold.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "docs" / "numbers" / "measured"
HISTORY = ROOT / "docs" / "numbers" / "history.md"
FIRST = ""  # the key of the column that names the rows
TABLE = re.compile(r"(<!-- table (\S+) \| (.+?) -->\n).*?(<!-- /table -->)", re.DOTALL)
NUMBER = re.compile(r"(<!-- number (.+?) -->).*?(<!-- /number -->)", re.DOTALL)
CONDITIONS = re.compile(r"(<!-- conditions (\S+) -->).*?(<!-- /conditions -->)", re.DOTALL)

Measurement = Mapping[str, Any]


def history(name: str) -> list[Measurement]:
    """Every measurement of a name, the newest last. Raises FileNotFoundError where there is none."""
    values: list[Measurement] = json.loads((MEASURED / f"{name}.json").read_text(encoding="utf-8"))
    return values


def newest(name: str) -> Measurement:
    return history(name)[-1]


def conditions(measurement: Measurement) -> str:
    """In words."""
    threads = measurement["threads"]
    parts = [f"{threads} thread{'' if threads == 1 else 's'} on {measurement['processor']}"]
    parts += [f"{library} {measurement[library]}" for library in ("torch", "torchvision") if measurement.get(library)]
    return ", ".join([*parts, measurement["date"]])


def shown(value: Any, form: str) -> str:
    """A value as FORMAT wants it."""
    if value is None:
        return ""
    if isinstance(value, list):
        between = " … " if form.endswith("…") else ", "
        return between.join(shown(part, form.removesuffix("…")) for part in value)
    if isinstance(value, str):
        return value
    if form.endswith("×"):
        return f"{format(value, form[:-1] or '.1f')}×"
    return format(value, form)


def table(measurement: Measurement, columns: Sequence[str]) -> str:
    """The rows as Markdown."""
    keys = {column.split()[0].removeprefix("*") for column in columns}
    rows = [row for row in measurement["rows"] if keys & row.keys()]
    headings, cells = [FIRST], [[row[FIRST]] for row in rows]
    for column in columns:
        description, _, heading = (part.strip() for part in column.partition(" = "))
        key, _, form = description.partition(" ")
        bold = key.startswith("*")
        key = key.removeprefix("*")
        values = [row.get(key) for row in rows]
        if all(value is None for value in values):
            raise ValueError(f"no row has the value {key}; there are {', '.join(measurement['rows'][0])}")
        headings.append(heading or key)
        most = max((value for value in values if isinstance(value, int | float)), default=None)
        for row, value in zip(cells, values, strict=True):
            text = shown(value, form)
            row.append(f"**{text}**" if bold and value is not None and value == most else text)
    lines = [headings, *cells]
    first, *others = ["|" + "|".join(f" {cell} " if cell else " " for cell in line) + "|\n" for line in lines]
    return "".join([first, "|" + "---|" * len(headings) + "\n", *others])


def number(arguments: str) -> str:
    """One value: NAME ROW KEY FORMAT, quoted as in a shell."""
    name, row, key, *form = shlex.split(arguments)
    rows = {each[FIRST]: each for each in newest(name)["rows"]}
    return shown(rows[row][key], form[0] if form else "")


def rendered(text: str) -> str:
    """A document with its tables and numbers as they were measured last."""
    text = TABLE.sub(lambda m: m[1] + table(newest(m[2]), m[3].split(" | ")) + m[4], text)
    text = NUMBER.sub(lambda m: m[1] + number(m[2]) + m[3], text)
    return CONDITIONS.sub(lambda m: m[1] + conditions(newest(m[2])) + m[3], text)


def pages() -> list[Path]:
    """The documents that hold numbers."""
    found = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    return sorted(path for path in found if "<!-- /" in path.read_text(encoding="utf-8"))


def history_page() -> str:
    """Every measurement of every name, with the version that it is of."""
    parts = ["# History\n\nEvery measurement that these pages show, and those that it replaced. The newest is first."]
    parts.append("\n\n<!-- Written by tools/render_numbers.py. -->\n")
    for file in sorted(MEASURED.glob("*.json")):
        parts.append(f"\n## {file.stem.replace('_', ' ')}\n")
        for measurement in reversed(history(file.stem)):
            keys = dict.fromkeys(key for row in measurement["rows"] for key in row if key != FIRST)
            simple = [key for key in keys if not any(isinstance(row.get(key), dict) for row in measurement["rows"])]
            rows = [{key: _short(value) for key, value in row.items()} for row in measurement["rows"]]
            parts.append(f"\n{measurement['version']}, {conditions(measurement)}:\n\n")
            parts.append(table({"rows": rows}, simple))
            parts.append(f"\n    {measurement['command']}\n")
    return "".join(parts)


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(str(_short(part)) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else None if value is None else str(value)


def render() -> None:
    """Write every document again whose numbers changed."""
    for path in pages():
        before = path.read_text(encoding="utf-8")
        if (after := rendered(before)) != before:
            path.write_text(after, encoding="utf-8")
    HISTORY.write_text(history_page(), encoding="utf-8")


def add(name: str, file: Path) -> None:
    """Put what a benchmark wrote behind the measurements of a name."""
    target = MEASURED / f"{name}.json"
    measurement = json.loads(file.read_text(encoding="utf-8"))
    if missing := {"date", "version", "processor", "threads", "command", "rows"} - measurement.keys():
        raise SystemExit(f"{file} has no {', '.join(sorted(missing))}; give what a benchmark wrote with --json")
    before = history(name) if target.exists() else []
    target.write_text(json.dumps([*before, measurement], indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part")
    part = parts.add_parser("add")
    part.add_argument("name")
    part.add_argument("file", type=Path)
    options = parser.parse_args()
    if options.part == "add":
        add(options.name, options.file)
    render()


if __name__ == "__main__":
    main()
