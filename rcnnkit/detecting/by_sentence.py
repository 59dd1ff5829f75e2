"""Pictures in the order in which they go with a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rcnnkit.detecting.search import FAILURES
from rcnnkit.detectors.aligner import Aligner
from rcnnkit.progress import Report, reported, silent


def search_pictures(
    aligner: Aligner, pictures: Sequence[Path], sentence: str, progress: Report = silent
) -> tuple[list[tuple[float, Path]], list[Exception]]:
    """The score of each picture and its path, the best first; and what was wrong with those that could not be read.

    Raises:
        ValueError: the sentence has no word, too many, or none that was learnt.
    """
    aligner.encode(sentence)  # a sentence that is wrong is no picture's fault
    results, errors = list[tuple[float, Path]](), list[Exception]()
    for path in reported(pictures, "pictures", progress):
        try:
            (score,) = aligner.score([path], sentence)
        except FAILURES as error:
            errors.append(error if str(path) in str(error) else RuntimeError(f"{path}: {error}"))
        else:
            results.append((score, path))
    return sorted(results, key=lambda each: -each[0]), errors
