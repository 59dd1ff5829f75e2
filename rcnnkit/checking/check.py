"""All checks of a data set: those at which training stops, and what else makes a detector or its numbers worse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcnnkit.checking.boxes import check_boxes
from rcnnkit.checking.classes import check_classes
from rcnnkit.checking.findings import KINDS, READER, SEVERITIES, STOPS_TRAINING, UNUSABLE_SPLIT, Finding, Kind, Severity
from rcnnkit.checking.looks import look_at_all
from rcnnkit.checking.mistakes import check_mistakes
from rcnnkit.checking.network import check_numbers, check_sizes
from rcnnkit.checking.objects import Objects
from rcnnkit.checking.pictures import check_pictures, check_twins, check_unused
from rcnnkit.checking.twins import Twin, find_twins
from rcnnkit.data.checks import Findings
from rcnnkit.data.reading import read_findings
from rcnnkit.data.records import Dataset, Record
from rcnnkit.defaults import FORMAT
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.progress import Report, silent

# What readers warn of and `check_boxes` says of each object.
SAID_OF_EACH = ("an object that is annotated twice", "a box that is at most 1 pixel wide or high")


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """A data set and what was found in it."""

    name: str
    settings: DetectorSettings  # whose input, anchors and limits the objects were compared with
    splits: Mapping[str, Objects]  # without what is bad; the first is what is learnt from
    twins: Sequence[Twin]  # among the pictures of all splits in turn
    findings: Sequence[Finding]  # the worst first

    @property
    def records(self) -> list[Record]:
        """The pictures of all splits in turn."""
        return [record for objects in self.splits.values() for record in objects.dataset.records]

    @property
    def split_of_each(self) -> list[str]:
        """The name of each picture's split, in the same order."""
        return [split for split, objects in self.splits.items() for _ in objects.dataset.records]

    def count(self, severity: Severity) -> int:
        """How many findings are so bad."""
        return sum(finding.kind.severity == severity for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """All of it, of plain values."""
        return {
            "data": self.name,
            "splits": {name: _numbers(objects) for name, objects in self.splits.items()},
            "counts": {severity: self.count(severity) for severity in SEVERITIES},
            "findings": [finding.to_json() for finding in self.findings],
        }


def _numbers(objects: Objects) -> dict[str, Any]:
    per_class = Counter(objects.labels[~objects.crowd].tolist())
    return {
        "pictures": len(objects.dataset),
        "without_objects": int((objects.counts == 0).sum()),
        "objects": len(objects),
        "classes": {name: per_class[label] for label, name in enumerate(objects.dataset.class_names)},
    }


def check_data(
    root: Path,
    splits: Mapping[str, str | Sequence[str]],
    settings: DetectorSettings,
    *,
    format: str = FORMAT,
    images: Path | None = None,
    class_names: Sequence[str] | None = None,
    fix: bool = False,
    mistakes: Path | None = None,
    report: Report = silent,
) -> Checked:
    """Check the splits of a data set, each by itself and beside the others.

    Args:
        root, format, images, class_names: as `rcnnkit.data.reading.read_data` takes them.
        splits: name → the split, or several that are learnt from together, as `read_data` takes them. The first is
            what is learnt from.
        settings: of the detector that is to be trained.
        fix: correct what is bad and has one clear answer, for `write_fixed`. The findings are the same.
        mistakes: report.json of an evaluation, whose most confident mistakes are findings too.
        report: is called with how many pictures were looked at.

    Raises:
        FileNotFoundError, ValueError: none of the splits can be read at all; or `mistakes` as of `check_mistakes`.
    """
    findings: list[Finding] = []
    objects_of: dict[str, Objects] = {}
    names = class_names
    first_error: Exception | None = None
    for split, parts in splits.items():
        datasets = []
        for part in [parts] if isinstance(parts, str) else parts:
            try:
                dataset, problems = read_findings(root, part, images=images, class_names=names, format=format, fix=fix)
            except (OSError, ValueError) as error:
                first_error = error
                findings.append(Finding(UNUSABLE_SPLIT, split, str(root), f"split {part!r}", str(error)))
                continue
            datasets.append(dataset)
            findings += _of_reader(problems, split, STOPS_TRAINING if dataset.records else UNUSABLE_SPLIT)
            if dataset.class_names:
                names = list(dataset.class_names)
        if datasets:
            objects_of[split] = Objects.of(_together(datasets))
    if first_error and not objects_of:
        raise first_error
    records = [record for objects in objects_of.values() for record in objects.dataset.records]
    findings += check_unused(images or (root.parent if root.is_file() else root), records, list(objects_of), findings)
    place = [split for split, objects in objects_of.items() for _ in objects.dataset.records]
    findings += check_mistakes(mistakes, records, place) if mistakes else []
    looks = look_at_all([record.path for record in records], report)
    start = 0
    for split, objects in objects_of.items():
        own = looks[start : start + len(objects.dataset)]
        start += len(own)
        findings += check_pictures(objects.dataset, own, split)
        findings += check_boxes(objects, split)
        training = split == next(iter(splits))
        findings += check_sizes(objects, settings, split, training)
        findings += check_numbers(objects, settings, split, training)
    findings += check_classes(objects_of)
    numbers = {split: number for number, split in enumerate(objects_of)}
    twins = find_twins(looks, [numbers[split] for split in place])
    findings += check_twins(twins, records, looks, place)
    order = {kind.name: number for number, kind in enumerate(KINDS)}
    findings.sort(key=lambda finding: (SEVERITIES.index(finding.kind.severity), order[finding.kind.name]))
    return Checked(str(root), settings, objects_of, twins, findings)


def _of_reader(problems: Findings, split: str, kind: Kind) -> list[Finding]:
    findings = [
        Finding(kind, split, each.file, each.where, each.message, fixed=problems.fixed.get(each, ""))
        for each in problems
    ]
    for title, (number, first) in problems.warnings.items():
        if title not in SAID_OF_EACH:
            also = f" (there are {number:,}, of which this is the first)" if number > 1 else ""
            findings.append(Finding(READER, split, first.file, first.where, f"{title}{also}: {first.message}"))
    return findings


def _together(parts: Sequence[Dataset]) -> Dataset:
    """Several as one, whatever is wrong with them."""
    first = parts[0]
    if len(parts) == 1:
        return first
    records = [record for part in parts for record in part.records]
    return Dataset(" + ".join(part.name for part in parts), records, first.class_names, first.category_ids)
