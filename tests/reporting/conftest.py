from collections.abc import Iterator

import pytest

from rcnnkit.evaluation.analysis import Analysis
from tests.reporting.strange import analysed, detections_of, strange


@pytest.fixture(scope="package")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Analysis]:
    """Of pictures and classes with strange names; ranges are of few samples, in other tests of these pages, too."""
    dataset = strange(tmp_path_factory.mktemp("strange"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rcnnkit.evaluation.intervals.samples_of", lambda pictures: 20)
        yield analysed(dataset, detections_of(dataset))
