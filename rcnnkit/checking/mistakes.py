"""Confident mistakes of a detector, which are often mistakes of the annotation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rcnnkit.checking.findings import CONFIDENT_MISTAKE, Finding
from rcnnkit.data.json_files import numbers, read_json
from rcnnkit.data.records import Record

CORNERS = ("x1", "y1", "x2", "y2")


def check_mistakes(file: Path, records: Sequence[Record], split_of_each: Sequence[str]) -> list[Finding]:
    """The mistakes that a report.json of `rcnnkit evaluate --report` lists, in these pictures, most confident first.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another file, or of other pictures.
    """
    values = read_json(file)
    mistakes = values.get("mistakes") if isinstance(values, dict) else None
    if not isinstance(mistakes, list):
        raise ValueError(f"{file} lists no mistakes; name a report.json of rcnnkit evaluate --report")
    splits = {record.path.resolve(): split for record, split in zip(records, split_of_each, strict=True)}
    names = {record.path.resolve(): str(record.path) for record in records}
    findings = []
    for i, mistake in enumerate(mistakes):
        try:
            path, name, cause = Path(mistake["file"]).resolve(), mistake["class"], mistake["cause"]
            (score,) = numbers(mistake, ("score",))
            x1, y1, x2, y2 = numbers(dict(zip(CORNERS, mistake["box"], strict=True)), CORNERS)
            beside = f", where {mistake['object']['class']} is annotated" if "object" in mistake else ""
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file}: mistakes[{i}] is not as rcnnkit writes it ({error}); write it anew") from None
        if path in splits:
            where = ", ".join(f"{value:g}" for value in (x1, y1, x2, y2))
            message = f"{name} at {where} scores {score:.2f}{beside} ({cause})"
            findings.append(Finding(CONFIDENT_MISTAKE, splits[path], names[path], "", message, (x1, y1, x2, y2)))
    if mistakes and not findings:
        raise ValueError(f"{file} is of other pictures than those that are checked; name the data that it was made on")
    return findings
