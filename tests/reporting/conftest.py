import pytest

from rcnnkit.evaluation.analysis import Analysis
from tests.reporting.strange import analysed, detections_of, strange


@pytest.fixture(scope="session")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """Of pictures and classes with strange names."""
    dataset = strange(tmp_path_factory.mktemp("strange"))
    return analysed(dataset, detections_of(dataset))
