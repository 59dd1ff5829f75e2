"""rcnnkit check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import DataFormat, Images, JsonFile, console
from rcnnkit.defaults import FORMAT
from rcnnkit.terminal import progress


def check(
    data: Annotated[
        Path,
        typer.Argument(
            help="The folder or annotation file of a data set; or a settings file (.toml), for its section [data]."
        ),
    ],
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="A split, named as in data.train and data.val; may be repeated, with the training split first. By"
            " default all splits."
        ),
    ] = None,
    data_format: DataFormat = FORMAT,
    images: Images = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="A settings file; the objects are compared with its input size, anchors and limits. By default with"
            " those of the default settings."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write a page with plots and pictures into this folder; an earlier page is not overwritten."),
    ] = None,
    json_file: JsonFile = None,
    fix: Annotated[
        Path | None, typer.Option(help="Write a fixed copy, in COCO's format, into this new folder.")
    ] = None,
    mistakes: Annotated[
        Path | None,
        typer.Option(help="Include the most confident mistakes from report.json of `rcnnkit evaluate --report`."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 1 on warnings, too.")] = False,
) -> None:
    """Say what is wrong with a data set before anything is trained on it, how bad it is, and what to do.

    The exit status is 1 if there are errors, at which training would stop.
    """
    from rcnnkit.checking.check import check_data
    from rcnnkit.checking.fixing import CHANGES, write_fixed
    from rcnnkit.checking.page import check_outputs, write_reports
    from rcnnkit.config_files import read_settings
    from rcnnkit.data.layout import find_layout
    from rcnnkit.detectors.settings import DetectorSettings
    from rcnnkit.tables import checked_table

    check_outputs(out, json_file, fix)
    settings: DetectorSettings = read_settings(config) if config else DetectorSettings()
    root, class_names = data, None
    splits: dict[str, str | list[str]] = {name: name for name in split or []}
    if data.suffix == ".toml":
        suggestion = read_settings(data)
        settings = settings if config else suggestion
        root, images, class_names = suggestion.data.root, images or suggestion.data.images, suggestion.data.class_names
        data_format = suggestion.data.format if data_format == FORMAT else data_format
        splits = splits or suggestion.data.splits
    elif not splits:
        layout = find_layout(root, data_format)
        root, splits = layout.root, dict(layout.splits)
        console.print(f"read as {layout.title}: {', '.join(splits)}")
    with progress(console, transient=True) as report:
        result = check_data(
            root,
            splits,
            settings,
            format=data_format,
            images=images,
            class_names=class_names,
            fix=fix is not None,
            mistakes=mistakes,
            report=report,
        )
        files = write_reports(result, out, json_file, report)
        changes = write_fixed(result, fix, report) if fix else None
    console.print(checked_table(result))
    if changes and fix:
        for kind, lines in changes.lines.items():
            console.print(f"changed for {kind}: {len(lines)}")
        files += [fix, fix / CHANGES]
    for path in files:
        console.print(f"wrote {path}")
    if result.count("error") or (strict and result.count("warning")):
        raise typer.Exit(1)
