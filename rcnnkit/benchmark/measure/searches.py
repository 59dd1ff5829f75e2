"""Selective search, ours and OpenCV's, on the same pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence

import cv2
import numpy as np

from rcnnkit.benchmark.results import Step, Summary
from rcnnkit.data.records import Record
from rcnnkit.images import read_picture
from rcnnkit.proposals import selective_search
from rcnnkit.structures import Array


def searches(records: Sequence[Record]) -> dict[str, Summary]:
    """Both in turns, fast mode; empty without OpenCV's, which is part of its contrib build alone."""
    if not hasattr(cv2, "ximgproc"):
        return {}
    contenders = {"rcnnkit": lambda picture: len(selective_search(picture)), "OpenCV": _opencv_search}
    steps: dict[str, list[Step]] = {name: [] for name in contenders}
    for number, record in enumerate(records):
        picture = read_picture(record.path, record.size)
        names = list(contenders)
        for name in names[number % 2 :] + names[: number % 2]:
            began = time.perf_counter()
            boxes = contenders[name](picture)
            took = time.perf_counter() - began
            steps[name].append(Step(1, took, {"proposals": took}, boxes))
    return {name: Summary.of(some[1:] or some) for name, some in steps.items()}  # the first ones warm up


def _opencv_search(picture: Array) -> int:
    search = getattr(cv2, "ximgproc").segmentation.createSelectiveSearchSegmentation()  # noqa: B009  # of contrib alone
    search.setBaseImage(np.ascontiguousarray(picture[:, :, ::-1]))
    search.switchToSelectiveSearchFast()
    return len(search.process())
