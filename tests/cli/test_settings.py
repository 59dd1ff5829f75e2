import pytest

from rcnnkit.config import Settings
from tests.cli.commands import Command

FEATURES = """\
[feature_store]
Where R-CNN keeps the features of its windows while the SVMs and the box
regression are trained.

feature_store.folder, not given
    path
    The folder that the features are kept in. Not given: features/ in the run's
    folder.

feature_store.disk_gb = 200
    number ≥ 0
    How much disk space they may take, GB (10⁹ bytes). Features that do not fit
    are computed again when they are needed. VOC2007 with fc7 takes 85.

feature_store.memory_gb = 4
    number ≥ 0
    How much memory decoded pictures may take, GB, at 12 bytes a pixel. Other
    pictures are decoded each time.

"""


def test_a_section(rcnnkit: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert rcnnkit("settings", "feature_store") == 0
    assert capsys.readouterr().out == FEATURES


def test_all_sections(rcnnkit: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert rcnnkit("settings") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    wanted = [
        f"{name}.{each}"
        for name, field in Settings.model_fields.items()
        if field.annotation
        for each in field.annotation.model_fields
    ]
    assert sorted(
        line.split(" =")[0].split(",")[0] for line in lines if line.split(".")[0] in Settings.model_fields
    ) == (sorted(wanted))


@pytest.mark.parametrize(
    ("section", "hint"), [("trian", "did you mean train? There are"), ("nothing_like_it", "there are")]
)
def test_no_such_section(rcnnkit: Command, capsys: pytest.CaptureFixture[str], section: str, hint: str) -> None:
    assert rcnnkit("settings", section) == 1
    assert capsys.readouterr().err == (
        f"error: there is no section {section}; {hint} model, proposals, rpn, head, rcnn, classifier, transformer,"
        " captions, alignment, input, data, feature_store, augment, adversary, train, alternating\n"
    )
