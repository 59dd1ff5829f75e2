"""rcnnkit search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.errors import complain
from rcnnkit.cli.options import Device, JsonFile, Precision, Sentence, Weights, console
from rcnnkit.defaults import DEVICE, FOUND, PRECISION
from rcnnkit.terminal import progress


def search(
    weights: Weights,
    folder: Annotated[Path, typer.Argument(help="A folder of pictures, with its sub-folders.")],
    sentence: Sentence,
    first: Annotated[int, typer.Option(min=1, help="Print so many pictures, those that go best with it.")] = FOUND,
    json_file: JsonFile = None,
    device: Device = DEVICE,
    precision: Precision = PRECISION,
) -> None:
    """Find the pictures that a sentence is about: those that go best with it come first.

    A picture that cannot be read is reported, the others are searched, and the exit status is 1. Scores compare
    pictures for one sentence; those of two sentences cannot be compared.
    """
    from rcnnkit.data.checks import pictures_in
    from rcnnkit.detecting.by_sentence import search_pictures
    from rcnnkit.files import check_new, write_json
    from rcnnkit.weights import load_aligner

    if json_file:
        check_new(json_file)
    pictures = pictures_in([folder])
    aligner = load_aligner(weights, device, precision)
    if unknown := aligner.unknown(sentence):
        console.print(f"note: not learnt, so the words around them decide: {', '.join(unknown)}")
    with progress(console, transient=True) as report:
        ranking, errors = search_pictures(aligner, pictures, sentence, report)
    for error in errors:
        complain(error)
    for rank, (score, path) in enumerate(ranking[:first], start=1):
        console.print(f"{rank}. {path} ({score:.2f})")
    if json_file:
        ranked = [{"picture": str(path), "score": round(score, 4)} for score, path in ranking]
        write_json(json_file, {"sentence": sentence, "pictures": ranked})
        console.print(f"wrote {json_file}")
    if errors:
        raise typer.Exit(1)
