"""What a benchmark found, as JSON on disk: written while it runs, so that what is measured is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcnnkit.benchmark.papers import HARDWARE, PAPERS, ratios
from rcnnkit.benchmark.stages import STAGES
from rcnnkit.benchmark.summary import Step, summarise
from rcnnkit.files import whole

FILE = "results.json"
Results = dict[str, Any]


def write(results: Results, folder: Path) -> None:
    """Write FILE in `folder`, whole or not at all."""
    with whole(folder / FILE) as half:
        half.write_text(json.dumps(results, indent=1, allow_nan=False), encoding="utf-8")


def read(folder: Path) -> Results:
    """The results in a folder.

    Raises:
        FileNotFoundError: there are none.
        ValueError: the file was not written by a benchmark.
    """
    path = folder / FILE
    try:
        results: Results = json.loads(path.read_text(encoding="utf-8"))
        results["contenders"], results["complete"]  # KeyError, TypeError
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} holds no {FILE}; run `rcnnkit benchmark --out {folder}`") from None
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"{path} holds no results of `rcnnkit benchmark`") from None
    return results


def add_steps(results: Results, steps: Mapping[str, Sequence[Step]]) -> None:
    """Put in what was measured so far, and what follows from it."""
    for name, each in steps.items():
        if each:
            results["contenders"][name] |= {
                "steps": [step.to_json() for step in each],
                "summary": summarise(each),
            }
    seconds = {
        name: contender["summary"]["detecting"]["median"]
        for name, contender in results["contenders"].items()
        if "summary" in contender and name in PAPERS
    }
    papers = {name: paper.whole for name, paper in PAPERS.items()}
    results["ratios"] = {
        "here": {"seconds": seconds, "ratios": ratios(seconds)},
        "papers": {"seconds": papers, "ratios": ratios(papers), "hardware": HARDWARE},
    }


def measured(results: Results) -> dict[str, dict[str, Any]]:
    """The contenders that had a turn."""
    return {name: each for name, each in results["contenders"].items() if "summary" in each}


def stage_names(results: Results) -> list[str]:
    """The stages that anybody had, in the order of the work, "other" last."""
    found = {name for each in measured(results).values() for name in each["summary"]["stages"]}
    ours = [name for name in STAGES if name in found and name != "other"]
    return [*ours, *sorted(found - set(STAGES)), *(["other"] if "other" in found else [])]


def curves(results: Results) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """What was varied → contender → (value, seconds a picture), ascending; of at least two values."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for point in results.get("growth", {}).get("points", []):
        line = found.setdefault(point["dimension"], {}).setdefault(point["contender"], [])
        line.append((point["value"], point["seconds"]))
    lines = {
        dimension: {name: sorted(points) for name, points in each.items() if len(points) > 1}
        for dimension, each in found.items()
    }
    return {dimension: each for dimension, each in lines.items() if each}


def picture_file(folder: Path, number: int, contender: str) -> Path:
    """Where a benchmark's folder has what a contender found in the picture of that number."""
    return folder / "pictures" / f"{number}-{contender}.jpg"
