"""rcnnkit compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import JsonFile, console
from rcnnkit.cli.results import show
from rcnnkit.terminal import progress

REPORT_HELP = "report.json of `rcnnkit evaluate --report`."


def compare(
    first: Annotated[Path, typer.Argument(help=REPORT_HELP)],
    second: Annotated[Path, typer.Argument(help="Likewise, of another detector on the same pictures.")],
    json_file: JsonFile = None,
) -> None:
    """Which of two detectors is better, by a paired test over the pictures, and where they differ most."""
    from rcnnkit.evaluation.comparison import compare as compare_evaluated
    from rcnnkit.evaluation.comparison import read_evaluated
    from rcnnkit.files import check_new
    from rcnnkit.tables import comparison_table

    if json_file:
        check_new(json_file)
    one, other = read_evaluated(first), read_evaluated(second)
    with progress(console, transient=True) as report:
        result = compare_evaluated(one, other, report)
    show([comparison_table(result)], result.to_json(), json_file)
