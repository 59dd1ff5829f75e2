"""rcnnkit proposals evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import Data, DataFormat, Images, JsonFile, SkipBad, TestSplit, split_of
from rcnnkit.cli.results import show
from rcnnkit.defaults import FORMAT
from rcnnkit.text import count


def evaluate(
    data: Data,
    proposals: Annotated[Path, typer.Option(help="A folder from `rcnnkit proposals compute` or `import`.")],
    split: TestSplit = None,
    images: Images = None,
    format: DataFormat = FORMAT,
    skip_bad: SkipBad = False,
    json_file: JsonFile = None,
) -> None:
    """Measure how the first 100, 500, 1000 and 2000 proposals cover the objects: recall, mean average best overlap."""
    from rcnnkit.data.proposals import check_proposals, read_proposals
    from rcnnkit.data.reading import read_data
    from rcnnkit.files import check_new
    from rcnnkit.proposals.recall import coverage
    from rcnnkit.proposals.store import Store
    from rcnnkit.tables import coverage_table

    if json_file:
        check_new(json_file)
    split = split_of(data, split, "test")
    store = Store.open(proposals)
    dataset = read_data(data, split, format=format, images=images, skip_bad=skip_bad)
    check_proposals(dataset, store)
    targets = (record.targets for record in dataset.records)
    result = coverage(read_proposals(dataset, store), targets, dataset.class_names)
    about = {"dataset": dataset.name, "method": store.method, "settings": store.settings}
    headline = f"{dataset.name}, {count(len(dataset), 'picture')}: {store.describe()}"
    show([headline, coverage_table(result)], about | result.to_json(), json_file)
